/* fault: processes of a cluster on this machine that are killed or stopped at set times of a run. */
#ifndef TANDEM_BENCH_FAULT_H
#define TANDEM_BENCH_FAULT_H

#include <stdint.h>
#include <stdbool.h>

#include "base/err.h"

#define FAULTS_MAX 8

struct fault {
    char node[24]; /* as the router names it: "decode-3" */
    int signal;    /* SIGKILL, SIGSTOP, SIGCONT */
    int64_t at_ns; /* after the start of the run */
    bool done;
    long pid; /* once fired */
};

struct faults {
    struct fault list[FAULTS_MAX];
    uint32_t n;
};

/* kill: "decode:3@30s,prefill:1@5s"; stop: "decode:3@30s+5s" (default length 5s); "" is none. Times
 * are seconds, or with "ms". ERR_CONFIG. */
int faults_parse(struct faults *out, const char *kill, const char *stop, struct err *e);

/* Sends the signal of fault i to the process that the router at url names; SIGCONT to the one that was
 * stopped, to none if that failed. ERR_NOT_FOUND: no such node, or its process is none of tandem's on
 * this machine. */
int fault_fire(struct faults *faults, uint32_t i, const char *url, struct err *e);

#endif
