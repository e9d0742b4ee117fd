#include "bench/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>


void table_load(struct str *out, const struct result *r, const struct bench_options *o)
{
    double burstiness = bench_number(o->burstiness);

    if (!r->open && o->max_concurrency > 0)
        str_addf(out, "closed loop, concurrency %u", o->max_concurrency);
    else if (!r->open)
        str_adds(out, "all requests at once");
    else if (o->ramp_up_strategy != RAMP_NONE)
        str_addf(out, "open loop, %s ramp from %g to %g requests/s",
                 o->ramp_up_strategy == RAMP_LINEAR ? "linear" : "exponential",
                 o->ramp_up_start_rps, o->ramp_up_end_rps);
    else if (isinf(r->rate))
        str_addf(out, "open loop, at the trace's times x %g", o->trace_scale);
    else if (isinf(burstiness))
        str_addf(out, "open loop, %g requests/s (constant)", r->rate);
    else if (burstiness == 1)
        str_addf(out, "open loop, %g requests/s (Poisson)", r->rate);
    else
        str_addf(out, "open loop, %g requests/s (gamma, burstiness %g)", r->rate, burstiness);
    if (r->open && o->max_concurrency > 0)
        str_addf(out, ", at most %u in flight", o->max_concurrency);
}

static void head(struct str *out, const struct result *r, const struct bench_options *o)
{
    str_addf(out, "%s%s%s\n", r->url, *r->model ? "  model " : "", r->model);
    table_load(out, r, o);
    str_addf(out, ", seed %" PRIu64 ", %u warm-up%s%s\n\n", o->seed, o->num_warmups,
             r->interrupted ? ", INTERRUPTED" : "", r->saturated ? ", ended early: saturated" : "");
}

static void sureness(struct str *out, const struct batches *b)
{
    if (b->requests_per_s[1] > 0)
        str_addf(out, "at 95 %%      %.2f to %.2f requests/s, %.1f to %.1f tokens out/s\n",
                 b->requests_per_s[0], b->requests_per_s[1], b->output_tokens_per_s[0],
                 b->output_tokens_per_s[1]);
}

static void failures(struct str *out, const struct result *r)
{
    for (unsigned i = OUTCOME_OK + 1; i < OUTCOME_COUNT; i++)
        if (r->failures[i].count > 0)
            str_addf(out, "  %-16s %" PRIu64 ": %s\n", outcome_name((enum outcome)i),
                     r->failures[i].count, r->failures[i].first);
}

static void row(struct str *out, const char *name, const struct stats *s)
{
    if (s->n > 0)
        str_addf(out, "%-14s %10.2f %10.2f %10.2f %10.2f %10.2f %10.2f\n", name, s->mean, s->p50,
                 s->p90, s->p95, s->p99, s->max);
}

static void latencies(struct str *out, const struct figures *f)
{
    static const char *const names[METRIC_COUNT] = {"TTFT", "TTST", "TPOT", "ITL", "E2EL"};

    str_addf(out, "%-14s %10s %10s %10s %10s %10s %10s\n", "ms", "mean", "p50", "p90", "p95", "p99",
             "max");
    for (int i = 0; i < METRIC_COUNT; i++)
        row(out, names[i], &f->metrics[i]);
    row(out, "start lag", &f->start_lag);
    row(out, "loop lag", &f->loop_lag);
}

static void stages(struct str *out, const struct figures *f)
{
    double sum = 0;

    for (int i = 0; i < STAGE_COUNT; i++)
        sum += f->stages[i].mean;
    if (f->stages[STAGE_PREFILL].n == 0)
        return;
    str_adds(out, "\nwhere a request's time went (ms; share of the mean)\n");
    for (int i = 0; i < STAGE_COUNT; i++)
        if (f->stages[i].n > 0)
            str_addf(out, "%-14s %10.2f %10.2f %10.2f %10.2f %10.2f %10.2f  %4.1f %%\n",
                     stage_name((enum stage)i), f->stages[i].mean, f->stages[i].p50,
                     f->stages[i].p90, f->stages[i].p95, f->stages[i].p99, f->stages[i].max,
                     sum > 0 ? 100 * f->stages[i].mean / sum : 0);
}

