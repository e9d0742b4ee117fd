/* series: measured values, kept all, so that percentiles are exact. One thread. */
#ifndef TANDEM_BENCH_SERIES_H
#define TANDEM_BENCH_SERIES_H

#include <stddef.h>

/* A zeroed struct is empty. */
struct series {
    double *values;
    size_t n, cap;
};

void series_add(struct series *s, double value);
void series_fini(struct series *s);

/* What is reported of a series; all 0 if it is empty. */
struct stats {
    size_t n;
    double mean, p50, p90, p95, p99, max;
};

/* Sorts the series. Percentile p: the smallest value that at least p % of the values do not exceed
 * (nearest rank; no interpolation, so every reported number was measured). */
struct stats series_stats(struct series *s);

#endif
