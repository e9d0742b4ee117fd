#include "bench/schedule.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"

#define CANCEL_KEY 0x63616e63656c7321u /* "cancels!" */

void schedule_init(struct schedule *s, const struct bench_options *o, const struct workload *w,
                   double rate, uint32_t first, uint32_t count)
{
    struct arrivals_spec spec = bench_arrivals(o, rate);

    memset(s, 0, sizeof(*s));
    s->options = o;
    s->workload = w;
    s->first = first;
    s->count = count;
    s->cancels = o->request_cancellation_rate > 0;
    if (o->ramp_up_strategy != RAMP_NONE || isfinite(rate)) {
        s->kind = SCHEDULE_ARRIVALS;
        arrivals_init(&s->arrivals, &spec, o->seed + first);
    } else if (w->trace.n > 0 && o->max_concurrency == 0) {
        s->kind = SCHEDULE_TRACE;
        s->first_due = first < w->trace.n ? w->trace.entries[first].at_ns : 0;
    }
    if (w->trace.n > 0)
        s->count = u32_min(count, first < w->trace.n ? (uint32_t)w->trace.n - first : 0);
}

static int64_t cancel_after(const struct schedule *s, uint32_t item)
{
    const struct bench_options *o = s->options;
    uint64_t key = o->seed ^ CANCEL_KEY;

    if (rng_f64(key, 2 * (uint64_t)item) * 100 >= o->request_cancellation_rate)
        return 0;
    return 1 + (int64_t)(-log1p(-rng_f64(key, 2 * (uint64_t)item + 1)) *
                         o->request_cancellation_delay * 1e9);
}

bool schedule_next(struct schedule *s, struct planned *out)
{
    uint32_t item = s->first + s->next;
    int64_t end = s->options->duration > 0 ? (int64_t)(s->options->duration * 1e9) : INT64_MAX;

    if (s->next == s->count)
        return false;
    *out = (struct planned){.item = item};
    if (s->kind == SCHEDULE_ARRIVALS)
        out->due_ns = arrivals_next(&s->arrivals);
    else if (s->kind == SCHEDULE_TRACE)
        out->due_ns = (int64_t)((double)(s->workload->trace.entries[item].at_ns - s->first_due) *
                                s->options->trace_scale);
    if (out->due_ns >= end)
        return false;
    if (s->cancels)
        out->cancel_ns = cancel_after(s, item);
    s->next++;
    return true;
}