static void nodes(struct str *out, const struct result *r)
{
    const struct monitor_nodes *m = &r->nodes;

    if (m->n == 0 || m->seconds <= 0)
        return;
    str_addf(out, "\n%-14s %10s %10s %10s %12s %12s%s\n", "node", "running", "queued", "tokens/s",
             "tokens/pass", "KV MB/s", "  pages used");
    for (uint32_t i = 0; i < m->n; i++) {
        const struct monitor_node *n = &m->list[i];
        double total = n->last[MONITOR_PAGES_TOTAL], steps = n->total[MONITOR_STEPS];

        str_addf(out, "%-14s %10.2f %10.2f %10.1f %12.2f %12.2f %11.1f%%\n", n->name,
                 monitor_mean(n, MONITOR_RUNNING), monitor_mean(n, MONITOR_QUEUED),
                 n->total[MONITOR_TOKENS] / m->seconds,
                 steps > 0 ? n->total[MONITOR_TOKENS] / steps : 0,
                 n->total[MONITOR_KV_BYTES] / m->seconds * 1e-6,
                 total > 0 ? 100 * monitor_mean(n, MONITOR_PAGES_USED) / total : 0);
        if (monitor_mfu(m, n) > 0 || monitor_mbu(m, n) > 0)
            str_addf(out, "%-14s MFU %.3f  MBU %.3f\n", "", monitor_mfu(m, n), monitor_mbu(m, n));
    }
}

static void quality(struct str *out, const struct figures *f, const struct bench_options *o)
{
    char text[200];

    if (f->targets.n > 0) {
        str_addf(out, "\ngoodput      %.3f requests/s: %" PRIu64 " of %" PRIu64 " (%.1f %%) kept",
                 f->goodput, f->good, f->judged, f->attainment * 100);
        for (int i = 0; i < METRIC_COUNT; i++)
            if (f->targets.ms[i] > 0)
                str_addf(out, " %s <= %g ms (%" PRIu64 " missed)", metric_name((enum metric)i),
                         f->targets.ms[i], f->missed[i]);
        str_addc(out, '\n');
    }
    if (f->cost_requests >= 0)
        str_addf(out, "\ncost         %.4g per million output tokens, %.4g per million in and out, "
                 "%.4g per 1000 requests\n", f->cost_output, f->cost_total, f->cost_requests);
    if (f->tokens_per_joule >= 0)
        str_addf(out, "energy       %.1f J of the client's machine: %.2f output tokens/J\n",
                 f->joules, f->tokens_per_joule);
    else
        str_adds(out, "energy       not readable: this machine gives no RAPL counters\n");
    if (o->scenario != SCENARIO_NONE) {
        figures_scenario(text, sizeof(text), f, o->scenario);
        str_addf(out, "scenario     %s\n", text);
    }
}

/* Random prompts that the server has seen before are those of an earlier run with this seed. */
static bool is_seen_before(const struct figures *f, const struct bench_options *o)
{
    return o->dataset_name == DATASET_RANDOM && o->random_prefix_len == 0 && o->turns == 1 &&
           f->cached_tokens * 20 > f->prompt_tokens;
}

static void notes(struct str *out, const struct figures *f, const struct bench_options *o)
{
    if (is_seen_before(f, o))
        str_addf(out,
                 "\nNOTE: the server knew %.0f %% of the prompts' tokens from before: with another "
                 "--seed it would not\n",
                 100 * (double)f->cached_tokens / (double)f->prompt_tokens);
    if (f->prompt_mismatches > 0)
        str_addf(out, "\nNOTE: of %" PRIu64 " requests the server counted other prompt tokens than "
                 "were meant\n", f->prompt_mismatches);
    if (f->output_mismatches > 0)
        str_addf(out,
                 "\nNOTE: of %" PRIu64 " requests the server generated other than the tokens asked "
                 "for\n",
                 f->output_mismatches);
    if (*f->note)
        str_addf(out, "\n%s: %s\n", f->valid ? "NOTE" : "INVALID", f->note);
}

void table_result(struct str *out, const struct figures *f, const struct result *r,
                  const struct bench_options *o)
{
    head(out, r, o);
    str_addf(out, "requests     %" PRIu64 " ok, %" PRIu64 " failed", f->ok, f->failed);
    if (f->left > 0)
        str_addf(out, ", %" PRIu64 " cancelled by the client", f->left);
    if (f->cut > 0)
        str_addf(out, ", %" PRIu64 " cut at the end", f->cut);
    str_addf(out, " in %.2f s: %.2f/s, %.1f/min, %u in flight at most\n", f->seconds,
             f->requests_per_s, f->requests_per_s * 60, f->peak_concurrency);
    failures(out, r);
    str_addf(out, "tokens in    %" PRIu64 ": %.1f/s", f->prompt_tokens, f->input_tokens_per_s);
    if (f->cached_tokens > 0)
        str_addf(out, ", %.1f %% of them cached",
                 100 * (double)f->cached_tokens / (double)f->prompt_tokens);
    str_addf(out, "\ntokens out   %" PRIu64 ": %.1f/s\n", f->output_tokens,
             f->output_tokens_per_s);
    sureness(out, &f->batches);
    str_addc(out, '\n');
    latencies(out, f);
    stages(out, f);
    nodes(out, r);
    quality(out, f, o);
    notes(out, f, o);
}
