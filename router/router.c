#include "router/router.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kv/kv_layout.h"
#include "router/api_keys.h"
#include "router/completions.h"
#include "router/native.h"
#include "router/serve.h"

#define ROUTER_GRACE_MS 3000 /* for running requests at SIGTERM; then they fail with 503 */
#define ROUTER_FLUSH_MS 500  /* for clients to read their last bytes after that */
#define ROUTER_SECOND_MS 1000
#define ROUTER_TRACE_KEY 0x7472616365 /* so that nothing of seeds and ids is told */

static void router_later(struct router *r, enum router_event_type type, uint64_t handle)
{
    if (r->n_pending == r->cap_pending) {
        r->cap_pending = r->cap_pending ? r->cap_pending * 2 : 16;
        r->pending = mem_realloc(r->pending, r->cap_pending * sizeof(*r->pending));
    }
    r->pending[r->n_pending++] = (struct router_pending){type, handle};
}

static void router_send(struct router *r, struct router_action *a)
{
    const struct peer *peer = map_get(&r->peers, a->node);
    struct err e;

    if (!peer || sock_send(r->nodes, peer, &a->msg, &e) == 0)
        return;
    /* Gone, or so far behind that its queue is full: either way it missed something. */
    log_warn("router", "message=%s to=%.*s not sent: %s", msg_type_name(a->msg.type), (int)peer->n,
             (const char *)peer->id, e.text);
    router_later(r, ROUTER_LOST, a->node);
}

/* The stream is over. Takes g out and lets it end. */
static void router_end(struct router *r, const struct router_action *a)
{
    struct generation *g = map_del(&r->generations, a->client);
    struct generation_end end = {.status = 200, .finish = a->finish, .stats = &a->stats};

    if (!g)
        return;
    if (a->type == ROUTER_FAIL) {
        end.status = a->status;
        end.finish = FINISH_ERROR;
        end.retry_after_ms = a->retry_after_ms;
        end.text = a->text;
    }
    generation_end(g, &r->metrics, &end, clock_now());
}

static void router_act(struct router *r, struct router_action *a)
{
    struct generation *g;

    switch (a->type) {
    case ROUTER_SEND:
        router_send(r, a);
        break;
    case ROUTER_DELIVER:
        g = map_get(&r->generations, a->client);
        if (g && generation_tokens(g, &r->metrics, a->tokens, a->n_tokens, clock_now()))
            router_later(r, ROUTER_CANCEL, a->client);
        break;
    case ROUTER_FINISH:
    case ROUTER_FAIL:
        router_end(r, a);
        break;
    case ROUTER_DISCONNECT:
        mem_free(map_del(&r->peers, a->node));
        break;
    case ROUTER_NOTE:
        log_at(a->level, "core", "%s", a->text);
        break;
    }
}

/* One event, and those that carrying out its actions brings up. Called again from within an action
 * (a client that an answer cannot reach), the event waits its turn. */
static void router_event(struct router *r, const struct router_event *first)
{
    struct router_event event = *first;

    ASSERT(!r->stepping);
    r->stepping = true;
    for (;;) {
        router_actions_clear(&r->actions);
        router_step(r->core, &event, clock_now(), &r->actions);
        for (size_t i = 0; i < r->actions.n; i++)
            router_act(r, &r->actions.items[i]);
        if (!r->n_pending)
            break;
        r->n_pending--;
        event = (struct router_event){.type = r->pending[r->n_pending].type,
                                      .client = r->pending[r->n_pending].handle,
                                      .node = r->pending[r->n_pending].handle};
    }
    r->stepping = false;
}

/* For a request that does not say how much it wants. 1 if there is no room: the core refuses that. */
static uint32_t router_room(uint32_t ctx, const struct router_job *job)
{
    uint32_t room = ctx > job->n_tokens ? ctx - job->n_tokens : 1;

    return job->default_new ? u32_min(room, job->default_new) : room;
}

void router_trace(struct router *r, struct generation *g, const char *traceparent, size_t n)
{
    const uint64_t key = r->boot ^ ROUTER_TRACE_KEY;
    uint64_t i = 3 * r->next_trace++;

    if (traceparent_parse(&g->parent, traceparent, n))
        g->trace = g->parent;
    else
        g->trace = (struct traceparent){.id = {rng_u64(key, i), rng_u64(key, i + 1) | 1}};
    g->trace.span = rng_u64(key, i + 2) | 1; /* 0 is none */
}

