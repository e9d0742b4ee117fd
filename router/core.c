#include "router/core.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "router/admission.h"
#include "router/stream.h"

/* Retry-After is between these; with nodes missing it is the lower one. */
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000

struct router_core *router_core_new(const struct router_config *config)
{
    struct router_core *c = mem_zalloc(sizeof(*c));

    ASSERT(config->heartbeat_ms && config->dead_ms > config->heartbeat_ms);
    c->config = *config;
    c->queue.age_ns = config->priority_age_ms * CLOCK_MS;
    c->tenants.limits = (struct tenant_limits){config->tenant_concurrent, config->tenant_tokens_minute};
    c->next_request = config->first_request ? config->first_request : 1;
    return c;
}

static void core_free_ended(struct router_core *c)
{
    while (c->ended) {
        struct session *s = c->ended;

        c->ended = s->next;
        session_free(s);
    }
}

void router_core_free(struct router_core **core)
{
    struct router_core *c = *core;
    struct session *s;
    size_t iter = 0;

    if (!c)
        return;
    core_free_ended(c);
    while ((s = map_next(&c->by_request, &iter)))
        session_free(s);
    map_fini(&c->by_request);
    map_fini(&c->by_client);
    explain_fini(&c->explain);
    queue_fini(&c->queue);
    tenants_fini(&c->tenants);
    node_table_fini(&c->nodes);
    mem_free(c);
    *core = NULL;
}

uint32_t core_retry_after_ms(const struct router_core *c, uint64_t client)
{
    int64_t wait = c->service_ns / CLOCK_MS * (c->queue.n + 1) / u32_max(c->running, 1);
    /* up to a quarter more, different for each client: they must not all come back together */
    uint64_t jitter = hash64(&client, sizeof(client), 0) % 256;

    if (wait < RETRY_MIN_MS)
        wait = RETRY_MIN_MS;
    wait += wait * (int64_t)jitter / 1024;
    return wait > RETRY_MAX_MS ? RETRY_MAX_MS : (uint32_t)wait;
}

/* FAIL for a request that never became a session. Takes its tokens. */
static void core_refuse(struct router_core *c, const struct router_submit *submit, int status,
                        uint32_t retry_after_ms, const char *text)
{
    struct router_action *a = action_add(c, ROUTER_FAIL);

    a->client = submit->client;
    a->status = status;
    a->retry_after_ms = retry_after_ms;
    a->stats.prompt_tokens = submit->n_tokens;
    snprintf(a->text, sizeof(a->text), "%s", text);
    mem_free(submit->tokens);
    c->counters.failed++;
}

/* 503 while what waits costs too much; somebody waits. True: the request was refused. */
static bool core_cost_fails(struct router_core *c, const struct router_submit *submit)
{
    const struct router_config *config = &c->config;
    size_t n = node_table_snapshot(&c->nodes, c->now);
    struct admission a = admission_predict(c->nodes.snapshot, n, config->mode, c->queue.tokens,
                                           c->queue.reserve);
    double bound_s = (config->queue_prefill_ms ? config->queue_prefill_ms : config->queue_deadline_ms) / 1e3;
    double bound = config->queue_kv ? (double)config->queue_kv : ADMISSION_POOLS * a.pool_bytes;
    uint32_t retry = core_retry_after_ms(c, submit->client);
    char text[MSG_TEXT_MAX];

    if (!a.known)
        return false;
    if (a.prefill_s > bound_s) {
        retry = u32_max(retry, (uint32_t)fmin((a.prefill_s - bound_s) * 1e3, RETRY_MAX_MS));
        snprintf(text, sizeof(text), "the prompts of %u waiting requests take %.1f ms to compute, as "
                 "predicted, and the bound is %.0f ms", c->queue.n, a.prefill_s * 1e3, bound_s * 1e3);
    } else if (a.kv_bytes > bound) {
        snprintf(text, sizeof(text), "%u waiting requests may need %.1f MiB of KV, and the bound is %.1f MiB",
                 c->queue.n, a.kv_bytes / 0x1p20, bound / 0x1p20);
    } else {
        return false;
    }
    c->counters.refused_cost++;
    core_refuse(c, submit, 503, retry, text);
    return true;
}

