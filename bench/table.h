/* table: a result for people on a terminal. */
#ifndef TANDEM_BENCH_TABLE_H
#define TANDEM_BENCH_TABLE_H

#include "base/str.h"
#include "bench/figures.h"

/* Appends it. */
void table_result(struct str *out, const struct figures *f, const struct result *r,
                  const struct bench_options *o);

/* "open loop, 4 requests/s (Poisson)": how requests were sent. */
void table_load(struct str *out, const struct result *r, const struct bench_options *o);

#endif
