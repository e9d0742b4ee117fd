#include "router/metrics.h"

#include <inttypes.h>

#include "base/check.h"
#include "base/clock.h"
#include "daemon/prom.h"

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
    live_time(&m->live, LIVE_TTFT, ttft);
}

void metrics_tokens(struct metrics *m, uint32_t n, int64_t gap)
{
    m->output_tokens += n;
    for (uint32_t i = 0; i < n; i++)
        hist_add(&m->itl, gap / n);
}

void metrics_served(struct metrics *m, const struct metrics_served *s)
{
    const struct router_stats *r = s->stats;

    m->finished[s->finish]++;
    m->cached_tokens += r->cached_tokens;
    hist_add(&m->total, s->total);
    hist_add(&m->wait, r->wait_ns);
    hist_add(&m->prefill, r->prefill_ns);
    hist_add(&m->decode, r->decode_ns);
    hist_add(&m->handoff, r->handoff_ns);
    hist_add(&m->inference, s->total - r->wait_ns - r->queue_ns);
    hist_add(&m->prompts, s->prompt_tokens);
    hist_add(&m->answers, s->output_tokens);
    live_time(&m->live, LIVE_E2E, s->total);
    if (s->output_tokens < 2)
        return;
    hist_add(&m->tpot, s->tpot);
    live_time(&m->live, LIVE_TPOT, s->tpot);
}

static void metrics_requests(struct str *out, const struct metrics *m)
{
    prom_head(out, "tandem_requests_total", "counter", "Requests ended, by status.");
    for (size_t e = 0; e < METRICS_ENDPOINT_COUNT; e++) {
        for (size_t i = 0; i < METRICS_STATUSES; i++) {
            if (!m->requests[e][i] && metrics_statuses[i] != 200)
                continue; /* the good ones are there from the start, so that a rate has a 0 */
            str_addf(out, "tandem_requests_total{endpoint=\"%s\",code=\"%d\"} %" PRIu64 "\n",
                     metrics_endpoints[e], metrics_statuses[i], m->requests[e][i]);
        }
    }
}

/* One of the metrics that have a sample a node, from its last heartbeat or the rates. */
struct metrics_node {
    const char *name, *type, *help;
    double (*get)(const struct node *n, const struct live_node_rates *r);
};
#define NODE(name, value)                                                                          \
    static double name(const struct node *n, const struct live_node_rates *r)                      \
    {                                                                                              \
        (void)n, (void)r;                                                                          \
        return (double)(value);                                                                    \
    }
NODE(node_up, n->state == NODE_UP)
NODE(node_queued, n->beat.queued)
NODE(node_running, n->beat.running)
NODE(node_tokens, n->beat.tokens)
NODE(node_steps, n->beat.steps)
NODE(node_kv_bytes, n->beat.kv_bytes)
NODE(node_hit_tokens, n->beat.hit_tokens)
NODE(node_local_tokens, n->beat.local_tokens)
NODE(node_preempted, n->beat.preempted)
NODE(node_pages_bad, n->beat.pages_bad)
NODE(node_leases, n->beat.leases_expired)
NODE(node_resumed, n->beat.resumed)
NODE(node_busy, (double)n->beat.busy_ns * 1e-9)
NODE(node_flops, n->beat.flops)
NODE(node_read_bytes, n->beat.read_bytes)
NODE(node_pages_used, n->beat.pages_total - u32_min(n->beat.pages_free, n->beat.pages_total))
NODE(node_pages_total, n->beat.pages_total)
NODE(node_mfu, r->mfu)
NODE(node_mbu, r->mbu)

