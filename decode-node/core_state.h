/* core_state: what the parts of the decode machine share: core.c dispatches events, stream.c has the life
 * of a sequence, intake.c the KV that comes from prefill nodes. No other file includes it. */
#ifndef TANDEM_DECODE_CORE_STATE_H
#define TANDEM_DECODE_CORE_STATE_H

#include "decode-node/core.h"
#include "decode-node/slots.h"

struct decode_core {
    struct decode_config config;
    struct kv_layout layout;
    struct slots slots;
    struct peers peers;
    struct decode_row *rows; /* [rows_max], of the step in flight */
    uint32_t n_rows;         /* 0: no step is in flight */
    int64_t step_at;         /* when it began */
    int64_t ingest_left;     /* bytes of credit that may be given back in this step */
    uint32_t ingest_next;    /* peer whose turn it is */
    bool draining;
    struct decode_stats stats;
};

#endif
