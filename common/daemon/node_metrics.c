#include "daemon/node_metrics.h"

#include "base/check.h"
#include "base/clock.h"
#include "daemon/prom.h"

/* What the heartbeat also says, and the passes. */
static void node_metrics_common(const struct node *n, const struct node_page *p, const char *labels,
                                struct str *out)
{
    const struct msg_heartbeat *b = &p->beat;
    const struct roofline *roof = compute_roofline(n->compute);
    const struct node_figure all[] = {
        {"tandem_up", "gauge", "1: takes work from the router.", p->ready},
        {"tandem_uptime_seconds", "gauge", "Since the model was loaded.",
         clock_s(clock_now() - n->opened_at)},
        {"tandem_queued", "gauge", "Jobs or reservations waiting.", b->queued},
        {"tandem_running", "gauge", "Jobs or sequences being computed or shipped.", b->running},
        {"tandem_queued_tokens", "gauge", "Prompt tokens accepted and not yet computed.",
         (double)b->queued_tokens},
        {"tandem_tokens_total", "counter", "Prompt tokens (prefill) or output tokens (decode).",
         (double)b->tokens},
        {"tandem_kv_bytes_total", "counter", "KV shipped (prefill) or received (decode).",
         (double)b->kv_bytes},
        {"tandem_hit_tokens_total", "counter", "Prompt tokens found in the prefix cache.",
         (double)b->hit_tokens},
        {"tandem_busy_seconds_total", "counter", "In forward passes.", (double)b->busy_ns * 1e-9},
        {"tandem_flops_total", "counter", "That the passes need at least.", n->spent.flops},
        {"tandem_read_bytes_total", "counter", "Weights and KV that the passes read at least.",
         n->spent.bytes},
        {"tandem_peak_flops", "gauge", "A second, measured at start: the denominator of MFU.",
         roof->rate[cost_roof(compute_engine(n->compute))].median},
        {"tandem_peak_read_bytes", "gauge", "A second, measured at start: the denominator of MBU.",
         roof->rate[ROOF_READ].median},
        {"tandem_pages", "gauge", "KV pages of 32 tokens.", b->pages_total},
        {"tandem_pages_free", "gauge", "Of those free, or held by the prefix cache alone.",
         b->pages_free},
        {"tandem_pages_cached", "gauge", "Of those held by the prefix cache alone.",
         b->pages_cached},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        prom_one(out, all[i].name, all[i].type, all[i].help, labels, all[i].value);
    for (size_t i = 0; i < p->n_own; i++)
        prom_one(out, p->own[i].name, p->own[i].type, p->own[i].help, labels, p->own[i].value);
    prom_hist(out, "tandem_pass_seconds", "Time of a forward pass.", labels, &n->passes, 1e-9,
              &prom_fine);
}

void node_metrics(const struct node *n, const struct node_options *o, const struct node_page *p,
                  struct str *out)
{
    const struct msg_heartbeat *b = &p->beat;
    bool prefill = p->role == ROLE_PREFILL;
    char own[PROM_LABELS_MAX], vllm[PROM_LABELS_MAX], build[PROM_LABELS_MAX], model[256];
    uint32_t used = b->pages_total - u32_min(b->pages_free, b->pages_total);
    struct prom_engine engine = {
        .labels = vllm,
        .running = b->running,
        .waiting = b->queued,
        .kv_usage = b->pages_total ? (double)used / b->pages_total : 0,
        .prompt_tokens = prefill ? b->tokens : b->local_tokens,
        .generation_tokens = prefill ? n->sampled : b->tokens,
        .prefix_queries = (prefill ? b->tokens : b->local_tokens) + b->hit_tokens,
        .prefix_hits = b->hit_tokens,
        .preemptions = b->preempted,
    };

    options_model_name(model, sizeof(model), o->common.model);
    prom_labels(own, "node", o->common.name, "role", node_role_name(p->role));
    prom_labels(vllm, "model_name", model, "engine", o->common.name);
    prom_labels(build, "version", TANDEM_VERSION, "tier", cpu_tier_name(n->tier));
    prom_one(out, "tandem_build_info", "gauge", "Always 1.", build, 1);
    prom_engine(out, &engine);
    prom_hist(out, "vllm:iteration_tokens_total", "Tokens of a forward pass.", vllm, &n->pass_rows, 1,
              &prom_pass);
    node_metrics_common(n, p, own, out);
}
