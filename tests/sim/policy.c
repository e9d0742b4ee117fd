/* The formulas: a prefill node computes prompts one after the other at a rate; a decode node gives
 * each of its streams a token a step; KV arrives KV_TOKEN_NS a token after its prompt was computed,
 * and messages after DELAY_NS. A decode node that computes a prompt itself does so at half the rate,
 * beside its steps. No faults, no prefix cache. */
#include "tests/sim/policy.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/trace.h"
#include "kv/kv_layout.h"
#include "router/core.h"
#include "tests/sim/heap.h"

#define POLICY_VOCAB 32000
#define CTX_MAX (1u << 18) /* longer than any request of the traces */
#define TICK_NS (50 * CLOCK_MS)
#define BEAT_MS 250
#define DEAD_MS 2000
#define DELAY_NS (100 * CLOCK_US)
#define KV_TOKEN_NS 10000 /* 128 KiB a token over 100 Gbit/s */

enum policy_event { ON_ARRIVAL, ON_MSG, ON_TICK, ON_BEAT, ON_STREAM, ON_STEP };

struct flow { /* a request */
    int64_t due, first_at, last_at;
    uint32_t input, output, got;
    size_t first_hash;
    uint32_t n_hashes;
    uint32_t decode;         /* node */
    struct stream_id id;
    uint32_t index, left;    /* of its next token; how many more its decode node makes */
    bool runs;
    struct flow *next, **at; /* on its decode node */
};

struct formula_node {
    enum node_role role;
    int64_t free_at;         /* when its queue is computed */
    struct flow *first;      /* streams that run here */
    uint32_t running, reserved; /* decode */
    uint32_t jobs;           /* prefill: until the router has their first token */
    bool stepping;
};

struct policy {
    const struct policy_options *options;
    int64_t now;
    struct heap heap;
    struct router_core *router;
    struct router_actions out;
    struct formula_node *nodes;
    struct flow *flows;
    size_t n_flows, n_over;
    struct trace trace;
    uint64_t failed, events;
    int64_t spent_ns;        /* in router_step */
    struct hist ttft, tpot, wait, step;
};

static void later(struct policy *p, int64_t at, enum policy_event kind, uint32_t node, void *data)
{
    heap_push(&p->heap, (struct event){.at = at, .kind = kind, .arg = node, .data = data});
}

static void to_router(struct policy *p, uint32_t node, const struct msg *m)
{
    later(p, p->now + DELAY_NS, ON_MSG, node, mem_dup(m, sizeof(*m)));
}

static void stream_stops(struct policy *p, struct flow *f)
{
    if (!f->runs)
        return;
    *f->at = f->next;
    if (f->next)
        f->next->at = f->at;
    f->runs = false;
    p->nodes[f->decode].running--;
}

static int64_t step_ns(const struct policy *p, const struct formula_node *n)
{
    return (int64_t)((p->options->step_ms + p->options->stream_ms * n->running) * 1e6);
}

static void on_stream(struct policy *p, struct flow *f)
{
    struct formula_node *n = &p->nodes[f->decode];

    if (f->runs || !f->left)
        return;
    f->runs = true;
    f->next = n->first;
    f->at = &n->first;
    if (f->next)
        f->next->at = &f->next;
    n->first = f;
    n->running++;
    if (!n->stepping)
        later(p, p->now + step_ns(p, n), ON_STEP, f->decode, NULL);
    n->stepping = true;
}

static void on_step(struct policy *p, uint32_t node)
{
    struct formula_node *n = &p->nodes[node];
    struct flow *f, *next;

    for (f = n->first; f; f = next) {
        struct msg m = {.type = MSG_TOKENS};

        next = f->next;
        m.u.tokens = (struct msg_tokens){.id = f->id, .index = f->index++, .n_tokens = 1,
                                         .tokens = {f->index % POLICY_VOCAB},
                                         .finish = f->left == 1 ? FINISH_LENGTH : FINISH_NONE};
        to_router(p, node, &m);
        if (--f->left == 0) {
            stream_stops(p, f);
            n->reserved--;
        }
    }
    n->stepping = n->first != NULL;
    if (n->stepping)
        later(p, p->now + step_ns(p, n), ON_STEP, node, NULL);
}

