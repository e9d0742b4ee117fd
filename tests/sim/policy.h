/* policy: thousands of nodes that are formulas, under the production router and a trace of arrivals:
 * what its policy does to waiting times, and what a step of it costs. One thread. */
#ifndef TANDEM_SIM_POLICY_H
#define TANDEM_SIM_POLICY_H

#include <stdint.h>

#include "base/err.h"

struct policy_options {
    uint32_t nodes;         /* in all */
    double prefill_share;   /* of them are prefill nodes; 0: none, and mode aggregated */
    char *trace;            /* "synthetic", *.jsonl (Mooncake) or *.csv (Azure) */
    double trace_scale;     /* times are multiplied by it: 0.5 is twice the load */
    double rate;            /* synthetic: requests a second, Poisson */
    uint32_t requests;      /* at most */
    uint32_t slots;         /* of a decode node */
    double prefill_tokens_s;
    double step_ms, stream_ms; /* a decode step takes step_ms + its streams * stream_ms */
    uint64_t seed;
};

/* Plays the trace and prints what came of it; *failed: requests that did. ERR_* of the trace. */
int policy_run(const struct policy_options *o, uint64_t *failed, struct err *e);

#endif
