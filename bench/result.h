/* result: the records of one measurement and what was seen beside them. Plain data. */
#ifndef TANDEM_BENCH_RESULT_H
#define TANDEM_BENCH_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/monitor.h"
#include "bench/record.h"
#include "bench/series.h"

struct failures {
    uint64_t count;
    char first[320]; /* the first one's sentence, with the number of its request */
};

/* An uninterrupted stretch of load: several if it took turns with another server. */
struct segment {
    int64_t start, end; /* clock_now() */
};

/* A zeroed struct is empty. */
struct result {
    struct record *records; /* of the measured requests, in the order they ended */
    size_t n, cap;
    struct segment *segments;
    size_t n_segments;
    struct failures failures[OUTCOME_COUNT];
    struct series loop_lag_ms;  /* how late the loop's 10 ms tick came */
    struct series start_lag_ms; /* open loop: sent - due, less what --max-concurrency made it wait */
    double cpu_s;               /* of this process, over all segments */
    double joules;              /* of this machine; negative: not readable */
    struct monitor_nodes nodes; /* what the server's nodes did meanwhile */
    bool open;                  /* the loop was */
    double rate;                /* requests/s asked for; INFINITY: none */
    uint32_t faults_failed;     /* that could not be made to happen */
    bool interrupted;           /* Ctrl-C */
    bool saturated;             /* ended early: the targets were out of reach */
    uint32_t planned;           /* requests that were to be sent, if it ended early */
    char url[256], model[128];
    char started[32]; /* wall clock, UTC */
};

/* Takes the record. why: a sentence, if its outcome is not OK. */
void result_add(struct result *r, struct record *record, const char *why);
void result_segment(struct result *r, int64_t start, int64_t end);
void result_fini(struct result *r);

#endif