void router_submit(struct router *r, struct generation *g, const struct router_job *job)
{
    struct router_event event = {.type = ROUTER_SUBMIT};
    struct router_submit *s = &event.submit;
    uint32_t ctx = router_core_ctx(r->core);

    if (!traceparent_is(&g->trace))
        router_trace(r, g, "", 0);
    s->trace = g->trace;
    g->client = ++r->next_client;
    g->n_prompt = job->n_tokens;
    map_put(&r->generations, g->client, g);
    s->client = g->client;
    s->tokens = job->tokens;
    s->n_tokens = job->n_tokens;
    s->max_new = job->max_new ? job->max_new : router_room(ctx, job);
    s->sampling = job->sampling;
    snprintf(s->tenant, sizeof(s->tenant), "%s", job->tenant ? job->tenant : "");
    s->has_limits = job->limits != NULL;
    if (job->limits)
        s->limits = *job->limits;
    s->priority = job->priority;
    memcpy(s->ids, job->ids, sizeof(s->ids));
    if (!job->has_seed)
        s->sampling.seed = rng_u64(r->boot, g->client);
    if (!g->ignore_eos) {
        s->n_stop_tokens = r->model.n_stop_tokens;
        memcpy(s->stop_tokens, r->model.stop_tokens, sizeof(s->stop_tokens));
    }
    router_event(r, &event);
}

void router_node_event(struct router *r, enum router_event_type type, uint64_t node)
{
    if (r->stepping)
        router_later(r, type, node);
    else
        router_event(r, &(struct router_event){.type = type, .node = node});
}

void router_gone(struct router *r, struct generation *g)
{
    g->gone = true;
    if (r->stepping)
        router_later(r, ROUTER_CANCEL, g->client);
    else
        router_event(r, &(struct router_event){.type = ROUTER_CANCEL, .client = g->client});
}

static void router_on_node(void *ctx, const struct peer *from, struct msg *m)
{
    struct router *r = ctx;
    uint64_t handle = hash64(from->id, from->n, 0);
    const struct peer *known;

    handle += handle == 0;
    known = map_get(&r->peers, handle);
    if (known && !peer_equal(known, from)) {
        log_warn("router", "message=%s dropped: two nodes' addresses have one hash",
                 msg_type_name(m->type));
        return;
    }
    if (!known)
        map_put(&r->peers, handle, mem_dup(from, sizeof(*from)));
    router_event(r, &(struct router_event){.type = ROUTER_MSG, .node = handle, .msg = m});
}

/* The end of a stop: what still runs is cut off, then its clients get a moment to read that. */
static void router_stop_tick(struct router *r)
{
    int64_t now = clock_now();
    struct generation *g;
    size_t iter = 0;

    if (now < r->stop_at && r->generations.len && router_core_ready(r->core))
        return;
    while ((g = map_next(&r->generations, &iter))) {
        struct router_action fail = {.type = ROUTER_FAIL, .client = g->client, .status = 503,
                                     .text = "the router is shutting down"};
        uint64_t client = g->client;

        router_end(r, &fail);
        router_event(r, &(struct router_event){.type = ROUTER_CANCEL, .client = client});
    }
    if (!http_server_conns(r->http) || now >= r->stop_at + ROUTER_FLUSH_MS * CLOCK_MS)
        loop_stop(r->loop);
}

static void router_on_tick(void *ctx)
{
    struct router *r = ctx;

    router_event(r, &(struct router_event){.type = ROUTER_TICK});
    if (r->stop_at)
        router_stop_tick(r);
}

static void router_refresh_keys(struct router *r)
{
    struct err e = {0};
    int rc = api_keys_refresh(r->api_keys, &e);

    if (rc > 0)
        log_info("router", "api_keys=%s was read again", r->options->api_keys);
    else if (rc < 0)
        log_error("router", "the API keys stay as they were: %s", e.text);
}

static int router_keys_open(struct router *r, struct err *e)
{
    const struct router_options *o = r->options;
    const struct tenant_limits limits = {o->tenant_concurrent, o->tenant_tokens_minute};

    return *o->api_keys ? api_keys_open(&r->api_keys, o->api_keys, &limits, e) : 0;
}

static void router_on_second(void *ctx)
{
    struct router *r = ctx;
    const struct live_totals totals = {.requests = router_core_counters(r->core)->submitted,
                                       .prompt_tokens = r->metrics.prompt_tokens,
                                       .output_tokens = r->metrics.output_tokens};
    struct generation *g;
    size_t iter = 0;

    while ((g = map_next(&r->generations, &iter)))
        completion_ping(g, clock_now());
    if (r->api_keys)
        router_refresh_keys(r);
    live_tick(&r->metrics.live, r->core, &totals, clock_now());
}

static void router_on_signal(void *ctx)
{
    struct router *r = ctx;

    if (r->stop_at) { /* the second one does not wait */
        loop_stop(r->loop);
        return;
    }
    log_info("router", "stopping: running=%zu", r->generations.len);
    r->stop_at = clock_now() + ROUTER_GRACE_MS * CLOCK_MS;
    http_server_drain(r->http);
    router_stop_tick(r);
}