/* When a prompt is through, if it is put at the end of the node's queue. */
static int64_t computed_at(struct policy *p, struct formula_node *n, uint32_t tokens, double rate)
{
    if (n->free_at < p->now)
        n->free_at = p->now;
    n->free_at += (int64_t)(tokens * 1e9 / rate);
    return n->free_at;
}

static void to_node(struct policy *p, uint32_t node, const struct msg *m)
{
    struct formula_node *n = &p->nodes[node];
    double rate = p->options->prefill_tokens_s;
    struct msg out = {.type = MSG_RESERVED};
    struct flow *f;

    if (m->type == MSG_RESERVE) {
        const struct msg_reserve *r = &m->u.reserve;

        f = &p->flows[r->sampling.seed];
        f->id = r->id;
        f->decode = node;
        f->index = r->first_index + !r->local;
        f->left = r->max_new - !r->local;
        n->reserved++;
        out.u.reserved.id = r->id;
        to_router(p, node, &out);
        if (r->local)
            later(p, computed_at(p, n, r->n_tokens, rate / 2), ON_STREAM, node, f);
    } else if (m->type == MSG_PREFILL_JOB) {
        const struct msg_prefill_job *j = &m->u.job;
        int64_t at = computed_at(p, n, j->n_tokens, rate);

        f = &p->flows[j->sampling.seed];
        n->jobs++;
        out.type = MSG_PREFILL_TOKEN;
        out.u.first = (struct msg_prefill_token){
            .id = j->id, .index = j->first_index, .token = 1,
            .finish = j->max_new == 1 ? FINISH_LENGTH : FINISH_NONE};
        later(p, at + DELAY_NS, ON_MSG, node, mem_dup(&out, sizeof(out)));
        later(p, at + j->n_tokens * KV_TOKEN_NS, ON_STREAM, node, f);
    }
}

static void flow_over(struct policy *p, struct flow *f, const struct router_action *a)
{
    p->n_over++;
    hist_add(&p->wait, a->stats.wait_ns);
    if (a->type == ROUTER_FAIL || f->got != f->output)
        p->failed++;
    else if (f->got > 1)
        hist_add(&p->tpot, (f->last_at - f->first_at) / (f->got - 1));
}

static void act(struct policy *p, struct router_action *a)
{
    struct flow *f = a->client ? &p->flows[a->client - 1] : NULL;

    switch (a->type) {
    case ROUTER_SEND:
        to_node(p, (uint32_t)a->node - 1, &a->msg);
        break;
    case ROUTER_DELIVER:
        if (!f->got) {
            f->first_at = p->now;
            hist_add(&p->ttft, p->now - f->due);
        }
        f->got += a->n_tokens;
        f->last_at = p->now;
        break;
    case ROUTER_FINISH:
    case ROUTER_FAIL:
        flow_over(p, f, a);
        break;
    default:
        break;
    }
}

/* CPU time, because the machine may be shared; asking costs about as much as a short step. */
static int64_t cpu_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * CLOCK_S + t.tv_nsec;
}

static void event(struct policy *p, const struct router_event *ev)
{
    int64_t start = cpu_now(), took;

    router_actions_clear(&p->out);
    router_step(p->router, ev, p->now, &p->out);
    took = cpu_now() - start;
    p->spent_ns += took;
    p->events++;
    hist_add(&p->step, took);
    for (size_t i = 0; i < p->out.n; i++)
        act(p, &p->out.items[i]);
}

/* Tokens of a block are those of its hash, so that equal beginnings are equal. */
static uint32_t *flow_tokens(const struct policy *p, const struct flow *f)
{
    uint32_t *tokens = mem_calloc(f->input, sizeof(*tokens));
    uint64_t seed = p->options->seed + (uint64_t)(f - p->flows) * 7919;

    for (uint32_t i = 0; i < f->input; i++) {
        uint32_t block = i / TRACE_BLOCK;

        if (i % TRACE_BLOCK == 0 && block < f->n_hashes)
            seed = p->trace.hashes[f->first_hash + block];
        tokens[i] = (uint32_t)((seed * 0x9e3779b97f4a7c15u + i * 0x2545f4914f6cdd1du) >> 33) %
                    POLICY_VOCAB;
    }
    return tokens;
}

