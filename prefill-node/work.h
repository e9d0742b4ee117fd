/* work: the life of a job in the prefill machine, from PREFILL_JOB to its end. Part of core.c, see
 * core_state.h; states are in jobs.h. Pure; network thread only. */
#ifndef TANDEM_PREFILL_WORK_H
#define TANDEM_PREFILL_WORK_H

#include "prefill-node/core_state.h"

/* PREFILL_JOB: FREE -> QUEUED, or a refusal with the numbers. Takes m->tokens. */
void work_take(struct prefill_core *p, struct msg_prefill_job *m, int64_t now,
                struct prefill_actions *out);
/* CANCEL: any -> FREE (or ENDING). The router tells the decode node as well. */
void work_cancel(struct prefill_core *p, struct stream_id id);

/* Any -> FREE (or ENDING), without a word. */
void work_drop(struct prefill_core *p, struct job *job);
/* The decode node has all of it. */
void work_shipped(struct prefill_core *p, struct job *job, int64_t now);
/* As work_drop; the decode node hears that no more will come. */
void work_abort(struct prefill_core *p, struct job *job, const char *why,
                  struct prefill_actions *out);
/* The router hears that the stream failed here; the job, if there is one, is not touched. */
void work_refuse(struct stream_id id, bool retry, const char *why, struct prefill_actions *out);

/* Starts a chunk if none is in flight and some job has tokens to compute. */
void work_next(struct prefill_core *p, int64_t now, struct prefill_actions *out);
/* A layer of the chunk in flight is final, or all are; tokens[n_spans], those of `last` spans count. */
void work_layer_done(struct prefill_core *p, uint32_t layer);
void work_chunk_done(struct prefill_core *p, const uint32_t *tokens, int64_t now,
                       struct prefill_actions *out);

#endif
