/* core_state: what the parts of the prefill machine share: core.c dispatches events, work.c has the life
 * of a job, deliver.c the way of its KV to the decode node. No other file includes it. */
#ifndef TANDEM_PREFILL_CORE_STATE_H
#define TANDEM_PREFILL_CORE_STATE_H

#include "prefill-node/core.h"
#include "prefill-node/ship.h"

struct prefill_core {
    struct prefill_config config;
    struct kv_layout layout;
    struct kv_cut cut;
    struct jobs jobs;
    struct links links;
    struct span *spans; /* [queue_max], of the chunk in flight */
    uint32_t n_spans;   /* 0: no chunk is in flight */
    bool draining;
    struct prefill_stats stats;
};

#endif
