/* tandem-mock: a node that computes nothing, to measure the router alone. It speaks the protocol to a
 * real router; as a decode node it gives each stream a token a step, made by a hash, to thousands of
 * streams; as a prefill node it answers each job at once. No KV is sent: the decode node does not
 * wait for any, so its tokens may overtake the first one, which is allowed. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "daemon/daemon.h"
#include "daemon/member.h"
#include "daemon/options.h"
#include "kv/kv_layout.h"
#include "model/gguf.h"
#include "model/hparams.h"
#include "net/loop.h"

struct mock_options {
    struct daemon_options common;
    char *router;
    int role; /* index into mock_roles */
    uint32_t slots, step_ms;
};

static const char *const mock_roles[] = {"prefill", "decode", NULL};

static const struct option mock_rows[] = {
    OPTIONS_DAEMON(mock_options, "mock-1"),
    OPTION(mock_options, router, STR, .def = "tcp://127.0.0.1:8100",
           .wrong = options_endpoint_wrong, .unit = "ENDPOINT", .help = "the router's --nodes"),
    OPTION(mock_options, role, ENUM, .names = mock_roles, .help = "what it pretends to be"),
    OPTION(mock_options, slots, U32, .def = "4096", .min = 1, .max = 65536,
           .help = "streams, or jobs, at once"),
    OPTION(mock_options, step_ms, U32, .def = "50", .min = 1, .max = 60000,
           .help = "a token to each stream every so often"),
};

static int mock_check(const void *cfg, struct err *e)
{
    return options_check(&((const struct mock_options *)cfg)->common, e);
}

static const struct option_table mock_table = {
    .program = "tandem-mock",
    .summary = "Answers a router as a node would, without computing anything",
    .options = mock_rows,
    .n = ARRAY_LEN(mock_rows),
    .check = mock_check,
};

struct stream {
    struct stream_id id;
    uint32_t index, left; /* of the next token; how many more */
    uint32_t pages;
    uint64_t seed;
};

struct mock {
    const struct mock_options *options;
    struct loop *loop;
    struct sock_ctx *ctx;
    struct member *member;
    struct loop_event *step, *term;
    struct map streams; /* of struct stream, by request */
    uint32_t n_vocab, pages_total, pages_taken;
    uint64_t steps, tokens;
};

static void stream_end(struct mock *m, struct stream *s)
{
    m->pages_taken -= s->pages;
    map_del(&m->streams, s->id.request);
    mem_free(s);
}

static void on_reserve(struct mock *m, const struct msg_reserve *r)
{
    struct stream *s = map_get(&m->streams, r->id.request);
    struct msg out = {.type = MSG_RESERVED};

    if (s)
        stream_end(m, s);
    if (m->streams.len >= m->options->slots) {
        out.type = MSG_RESERVE_REFUSED;
        out.u.failed = (struct msg_failed){.id = r->id, .retry = true, .text = "all slots taken"};
    } else {
        s = mem_alloc(sizeof(*s));
        *s = (struct stream){.id = r->id, .index = r->first_index + !r->local,
                             .left = r->max_new - !r->local, .seed = r->sampling.seed,
                             .pages = kv_layout_pages(r->n_tokens + r->max_new)};
        m->pages_taken += s->pages;
        out.u.reserved.id = r->id;
        map_put(&m->streams, r->id.request, s);
    }
    member_send(m->member, &out);
}

#define TOKEN_FIRST 300 /* behind the marks and the single bytes that a vocabulary begins with */

/* Any but one that ends the stream. */
static uint32_t mock_token(const struct mock *m, uint64_t seed, uint32_t index)
{
    return TOKEN_FIRST +
           (uint32_t)(hash64(&index, sizeof(index), seed) % (m->n_vocab - TOKEN_FIRST));
}

static void on_job(struct mock *m, const struct msg_prefill_job *j)
{
    struct msg out = {.type = MSG_PREFILL_TOKEN};

    out.u.first = (struct msg_prefill_token){
        .id = j->id, .index = j->first_index,
        .token = mock_token(m, j->sampling.seed, j->first_index),
        .finish = j->max_new == 1 ? FINISH_LENGTH : FINISH_NONE, .compute_ns = 1};
    m->tokens += j->n_tokens;
    member_send(m->member, &out);
}

static void on_message(void *ctx, struct msg *msg)
{
    struct mock *m = ctx;
    struct stream *s;

    if (msg->type == MSG_RESERVE)
        on_reserve(m, &msg->u.reserve);
    else if (msg->type == MSG_PREFILL_JOB)
        on_job(m, &msg->u.job);
    else if (msg->type == MSG_CANCEL && (s = map_get(&m->streams, msg->u.cancel.id.request)))
        stream_end(m, s);
}

