#include "bench/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "bench/series.h"

#define SHOW_MS 500

void progress_begin(struct progress *p, bool on, const char *label, uint64_t planned, int64_t now)
{
    memset(p, 0, sizeof(*p));
    p->on = on;
    p->start = p->shown_at = now;
    p->planned = planned;
    snprintf(p->label, sizeof(p->label), "%s", label);
}

void progress_add(struct progress *p, bool ok, uint32_t tokens, double ttft_ms)
{
    p->ok += ok;
    p->failed += !ok;
    p->tokens += tokens;
    if (ttft_ms >= 0)
        p->recent[p->n_recent++ % PROGRESS_RECENT] = ttft_ms;
}

static double recent_median(const struct progress *p)
{
    struct series s = {0};
    double median;

    for (uint64_t i = 0; i < p->n_recent && i < PROGRESS_RECENT; i++)
        series_add(&s, p->recent[i]);
    median = series_percentile(&s, 50);
    series_fini(&s);
    return median;
}

void progress_show(struct progress *p, uint64_t in_flight, int64_t now)
{
    double s = clock_s(now - p->start);
    char of[24] = "";

    if (!p->on || now - p->shown_at < SHOW_MS * CLOCK_MS || s <= 0)
        return;
    p->shown_at = now;
    if (p->planned < UINT32_MAX)
        snprintf(of, sizeof(of), "/%" PRIu64, p->planned);
    fprintf(stderr,
            "\r%s%s%.0f s: %" PRIu64 "%s done, %" PRIu64 " in flight, %" PRIu64
            " failed, %.2f requests/s, %.0f tokens/s, TTFT p50 %.0f ms\033[K",
            p->label, *p->label ? "  " : "", s, p->ok + p->failed, of, in_flight, p->failed,
            (double)p->ok / s, (double)p->tokens / s, recent_median(p));
    fflush(stderr);
}

void progress_end(struct progress *p)
{
    if (p->on)
        fputs("\r\033[K", stderr);
}
