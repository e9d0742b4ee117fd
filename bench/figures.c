#include "bench/figures.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

void figures_wilson(double *low, double *high, uint64_t k, uint64_t n)
{
    const double z = 1.959964; /* the normal's 97.5 % */
    double p, spread, middle;

    *low = 0;
    *high = 1;
    if (n == 0)
        return;
    p = (double)k / (double)n;
    middle = p + z * z / (2 * (double)n);
    spread = z * sqrt(p * (1 - p) / (double)n + z * z / (4.0 * (double)n * (double)n));
    *low = fmax(0, (middle - spread) / (1 + z * z / (double)n));
    *high = fmin(1, (middle + spread) / (1 + z * z / (double)n));
}

/* The metrics that targets are compared with: what was cut has waited so far for its first token, and
 * of later ones nothing is known. */
static void judged_metrics(const struct record *r, double ms[METRIC_COUNT])
{
    record_metrics(r, ms);
    if (r->outcome != OUTCOME_CANCELLED)
        return;
    ms[METRIC_TTFT] = r->outputs > 0 ? ms[METRIC_TTFT] : ms[METRIC_E2EL];
    ms[METRIC_TPOT] = ms[METRIC_ITL] = ms[METRIC_TTST] = -1;
}

int figures_judge(const struct record *r, const struct targets *t, bool saturated)
{
    double ms[METRIC_COUNT];

    judged_metrics(r, ms);
    if (r->outcome == OUTCOME_LEFT || (r->outcome == OUTCOME_CANCELLED && !saturated))
        return -1;
    if (r->outcome == OUTCOME_OK)
        return targets_hold(t, ms);
    if (r->outcome != OUTCOME_CANCELLED)
        return 0;
    return targets_hold(t, ms) ? -1 : 0;
}

static void judge(struct figures *f, const struct record *r, bool saturated)
{
    int verdict = figures_judge(r, &f->targets, saturated);
    double ms[METRIC_COUNT];

    if (verdict < 0)
        return;
    f->judged++;
    f->good += (uint64_t)verdict;
    judged_metrics(r, ms);
    for (int i = 0; i < METRIC_COUNT; i++)
        f->missed[i] += f->targets.ms[i] > 0 &&
                        ((r->outcome != OUTCOME_OK && r->outcome != OUTCOME_CANCELLED) ||
                         ms[i] > f->targets.ms[i]);
}

static void record_take(struct figures *f, const struct record *r,
                        struct series stages[STAGE_COUNT], bool exact)
{
    double ms[METRIC_COUNT], stage[STAGE_COUNT];

    f->ok++;
    f->prompt_tokens += r->prompt_tokens;
    f->cached_tokens += r->cached_tokens;
    f->output_tokens += r->output_tokens;
    f->prompt_mismatches += r->prompt_wanted > 0 && r->prompt_tokens > 0 &&
                            r->prompt_tokens != r->prompt_wanted;
    f->output_mismatches += exact && r->output_tokens != r->output_wanted;
    record_metrics(r, ms);
    for (int i = 0; i < METRIC_COUNT; i++)
        if (ms[i] >= 0 && i != METRIC_ITL)
            series_add(&f->values[i], ms[i]);
    for (uint32_t i = 0; i + 1 < r->outputs; i++)
        series_add(&f->values[METRIC_ITL], (double)r->gaps_ms[i]);
    record_stages(r, stage);
    for (int i = 0; i < STAGE_COUNT; i++)
        if (stage[i] >= 0)
            series_add(&stages[i], stage[i]);
}