static void on_arrival(struct policy *p, struct flow *f)
{
    uint64_t number = (uint64_t)(f - p->flows);
    struct router_event ev = {.type = ROUTER_SUBMIT};

    ev.submit = (struct router_submit){
        .client = number + 1, .tokens = flow_tokens(p, f), .n_tokens = f->input,
        .max_new = f->output, .sampling = {.top_p = 1, .seed = number}};
    event(p, &ev);
}

static void on_beat(struct policy *p, uint32_t node)
{
    const struct formula_node *n = &p->nodes[node];
    struct msg m = {.type = MSG_HEARTBEAT};
    int64_t wait = n->free_at > p->now ? n->free_at - p->now : 0;

    m.u.heartbeat = (struct msg_heartbeat){
        .running = n->running, .queued = n->role == ROLE_PREFILL ? n->jobs : n->reserved - n->running,
        .queued_tokens = (uint64_t)((double)wait * p->options->prefill_tokens_s / 1e9),
        .step_ns = n->running ? (uint64_t)step_ns(p, n) : 0};
    event(p, &(struct router_event){.type = ROUTER_MSG, .node = node + 1, .msg = &m});
    later(p, p->now + BEAT_MS * CLOCK_MS, ON_BEAT, node, NULL);
}

static void policy_start(struct policy *p)
{
    const struct policy_options *o = p->options;
    uint32_t prefills = (uint32_t)(o->nodes * o->prefill_share);
    const struct kv_geometry geometry = {32, 8, 128, KV_PAGE_TOKENS, KV_F16};
    struct router_config c = {
        .expect = {.cluster = "sim", .model_hash = 1, .ctx_max = CTX_MAX, .geometry = geometry,
                   .n_vocab = POLICY_VOCAB},
        .mode = prefills ? ROUTER_AUTO : ROUTER_AGGREGATED, .heartbeat_ms = BEAT_MS,
        .dead_ms = DEAD_MS, .queue_max = ROUTER_QUEUE_LIMIT, .queue_deadline_ms = 3600000};

    p->router = router_core_new(&c);
    p->nodes = mem_calloc(o->nodes, sizeof(*p->nodes));
    for (uint32_t i = 0; i < o->nodes; i++) {
        struct msg m = {.type = MSG_REGISTER};
        struct msg_register *r = &m.u.reg;

        p->nodes[i].role = i < prefills ? ROLE_PREFILL : ROLE_DECODE;
        *r = (struct msg_register){
            .protocol = MSG_PROTOCOL, .role = p->nodes[i].role, .cluster = "sim", .tier = "ref",
            .boot = i + 1, .model_hash = 1, .geometry = geometry, .ctx_max = CTX_MAX,
            .slots = o->slots, .pages_total = o->slots * kv_layout_pages(16384), .cores = 64,
            .weight_bytes = 8000000000, .kv_token_bytes = 131072, .flops_token = 16000000000,
            .read_bytes_s = (uint64_t)(8e9 / (o->step_ms / 1e3)),
            .flops_s = (uint64_t)(16e9 * o->prefill_tokens_s)};
        snprintf(r->name, sizeof(r->name), "node-%u", i);
        snprintf(r->kv_endpoint, sizeof(r->kv_endpoint), "ipc://node-%u", i);
        event(p, &(struct router_event){.type = ROUTER_MSG, .node = i + 1, .msg = &m});
        later(p, (int64_t)i * BEAT_MS * CLOCK_MS / o->nodes, ON_BEAT, i, NULL);
    }
    later(p, TICK_NS, ON_TICK, 0, NULL);
}

