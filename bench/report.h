/* report: what a result says, as a table for people and as JSON for programs. */
#ifndef TANDEM_BENCH_REPORT_H
#define TANDEM_BENCH_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "bench/options.h"
#include "bench/run.h"
#include "bench/series.h"

/* Above this 99th percentile of the loop's lag, latencies are the client's own: an open loop's result
 * is invalid then, a closed loop's, which waits for its client anyway, has a note. */
#define REPORT_LAG_LIMIT_MS 20.0

struct summary {
    uint64_t requests, ok, failed, cancelled; /* cancelled: by Ctrl-C, neither ok nor failed */
    uint64_t prompt_tokens, output_tokens; /* of the successful */
    double seconds;                        /* first start to last end */
    double requests_per_s, input_tokens_per_s, output_tokens_per_s; /* of the successful */
    struct stats ttft, tpot, itl, e2e, start_lag, loop_lag;         /* ms */
    bool valid;
    char note[160]; /* why not, or what to beware of; "" */
};

/* Sorts the result's series. */
void report_summarize(struct summary *s, struct result *r, const struct bench_options *o);

/* Appends the table. */
void report_table(struct str *out, const struct summary *s, const struct result *r,
                  const struct bench_options *o);

/* Appends the JSON, with a final newline. */
void report_json(struct str *out, const struct summary *s, const struct result *r,
                 const struct bench_options *o);

/* Writes bytes to a file, "-" being stdout. ERR_IO. */
int report_write(const char *path, const struct str *text, struct err *e);

#endif
