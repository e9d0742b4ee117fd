#include "router/metrics.h"

#include <inttypes.h>

#include "base/check.h"
#include "base/clock.h"

static const int metrics_statuses[METRICS_STATUSES] = {200, 400, 404, 413, 429, 499, 500, 503, 0};
static const char *const metrics_endpoints[METRICS_ENDPOINT_COUNT] = {"chat", "completions",
                                                                      "native"};

void metrics_request(struct metrics *m, enum metrics_endpoint endpoint, int status)
{
    size_t i = 0;

    while (i < METRICS_STATUSES - 1 && metrics_statuses[i] != status)
        i++;
    m->requests[endpoint][i]++;
}

void metrics_first(struct metrics *m, uint32_t prompt_tokens, int64_t ttft)
{
    m->prompt_tokens += prompt_tokens;
    m->output_tokens++;
    hist_add(&m->ttft, ttft);
}

void metrics_tokens(struct metrics *m, uint32_t n, int64_t gap)
{
    m->output_tokens += n;
    for (uint32_t i = 0; i < n; i++)
        hist_add(&m->itl, gap / n);
}

static void metrics_head(struct str *out, const char *name, const char *type, const char *help)
{
    str_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void metrics_one(struct str *out, const char *name, const char *type, const char *help,
                        double value)
{
    metrics_head(out, name, type, help);
    str_addf(out, "%s %.17g\n", name, value);
}

static void metrics_hist(struct str *out, const char *name, const char *help, const struct hist *h)
{
    static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                    1,     2.5,    5,     10,   25,    60,   120, 300};

    metrics_head(out, name, "histogram", help);
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++)
        str_addf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds[i],
                 hist_count_le(h, (int64_t)(bounds[i] * 1e9)));
    str_addf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.9g\n%s_count %" PRIu64 "\n", name,
             h->count, name, h->sum / 1e9, name, h->count);
}

static void metrics_requests(struct str *out, const struct metrics *m)
{
    metrics_head(out, "tandem_requests_total", "counter", "Requests ended, by status.");
    for (size_t e = 0; e < METRICS_ENDPOINT_COUNT; e++) {
        for (size_t i = 0; i < METRICS_STATUSES; i++) {
            if (!m->requests[e][i] && metrics_statuses[i] != 200)
                continue; /* the good ones are there from the start, so that a rate has a 0 */
            str_addf(out, "tandem_requests_total{endpoint=\"%s\",code=\"%d\"} %" PRIu64 "\n",
                     metrics_endpoints[e], metrics_statuses[i], m->requests[e][i]);
        }
    }
}

/* One sample a node: value is read from where `get` says. Names need no escapes: nodes.c. */
static void metrics_nodes(struct str *out, const struct router_core *core, const char *name,
                          const char *type, const char *help,
                          uint64_t (*get)(const struct node *node))
{
    metrics_head(out, name, type, help);
    for (size_t i = 0; i < router_core_node_count(core); i++) {
        const struct node *n = router_core_node(core, i);

        if (n->state != NODE_WAITING)
            str_addf(out, "%s{node=\"%s\",role=\"%s\"} %" PRIu64 "\n", name, n->reg.name,
                     n->reg.role == ROLE_PREFILL ? "prefill" : "decode", get(n));
    }
}

static uint64_t node_up(const struct node *n) { return n->state == NODE_UP; }
static uint64_t node_queued(const struct node *n) { return n->beat.queued; }
static uint64_t node_running(const struct node *n) { return n->beat.running; }
static uint64_t node_tokens(const struct node *n) { return n->beat.tokens; }
static uint64_t node_steps(const struct node *n) { return n->beat.steps; }
static uint64_t node_kv_bytes(const struct node *n) { return n->beat.kv_bytes; }
static uint64_t node_hit_tokens(const struct node *n) { return n->beat.hit_tokens; }
static uint64_t node_local_tokens(const struct node *n) { return n->beat.local_tokens; }
static uint64_t node_preempted(const struct node *n) { return n->beat.preempted; }
static uint64_t node_pages_total(const struct node *n) { return n->beat.pages_total; }
static uint64_t node_pages_used(const struct node *n)
{
    return n->beat.pages_total - u32_min(n->beat.pages_free, n->beat.pages_total);
}