static void on_step(void *ctx)
{
    struct mock *m = ctx;
    struct stream *s;
    size_t iter = 0;

    while ((s = map_next(&m->streams, &iter))) {
        struct msg out = {.type = MSG_TOKENS};
        struct msg_tokens *t = &out.u.tokens;

        t->id = s->id;
        t->index = s->index++;
        t->n_tokens = s->left > 0;
        t->tokens[0] = mock_token(m, s->seed, t->index);
        t->finish = s->left <= 1 ? FINISH_LENGTH : FINISH_NONE;
        m->tokens += t->n_tokens;
        member_send(m->member, &out);
        if (s->left-- <= 1)
            stream_end(m, s);
    }
    m->steps++;
}

static void on_joined(void *ctx) { member_beat(((struct mock *)ctx)->member); }

static void on_lost(void *ctx)
{
    struct mock *m = ctx;
    struct stream *s;
    size_t iter = 0;

    while ((s = map_next(&m->streams, &iter)))
        stream_end(m, s);
}

static void on_refused(void *ctx, const char *sentence)
{
    struct mock *m = ctx;

    log_error("mock", "refused: %s", sentence);
    loop_stop(m->loop);
}

static void on_beat(void *ctx, struct msg_heartbeat *h)
{
    const struct mock *m = ctx;

    h->running = (uint32_t)m->streams.len;
    h->pages_total = m->pages_total;
    h->pages_free = m->pages_total - m->pages_taken;
    h->tokens = m->tokens;
    h->steps = m->steps;
}

static void on_signal(void *ctx) { loop_stop(((struct mock *)ctx)->loop); }

/* What the router compares, from the model's file. */
static int mock_register(struct mock *m, struct msg_register *reg, struct err *e)
{
    const struct mock_options *o = m->options;
    struct hparams h;
    struct gguf *g;
    int rc = gguf_open(&g, o->common.model, e);

    if (rc)
        return rc;
    rc = hparams_load(&h, g, e);
    m->n_vocab = h.n_vocab;
    if (!rc && h.n_vocab <= TOKEN_FIRST)
        rc = err_set(e, ERR_UNSUPPORTED, "a vocabulary of %u tokens is too small to pretend with",
                     h.n_vocab);
    m->pages_total = o->slots * kv_layout_pages(h.n_ctx);
    *reg = (struct msg_register){
        .protocol = MSG_PROTOCOL, .role = o->role ? ROLE_DECODE : ROLE_PREFILL, .tier = "mock",
        .kv_endpoint = "ipc:///nowhere", .boot = rng_entropy(), .model_hash = gguf_hash(g),
        .geometry = {h.n_layer, h.n_head_kv, h.head_dim, KV_PAGE_TOKENS, KV_F16},
        .ctx_max = h.n_ctx, .slots = o->slots, .pages_total = m->pages_total, .cores = 1,
        .pid = (int32_t)getpid()};
    snprintf(reg->cluster, sizeof(reg->cluster), "%s", o->common.cluster);
    snprintf(reg->name, sizeof(reg->name), "%s", o->common.name);
    gguf_close(&g);
    return rc;
}

static int mock_run(const void *options, struct err *e)
{
    struct mock m = {.options = options};
    const struct member_events events = {&m, on_message, on_joined, on_lost, on_refused, on_beat};
    struct msg_register reg;
    int rc = mock_register(&m, &reg, e);

    if (rc)
        return rc;
    m.loop = loop_new();
    m.ctx = sock_ctx_new();
    m.step = loop_add_timer(m.loop, m.options->step_ms, on_step, &m);
    m.term = loop_add_signal(m.loop, SIGTERM, on_signal, &m);
    rc = member_open(&m.member, m.loop, m.ctx, m.options->router, &reg, &events, e);
    if (!rc) {
        loop_run(m.loop);
        member_bye(m.member, "stopped");
    }
    member_close(&m.member);
    on_lost(&m);
    map_fini(&m.streams);
    loop_del_event(&m.step);
    loop_del_event(&m.term);
    loop_free(&m.loop);
    sock_ctx_free(&m.ctx);
    return rc;
}

int main(int argc, char **argv)
{
    struct mock_options options = {0};
    const struct daemon daemon = {&mock_table, &options, mock_run};

    return daemon_main(&daemon, argc, argv);
}