/* Refuses what cannot run. True: the request was refused, its tokens are gone. */
static bool core_admit_fails(struct router_core *c, const struct router_submit *submit)
{
    char text[MSG_TEXT_MAX];
    uint32_t ctx = router_core_ctx(c);
    uint64_t total = (uint64_t)submit->n_tokens + submit->max_new;
    uint32_t retry = core_retry_after_ms(c, submit->client);

    if (!submit->n_tokens || !submit->max_new) {
        core_refuse(c, submit, 400, 0, "the prompt and max_tokens must each be at least 1 token");
    } else if (submit->n_tokens >= ctx) {
        c->counters.refused_too_long++;
        snprintf(text, sizeof(text), "the prompt has %u tokens, and the context holds %u, of which the "
                 "answer needs at least 1: shorten the prompt", submit->n_tokens, ctx);
        core_refuse(c, submit, 400, 0, text);
    } else if (total > ctx) {
        c->counters.refused_too_long++;
        snprintf(text, sizeof(text),
                 "the prompt has %u tokens and max_tokens is %u, together %llu, but the context "
                 "holds %u tokens: shorten the prompt or lower max_tokens",
                 submit->n_tokens, submit->max_new, (unsigned long long)total, ctx);
        core_refuse(c, submit, 400, 0, text);
    } else if (!router_core_ready(c)) {
        c->counters.refused_no_nodes++;
        snprintf(text, sizeof(text),
                 "the cluster has %u prefill and %u decode nodes; at least one %s is needed",
                 node_table_count(&c->nodes, ROLE_PREFILL),
                 node_table_count(&c->nodes, ROLE_DECODE),
                 c->config.mode == ROUTER_DISAGGREGATED ? "of each" : "decode node");
        core_refuse(c, submit, 503, retry, text);
    } else if (c->queue.n >= c->config.queue_max) {
        c->counters.refused_full++;
        snprintf(text, sizeof(text), "%u requests are waiting already, and queue_max is %u",
                 c->queue.n, c->config.queue_max);
        core_refuse(c, submit, 503, retry, text);
    } else {
        return false;
    }
    return true;
}

/* 429 for who is over its own limit. True: the request was refused. */
static bool core_tenant_fails(struct router_core *c, const struct router_submit *submit)
{
    uint64_t id = hash64(submit->tenant, strlen(submit->tenant), 0);
    const struct tenant_limits *own = submit->has_limits ? &submit->limits : NULL;
    const struct tenant_limits *limits = own ? own : &c->tenants.limits;
    int64_t wait = RETRY_MIN_MS * CLOCK_MS;
    char text[MSG_TEXT_MAX];

    if (!*submit->tenant)
        return false;
    switch (tenants_may(&c->tenants, id, own, c->now, &wait)) {
    case TENANT_OK:
        return false;
    case TENANT_BUSY:
        snprintf(text, sizeof(text), "you have %u requests under way, and may have %u at a time",
                 limits->concurrent_max, limits->concurrent_max);
        break;
    case TENANT_SPENT:
        snprintf(text, sizeof(text), "you have used the %u tokens that you may use in a minute",
                 limits->tokens_minute);
        break;
    }
    c->counters.refused_tenant++;
    core_refuse(c, submit, 429, (uint32_t)(wait / CLOCK_MS), text);
    return true;
}

static void core_submit(struct router_core *c, const struct router_submit *submit)
{
    struct session *s;
    char text[MSG_TEXT_MAX];

    ASSERT(submit->client && !map_get(&c->by_client, submit->client));
    ASSERT(submit->n_stop_tokens <= MSG_STOP_TOKENS_MAX);
    c->counters.submitted++;
    if (core_tenant_fails(c, submit) || core_admit_fails(c, submit) ||
        (c->queue.n && core_cost_fails(c, submit)))
        return;
    s = session_new(submit, c->next_request++, c->config.salt, c->now);
    map_put(&c->by_request, s->id.request, s);
    map_put(&c->by_client, s->client, s);
    if (*s->tenant)
        tenants_begin(&c->tenants, s->tenant_id, submit->has_limits ? &submit->limits : NULL, s->n_prompt,
                      c->now);
    queue_add(&c->queue, s, c->now);
    c->room = true;
    if (place_misses(c, s, text, sizeof(text))) {
        c->counters.refused_slo++;
        stream_fail(c, s, 503, core_retry_after_ms(c, s->client), text);
    }
}

static void core_cancel(struct router_core *c, uint64_t client)
{
    struct session *s = map_get(&c->by_client, client);

    if (s)
        stream_finish(c, s, FINISH_CANCELLED);
}

/* Fails what has waited too long for a pair. */
static void core_expire(struct router_core *c)
{
    int64_t deadline = c->config.queue_deadline_ms * CLOCK_MS;
    struct session *s;
    char text[MSG_TEXT_MAX];

    while ((s = c->queue.oldest) && c->now - s->queued_at >= deadline) {
        c->counters.expired++;
        snprintf(text, sizeof(text), "no nodes were free for the request within %u ms",
                 c->config.queue_deadline_ms);
        stream_fail(c, s, 503, core_retry_after_ms(c, s->client), text);
    }
}

/* An answer to RESERVE is due at once: the node's network thread gives it. One that does not come
 * was lost with a connection that broke and was made again. */
static void core_check_reserves(struct router_core *c)
{
    struct session *s;
    size_t iter = 0;

    while ((s = map_next(&c->by_request, &iter))) {
        if (s->state == SESSION_RESERVING &&
            c->now - s->placed_at > c->config.dead_ms * CLOCK_MS)
            stream_restart(c, s, s->decode->handle, "the decode node did not answer RESERVE");
    }
}

