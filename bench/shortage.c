#include "bench/shortage.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Decode nodes with more of their pages or slots in use refuse reservations: prompts then wait in
 * the router. */
#define NODES_FULL 0.9

const char *shortage_name(enum shortage s)
{
    static const char *const names[] = {"nothing", "prefill", "decode", "unknown"};

    return names[s];
}

/* The largest share of KV pages, or of slots, in use that a decode node had in a sample. */
static double peak_of(const struct monitor_nodes *m, enum monitor_value what)
{
    double peak = 0;

    for (uint32_t i = 0; i < m->n; i++) {
        const struct monitor_node *n = &m->list[i];
        double total = what == MONITOR_RUNNING ? n->peaks.slots : n->last[MONITOR_PAGES_TOTAL];

        for (size_t k = 0; k < n->n && total > 0 && strcmp(n->role, "decode") == 0; k++) {
            double used = n->samples[k].values[what] / total;

            peak = used > peak ? used : peak;
        }
    }
    return peak;
}

static uint64_t missed_ttft(const struct figures *f) { return f->missed[METRIC_TTFT]; }

static uint64_t missed_after(const struct figures *f)
{
    uint64_t most = f->missed[METRIC_TPOT];

    most = f->missed[METRIC_ITL] > most ? f->missed[METRIC_ITL] : most;
    return f->missed[METRIC_TTST] > most ? f->missed[METRIC_TTST] : most;
}

/* Before the first token: the stage with most of the time says it. */
static enum shortage before_first(char *out, size_t size, const struct figures *f,
                                  const struct result *r)
{
    double router = f->stages[STAGE_ROUTER].mean, prefill = f->stages[STAGE_PREFILL].mean;
    double queue = f->stages[STAGE_PREFILL_QUEUE].mean, all = router + queue + prefill;
    double pages = peak_of(&r->nodes, MONITOR_PAGES_USED);
    double slots = peak_of(&r->nodes, MONITOR_RUNNING);

    if (f->stages[STAGE_PREFILL].n == 0) {
        snprintf(out, size, "%" PRIu64 " of %" PRIu64 " missed ttft; the server does not say where "
                 "the time went", missed_ttft(f), f->judged);
        return SHORT_UNKNOWN;
    }
    if (router > queue + prefill && (pages >= NODES_FULL || slots >= NODES_FULL)) {
        bool by_pages = pages >= slots;

        snprintf(out, size,
                 "%.0f %% of the time to the first token was waiting in the router, while "
                 "decode nodes had up to %.0f %% of their %s in use: add decode nodes or %s",
                 100 * router / all, 100 * (by_pages ? pages : slots),
                 by_pages ? "KV pages" : "slots", by_pages ? "KV pages" : "slots");
        return SHORT_DECODE;
    }
    if (router > queue + prefill) {
        snprintf(out, size,
                 "%.0f %% of the time to the first token was waiting in the router for a "
                 "pair of nodes: add prefill nodes",
                 100 * router / all);
        return SHORT_PREFILL;
    }
    snprintf(out, size,
             "%" PRIu64 " of %" PRIu64 " missed ttft, of whose time %.0f %% was waiting "
             "(router %.0f ms, prefill queue %.0f ms) and %.0f %% prefill (%.0f ms): %s",
             missed_ttft(f), f->judged, 100 * (router + queue) / all, router, queue,
             100 * prefill / all, prefill,
             router + queue > prefill ? "add prefill nodes"
                                      : "prefill itself is slow for this target");
    return SHORT_PREFILL;
}

enum shortage shortage_find(char *out, size_t size, const struct figures *f, const struct result *r,
                            double share)
{
    if (!r->saturated && f->judged > 0 && f->attainment >= share) {
        snprintf(out, size, "the targets were kept");
        return SHORT_NOTHING;
    }
    if (missed_ttft(f) >= missed_after(f) && missed_ttft(f) > 0)
        return before_first(out, size, f, r);
    if (missed_after(f) > 0) {
        snprintf(out, size, "%" PRIu64 " of %" PRIu64 " missed the time between tokens (TPOT p90 "
                 "%.1f ms), %" PRIu64 " ttft: add decode nodes", missed_after(f), f->judged,
                 f->metrics[METRIC_TPOT].p90, missed_ttft(f));
        return SHORT_DECODE;
    }
    if (f->stages[STAGE_PREFILL].n > 0 && f->missed[METRIC_E2EL] > 0) {
        double before = f->stages[STAGE_ROUTER].mean + f->stages[STAGE_PREFILL_QUEUE].mean +
                        f->stages[STAGE_PREFILL].mean;
        double after = f->stages[STAGE_DECODE].mean + f->stages[STAGE_DECODE_QUEUE].mean;

        snprintf(out, size, "of a request's time %.0f ms came before its first token and %.0f ms "
                 "after it", before, after);
        return before > after ? SHORT_PREFILL : SHORT_DECODE;
    }
    snprintf(out, size, "requests failed, or were cut before it could be seen why");
    return SHORT_UNKNOWN;
}
