/* stream: the arrows of a request's state machine (drawn in core.h), and the core's insides that
 * they share with core.c and inbox.c. Included by those three only. */
#ifndef TANDEM_ROUTER_STREAM_H
#define TANDEM_ROUTER_STREAM_H

#include "base/clock.h"
#include "base/map.h"
#include "router/core.h"
#include "router/explain.h"
#include "router/quarantine.h"
#include "router/queue.h"
#include "router/roles.h"
#include "router/tenants.h"
#include "router/session.h"

/* A node that refused or failed work gets no more for this long: what it says of its room reaches
 * us a heartbeat late, and asking again at once would only spin. */
#define STREAM_HOLD (100 * CLOCK_MS)

struct router_core {
    struct router_config config;
    struct node_table nodes;
    struct map by_request, by_client; /* of struct session, all live ones */
    struct queue queue;
    struct tenants tenants;
    uint32_t running;       /* sessions that are not in the queue */
    struct session *ended;  /* freed by the next step: actions of this one point into them */
    uint64_t next_request, next_use;
    uint32_t ctx_max;       /* schedule_ctx of the nodes */
    int64_t service_ns;     /* smoothed time from placing a request to its end */
    struct router_counters counters;
    struct explain explain;
    struct roles roles; /* what moves nodes between the roles */
    int64_t word_at; /* quarantine.h: the latest that a request waits for a word; 0: none does */
    bool room; /* something changed since the queue's head found no place */
    bool suspects_parked; /* in the queue: they may have a place wherever there is room */
    /* of the step in progress */
    int64_t now;
    struct router_actions *out;
};

/* actions.c: each appends one action. action_send takes m's parts. */
struct router_action *action_add(struct router_core *c, enum router_action_type type);
void action_send(struct router_core *c, const struct node *node, struct msg *m);
void action_note(struct router_core *c, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* core.c: when a refused client should come back: from the queue and how long requests take. */
uint32_t core_retry_after_ms(const struct router_core *c, uint64_t client);

/* place.c: QUEUED -> RESERVING for as many requests as there is room for. Does nothing unless c->room
 * was set, by whoever queued a request or made room. */
void place_all(struct router_core *c);
/* The targets cannot be met for s, which waits: a sentence with prediction and target in text. */
bool place_misses(struct router_core *c, struct session *s, char *text, size_t bytes);

/* moves.c: the node is to change its role, if it can; and whether one should, now and then. */
void moves_become(struct router_core *c, uint64_t handle, enum node_role role);
void moves_tick(struct router_core *c);

/* RESERVING -> PREFILL */
void stream_reserved(struct router_core *c, struct session *s, uint32_t held_tokens);

/* RESERVING -> QUEUED, without a restart being counted: the node had no room. */
void stream_refused(struct router_core *c, struct session *s);

/* PREFILL -> DECODE, or the end if this was the last token */
void stream_first(struct router_core *c, struct session *s, const struct msg_prefill_token *m);

/* PREFILL or DECODE -> itself, or the end */
void stream_tokens(struct router_core *c, struct session *s, const struct msg_tokens *m);

/* Any -> QUEUED for a new epoch, or FAIL after too many. culprit: node to avoid then, or 0. */
void stream_restart(struct router_core *c, struct session *s, uint64_t culprit, const char *why);

/* The same, and it does not count: the request has no part in it. */
void stream_again(struct router_core *c, struct session *s, uint64_t culprit, const char *why);

/* The node has let go of the attempt itself, or is no more: no CANCEL to it. */
void stream_let_go(struct session *s, const struct node *node);

/* The ends. Each frees both nodes; s is gone with the next step. retry_after_ms 0: no use. */
void stream_finish(struct router_core *c, struct session *s, enum finish finish);
void stream_fail(struct router_core *c, struct session *s, int status, uint32_t retry_after_ms,
                 const char *text);

/* inbox.c: one message from a node; the node's end, told or found out. */
void inbox_message(struct router_core *c, uint64_t handle, const struct msg *m);
void inbox_lost(struct router_core *c, struct node *node, const char *why);

#endif
