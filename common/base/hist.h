/* hist: log-linear histogram of non-negative 64-bit values (nanoseconds, bytes, tokens): 64 buckets
 * an octave, so a percentile is at most 1.6 % off. Mergeable. One thread. */
#ifndef TANDEM_BASE_HIST_H
#define TANDEM_BASE_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 6 /* 2^6 buckets an octave: relative error <= 2^-6 */
#define HIST_BUCKETS ((64 - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

/* A zeroed struct is an empty histogram. */
struct hist {
    uint64_t count;
    double sum;
    int64_t min, max; /* exact; 0 while empty */
    uint64_t buckets[HIST_BUCKETS];
};

/* Negative values count as 0. */
void hist_add(struct hist *h, int64_t value);
void hist_merge(struct hist *h, const struct hist *other);

/* Smallest recorded value (to the bucket's precision) that at least p percent of the values do not
 * exceed; 0 if empty. p in [0, 100]; 0 gives min, 100 gives max, exactly. */
int64_t hist_percentile(const struct hist *h, double p);
double hist_mean(const struct hist *h);
/* How many recorded values are <= bound (to the bucket's precision). */
uint64_t hist_count_le(const struct hist *h, int64_t bound);

#endif
