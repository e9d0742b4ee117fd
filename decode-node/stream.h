/* stream: the life of a sequence in the decode machine, from RESERVE to its last token. Part of
 * core.c, see core_state.h; states are in slots.h. Pure; network thread only. */
#ifndef TANDEM_DECODE_STREAM_H
#define TANDEM_DECODE_STREAM_H

#include "decode-node/core_state.h"

/* RESERVE: FREE -> FILLING, or RUNNING if local; or a refusal with the numbers. */
void stream_reserve(struct decode_core *d, const struct msg_reserve *r, int64_t now,
                    struct decode_actions *out);
/* CANCEL: any -> FREE (or ENDING). */
void stream_cancel(struct decode_core *d, struct stream_id id);

/* All KV is here, `token` is the first of the answer: FILLING -> RUNNING, in the next step. */
void stream_start(struct decode_core *d, struct slot *slot, uint32_t token, int64_t now,
                  struct decode_actions *out);

/* Any -> FREE (or ENDING); a peer that is still sending is told to stop. */
void stream_drop(struct decode_core *d, struct slot *slot, const char *why,
                 struct decode_actions *out);
/* As stream_drop; the router hears that the stream broke here, and may start it anew. */
void stream_fail(struct decode_core *d, struct slot *slot, const char *why,
                 struct decode_actions *out);
/* As stream_fail, for want of pages: that is not held against the request. */
void stream_evict(struct decode_core *d, struct slot *slot, const char *why,
                  struct decode_actions *out);
/* The router is gone: all are dropped. */
void stream_router_lost(struct decode_core *d, struct decode_actions *out);

/* Starts a step if none is in flight and some sequence runs. */
void stream_run_next(struct decode_core *d, int64_t now, struct decode_actions *out);
/* The step in flight is over; tokens[n_rows], those of rows that sample count. */
void stream_step_done(struct decode_core *d, const uint32_t *tokens, int64_t now,
                      struct decode_actions *out);

#endif
