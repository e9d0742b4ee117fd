/* run: sends one schedule to one server and records what became of it. One thread: the loop's. */
#ifndef TANDEM_BENCH_RUN_H
#define TANDEM_BENCH_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bench/fault.h"
#include "bench/options.h"
#include "bench/result.h"
#include "bench/workload.h"

/* All borrowed until run returns. */
struct run_setup {
    const struct bench_options *options;
    const struct workload *workload;
    const char *url; /* of the server, or the ZeroMQ endpoint */
    bool native;
    double rate;           /* requests/s; INFINITY: as the options say without one */
    uint32_t first, count; /* items of the workload */
    bool asap;             /* without the options' arrivals: a warm-up */
    bool keep_answers;     /* in the records */
    const struct faults *faults;  /* NULL: none */
    const struct targets *stop;   /* NULL, or: end when goodput_share of these is out of reach */
    const char *label;            /* for the progress line */
};

/* Adds to the result, as a segment. Failing requests are results, not errors; ERR_*: the measurement
 * could not begin. */
int run(struct result *out, const struct run_setup *setup, struct err *e);

#endif
