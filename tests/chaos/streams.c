/* tandem-streams: keeps N streams of a real cluster under way and compares every token with that of a
 * faultless run, which it makes first. tests/chaos/chaos.sh kills nodes meanwhile.
 *
 * Says `reference ready` when the faults may begin. At SIGTERM it starts no more, waits for what runs,
 * and prints how many streams failed, how many tokens came, were lost, repeated, changed, or came for a
 * stream that was over, and the longest gap within each stream as percentiles over all streams and
 * over those that waited. Exits 1 if a stream failed or a token was wrong. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "config/option.h"
#include "net/loop.h"
#include "net/msg.h"
#include "net/sock.h"

#define KINDS 24          /* different requests */
#define TOKENS_MAX 400
#define PROMPT_MAX 500
#define END_NS (60 * CLOCK_S) /* a stream that takes longer after the end has hung */
#define RETRY_MS 5
#define WAITED_NS (CLOCK_S / 4) /* a stream with a longer gap met a fault, or a busy machine */

struct options {
    char *endpoint, *keys;
    uint32_t streams, vocab;
};

static const struct option rows[] = {
    OPTION(options, endpoint, STR, .unit = "ENDPOINT", .help = "the router's --clients"),
    OPTION(options, keys, STR, .unit = "FILE", .help = "key file of a client"),
    OPTION(options, streams, U32, .def = "8", .min = 1, .max = 10000, .help = "at once"),
    OPTION(options, vocab, U32, .def = "2048", .min = 16, .max = 1 << 21, .help = "token ids below"),
};
static const struct option_table table = {
    .program = "tandem-streams",
    .summary = "Keeps streams under way and compares their tokens with a faultless run",
    .options = rows,
    .n = ARRAY_LEN(rows),
};

struct kind {
    uint32_t want[TOKENS_MAX], n_want, max_tokens; /* n_want 0: not known yet */
    uint32_t n_prompt;
};

struct stream {
    uint64_t tag; /* 0: none */
    uint32_t kind, got;
    bool bad;
    int64_t last, gap; /* time of the last token; longest gap */
};

struct load {
    const struct options *options;
    struct loop *loop;
    struct sock_ctx *ctx;
    struct sock *sock;
    struct kind kinds[KINDS];
    struct stream *streams;
    uint32_t next_kind, known;
    uint64_t next_tag;
    int64_t end; /* SIGTERM came; 0: not */
    uint64_t done, failed, tokens;
    uint64_t lost, repeated, changed, late; /* tokens; late: of a stream that was over */
    struct hist gaps, waits; /* waits: of those over WAITED_NS */
};

static void kind_init(struct kind *k, uint32_t number)
{
    *k = (struct kind){.max_tokens = 100 + (uint32_t)(rng_u64(number, 1) % (TOKENS_MAX - 99)),
                       .n_prompt = 1 + (uint32_t)(rng_u64(number, 2) %
                                                  (number % 3 ? 60 : PROMPT_MAX))};
}

static bool stream_send(struct load *l, struct stream *s)
{
    const struct kind *k = &l->kinds[s->kind];
    struct msg m = {.type = MSG_GENERATE};
    struct msg_generate *g = &m.u.generate;
    int rc;

    *g = (struct msg_generate){
        .tag = l->next_tag + 1, .n_tokens = k->n_prompt, .max_tokens = k->max_tokens,
        .tokens = mem_calloc(k->n_prompt, sizeof(*g->tokens)), .has_seed = true,
        .ignore_eos = true,
        .sampling = {.temperature = s->kind % 2 ? 0.8f : 0, .top_p = 1, .seed = s->kind}};
    for (uint32_t i = 0; i < k->n_prompt; i++)
        g->tokens[i] = 3 + (uint32_t)(rng_u64(s->kind, 100 + i) % (l->options->vocab - 3));
    rc = sock_send(l->sock, NULL, &m, NULL);
    msg_fini(&m);
    if (rc)
        return false;
    s->tag = ++l->next_tag;
    s->got = 0;
    s->bad = false;
    s->gap = 0;
    return true;
}

/* Starts what is not under way: first each kind once, then round and round. */
static void on_retry(void *ctx)
{
    struct load *l = ctx;
    bool busy = false;

    for (uint32_t i = 0; i < l->options->streams; i++) {
        struct stream *s = &l->streams[i];

        busy |= s->tag != 0;
        if (s->tag || l->end)
            continue;
        if (l->known < KINDS && l->next_kind >= KINDS)
            break; /* the reference comes whole, then the rest */
        s->kind = l->next_kind % KINDS;
        if (!stream_send(l, s))
            break;
        l->next_kind++;
    }
    if (l->end && (!busy || clock_now() > l->end + END_NS))
        loop_stop(l->loop);
}

static void stream_tokens(struct load *l, struct stream *s, const struct msg_generate_tokens *t)
{
    struct kind *k = &l->kinds[s->kind];
    int64_t now = clock_now();

    if (s->got && now - s->last > s->gap)
        s->gap = now - s->last;
    s->last = now;
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        uint32_t index = t->index + i;
        bool repeated = index < s->got, beyond = index >= k->max_tokens;

        if (!repeated && !beyond && !k->n_want)
            k->want[index] = t->tokens[i];
        l->repeated += repeated;
        l->lost += repeated ? 0 : index - s->got;
        l->changed += !repeated && (beyond || t->tokens[i] != k->want[index]);
        s->bad |= index != s->got || beyond || t->tokens[i] != k->want[index];
        s->got = u32_max(s->got, index + 1);
    }
    l->tokens += t->n_tokens;
}

