/* run: sends the requests as the options say and records what became of them. One thread: the
 * loop's. */
#ifndef TANDEM_BENCH_RUN_H
#define TANDEM_BENCH_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "bench/call.h"
#include "bench/options.h"
#include "bench/series.h"
#include "bench/workload.h"

struct failures {
    uint64_t count;
    char first[256]; /* the first one's sentence */
};

/* A zeroed struct is empty. */
struct result {
    struct record *records; /* of the measured requests, in the order they ended */
    size_t n, cap;
    struct failures failures[OUTCOME_COUNT];
    struct series itl_ms;       /* gaps between outputs, of all requests */
    struct series loop_lag_ms;  /* how late the loop's 10 ms tick came */
    struct series start_lag_ms; /* open loop: sent - due */
    uint64_t prompt_mismatches; /* the server counted other prompt tokens than the workload */
    bool interrupted;
    char model[128];
    char started[32]; /* wall clock, UTC */
};

void result_fini(struct result *r);

/* Opens the transport, warms up, measures. Failing requests are results, not errors; ERR_*: the
 * measurement could not begin. */
int run(struct result *out, const struct bench_options *o, const struct workload *w, struct err *e);

#endif
