#include "bench/arrivals.h"

#include <math.h>

#include "base/rng.h"

#define ARRIVALS_KEY 0x6172726976616c73u /* "arrivals": draws unlike those of prompts */

void arrivals_init(struct arrivals *a, uint64_t seed, double rate, int64_t start)
{
    *a = (struct arrivals){.seed = seed ^ ARRIVALS_KEY, .rate = rate, .at_ns = (double)start};
}

int64_t arrivals_next(struct arrivals *a)
{
    /* 1 - u is in (0, 1]: the logarithm is finite. A double holds ns since boot to 2^53: 104 days
     * exactly, after that to 2 ns. */
    a->at_ns += -log1p(-rng_f64(a->seed, a->index++)) / a->rate * 1e9;
    return (int64_t)a->at_ns;
}
