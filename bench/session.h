/* session: one call of tandem-bench: the runs that its options ask for, and what is written of them.
 * Each kind of call has a file: session.c one run, climb.c a sweep or a search of rates, versus.c two
 * servers in turns, faulted.c a run with faults after one without. */
#ifndef TANDEM_BENCH_SESSION_H
#define TANDEM_BENCH_SESSION_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "bench/figures.h"
#include "bench/options.h"
#include "bench/run.h"
#include "bench/workload.h"

struct session {
    const struct bench_options *options;
    struct workload workload;
    uint32_t next; /* the first item that no run has taken */
    bool ok;       /* some request succeeded, and nothing asked for failed */
};

/* *ok: as in struct session. ERR_*: a measurement could not begin, or a result not be written. */
int session_run(bool *ok, const struct bench_options *o, struct err *e);

/* A setup of the next `count` items at --base-url or --native, which are taken. */
struct run_setup session_setup(struct session *s, double rate, uint32_t count, const char *label);

/* Prints the table and writes the files. extra: members for the JSON, taken; NULL: none. */
int session_report(struct session *s, struct result *r, json_t *extra, struct err *e);

int session_climb(struct session *s, struct err *e);
int session_versus(struct session *s, struct err *e);
int session_faulted(struct session *s, struct err *e);

#endif