static void stream_done(struct load *l, struct stream *s, const struct msg_generate_done *d)
{
    struct kind *k = &l->kinds[s->kind];

    if (d->status != 200 || s->got != k->max_tokens || s->bad) {
        l->failed++;
        l->lost += k->max_tokens - u32_min(s->got, k->max_tokens);
        printf("stream of kind %u: status %d, %u of %u tokens%s: %s\n", s->kind, d->status, s->got,
               k->max_tokens, s->bad ? ", wrong ones" : "", d->text);
        fflush(stdout);
    }
    s->tag = 0;
    if (k->n_want) {
        l->done++;
        hist_add(&l->gaps, s->gap);
        if (s->gap > WAITED_NS)
            hist_add(&l->waits, s->gap);
    } else {
        k->n_want = s->got;
        if (++l->known == KINDS) {
            puts("reference ready");
            fflush(stdout);
        }
    }
}

static void on_msg(void *ctx, const struct peer *from, struct msg *m)
{
    struct load *l = ctx;
    bool tokens = m->type == MSG_GENERATE_TOKENS;
    uint64_t tag = tokens ? m->u.generate_tokens.tag : m->u.generate_done.tag;

    (void)from;
    if (!tokens && m->type != MSG_GENERATE_DONE)
        return;
    for (uint32_t i = 0; i < l->options->streams; i++) {
        struct stream *s = &l->streams[i];

        if (s->tag != tag)
            continue;
        if (tokens)
            stream_tokens(l, s, &m->u.generate_tokens);
        else
            stream_done(l, s, &m->u.generate_done);
        return;
    }
    l->late += tokens ? m->u.generate_tokens.n_tokens : 1;
}

static void on_term(void *ctx) { ((struct load *)ctx)->end = clock_now(); }

static int load_run(struct load *l, struct err *e)
{
    char identity[64];
    struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_CONTROL, .identity = identity};
    const struct sock_security security = {.keys = l->options->keys, .role = KEYS_CLIENT};
    struct loop_event *retry, *term;
    int rc;

    snprintf(identity, sizeof(identity), "streams#%d", (int)getpid());
    l->loop = loop_new();
    l->ctx = sock_ctx_new();
    l->streams = mem_calloc(l->options->streams, sizeof(*l->streams));
    for (uint32_t i = 0; i < KINDS; i++)
        kind_init(&l->kinds[i], i);
    retry = loop_add_timer(l->loop, RETRY_MS, on_retry, l);
    term = loop_add_signal(l->loop, SIGTERM, on_term, l);
    rc = sock_ctx_secure(l->ctx, &security, e);
    if (!rc)
        rc = sock_open(&l->sock, l->ctx, &o, e);
    if (!rc)
        rc = sock_connect(l->sock, l->options->endpoint, e);
    if (!rc) {
        loop_add_sock(l->loop, l->sock, on_msg, l);
        loop_run(l->loop);
        loop_del_sock(l->loop, l->sock);
    }
    for (uint32_t i = 0; i < l->options->streams; i++)
        l->failed += l->streams[i].tag != 0;
    sock_close(&l->sock);
    loop_del_event(&retry);
    loop_del_event(&term);
    loop_free(&l->loop);
    sock_ctx_free(&l->ctx);
    mem_free(l->streams);
    return rc;
}

static void print_gaps(const char *of, const struct hist *h)
{
    printf("longest gap of %s: p50 %.2f s, p99 %.2f s, max %.2f s\n", of,
           clock_s(hist_percentile(h, 50)), clock_s(hist_percentile(h, 99)),
           clock_s(hist_percentile(h, 100)));
}

static void load_report(const struct load *l)
{
    char waited[64];

    printf("%" PRIu64 " streams, %" PRIu64 " failed; %" PRIu64 " tokens: %" PRIu64 " lost, %" PRIu64
           " repeated, %" PRIu64 " changed, %" PRIu64 " after the end\n", l->done, l->failed, l->tokens,
           l->lost, l->repeated, l->changed, l->late);
    print_gaps("a stream", &l->gaps);
    snprintf(waited, sizeof(waited), "the %" PRIu64 " that waited over %.2f s", l->waits.count,
             clock_s(WAITED_NS));
    print_gaps(waited, &l->waits);
}

int main(int argc, char **argv)
{
    static struct options o;
    static struct load l = {.options = &o};
    enum option_action action;
    struct err e = {0};

    log_init("streams", LOG_WARN);
    if (option_main(&table, &o, argc, argv, NULL, &action, &e) ||
        (action == OPTION_RUN && load_run(&l, &e))) {
        fprintf(stderr, "tandem-streams: %s\n", e.text);
        return 2;
    }
    option_free(&table, &o);
    if (action == OPTION_RUN)
        load_report(&l);
    return l.failed > 0 || l.lost + l.repeated + l.changed + l.late > 0 || !l.done;
}
