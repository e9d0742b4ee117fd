#include "router/overview.h"

#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"

static void put(json_t *o, const char *key, uint64_t value)
{
    json_object_set_new(o, key, json_integer((json_int_t)value));
}

static void put_real(json_t *o, const char *key, double value)
{
    json_object_set_new(o, key, json_real(value));
}

/* What a pass costs there and what the machine gives, as the node measured it; 0: it did not say. */
static json_t *node_costs(const struct node *n)
{
    json_t *o = json_object();

    put(o, "weight_bytes", n->reg.weight_bytes);
    put(o, "kv_token_bytes", n->reg.kv_token_bytes);
    put(o, "flops_token", n->reg.flops_token);
    put(o, "read_bytes_s", n->reg.read_bytes_s);
    put(o, "flops_s", n->reg.flops_s);
    return o;
}

static json_t *node_rates(const struct router *r, const struct node *n)
{
    struct live_node_rates rates = live_node_rates(&r->metrics.live, n);
    json_t *o = json_object();

    put_real(o, "tokens_s", rates.tokens);
    put_real(o, "steps_s", rates.steps);
    put_real(o, "kv_bytes_s", rates.kv_bytes);
    put_real(o, "busy", rates.busy);
    put_real(o, "mfu", rates.mfu);
    put_real(o, "mbu", rates.mbu);
    return o;
}

static json_t *node_value(const struct router *r, const struct node *n, int64_t now)
{
    const struct msg_heartbeat *b = &n->beat;
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", n->reg.name, "role",
                          node_role_name(n->reg.role), "tier", n->reg.tier, "state",
                          node_state_names[n->state], "host", n->reg.host, "metrics",
                          n->reg.metrics);

    ASSERT(o); /* all of it is printable ASCII */
    put(o, "queued", b->queued);
    put(o, "running", b->running);
    put(o, "slots", n->reg.slots);
    put(o, "pages_free", b->pages_free);
    put(o, "pages_total", b->pages_total);
    put(o, "pages_cached", b->pages_cached);
    put(o, "tokens", b->tokens);
    put(o, "steps", b->steps);
    put(o, "kv_bytes", b->kv_bytes);
    put(o, "queued_tokens", b->queued_tokens);
    put(o, "hit_tokens", b->hit_tokens);
    put(o, "local_tokens", b->local_tokens);
    put(o, "preempted", b->preempted);
    put(o, "pages_bad", b->pages_bad);
    put(o, "leases_expired", b->leases_expired);
    put(o, "resumed", b->resumed);
    put(o, "busy_ms", b->busy_ns / CLOCK_MS);
    put(o, "domain", n->reg.domain);
    put(o, "cores", n->reg.cores);
    put(o, "pid", (uint64_t)n->reg.pid);
    put(o, "silent_ms", now > n->link.heard ? (uint64_t)(now - n->link.heard) / CLOCK_MS : 0);
    json_object_set_new(o, "rates", node_rates(r, n));
    json_object_set_new(o, "costs", node_costs(n));
    return o;
}

static json_t *percentiles(const struct live *l, enum live_time what)
{
    static const struct {
        const char *key;
        double p;
    } all[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}};
    struct hist *h = mem_zalloc(sizeof(*h));
    json_t *o = json_object();

    live_window(l, what, h);
    put(o, "n", h->count);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        json_object_set_new(o, all[i].key,
                            h->count ? json_real(clock_ms(hist_percentile(h, all[i].p)))
                                     : json_null());
    mem_free(h);
    return o;
}

