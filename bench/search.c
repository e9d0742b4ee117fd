#include "bench/search.h"

#include <math.h>

#include "bench/figures.h"

#define GROWTH 2.0
#define RATE_MIN 1e-3 /* requests/s: a server that cannot do one in a quarter of an hour */
#define RATE_MAX 1e5

void search_init(struct search *s, double start, double share)
{
    *s = (struct search){.share = share, .next = start};
}

bool probe_holds(const struct probe *p, double share)
{
    return !p->saturated && p->judged > 0 && (double)p->good >= share * (double)p->judged;
}

/* The highest rate that held below every one that did not, and the lowest that did not. */
static void bracket(double *held, double *failed, const struct search *s)
{
    *held = 0;
    *failed = INFINITY;
    for (uint32_t i = 0; i < s->n; i++)
        if (!probe_holds(&s->probes[i], s->share) && s->probes[i].rate < *failed)
            *failed = s->probes[i].rate;
    for (uint32_t i = 0; i < s->n; i++)
        if (probe_holds(&s->probes[i], s->share) && s->probes[i].rate > *held &&
            s->probes[i].rate < *failed)
            *held = s->probes[i].rate;
}

/* Whether the slowest probe missed the targets though its requests never met. */
static bool hopeless(const struct search *s)
{
    const struct probe *slowest = &s->probes[0];

    for (uint32_t i = 1; i < s->n; i++)
        if (s->probes[i].rate < slowest->rate)
            slowest = &s->probes[i];
    return slowest->alone && !probe_holds(slowest, s->share);
}

bool search_next(double *rate, struct search *s)
{
    double held, failed;

    if (s->n == SEARCH_PROBES_MAX || (s->n > 0 && hopeless(s)))
        return false;
    if (s->n > 0) {
        bracket(&held, &failed, s);
        if (isinf(failed))
            s->next = held * GROWTH;
        else if (held == 0)
            s->next = failed / GROWTH;
        else if (failed / held <= SEARCH_PRECISION)
            return false;
        else
            s->next = sqrt(held * failed);
    }
    *rate = s->next;
    return *rate >= RATE_MIN && *rate <= RATE_MAX;
}

void search_add(struct search *s, const struct probe *p)
{
    if (s->n < SEARCH_PROBES_MAX)
        s->probes[s->n++] = *p;
}

struct search_answer search_answer(const struct search *s)
{
    struct search_answer a = {.high = INFINITY};
    double failed;

    bracket(&a.rate, &failed, s);
    a.bounded = isfinite(failed);
    for (uint32_t i = 0; i < s->n; i++) {
        const struct probe *p = &s->probes[i];
        double low, high;

        figures_wilson(&low, &high, p->good, p->judged);
        if ((p->saturated || high < s->share) && p->rate < a.high)
            a.high = p->rate;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        const struct probe *p = &s->probes[i];
        double low, high;

        figures_wilson(&low, &high, p->good, p->judged);
        if (!p->saturated && low >= s->share && p->rate > a.low && p->rate < a.high)
            a.low = p->rate;
    }
    return a;
}