static void metrics_core(struct str *out, const struct router_core *core)
{
    const struct router_counters *c = router_core_counters(core);
    const struct {
        const char *name, *help;
        uint64_t value;
    } counters[] = {
        {"tandem_requests_submitted_total", "Requests that reached admission.", c->submitted},
        {"tandem_requests_cancelled_total", "Ended by the client or a stop string.", c->cancelled},
        {"tandem_requests_refused_full_total", "Refused: the queue was full.", c->refused_full},
        {"tandem_requests_refused_no_nodes_total", "Refused: no pair of nodes.",
         c->refused_no_nodes},
        {"tandem_requests_refused_too_long_total", "Refused: over the context.",
         c->refused_too_long},
        {"tandem_requests_refused_slo_total", "Refused: no nodes could meet the targets.",
         c->refused_slo},
        {"tandem_requests_refused_tenant_total", "Refused with 429: over the tenant's own limit.",
         c->refused_tenant},
        {"tandem_requests_quarantined_total", "Failed: on two nodes when they crashed.",
         c->quarantined},
        {"tandem_requests_expired_total", "Waited longer than the queue deadline.", c->expired},
        {"tandem_streams_restarted_total", "Attempts repeated after a failure.", c->restarts},
        {"tandem_reserve_refused_total", "Reservations that a decode node refused.",
         c->reserve_refused},
        {"tandem_prefix_hits_total", "Placements where a prefix cache was expected to help.",
         c->prefix_hits},
        {"tandem_prefix_hit_tokens_total", "Prompt tokens of those.", c->prefix_hit_tokens},
        {"tandem_cached_tokens_total", "Prompt tokens that prefix caches did save.",
         c->cached_tokens},
        {"tandem_stale_messages_total", "Messages of an older epoch or unknown sender, dropped.",
         c->stale_messages},
        {"tandem_protocol_faults_total", "Messages that broke the protocol.", c->protocol_faults},
        {"tandem_nodes_registered_total", "Registrations accepted.", c->nodes_registered},
        {"tandem_nodes_refused_total", "Registrations refused.", c->nodes_refused},
        {"tandem_nodes_lost_total", "Nodes that died, left or fell silent.", c->nodes_lost},
        {"tandem_role_changes_total", "Nodes told to change their role.", c->role_changes},
    };

    for (size_t i = 0; i < ARRAY_LEN(counters); i++)
        metrics_one(out, counters[i].name, "counter", counters[i].help, (double)counters[i].value);
    metrics_head(out, "tandem_placed_total", "counter", "Attempts given to nodes, by why there.");
    for (size_t i = 0; i < SCHEDULE_RUNGS; i++)
        str_addf(out, "tandem_placed_total{rung=\"%s\"} %" PRIu64 "\n", schedule_rung_names[i],
                 c->placed[i]);
    metrics_one(out, "tandem_queue_depth", "gauge", "Requests waiting for a pair of nodes.",
                router_core_queued(core));
    metrics_one(out, "tandem_requests_running", "gauge", "Requests on a pair of nodes.",
                router_core_running(core));
    metrics_one(out, "tandem_ready", "gauge", "1 if the nodes that the mode needs are registered.",
                router_core_ready(core));
}

void metrics_render(const struct metrics *m, const struct router_core *core, uint32_t http_conns,
                    int64_t uptime, struct str *out)
{
    metrics_head(out, "tandem_build_info", "gauge", "Always 1.");
    str_addf(out, "tandem_build_info{version=\"%s\"} 1\n", TANDEM_VERSION);
    metrics_one(out, "tandem_uptime_seconds", "gauge", "Since the start.", clock_s(uptime));
    metrics_requests(out, m);
    metrics_one(out, "tandem_prompt_tokens_total", "counter", "Prompt tokens of served requests.",
                (double)m->prompt_tokens);
    metrics_one(out, "tandem_output_tokens_total", "counter", "Tokens delivered to clients.",
                (double)m->output_tokens);
    metrics_hist(out, "tandem_ttft_seconds", "Time to first token.", &m->ttft);
    metrics_hist(out, "tandem_itl_seconds", "Time between tokens.", &m->itl);
    metrics_hist(out, "tandem_request_seconds", "Whole time of served requests.", &m->total);
    metrics_hist(out, "tandem_queue_seconds", "Wait for a pair of nodes.", &m->wait);
    metrics_core(out, core);
    metrics_one(out, "tandem_http_connections", "gauge", "HTTP connections open.", http_conns);
    metrics_nodes(out, core, "tandem_node_up", "gauge", "1: takes work; 0: drains.", node_up);
    metrics_nodes(out, core, "tandem_node_queued", "gauge", "Jobs waiting there.", node_queued);
    metrics_nodes(out, core, "tandem_node_running", "gauge", "Sequences there.", node_running);
    metrics_nodes(out, core, "tandem_node_tokens_total", "counter", "Tokens computed.",
                  node_tokens);
    metrics_nodes(out, core, "tandem_node_steps_total", "counter", "Forward passes.", node_steps);
    metrics_nodes(out, core, "tandem_node_kv_bytes_total", "counter", "KV bytes moved.",
                  node_kv_bytes);
    metrics_nodes(out, core, "tandem_node_hit_tokens_total", "counter",
                  "Prompt tokens found in the prefix cache.", node_hit_tokens);
    metrics_nodes(out, core, "tandem_node_local_tokens_total", "counter",
                  "Prompt tokens computed by a decode node.", node_local_tokens);
    metrics_nodes(out, core, "tandem_node_preempted_total", "counter",
                  "Sequences set aside for want of KV pages.", node_preempted);
    metrics_nodes(out, core, "tandem_kv_pages_used", "gauge", "KV pages in use.", node_pages_used);
    metrics_nodes(out, core, "tandem_kv_pages_total", "gauge", "KV pages there are.",
                  node_pages_total);
}
