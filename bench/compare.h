/* compare: two results as JSON, side by side: B over A, and how sure that is. */
#ifndef TANDEM_BENCH_COMPARE_H
#define TANDEM_BENCH_COMPARE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

/* Appends a table. True: some figure of B is worse by more than `percent`, surely so where the results
 * have each request's times (--save-detailed). percent 0: never. */
bool compare_table(struct str *out, const json_t *a, const json_t *b, double percent);

/* Reads a result; json_decref. NULL: e says why. */
json_t *compare_load(const char *path, struct err *e);

/* The 95 % interval of B's percentile p over A's, by 1000 resamples of each (seeded). Values above 0;
 * sorted in place. */
void compare_bootstrap(double *low, double *high, double *a, size_t n_a, double *b, size_t n_b,
                       double p);

/* tandem-bench compare A.json B.json [--regression PERCENT]. Returns EXIT_*. */
int compare_main(int argc, char **argv);

#endif