/* The sum over segments of first start to last end. */
static double seconds_of(const struct result *r)
{
    size_t n = r->n_segments + 1; /* a record's segment may be the one that is still open */
    int64_t *from = mem_calloc(n, sizeof(*from)), *to = mem_calloc(n, sizeof(*to)), sum = 0;

    for (size_t i = 0; i < r->n; i++) {
        const struct record *c = &r->records[i];

        if (c->segment >= n)
            continue;
        if (from[c->segment] == 0 || c->start < from[c->segment])
            from[c->segment] = c->start;
        if (c->done > to[c->segment])
            to[c->segment] = c->done;
    }
    for (size_t i = 0; i < n; i++)
        sum += to[i] - from[i];
    mem_free(from);
    mem_free(to);
    return clock_s(sum);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/* Walks starts and ends in order of time; an end frees its place before a start at that time. */
static uint32_t peak_of(const struct result *r)
{
    int64_t *starts = mem_calloc(r->n, sizeof(*starts)), *ends = mem_calloc(r->n, sizeof(*ends));
    uint32_t peak = 0;
    size_t e = 0;

    for (size_t i = 0; i < r->n; i++) {
        starts[i] = r->records[i].sent;
        ends[i] = r->records[i].done;
    }
    qsort(starts, r->n, sizeof(*starts), compare);
    qsort(ends, r->n, sizeof(*ends), compare);
    for (size_t s = 0; s < r->n; s++) {
        while (e < s && ends[e] <= starts[s])
            e++;
        if (s + 1 - e > peak)
            peak = (uint32_t)(s + 1 - e);
    }
    mem_free(starts);
    mem_free(ends);
    return peak;
}

static void validity(struct figures *f, const struct result *r)
{
    bool late = f->start_lag.p99 > FIGURES_LAG_LIMIT_MS,
         slow = f->loop_lag.p99 > FIGURES_LAG_LIMIT_MS;
    bool busy = f->client_cpu > FIGURES_CPU_LIMIT;

    f->valid = !r->open || !(late || slow || busy);
    if (late)
        snprintf(f->note, sizeof(f->note),
                 "the client was the bottleneck: p99 of how late it sent is %.1f ms, over %.0f ms",
                 f->start_lag.p99, FIGURES_LAG_LIMIT_MS);
    else if (slow)
        snprintf(
            f->note, sizeof(f->note),
            "the client was the bottleneck: p99 of its event loop's lag is %.1f ms, over %.0f ms",
            f->loop_lag.p99, FIGURES_LAG_LIMIT_MS);
    else if (busy)
        snprintf(f->note, sizeof(f->note),
                 "the client was the bottleneck: it was busy %.0f %% of the time, over %.0f %%",
                 f->client_cpu * 100, FIGURES_CPU_LIMIT * 100);
}

static void costs(struct figures *f, const struct result *r, const struct bench_options *o)
{
    double price = o->price_per_hour * f->seconds / 3600;
    double tokens = (double)(f->prompt_tokens + f->output_tokens);

    f->cost_output = f->cost_total = f->cost_requests = f->tokens_per_joule = -1;
    if (price > 0 && f->ok > 0) {
        f->cost_output = f->output_tokens > 0 ? price / (double)f->output_tokens * 1e6 : -1;
        f->cost_total = tokens > 0 ? price / tokens * 1e6 : -1;
        f->cost_requests = price / (double)f->ok * 1000;
    }
    f->joules = r->joules;
    if (r->joules > 0)
        f->tokens_per_joule = (double)f->output_tokens / r->joules;
}

static void rates(struct figures *f)
{
    if (f->seconds <= 0)
        return;
    f->requests_per_s = (double)f->ok / f->seconds;
    f->input_tokens_per_s = (double)f->prompt_tokens / f->seconds;
    f->output_tokens_per_s = (double)f->output_tokens / f->seconds;
    f->goodput = (double)f->good / f->seconds;
}

void figures_make(struct figures *f, struct result *r, const struct bench_options *o)
{
    struct series stages[STAGE_COUNT] = {0};

    memset(f, 0, sizeof(*f));
    f->targets = bench_targets(o);
    f->requests = r->n;
    for (size_t i = 0; i < r->n; i++) {
        const struct record *c = &r->records[i];

        if (c->outcome == OUTCOME_OK)
            record_take(f, c, stages, o->ignore_eos || bench_exact(o));
        judge(f, c, r->saturated);
    }
    f->left = r->failures[OUTCOME_LEFT].count;
    f->cut = r->failures[OUTCOME_CANCELLED].count;
    f->failed = f->requests - f->ok - f->left - f->cut;
    f->seconds = seconds_of(r);
    f->attainment = f->judged > 0 ? (double)f->good / (double)f->judged : 0;
    f->peak_concurrency = peak_of(r);
    f->client_cpu = f->seconds > 0 ? r->cpu_s / f->seconds : 0;
    rates(f);
    batches_make(&f->batches, r);
    costs(f, r, o);
    for (int i = 0; i < METRIC_COUNT; i++)
        f->metrics[i] = series_stats(&f->values[i]);
    for (int i = 0; i < STAGE_COUNT; i++) {
        f->stages[i] = series_stats(&stages[i]);
        series_fini(&stages[i]);
    }
    f->start_lag = series_stats(&r->start_lag_ms);
    f->loop_lag = series_stats(&r->loop_lag_ms);
    validity(f, r);
}

void figures_fini(struct figures *f)
{
    for (int i = 0; i < METRIC_COUNT; i++)
        series_fini(&f->values[i]);
    memset(f, 0, sizeof(*f));
}

bool figures_scenario(char *out, size_t size, const struct figures *f, int scenario)
{
    const double share = 0.99; /* MLPerf Inference: the 99th percentile keeps each limit */
    bool valid = f->valid && f->failed == 0 && f->cut == 0 && f->ok > 0;
    bool kept = scenario != SCENARIO_SERVER || f->attainment >= share;

    if (scenario == SCENARIO_SERVER)
        snprintf(out, size,
                 "Server: %s: %.2f %% of requests kept the targets, 99 %% must; %.2f requests/s, "
                 "%.1f tokens/s",
                 valid && kept ? "VALID" : "INVALID", f->attainment * 100, f->requests_per_s,
                 f->output_tokens_per_s);
    else
        snprintf(out, size, "Offline: %s: %.2f samples/s, %.1f tokens/s; %" PRIu64 " of %" PRIu64
                 " samples completed", valid ? "VALID" : "INVALID", f->requests_per_s,
                 f->output_tokens_per_s, f->ok, f->requests);
    return valid && kept;
}
