#include "bench/arrivals.h"

#include <math.h>

#include "base/rng.h"

#define ARRIVALS_KEY 0x6172726976616c73u /* "arrivals": draws unlike those of prompts */

void arrivals_init(struct arrivals *a, const struct arrivals_spec *spec, uint64_t seed)
{
    *a = (struct arrivals){.spec = *spec, .seed = seed ^ ARRIVALS_KEY};
}

/* In (0, 1]: its logarithm is finite. */
static double uniform(struct arrivals *a) { return 1 - rng_f64(a->seed, a->draws++); }

static double normal(struct arrivals *a)
{
    double r = sqrt(-2 * log(uniform(a)));

    return r * cos(2 * M_PI * uniform(a));
}

/* Gamma of shape k >= 1 and scale 1: Marsaglia and Tsang, "A simple method for generating gamma
 * variables", TOMS 26(3), 2000. Rejects at most 5 % of its draws. */
static double gamma_large(struct arrivals *a, double k)
{
    double d = k - 1.0 / 3, c = 1 / sqrt(9 * d);

    for (;;) {
        double x = normal(a), v = 1 + c * x;

        v = v * v * v;
        if (v > 0 && log(uniform(a)) < x * x / 2 + d - d * v + d * log(v))
            return d * v;
    }
}

/* Mean 1, variance 1 / shape. */
static double gap(struct arrivals *a)
{
    double k = a->spec.burstiness;

    if (isinf(k))
        return 1;
    if (k == 1)
        return -log(uniform(a));
    if (k > 1)
        return gamma_large(a, k) / k;
    return gamma_large(a, k + 1) * pow(uniform(a), 1 / k) / k;
}

double arrivals_rate(const struct arrivals_spec *s, uint64_t n)
{
    double x = s->ramp_count > 1 ? (double)n / (s->ramp_count - 1) : 1;

    x = x < 1 ? x : 1;
    if (s->ramp == RAMP_LINEAR)
        return s->ramp_from + (s->ramp_to - s->ramp_from) * x;
    if (s->ramp == RAMP_EXPONENTIAL)
        return s->ramp_from * pow(s->ramp_to / s->ramp_from, x);
    return s->rate;
}

int64_t arrivals_next(struct arrivals *a)
{
    a->at_ns += gap(a) / arrivals_rate(&a->spec, a->n++) * 1e9;
    return (int64_t)a->at_ns;
}