static const struct metrics_node metrics_nodes[] = {
    {"tandem_node_up", "gauge", "1: takes work; 0: drains.", node_up},
    {"tandem_node_queued", "gauge", "Jobs waiting there.", node_queued},
    {"tandem_node_running", "gauge", "Sequences there.", node_running},
    {"tandem_node_tokens_total", "counter", "Tokens computed.", node_tokens},
    {"tandem_node_steps_total", "counter", "Forward passes.", node_steps},
    {"tandem_node_kv_bytes_total", "counter", "KV bytes moved.", node_kv_bytes},
    {"tandem_node_hit_tokens_total", "counter", "Prompt tokens found in the prefix cache.",
     node_hit_tokens},
    {"tandem_node_local_tokens_total", "counter", "Prompt tokens computed by a decode node.",
     node_local_tokens},
    {"tandem_node_preempted_total", "counter", "Sequences set aside for want of KV pages.",
     node_preempted},
    {"tandem_node_pages_bad_total", "counter", "KV pages that came spoiled, or were asked for again.",
     node_pages_bad},
    {"tandem_node_leases_expired_total", "counter", "Streams whose KV did not come, or was not taken.",
     node_leases},
    {"tandem_node_resumed_total", "counter", "Streams whose KV went on on a new connection.",
     node_resumed},
    {"tandem_node_busy_seconds_total", "counter", "In forward passes.", node_busy},
    {"tandem_node_flops_total", "counter", "That its passes need at least.", node_flops},
    {"tandem_node_read_bytes_total", "counter", "Weights and KV that its passes read at least.",
     node_read_bytes},
    {"tandem_node_mfu", "gauge", "FLOPs of the last seconds, 1 is the peak measured at start.",
     node_mfu},
    {"tandem_node_mbu", "gauge", "Bytes read in the last seconds, 1 is the peak measured at start.",
     node_mbu},
    {"tandem_kv_pages_used", "gauge", "KV pages in use.", node_pages_used},
    {"tandem_kv_pages_total", "gauge", "KV pages there are.", node_pages_total},
};

/* Names need no escapes: nodes.c. */
static void metrics_of_nodes(struct str *out, const struct live *live, const struct router_core *core)
{
    size_t n = router_core_node_count(core);

    for (size_t m = 0; m < ARRAY_LEN(metrics_nodes); m++) {
        const struct metrics_node *metric = &metrics_nodes[m];

        prom_head(out, metric->name, metric->type, metric->help);
        for (size_t i = 0; i < n; i++) {
            const struct node *node = router_core_node(core, i);
            struct live_node_rates rates = live_node_rates(live, node);
            char labels[PROM_LABELS_MAX];

            if (node->state == NODE_WAITING)
                continue;
            prom_labels(labels, "node", node->reg.name, "role", node_role_name(node->reg.role));
            prom_sample(out, metric->name, labels, metric->get(node, &rates));
        }
    }
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
        {"tandem_requests_refused_cost_total", "Refused with 503: what waits costs too much.",
         c->refused_cost},
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
        prom_one(out, counters[i].name, "counter", counters[i].help, "", (double)counters[i].value);
    prom_head(out, "tandem_placed_total", "counter", "Attempts given to nodes, by why there.");
    for (size_t i = 0; i < SCHEDULE_RUNGS; i++)
        str_addf(out, "tandem_placed_total{rung=\"%s\"} %" PRIu64 "\n", schedule_rung_names[i],
                 c->placed[i]);
    prom_one(out, "tandem_queue_depth", "gauge", "Requests waiting for a pair of nodes.", "",
             router_core_queued(core));
    prom_one(out, "tandem_requests_running", "gauge", "Requests on a pair of nodes.", "",
             router_core_running(core));
    prom_one(out, "tandem_ready", "gauge", "1 if the nodes that the mode needs are registered.", "",
             router_core_ready(core));
}

/* The whole cluster as the one engine that vLLM's dashboards know. */
static void metrics_engine(struct str *out, const struct metrics *m, const struct router_core *core,
                           const char *labels)
{
    struct prom_engine e = {
        .labels = labels,
        .running = router_core_running(core),
        .waiting = router_core_queued(core),
        .prompt_tokens = m->prompt_tokens,
        .generation_tokens = m->output_tokens,
        .prefix_queries = m->prompt_tokens,
        .prefix_hits = m->cached_tokens,
    };
    double used = 0, total = 0;

    for (size_t i = 0; i < router_core_node_count(core); i++) {
        const struct node *n = router_core_node(core, i);

        if (n->state == NODE_WAITING)
            continue;
        e.preemptions += n->beat.preempted;
        if (n->reg.role != ROLE_DECODE)
            continue;
        used += n->beat.pages_total - u32_min(n->beat.pages_free, n->beat.pages_total);
        total += n->beat.pages_total;
    }
    e.kv_usage = total > 0 ? used / total : 0;
    prom_engine(out, &e);
}