static void policy_play(struct policy *p)
{
    struct event e;

    while (p->n_over < p->n_flows && heap_pop(&p->heap, &e)) {
        p->now = e.at;
        switch ((enum policy_event)e.kind) {
        case ON_ARRIVAL:
            on_arrival(p, e.data);
            break;
        case ON_MSG:
            p->nodes[e.arg].jobs -= ((struct msg *)e.data)->type == MSG_PREFILL_TOKEN;
            event(p, &(struct router_event){.type = ROUTER_MSG, .node = e.arg + 1, .msg = e.data});
            mem_free(e.data); /* these own nothing */
            break;
        case ON_TICK:
            event(p, &(struct router_event){.type = ROUTER_TICK});
            later(p, p->now + TICK_NS, ON_TICK, 0, NULL);
            break;
        case ON_BEAT:
            on_beat(p, e.arg);
            break;
        case ON_STREAM:
            on_stream(p, e.data);
            break;
        case ON_STEP:
            on_step(p, e.arg);
            break;
        }
    }
    while (heap_pop(&p->heap, &e))
        if (e.kind == ON_MSG)
            mem_free(e.data);
}

static uint32_t exponential(const struct policy *p, uint64_t counter, double mean)
{
    return 1 + (uint32_t)(-log(1 - rng_f64(p->options->seed, counter)) * mean);
}

static int policy_flows(struct policy *p, struct err *e)
{
    const struct policy_options *o = p->options;
    bool synthetic = !strcmp(o->trace, "synthetic");
    double at = 0;
    int rc = 0;

    if (!synthetic)
        rc = trace_load(&p->trace, strstr(o->trace, ".jsonl") ? TRACE_MOONCAKE : TRACE_AZURE,
                        o->trace, e);
    if (rc)
        return rc;
    p->n_flows = synthetic ? o->requests : size_min(o->requests, p->trace.n);
    p->flows = mem_calloc(p->n_flows, sizeof(*p->flows));
    for (size_t i = 0; i < p->n_flows; i++) {
        struct flow *f = &p->flows[i];

        if (synthetic) {
            at += -log(1 - rng_f64(o->seed, 3 * i)) / o->rate * 1e9;
            *f = (struct flow){.input = exponential(p, 3 * i + 1, 512),
                               .output = exponential(p, 3 * i + 2, 128)};
        } else {
            const struct trace_entry *t = &p->trace.entries[i];

            at = (double)t->at_ns * o->trace_scale;
            *f = (struct flow){.input = u32_max(1, t->input), .output = u32_max(1, t->output),
                               .first_hash = t->first_hash, .n_hashes = t->n_hashes};
        }
        f->due = CLOCK_S + (int64_t)at;
        later(p, f->due, ON_ARRIVAL, 0, f);
    }
    return 0;
}

static void print_hist(const char *name, const struct hist *h, double unit, const char *unit_name)
{
    printf("%s, %s: mean %.2f, p50 %.2f, p90 %.2f, p99 %.2f, max %.2f\n", name, unit_name,
           hist_mean(h) / unit, (double)hist_percentile(h, 50) / unit,
           (double)hist_percentile(h, 90) / unit, (double)hist_percentile(h, 99) / unit,
           (double)hist_percentile(h, 100) / unit);
}

static void policy_report(const struct policy *p)
{
    const struct router_counters *c = router_core_counters(p->router);

    printf("%u nodes, %zu requests, %.1f s; router: %" PRIu64 " events in %.2f s, %.0f events/s, "
           "%" PRIu64 " restarts\n",
           p->options->nodes, p->n_flows, clock_s(p->now), p->events, clock_s(p->spent_ns),
           (double)p->events / clock_s(p->spent_ns), c->restarts);
    print_hist("router_step", &p->step, 1e3, "us");
    print_hist("wait for nodes", &p->wait, 1e6, "ms");
    print_hist("TTFT", &p->ttft, 1e6, "ms");
    print_hist("TPOT", &p->tpot, 1e6, "ms");
}

int policy_run(const struct policy_options *o, uint64_t *failed, struct err *e)
{
    struct policy *p = mem_zalloc(sizeof(*p));
    int rc;

    p->options = o;
    rc = policy_flows(p, e);
    if (!rc) {
        policy_start(p);
        policy_play(p);
        policy_report(p);
        *failed = p->failed;
    }
    heap_fini(&p->heap);
    router_actions_fini(&p->out);
    router_core_free(&p->router);
    trace_fini(&p->trace);
    mem_free(p->nodes);
    mem_free(p->flows);
    mem_free(p);
    return rc;
}