static void router_core_open(struct router *r)
{
    const struct router_options *o = r->options;
    const struct hparams *h = &r->model.hparams;
    struct router_config c = {
        .expect = {.model_hash = r->model.hash,
                   .geometry = {.n_layer = h->n_layer,
                                .n_kv_head = h->n_head_kv,
                                .head_dim = h->head_dim,
                                .page_tokens = KV_PAGE_TOKENS},
                   .ctx_max = h->n_ctx,
                   .n_vocab = h->n_vocab},
        .mode = (enum router_mode)o->mode,
        .move_roles = o->move_roles,
        .heartbeat_ms = o->heartbeat_ms,
        .dead_ms = o->dead_ms,
        .slo_ttft_ms = o->slo_ttft_ms,
        .slo_tpot_ms = o->slo_tpot_ms,
        .tenant_concurrent = o->tenant_concurrent,
        .tenant_tokens_minute = o->tenant_tokens_minute,
        .priority_age_ms = o->priority_age_ms,
        .queue_max = o->queue_max,
        .queue_deadline_ms = o->queue_deadline_ms,
        .queue_prefill_ms = o->queue_prefill_ms,
        .queue_kv = o->queue_kv,
        .first_request = r->boot & ~(uint64_t)0xffffffff, /* 2^32 requests before two can meet */
    };

    c.salt = hash64(o->common.cluster, strlen(o->common.cluster), MSG_PROTOCOL);
    snprintf(c.expect.cluster, sizeof(c.expect.cluster), "%s", o->common.cluster);
    r->core = router_core_new(&c);
}

static int router_net_open(struct router *r, struct err *e)
{
    const struct router_options *o = r->options;
    const struct sock_options nodes = {.kind = SOCK_ROUTER, .lane = SOCK_CONTROL,
                                       .admits = KEYS_NODES};
    const struct sock_security security = {o->common.keys, KEYS_ROUTER, o->common.insecure};
    struct http_service service = serve_service(r);
    int rc;

    r->loop = loop_new();
    r->ctx = sock_ctx_new();
    if ((rc = http_server_open(&r->http, loop_base(r->loop), o->http, &service, e)) ||
        (rc = sock_ctx_secure(r->ctx, &security, e)) || (rc = sock_open(&r->nodes, r->ctx, &nodes, e)) || (rc = sock_bind(r->nodes, o->nodes, e)) ||
        (rc = native_open(&r->native, r, o->clients, e)))
        return rc;
    loop_add_sock(r->loop, r->nodes, router_on_node, r);
    /* link.h wants to be asked more often than once a beat */
    r->tick = loop_add_timer(r->loop, u32_max(1, u32_min(50, o->heartbeat_ms / 4)), router_on_tick,
                             r);
    r->second = loop_add_timer(r->loop, ROUTER_SECOND_MS, router_on_second, r);
    r->term = loop_add_signal(r->loop, SIGTERM, router_on_signal, r);
    r->interrupt = loop_add_signal(r->loop, SIGINT, router_on_signal, r);
    return 0;
}

static void router_close(struct router *r)
{
    struct generation *g;
    struct peer *peer;
    size_t iter = 0;

    /* whoever is left has had a second signal: no answers, only the memory back */
    while ((g = map_next(&r->generations, &iter))) {
        struct router_action fail = {.type = ROUTER_FAIL, .client = g->client, .status = 503};

        g->gone = true;
        router_end(r, &fail);
    }
    http_server_close(&r->http);
    native_close(&r->native);
    if (r->loop && r->nodes)
        loop_del_sock(r->loop, r->nodes);
    sock_close(&r->nodes);
    loop_del_event(&r->tick);
    loop_del_event(&r->second);
    loop_del_event(&r->term);
    loop_del_event(&r->interrupt);
    loop_free(&r->loop);
    sock_ctx_free(&r->ctx);
    live_fini(&r->metrics.live);
    router_actions_fini(&r->actions);
    router_core_free(&r->core);
    iter = 0;
    while ((peer = map_next(&r->peers, &iter)))
        mem_free(peer);
    map_fini(&r->peers);
    map_fini(&r->generations);
    mem_free(r->pending);
    model_close(&r->model);
    api_keys_close(&r->api_keys);
    mem_free(r);
}

int router_run(const void *options, struct err *e)
{
    const struct router_options *o = options;
    struct router *r = mem_zalloc(sizeof(*r));
    int rc;

    r->options = o;
    r->boot = rng_entropy();
    r->started_at = clock_now();
    rc = router_keys_open(r, e);
    if (!rc)
        rc = model_open(&r->model, o->common.model, o->chat_template, e);
    if (!rc) {
        router_core_open(r);
        rc = router_net_open(r, e);
    }
    if (!rc) {
        log_info("router", "cluster=%s model=%s template=%s http=%s nodes=%s clients=%s ready",
                 o->common.cluster, r->model.name, chat_name(r->model.chat), o->http,
                 sock_endpoint(r->nodes), native_endpoint(r->native));
        loop_run(r->loop);
        log_info("router", "stopped");
    }
    router_close(r);
    return rc;
}
