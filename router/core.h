/* core: what the router decides, as a step machine: events in, actions out. It has no clock, socket
 * or random number, so that a test or a simulator can drive a cluster through it; the shell
 * (router.h) feeds it and carries its actions out. One thread.
 *
 * The life of a request, and the function of each arrow (stream.c, unless noted):
 *
 *      | SUBMIT: core_submit (core.c), or FAIL at once: 400 too long, 503 full or no nodes
 *      v
 *   QUEUED <---------------------------------------------------------------------+
 *      |  \__ queue deadline: core_expire (core.c) -> FAIL 503                   |
 *      | a pair has room: stream_place sends RESERVE                             |
 *      v                                                                         |
 *   RESERVING -- RESERVE_REFUSED, retry: stream_refused, not counted ----------->|
 *      |                                                                         |
 *      | RESERVED: stream_reserved sends PREFILL_JOB                             |
 *      v                                                                         |
 *   PREFILL --+                                                                  |
 *      |      | TOKENS (early): stream_tokens keeps them in the journal          |
 *      |      +--> itself                                                        |
 *      | PREFILL_TOKEN: stream_first, DELIVER ------------> FINISH if the last   |
 *      v                                                                         |
 *   DECODE ---+                                                                  |
 *      |      | TOKENS: stream_tokens, DELIVER -----------> FINISH with the last  |
 *      |      +--> itself                                                        |
 *      |                                                                         |
 *   RESERVING, PREFILL, DECODE -- stream_restart: a node of the pair died, said -+
 *      BYE, failed with `retry` or broke the protocol. A new epoch; the next prompt is the prompt
 *      and all delivered tokens. After ROUTER_RESTARTS_MAX: FAIL 503; without `retry`: FAIL 500.
 *   any -- CANCEL: core_cancel (core.c) sends CANCEL to the nodes that have a part -> FINISH
 *
 * Each attempt has its own epoch; a message of another epoch is dropped and counted. TOKENS of the
 * decode node may overtake PREFILL_TOKEN, which comes over another connection: they wait in the
 * journal. A token index is delivered once, in order; a repeat is dropped, a gap is a restart. */
#ifndef TANDEM_ROUTER_CORE_H
#define TANDEM_ROUTER_CORE_H

#include "base/log.h"
#include "net/msg.h"
#include "router/nodes.h"

#define ROUTER_RESTARTS_MAX 3 /* of one request: a prompt that kills nodes takes four, not all */
#define ROUTER_QUEUE_LIMIT 65536

struct router_config {
    struct node_expect expect; /* what a node must have in common with us */
    uint32_t heartbeat_ms, dead_ms;
    uint32_t queue_max;         /* requests waiting */
    uint32_t queue_deadline_ms; /* longest wait for a pair of nodes */
    uint64_t first_request;     /* request numbers start here: unlike those of an earlier router */
};

struct router_submit {
    uint64_t client;  /* the shell's handle; not 0, not in use */
    uint32_t *tokens; /* mem_alloc'ed; the core takes it */
    uint32_t n_tokens;
    uint32_t max_new;
    struct sampling sampling;
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[MSG_STOP_TOKENS_MAX];
};

enum router_event_type {
    ROUTER_SUBMIT, /* a client's request */
    ROUTER_CANCEL, /* the client has gone, or has enough; unknown handles are no error */
    ROUTER_MSG,    /* from a node, or from something that claims to be one */
    ROUTER_LOST,   /* the connection to a node is gone */
    ROUTER_TICK,   /* time passes; several times a heartbeat */
};
struct router_event {
    enum router_event_type type;
    struct router_submit submit;
    uint64_t client; /* CANCEL */
    uint64_t node;   /* MSG, LOST: the shell's handle of the peer, not 0 */
    struct msg *msg; /* MSG: borrowed */
};

/* What is known about a request when it ends. */
struct router_stats {
    uint64_t request; /* its number, as the nodes know it; 0: it never got one */
    uint32_t prompt_tokens, output_tokens, restarts;
    int64_t wait_ns;    /* submit to the first reservation */
    int64_t queue_ns;   /* in the prefill node's queue; of the last attempt */
    int64_t prefill_ns; /* computing; of the last attempt */
    uint64_t kv_bytes;  /* shipped; 0 if the stream was cut before the decode node said */
    char prefill[MSG_NAME_MAX], decode[MSG_NAME_MAX];
};

enum router_action_type {
    ROUTER_SEND,       /* msg to node; the shell takes msg */
    ROUTER_DELIVER,    /* tokens to client */
    ROUTER_FINISH,     /* the stream of client ended: finish, stats. The handle is free again */
    ROUTER_FAIL,       /* it failed: status, retry_after_ms, text, stats. Handle free again */
    ROUTER_DISCONNECT, /* forget the node's handle */
    ROUTER_NOTE,       /* for the log: level, text */
};
struct router_action {
    enum router_action_type type;
    uint64_t node, client;
    struct msg msg;
    uint32_t index; /* of tokens[0] */
    uint32_t n_tokens;
    const uint32_t *tokens; /* borrowed until the next step */
    enum finish finish;
    struct router_stats stats;
    int status; /* as in HTTP */
    uint32_t retry_after_ms; /* 0: retrying is of no use */
    enum log_level level;
    char text[MSG_TEXT_MAX];
};
struct router_actions { /* zeroed: empty */
    struct router_action *items;
    size_t n, cap;
};

/* Frees what the actions still own and empties the list; _fini frees the list too. */
void router_actions_clear(struct router_actions *a);
void router_actions_fini(struct router_actions *a);

struct router_counters { /* since start */
    uint64_t submitted, finished, failed, cancelled;
    uint64_t refused_full, refused_no_nodes, refused_too_long, expired;
    uint64_t restarts, reserve_refused, stale_messages, protocol_faults;
    uint64_t nodes_registered, nodes_refused, nodes_lost;
};

struct router_core;

/* Copies config. */
struct router_core *router_core_new(const struct router_config *config);
void router_core_free(struct router_core **core);

/* One event at time `now` (ns, monotonic). Appends to out, whose earlier contents the shell has
 * carried out and cleared: DELIVER points into the core until the next step. */
void router_step(struct router_core *core, const struct router_event *event, int64_t now,
                 struct router_actions *out);

/* Views, for metrics, status and admission. */
const struct router_counters *router_core_counters(const struct router_core *core);
uint32_t router_core_queued(const struct router_core *core);
uint32_t router_core_running(const struct router_core *core); /* placed on a pair of nodes */
size_t router_core_node_count(const struct router_core *core);
const struct node *router_core_node(const struct router_core *core, size_t i);
/* At least one prefill and one decode node are registered. */
bool router_core_ready(const struct router_core *core);
/* The longest sequence that the nodes can hold; if not ready, the model's own context. */
uint32_t router_core_ctx(const struct router_core *core);

#endif
