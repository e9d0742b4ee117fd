/* figures: what a result says in numbers. Pure: records in, figures out; the formulas are in
 * README.md. */
#ifndef TANDEM_BENCH_FIGURES_H
#define TANDEM_BENCH_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/batches.h"
#include "bench/options.h"
#include "bench/result.h"
#include "bench/series.h"

/* Above this 99th percentile of the loop's lag or of late sends, latencies are the client's own: an
 * open loop's result is invalid then, a closed loop's, which waits for its client anyway, has a note.
 * Likewise above this share of a core, beyond which a client of one thread is late soon. */
#define FIGURES_LAG_LIMIT_MS 20.0
#define FIGURES_CPU_LIMIT 0.9

/* All measured requests are ok, failed, left or cut. */
struct figures {
    uint64_t requests, ok, failed;
    uint64_t left; /* cancelled by the client, as scheduled */
    uint64_t cut;  /* under way when the run was ended */
    uint64_t prompt_tokens, cached_tokens, output_tokens; /* of the ok */
    double seconds;                                       /* first start to last end, each segment's */
    double requests_per_s, input_tokens_per_s, output_tokens_per_s; /* of the ok */
    struct batches batches; /* how sure these rates are; all 0: too few requests to say */
    uint32_t peak_concurrency;
    struct series values[METRIC_COUNT]; /* sorted; ITL: all gaps */
    struct stats metrics[METRIC_COUNT]; /* ms */
    struct stats stages[STAGE_COUNT];   /* ms; n is 0 where nothing is known */
    struct stats start_lag, loop_lag;   /* ms */
    double client_cpu;                  /* cores */

    struct targets targets;
    uint64_t judged, good;          /* requests of which is known whether they kept the targets */
    uint64_t missed[METRIC_COUNT];  /* of the judged: how many missed this target */
    double goodput, attainment;     /* good/s; good / judged, 1 without targets and failures */

    double cost_output, cost_total; /* per million output tokens, and in + out; negative: unknown */
    double cost_requests;           /* per 1000 */
    double joules, tokens_per_joule; /* negative: not readable */
    uint64_t prompt_mismatches;      /* the server counted other prompt tokens than were sent */
    uint64_t output_mismatches;      /* it generated other than asked for, where that was exact */
    bool valid;
    char note[240]; /* why not, or what to beware of; "" */
};

/* Fills *f, to be freed with figures_fini. Sorts the result's series. */
void figures_make(struct figures *f, struct result *r, const struct bench_options *o);
void figures_fini(struct figures *f);

/* Whether a record kept the targets: 1 or 0; -1: not known, it was cut before. */
int figures_judge(const struct record *r, const struct targets *t, bool saturated);

/* MLPerf's question of --scenario server, where 99 % of requests must keep the targets, and of
 * offline, where all must end: a sentence into out. */
bool figures_scenario(char *out, size_t size, const struct figures *f, int scenario);

/* Wilson's score interval of k successes of n, at 95 %; [0, 1] if n is 0. */
void figures_wilson(double *low, double *high, uint64_t k, uint64_t n);

#endif
