/* core: the prefill node as a pure machine: an event and the time go in, actions come out. It sees
 * no socket, clock or engine, so one process can simulate many nodes with this very code.
 *
 *   router ── PREFILL_JOB, CANCEL, DRAIN ──> core ── PREFILL_TOKEN, PREFILL_FAILED ──> router
 *   core ── KV_HELLO, KV_PAGE or KV_PLACE, KV_END, KV_ABORT ──> decode
 *   core <── KV_WELCOME, KV_CREDIT, KV_AGAIN, KV_DONE, KV_ABORT, REFUSED ── decode
 *   core ── KV_RESUME ──> decode ── KV_MISSING ──> core, after LINK_CUT
 *   core ── RUN(spans) ──> compute ── LAYER_DONE, CHUNK_DONE(tokens) ──> core
 *
 * KV pages: whenever something happened, the shell asks prefill_core_next_unit what may leave now,
 * sends it, and reports UNIT_SENT.
 *
 * A job's states are in jobs.h, a link's in links.h. Network thread only. */
#ifndef TANDEM_PREFILL_CORE_H
#define TANDEM_PREFILL_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kv/kv_layout.h"
#include "kv/kv_pool.h"
#include "kv/kv_unit.h"
#include "kv/prefix.h"
#include "net/msg.h"
#include "prefill-node/actions.h"
#include "prefill-node/links.h"

struct prefill_config {
    char cluster[MSG_NAME_MAX], name[MSG_NAME_MAX];
    uint64_t model_hash;
    uint32_t n_vocab, ctx_max;
    uint32_t queue_max;    /* jobs at once, those under way included */
    uint32_t chunk_tokens; /* rows of a forward pass, a multiple of 32 */
    enum kv_type wire;
    struct share_offer offer; /* the pool, to decode nodes on this machine; none if zero */
    int64_t lease_ns;      /* KV that the decode node does not take for so long is given up */
    int64_t hello_ns;      /* how long a decode node may take to answer KV_HELLO */
};

enum prefill_event_type {
    PREFILL_ROUTER,      /* msg; a PREFILL_JOB's tokens are taken */
    PREFILL_LINK,        /* link, msg */
    PREFILL_LINK_CUT,    /* link: its connection broke, what was under way is lost */
    PREFILL_LAYER_DONE,  /* layer of the chunk in flight */
    PREFILL_CHUNK_DONE,  /* tokens, one a span of the last RUN (only those of `last` spans count) */
    PREFILL_UNIT_SENT,   /* unit, just as prefill_core_next_unit gave it */
    PREFILL_ROUTER_LOST, /* every job is an orphan now: all are dropped */
    PREFILL_TICK,        /* some time has passed */
};

/* A KV_PAGE to send: bytes of page_id to the link. Or a KV_PLACE: then they stay as they are
 * until KV_DONE, for the job holds its pages so long; who reads them later finds a wrong checksum. */
struct prefill_unit {
    struct stream_id id;
    uint32_t job, link, page_id;
    struct kv_unit unit;
    size_t bytes;
    bool place; /* the decode node has mapped the page, and they lie there as they travel */
};

struct prefill_event {
    enum prefill_event_type type;
    uint32_t link;
    uint32_t layer;
    struct msg *msg;                 /* borrowed */
    const uint32_t *tokens;          /* borrowed */
    const struct prefill_unit *unit; /* borrowed */
};

struct prefill_core;

/* pool, of this layout, and its prefix cache are borrowed. ERR_LIMIT if a kv head does not fit into a
 * bulk frame. */
int prefill_core_new(struct prefill_core **core, const struct prefill_config *c,
                     const struct kv_layout *l, struct kv_pool *pool, struct prefix *prefix,
                     struct err *e);
/* No chunk may be running any more, though its CHUNK_DONE need not have come. Returns all pages. */
void prefill_core_free(struct prefill_core **core);

/* Adds what must be done to out, in order. */
void prefill_step(struct prefill_core *core, const struct prefill_event *ev, int64_t now,
                  struct prefill_actions *out);

/* The first job's next unit that is final, whose link is up and has credit for it, and is not among
 * blocked[PREFILL_LINKS_MAX] (NULL: none is). False: nothing may leave now. */
bool prefill_core_next_unit(const struct prefill_core *core, const bool *blocked,
                            struct prefill_unit *out);

/* For the shell to make rows of a span; valid while the span's chunk is in flight. */
const struct job *prefill_core_job(const struct prefill_core *core, uint32_t job);

/* Counters for heartbeat and log. */
struct prefill_stats {
    uint32_t queued, running; /* jobs now: QUEUED, and all later states */
    uint64_t queued_tokens;   /* of those, not yet computed */
    uint64_t tokens, steps, kv_bytes;
    uint64_t hit_tokens;      /* found in the prefix cache */
    uint64_t pages_again, leases_expired, resumed;
    bool draining;
};
void prefill_core_stats(const struct prefill_core *core, struct prefill_stats *out);
/* No job is here and no chunk in flight. */
bool prefill_core_idle(const struct prefill_core *core);
/* From now on jobs are refused; what is here goes on. */
void prefill_core_drain(struct prefill_core *core);
/* Draining, told by a signal or by DRAIN, and idle: the node may leave. */
bool prefill_core_drained(const struct prefill_core *core);

#endif