/* Heartbeats to the nodes, and the end of those that are silent. */
static void core_check_nodes(struct router_core *c)
{
    char why[MSG_TEXT_MAX];
    size_t i = 0;

    while (i < c->nodes.n) {
        struct node *node = c->nodes.items[i];
        struct msg beat = {.type = MSG_HEARTBEAT};

        if (node->state != NODE_WAITING && link_dead(&node->link, c->now)) {
            snprintf(why, sizeof(why), "silent for %u ms", c->config.dead_ms);
            inbox_lost(c, node, why); /* removes it, and may change others: start again */
            i = 0;
            continue;
        }
        if (link_due(&node->link, c->now))
            action_send(c, node, &beat);
        i++;
    }
}

static void core_drain(struct router_core *c, uint64_t handle)
{
    struct node *node = node_table_get(&c->nodes, handle);
    struct msg m = {.type = MSG_DRAIN};

    if (!node || node->state == NODE_WAITING)
        return;
    node->drained = true;
    node->state = NODE_DRAINING;
    action_send(c, node, &m);
    action_note(c, LOG_INFO, "node=%s running=%u is told to drain", node->reg.name, node->running);
    if (node->reg.role == ROLE_DECODE && !router_core_decodes(c))
        action_note(c, LOG_WARN, "node=%s was the last decode node that took requests: they wait now",
                    node->reg.name);
}

void router_step(struct router_core *c, const struct router_event *event, int64_t now,
                 struct router_actions *out)
{
    struct node *node;

    c->now = now;
    c->out = out;
    core_free_ended(c);
    switch (event->type) {
    case ROUTER_SUBMIT:
        core_submit(c, &event->submit);
        break;
    case ROUTER_CANCEL:
        core_cancel(c, event->client);
        break;
    case ROUTER_MSG:
        inbox_message(c, event->node, event->msg);
        break;
    case ROUTER_LOST:
        if ((node = node_table_get(&c->nodes, event->node)))
            inbox_lost(c, node, "its connection is gone");
        break;
    case ROUTER_TICK:
        core_check_nodes(c);
        core_check_reserves(c);
        core_expire(c);
        moves_tick(c);
        quarantine_tick(c);
        c->room = true; /* a node that was held back may be open again */
        break;
    case ROUTER_DRAIN:
        core_drain(c, event->node);
        break;
    case ROUTER_BECOME_PREFILL:
        moves_become(c, event->node, ROLE_PREFILL);
        break;
    case ROUTER_BECOME_DECODE:
        moves_become(c, event->node, ROLE_DECODE);
        break;
    }
    place_all(c);
    c->out = NULL;
}

const struct router_counters *router_core_counters(const struct router_core *c)
{
    return &c->counters;
}

uint32_t router_core_queued(const struct router_core *c) { return c->queue.n; }

uint32_t router_core_running(const struct router_core *c) { return c->running; }

size_t router_core_node_count(const struct router_core *c) { return c->nodes.n; }

const struct node *router_core_node(const struct router_core *c, size_t i)
{
    ASSERT(i < c->nodes.n);
    return c->nodes.items[i];
}

const struct node *router_core_node_named(const struct router_core *c, const char *name)
{
    return node_table_named(&c->nodes, name);
}

bool router_core_explain(const struct router_core *c, uint64_t id, struct str *out)
{
    const struct explain_entry *entry = NULL;
    const struct session *s;
    size_t iter = 0;

    while (!entry && (s = map_next(&c->by_request, &iter))) {
        s->explain->stats = s->stats;
        if (explain_is(s->explain, id))
            entry = s->explain;
    }
    if (!entry)
        entry = explain_find(&c->explain, id);
    if (entry)
        explain_json(&c->explain, entry, out);
    return entry != NULL;
}

static uint32_t core_up(const struct router_core *c, enum node_role role)
{
    uint32_t n = 0;

    for (size_t i = 0; i < c->nodes.n; i++)
        n += c->nodes.items[i]->state == NODE_UP && c->nodes.items[i]->reg.role == role;
    return n;
}

uint32_t router_core_decodes(const struct router_core *c) { return core_up(c, ROLE_DECODE); }

bool router_core_needs(const struct router_core *c, const struct node *node)
{
    return node->state == NODE_UP && core_up(c, node->reg.role) == 1 &&
           (node->reg.role == ROLE_DECODE || c->config.mode == ROUTER_DISAGGREGATED);
}

bool router_core_ready(const struct router_core *c)
{
    return node_table_count(&c->nodes, ROLE_DECODE) &&
           (c->config.mode != ROUTER_DISAGGREGATED || node_table_count(&c->nodes, ROLE_PREFILL));
}

uint32_t router_core_ctx(const struct router_core *c)
{
    uint32_t ctx = c->ctx_max;

    return ctx ? u32_min(ctx, c->config.expect.ctx_max) : c->config.expect.ctx_max;
}
