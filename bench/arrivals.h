/* arrivals: when the requests of an open loop are due. Pure: a seed and a rate give the times. */
#ifndef TANDEM_BENCH_ARRIVALS_H
#define TANDEM_BENCH_ARRIVALS_H

#include <stdint.h>

enum ramp { RAMP_NONE, RAMP_LINEAR, RAMP_EXPONENTIAL };

/* Gaps are gamma distributed with mean 1 / rate and shape `burstiness`: 1 is a Poisson process, below
 * 1 is burstier, INFINITY is a constant gap. */
struct arrivals_spec {
    double rate; /* a second, > 0, finite; unused with a ramp */
    double burstiness;
    enum ramp ramp; /* the rate goes from ramp_from to ramp_to, both > 0, over ramp_count arrivals */
    double ramp_from, ramp_to;
    uint32_t ramp_count;
};

struct arrivals {
    struct arrivals_spec spec;
    uint64_t seed, draws, n; /* n: arrivals so far */
    double at_ns;
};

/* The first arrival is one gap after 0. */
void arrivals_init(struct arrivals *a, const struct arrivals_spec *spec, uint64_t seed);

/* The next time, ns after the start, never before the last. */
int64_t arrivals_next(struct arrivals *a);

/* The rate in force for arrival n. */
double arrivals_rate(const struct arrivals_spec *spec, uint64_t n);

#endif
