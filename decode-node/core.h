/* core: the decode node as a pure machine: an event and the time go in, actions come out. It sees
 * no socket, clock or engine, so one process can simulate many nodes with this very code.
 *
 *   router ── RESERVE, CANCEL, DRAIN ──> core <── KV_HELLO, KV_PAGE or KV_PLACE, KV_END, KV_RESUME, KV_ABORT ── prefill
 *   router <── RESERVED / RESERVE_REFUSED, TOKENS, DECODE_FAILED ── core
 *   prefill <── KV_WELCOME, KV_CREDIT, KV_AGAIN, KV_MISSING, KV_DONE, KV_ABORT, REFUSED ── core
 *   compute <── RUN(rows) ── core <── STEP_DONE(tokens) ── compute
 *
 * KV pages: the shell asks decode_core_accepts_page where a page goes, verifies its checksum,
 * copies it (of a KV_PLACE: copies it from there, then verifies), and then reports PAGE_IN, PAGE_BAD or
 * PAGE_REFUSED. Each returns the page's bytes to the
 * sender's credit. What is missing when KV_END comes is asked for again, one unit at a time.
 *
 * A stream's state is its slot's, see slots.h. Network thread only. */
#ifndef TANDEM_DECODE_CORE_H
#define TANDEM_DECODE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "decode-node/actions.h"
#include "decode-node/peers.h"
#include "decode-node/slots.h"
#include "kv/kv_layout.h"
#include "net/msg.h"

#define DECODE_BARREN_ASKS_MAX 3 /* asks in a row that bring nothing before the stream is given up */
#define DECODE_INGEST_SHARE 20   /* of a step's time is for KV that comes in, inverse */
#define DECODE_QUEUE_LEASES 10   /* leases until the first page: the job may stand in a queue */

struct decode_config {
    char cluster[MSG_NAME_MAX];
    uint64_t model_hash;
    uint32_t n_vocab, ctx_max, slots;
    enum kv_type wire;
    uint64_t credit_bytes; /* KV bytes that a peer may have under way; >= 2 * MSG_BULK_MAX */
    uint64_t ingest_bytes_s; /* KV that could be taken in if nothing else ran; 0: never paced */
    struct rows_budget prompt_rows;
    int64_t lease_ns;      /* a reservation whose KV makes no progress for so long is given up */
};

enum decode_event_type {
    DECODE_ROUTER,       /* msg */
    DECODE_PEER,         /* peer, life, msg: anything but KV_PAGE and KV_PLACE */
    DECODE_PAGE_IN,      /* peer, msg: accepted, verified, and its bytes are in the page */
    DECODE_PAGE_BAD,     /* peer, msg: accepted, but the checksum differs */
    DECODE_PAGE_REFUSED, /* peer, msg: not accepted */
    DECODE_STEP_DONE,    /* tokens, one a row of the last RUN; those of rows that sample count */
    DECODE_PEER_LOST,    /* peer: its connection broke */
    DECODE_ROUTER_LOST,  /* every stream is an orphan now: all are dropped */
    DECODE_TICK,         /* some time has passed */
};

struct decode_event {
    enum decode_event_type type;
    uint32_t peer;          /* the shell's handle, < DECODE_PEERS_MAX */
    uint64_t life;          /* of the peer's process, as in peers.h */
    uint64_t mapped;        /* KV_HELLO: bytes of the peer's memory that are mapped here; 0: none */
    const struct msg *msg;  /* borrowed */
    const uint32_t *tokens; /* borrowed */
};

struct decode_core;

/* memory: pages of this layout. ERR_LIMIT if a kv head does not fit into a bulk frame. */
int decode_core_new(struct decode_core **core, const struct decode_config *c,
                    const struct kv_layout *l, const struct slots_memory *memory, struct err *e);
/* No step may be running any more, though its STEP_DONE need not have come. Returns all pages. */
void decode_core_free(struct decode_core **core);

/* Adds what must be done to out, in order. */
void decode_step(struct decode_core *core, const struct decode_event *ev, int64_t now,
                 struct decode_actions *out);

/* Why a page is or is not welcome. */
enum decode_verdict {
    DECODE_PAGE_OK,
    DECODE_PAGE_STRANGER,  /* the peer did not say KV_HELLO */
    DECODE_PAGE_NO_CREDIT, /* more bytes than granted: the peer will be dropped */
    DECODE_PAGE_NO_STREAM, /* no such stream, or an older epoch, or its KV is complete */
    DECODE_PAGE_NOT_YOURS, /* another peer fills this stream */
    DECODE_PAGE_NO_UNIT,   /* layer, page, heads or tokens are not of our cut */
    DECODE_PAGE_SIZE,      /* the bytes are not as many as the unit has */
    DECODE_PAGE_REPEATED,
    DECODE_PAGE_NO_PLACE,  /* a KV_PLACE of who was not told that it may, or beyond what is mapped */
    DECODE_VERDICT_COUNT
};
const char *decode_verdict_text(enum decode_verdict v);

/* Where the bytes of m, a KV_PAGE or KV_PLACE, go: *page_id of our pool. Everything is computed from our own
 * geometry and only compared with what the peer says. Changes nothing. */
enum decode_verdict decode_core_accepts_page(const struct decode_core *core, uint32_t peer,
                                             const struct msg *m, uint32_t *page_id);

/* Whether KV_HELLO will be answered by KV_WELCOME, and not REFUSED. */
bool decode_core_welcomes(const struct decode_core *core, const struct msg_kv_hello *h);

/* Counters for heartbeat and log. */
struct decode_stats {
    uint32_t reserved, running, aside; /* slots now */
    uint64_t tokens, steps, kv_bytes;
    uint64_t queued_tokens; /* of local prompts, not yet computed */
    uint64_t local_tokens;  /* of local prompts, computed */
    uint64_t preempted;     /* sequences set aside, or given up, for want of pages */
    uint64_t returned;      /* of those set aside, that run again */
    uint64_t hit_tokens;    /* of prompts, found in the prefix cache */
    uint64_t busy_ns, step_ns; /* in steps; a step, smoothed */
    uint64_t pages_bad, pages_refused, leases_expired;
    uint64_t read_bytes;    /* of kv_bytes: copied from where they lay */
    bool draining;
};
void decode_core_stats(const struct decode_core *core, struct decode_stats *out);
/* No slot is taken and no step in flight. */
bool decode_core_idle(const struct decode_core *core);
/* From now on RESERVE is refused; what runs goes on. */
void decode_core_drain(struct decode_core *core);
/* Draining, told by a signal or by DRAIN, and idle: the node may leave. */
bool decode_core_drained(const struct decode_core *core);
/* The peer has no stream here: its handle may be reused. */
bool decode_core_peer_idle(const struct decode_core *core, uint32_t peer);

#endif
