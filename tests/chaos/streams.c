/* tandem-streams: keeps N streams of a real cluster under way and compares every token with that of a
 * faultless run, which it makes first. tests/chaos/chaos.sh kills nodes meanwhile.
 *
 * Says `reference ready` when the faults may begin. At SIGTERM it starts no more, waits for what runs,
 * and prints one line: streams, how many failed, tokens that were wrong (other, repeated, skipped),
 * and the longest gap within each stream as percentiles over all streams. Exits 1 if one failed. */
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
    uint64_t done, failed, wrong, tokens;
    struct hist gaps;
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
    for (uint32_t i = 0; i < t->n_tokens; i++, s->got++) {
        bool ok = t->index + i == s->got && s->got < k->max_tokens;

        if (ok && !k->n_want)
            k->want[s->got] = t->tokens[i];
        else if (!ok || t->tokens[i] != k->want[s->got])
            l->wrong++, s->bad = true;
    }
    l->tokens += t->n_tokens;
}

static void stream_done(struct load *l, struct stream *s, const struct msg_generate_done *d)
{
    struct kind *k = &l->kinds[s->kind];

    if (d->status != 200 || s->got != k->max_tokens || s->bad) {
        l->failed++;
        printf("stream of kind %u: status %d, %u of %u tokens%s: %s\n", s->kind, d->status, s->got,
               k->max_tokens, s->bad ? ", wrong ones" : "", d->text);
        fflush(stdout);
    }
    s->tag = 0;
    if (k->n_want) {
        l->done++;
        hist_add(&l->gaps, s->gap);
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
    l->wrong++; /* of a stream that was over */
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
        printf("%" PRIu64 " streams, %" PRIu64 " failed, %" PRIu64 " tokens, %" PRIu64
               " wrong; longest gap of a stream: p50 %.2f s, p99 %.2f s, max %.2f s\n",
               l.done, l.failed, l.tokens, l.wrong, clock_s(hist_percentile(&l.gaps, 50)),
               clock_s(hist_percentile(&l.gaps, 99)), clock_s(hist_percentile(&l.gaps, 100)));
    return l.failed > 0 || l.wrong > 0 || !l.done;
}
