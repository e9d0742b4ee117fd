/* arrivals: when the requests of an open loop are due. Pure: a seed and a rate give the times. */
#ifndef TANDEM_BENCH_ARRIVALS_H
#define TANDEM_BENCH_ARRIVALS_H

#include <stdint.h>

struct arrivals {
    uint64_t seed, index;
    double rate; /* a second, > 0 */
    double at_ns;
};

/* The first arrival is one gap after `start`. */
void arrivals_init(struct arrivals *a, uint64_t seed, double rate, int64_t start);

/* The next time, never before the last. Gaps are exponential with mean 1 / rate: a Poisson process. */
int64_t arrivals_next(struct arrivals *a);

#endif
