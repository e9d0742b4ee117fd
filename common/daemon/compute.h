/* compute: the thread that owns the engine. The network thread hands it jobs and hears what
 * happened; they meet in two rings and an eventfd.
 *
 *   network thread                          compute thread (team thread 0)
 *     compute_submit(job) ── ring ──────────>  engine_forward, sample
 *     compute_poll(&event) <── ring ─ eventfd ─  LAYER (if asked for), DONE
 *
 * One job runs at a time; at most COMPUTE_JOBS_MAX wait. */
#ifndef TANDEM_DAEMON_COMPUTE_H
#define TANDEM_DAEMON_COMPUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/sample.h"
#include "kernels/roofline.h"

#define COMPUTE_JOBS_MAX 4

/* A row, and how to sample if it wants logits. */
struct compute_sample {
    struct sample_params params;
    uint32_t index; /* of the token in its stream */
    uint32_t token; /* out */
};

/* One forward pass. Owned by the submitter, who leaves it alone between submit and DONE. */
struct compute_job {
    struct batch_row *rows; /* [n] */
    struct compute_sample *samples; /* [n]; used where want_logits */
    uint32_t n;
    bool layer_events; /* an event after each layer */
    void *tag;         /* the submitter's own */
    int64_t ns;        /* out: how long the pass took */
};

enum compute_event_type { COMPUTE_LAYER, COMPUTE_DONE };

struct compute_event {
    enum compute_event_type type;
    struct compute_job *job;
    uint32_t layer; /* of COMPUTE_LAYER: KV of all rows is final in this layer */
};

struct compute;

/* Starts the thread, which opens the engine; returns when it is ready or has failed (the engine's
 * error). options and its strings are only used during the call. Owned by the caller. */
int compute_start(struct compute **c, const struct engine_options *o, struct err *e);
/* Waits for the running job, ends the thread, closes the engine; events not polled are dropped. */
void compute_stop(struct compute **c);

/* Waits until every job that was submitted is done; their events not polled are dropped. By the thread
 * that submits. */
void compute_wait(struct compute *c);

/* Immutable after the start: hparams, layout, hash, sizes may be asked by the network thread. */
const struct engine *compute_engine(const struct compute *c);
/* What the machine gave the team at start. */
const struct roofline *compute_roofline(const struct compute *c);

/* False if COMPUTE_JOBS_MAX are waiting. */
bool compute_submit(struct compute *c, struct compute_job *job);

/* Becomes readable when events wait; compute_poll drains it. */
int compute_fd(const struct compute *c);

/* The next event; false: none, and the eventfd is cleared. */
bool compute_poll(struct compute *c, struct compute_event *ev);

#endif
