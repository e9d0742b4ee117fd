/* rows: each request of a result, for other programs: CSV, JSON lines, a Chrome trace. */
#ifndef TANDEM_BENCH_ROWS_H
#define TANDEM_BENCH_ROWS_H

#include "base/str.h"
#include "bench/result.h"

/* Each appends its format. Times are ms after the first request was due; unknown: empty, or null. */
void rows_csv(struct str *out, const struct result *r);
void rows_jsonl(struct str *out, const struct result *r);

/* Trace event format (chrome://tracing, Perfetto): a row a request in flight, in it its stages, and the
 * nodes' load as counters. */
void rows_trace(struct str *out, const struct result *r);

#endif
