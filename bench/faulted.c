/* A run with faults after one without, of the same requests: what do clients see of it? */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bench/align.h"
#include "bench/report.h"
#include "bench/session.h"

struct damage {
    uint64_t compared, same, differ, unanswered; /* requests */
    struct alignment tokens;
    uint64_t restarts;
};

static int compare(const void *a, const void *b)
{
    const struct record *x = *(const struct record *const *)a,
                        *y = *(const struct record *const *)b;

    if (x->item != y->item)
        return x->item < y->item ? -1 : 1;
    return x->turn < y->turn ? -1 : x->turn > y->turn;
}

/* The records in the order of their requests; mem_free. */
static const struct record **sorted(const struct result *r)
{
    const struct record **out = mem_calloc(r->n, sizeof(*out));

    for (size_t i = 0; i < r->n; i++)
        out[i] = &r->records[i];
    qsort(out, r->n, sizeof(*out), compare);
    return out;
}

/* An answer's tokens: as the server names them, or as the tokenizer reads its text, or its bytes. */
static void tokens_of(struct token_list *out, const struct record *r, const struct synth *s,
                      bool ids)
{
    if (ids) {
        for (size_t i = 0; i < r->ids.n; i++)
            token_list_add(out, r->ids.ids[i]);
        return;
    }
    if (s->vocab && vocab_tokenize(s->vocab, out, str_text(&r->text), r->text.len, false, false,
                                   NULL) == ERR_OK)
        return;
    for (size_t i = 0; i < r->text.len; i++)
        token_list_add(out, (unsigned char)r->text.data[i]);
}

static void pair_compare(struct damage *d, const struct record *want, const struct record *got,
                         const struct synth *s)
{
    bool ids = want->ids.n > 0 && (got->ids.n > 0 || got->text.len == 0);
    struct token_list a = {0}, b = {0};
    struct alignment before = d->tokens;

    tokens_of(&a, want, s, ids);
    tokens_of(&b, got, s, ids);
    align_add(&d->tokens, a.ids, a.n, b.ids, b.n);
    d->compared++;
    d->unanswered += got->outcome != OUTCOME_OK;
    d->restarts += got->server.restarts;
    if (memcmp(&before, &d->tokens, sizeof(before)) == 0)
        d->same++;
    else
        d->differ++;
    token_list_fini(&a);
    token_list_fini(&b);
}

/* Requests that both runs have, and that the first one answered. */
static void results_compare(struct damage *d, const struct result *want, const struct result *got,
                            const struct synth *s)
{
    const struct record **a = sorted(want), **b = sorted(got);
    size_t i = 0, j = 0;

    while (i < want->n && j < got->n) {
        int order = compare(&a[i], &b[j]);

        if (order == 0 && a[i]->outcome == OUTCOME_OK)
            pair_compare(d, a[i], b[j], s);
        i += order <= 0;
        j += order >= 0;
    }
    mem_free(a);
    mem_free(b);
}

static json_t *damage_value(const struct damage *d)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "requests_compared",
                     (json_int_t)d->compared, "requests_same", (json_int_t)d->same,
                     "requests_different", (json_int_t)d->differ, "requests_failed",
                     (json_int_t)d->unanswered, "restarts", (json_int_t)d->restarts, "tokens_lost",
                     (json_int_t)d->tokens.lost, "tokens_repeated", (json_int_t)d->tokens.repeated,
                     "tokens_changed", (json_int_t)d->tokens.changed);
}

static void damage_print(const struct damage *d, const struct bench_options *o)
{
    struct str text = {0};

    str_addf(&text,
             "\nfaults: of %" PRIu64 " requests %" PRIu64
             " were answered as without faults, %" PRIu64 " differently, %" PRIu64
             " failed; %" PRIu64 " restarts\n"
             "tokens: %" PRIu64 " lost, %" PRIu64 " repeated, %" PRIu64 " changed\n",
             d->compared, d->same, d->differ, d->unanswered, d->restarts, d->tokens.lost,
             d->tokens.repeated, d->tokens.changed);
    report_print(&text, o);
    str_fini(&text);
}

static int run_twice(struct result *want, struct result *got, struct session *s,
                     const struct faults *faults, struct err *e)
{
    const struct bench_options *o = s->options;
    struct run_setup setup =
        session_setup(s, bench_number(o->request_rate), bench_prompts(o), "without faults");
    int rc;

    setup.keep_answers = true;
    rc = run(want, &setup, e);
    setup.faults = faults;
    setup.label = "with faults";
    if (rc == ERR_OK && !want->interrupted)
        rc = run(got, &setup, e);
    return rc;
}

int session_faulted(struct session *s, struct err *e)
{
    const struct bench_options *o = s->options;
    struct result want = {0}, got = {0};
    struct damage d = {0};
    struct faults faults;
    int rc = faults_parse(&faults, o->kill, o->stop, e);

    if (rc == ERR_OK)
        rc = run_twice(&want, &got, s, &faults, e);
    if (rc == ERR_OK) {
        results_compare(&d, &want, &got, &s->workload.synth);
        rc = session_report(s, &got, json_pack("{s:o}", "faults", damage_value(&d)), e);
        damage_print(&d, o);
        s->ok = d.compared > 0 && d.same == d.compared && got.faults_failed == 0;
    }
    result_fini(&want);
    result_fini(&got);
    return rc;
}