static json_t *router_value(const struct router *r, int64_t now)
{
    const struct router_counters *k = router_core_counters(r->core);
    const struct live *l = &r->metrics.live;
    struct live_rates rates = live_rates(l);
    json_t *o = json_object(), *times = json_object(), *a_second = json_object();

    json_object_set_new(o, "ready", json_boolean(router_core_ready(r->core)));
    put(o, "queued", router_core_queued(r->core));
    put(o, "running", router_core_running(r->core));
    put(o, "context", router_core_ctx(r->core));
    put(o, "requests", k->submitted);
    put(o, "finished", k->finished);
    put(o, "failed", k->failed);
    put(o, "cancelled", k->cancelled);
    put(o, "restarts", k->restarts);
    put(o, "nodes_lost", k->nodes_lost);
    put(o, "prompt_tokens", r->metrics.prompt_tokens);
    put(o, "output_tokens", r->metrics.output_tokens);
    put(o, "cached_tokens", r->metrics.cached_tokens);
    put_real(o, "uptime_s", clock_s(now - r->started_at));
    json_object_set_new(o, "version", json_string(TANDEM_VERSION));
    put(o, "dead_ms", r->options->dead_ms);
    put(o, "slo_ttft_ms", r->options->slo_ttft_ms);
    put(o, "slo_tpot_ms", r->options->slo_tpot_ms);
    put_real(a_second, "requests_s", rates.requests);
    put_real(a_second, "prompt_tokens_s", rates.prompt_tokens);
    put_real(a_second, "output_tokens_s", rates.output_tokens);
    put_real(a_second, "kv_bytes_s", rates.kv_bytes);
    json_object_set_new(o, "rates", a_second);
    put(times, "window_s", LIVE_SLOTS * LIVE_SLOT_S);
    json_object_set_new(times, "ttft_ms", percentiles(l, LIVE_TTFT));
    json_object_set_new(times, "tpot_ms", percentiles(l, LIVE_TPOT));
    json_object_set_new(times, "e2e_ms", percentiles(l, LIVE_E2E));
    json_object_set_new(o, "percentiles", times);
    return o;
}

json_t *overview_cluster(const struct router *r)
{
    json_t *nodes = json_array(), *o = json_object();
    int64_t now = clock_now();

    for (size_t i = 0; i < router_core_node_count(r->core); i++)
        json_array_append_new(nodes, node_value(r, router_core_node(r->core, i), now));
    json_object_set_new(o, "cluster", json_string(r->options->common.cluster));
    json_object_set_new(o, "model", json_string(r->model.name));
    json_object_set_new(o, "router", router_value(r, now));
    json_object_set_new(o, "nodes", nodes);
    return o;
}

static void put_time(json_t *list, float ms)
{
    json_array_append_new(list, ms < 0 ? json_null() : json_real((double)ms));
}

json_t *overview_history(const struct router *r)
{
    static const char *const keys[] = {"requests_s", "prompt_tokens_s", "output_tokens_s",
                                       "kv_bytes_s", "queued", "running", "ttft_p50", "ttft_p99",
                                       "tpot_p50", "tpot_p99"};
    const struct live *l = &r->metrics.live;
    uint64_t n = l->n_history < LIVE_HISTORY ? l->n_history : LIVE_HISTORY;
    json_t *lists[ARRAY_LEN(keys)], *o = json_pack("{s:i}", "step_ms", 1000);

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        json_object_set_new(o, keys[i], lists[i] = json_array());
    for (uint64_t i = l->n_history - n; i < l->n_history; i++) {
        const struct live_point *p = &l->history[i % LIVE_HISTORY];
        const float values[] = {p->requests_s, p->prompt_tokens_s, p->output_tokens_s, p->kv_bytes_s};

        for (size_t k = 0; k < ARRAY_LEN(values); k++)
            json_array_append_new(lists[k], json_real((double)values[k]));
        json_array_append_new(lists[4], json_integer(p->queued));
        json_array_append_new(lists[5], json_integer(p->running));
        put_time(lists[6], p->ttft_p50);
        put_time(lists[7], p->ttft_p99);
        put_time(lists[8], p->tpot_p50);
        put_time(lists[9], p->tpot_p99);
    }
    return o;
}

static json_t *target(const char *address, const char *node, const char *role)
{
    return json_pack("{s:[s], s:{s:s, s:s}}", "targets", address, "labels", "tandem_process", node,
                     "tandem_role", role);
}

json_t *overview_targets(const struct router *r, const char *host)
{
    json_t *list = json_array();

    json_array_append_new(list, target(host, r->options->common.name, "router"));
    for (size_t i = 0; i < router_core_node_count(r->core); i++) {
        const struct node *n = router_core_node(r->core, i);

        if (n->state != NODE_WAITING && *n->reg.metrics)
            json_array_append_new(list,
                                  target(n->reg.metrics, n->reg.name, node_role_name(n->reg.role)));
    }
    return list;
}
