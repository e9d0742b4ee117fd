/* times: some measured times, of which the best and the middle one count. Plain data. */
#ifndef TANDEM_BENCH_KV_TIMES_H
#define TANDEM_BENCH_KV_TIMES_H

#include <stdint.h>

#define TIMES_MAX 4096

struct times {
    double ms[TIMES_MAX];
    uint32_t n;
};

/* What is beyond TIMES_MAX is not kept. */
void times_add(struct times *t, int64_t ns);

/* Milliseconds; 0 of none. They sort. */
double times_best(struct times *t);
double times_median(struct times *t);

/* The middle one of the ratios a / b of times that were taken together, 0 of none: what disturbs the
 * machine longer than such a pair takes is in both. Before either is sorted. */
double times_ratio(const struct times *a, const struct times *b);

#endif
