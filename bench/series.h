/* series: measured values, kept all, so that percentiles are exact. One thread. */
#ifndef TANDEM_BENCH_SERIES_H
#define TANDEM_BENCH_SERIES_H

#include <stdbool.h>
#include <stddef.h>

/* A zeroed struct is empty. */
struct series {
    double *values;
    size_t n, cap;
    bool sorted;
};

void series_add(struct series *s, double value);
void series_fini(struct series *s);

/* Percentile p, 0 to 100: the smallest value that at least p % of the values do not exceed (nearest
 * rank; no interpolation, so every reported number was measured). 0 if empty. Sorts the series. */
double series_percentile(struct series *s, double p);

/* What is reported of a series; all 0 if it is empty. std is of the values, not of their mean. */
struct stats {
    size_t n;
    double mean, std, min, p50, p90, p95, p99, max;
};

/* Sorts the series. */
struct stats series_stats(struct series *s);

#endif