/* Those that vLLM's dashboards count by. */
static void metrics_success(struct str *out, const struct metrics *m, const char *labels)
{
    static const struct {
        const char *reason;
        enum finish finish;
    } reasons[] = {{"stop", FINISH_STOP}, {"length", FINISH_LENGTH}, {"abort", FINISH_CANCELLED}};

    prom_head(out, "vllm:request_success_total", "counter", "Requests served, by why they ended.");
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        str_addf(out, "vllm:request_success_total{%s,finished_reason=\"%s\"} %" PRIu64 "\n", labels,
                 reasons[i].reason, m->finished[reasons[i].finish]);
}

static void metrics_vllm(struct str *out, const struct metrics *m, const struct router_core *core,
                         const char *model)
{
    const struct {
        const char *name, *help;
        const struct hist *h;
        const struct prom_buckets *b;
        double unit;
    } hists[] = {
        {"vllm:time_to_first_token_seconds", "Time to first token.", &m->ttft, &prom_ttft, 1e-9},
        {"vllm:inter_token_latency_seconds", "Time between tokens.", &m->itl, &prom_itl, 1e-9},
        {"vllm:time_per_output_token_seconds", "The same under its former name.", &m->itl, &prom_itl,
         1e-9},
        {"vllm:request_time_per_output_token_seconds",
         "Mean time between a request's tokens.", &m->tpot, &prom_itl, 1e-9},
        {"vllm:e2e_request_latency_seconds", "Whole time of a request.", &m->total, &prom_request,
         1e-9},
        {"vllm:request_queue_time_seconds", "Waiting for a pair of nodes.", &m->wait, &prom_request,
         1e-9},
        {"vllm:request_inference_time_seconds", "From the prefill's start to the end.",
         &m->inference, &prom_request, 1e-9},
        {"vllm:request_prefill_time_seconds", "Computing the prompt.", &m->prefill, &prom_request,
         1e-9},
        {"vllm:request_decode_time_seconds", "From the decode node's first token to the end.",
         &m->decode, &prom_request, 1e-9},
        {"vllm:request_prompt_tokens", "Tokens of a prompt.", &m->prompts, &prom_tokens, 1},
        {"vllm:request_generation_tokens", "Tokens of an answer.", &m->answers, &prom_tokens, 1},
    };
    char labels[PROM_LABELS_MAX];

    prom_labels(labels, "model_name", model, "engine", "0");
    metrics_engine(out, m, core, labels);
    metrics_success(out, m, labels);
    for (size_t i = 0; i < ARRAY_LEN(hists); i++)
        prom_hist(out, hists[i].name, hists[i].help, labels, hists[i].h, hists[i].unit, hists[i].b);
}

void metrics_render(const struct metrics *m, const struct router_core *core, const char *model,
                    uint32_t http_conns, int64_t uptime, struct str *out)
{
    prom_one(out, "tandem_build_info", "gauge", "Always 1.", "version=\"" TANDEM_VERSION "\"", 1);
    prom_one(out, "tandem_uptime_seconds", "gauge", "Since the start.", "", clock_s(uptime));
    metrics_requests(out, m);
    prom_one(out, "tandem_prompt_tokens_total", "counter", "Prompt tokens of served requests.", "",
             (double)m->prompt_tokens);
    prom_one(out, "tandem_output_tokens_total", "counter", "Tokens delivered to clients.", "",
             (double)m->output_tokens);
    prom_hist(out, "tandem_ttft_seconds", "Time to first token.", "", &m->ttft, 1e-9, &prom_fine);
    prom_hist(out, "tandem_itl_seconds", "Time between tokens.", "", &m->itl, 1e-9, &prom_fine);
    prom_hist(out, "tandem_tpot_seconds", "Mean time between a request's tokens.", "", &m->tpot, 1e-9,
              &prom_fine);
    prom_hist(out, "tandem_request_seconds", "Whole time of served requests.", "", &m->total, 1e-9,
              &prom_fine);
    prom_hist(out, "tandem_queue_seconds", "Wait for a pair of nodes.", "", &m->wait, 1e-9,
              &prom_fine);
    prom_hist(out, "tandem_handoff_seconds", "KV that was not there when prefill ended.", "",
              &m->handoff, 1e-9, &prom_fine);
    metrics_core(out, core);
    prom_one(out, "tandem_http_connections", "gauge", "HTTP connections open.", "", http_conns);
    metrics_of_nodes(out, &m->live, core);
    metrics_vllm(out, m, core, model);
}
