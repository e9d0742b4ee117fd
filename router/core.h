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
 *      | there is room: place_one (place.c) sends RESERVE                        |
 *      v                                                                         |
 *   RESERVING -- RESERVE_REFUSED, retry: stream_refused, not counted ----------->|
 *      |                                                                         |
 *      | RESERVED: stream_reserved sends PREFILL_JOB                             |
 *      |      \__ placed on the decode node alone: stream_reserved, on to DECODE |
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
 *      and all delivered tokens. After ROUTER_RESTARTS_MAX in a row: FAIL 503; without `retry`:
 *      FAIL 500.
 *   any -- CANCEL: core_cancel (core.c) sends CANCEL to the nodes that have a part -> FINISH
 *
 * Each attempt has its own epoch; a message of another epoch is dropped and counted. TOKENS of the
 * decode node may overtake PREFILL_TOKEN, which comes over another connection: they wait in the
 * journal. A token index is delivered once, in order; a repeat is dropped, a gap is a restart. */
#ifndef TANDEM_ROUTER_CORE_H
#define TANDEM_ROUTER_CORE_H

#include "base/str.h"
#include "daemon/options.h"
#include "router/event.h"
#include "router/nodes.h"

#define ROUTER_RESTARTS_MAX 3 /* of one request: a prompt that kills nodes takes four, not all */
#define ROUTER_PROGRESS 16    /* tokens: an attempt that brought them does not count, the prompt is fine */
#define ROUTER_QUEUE_LIMIT 65536

struct router_config {
    struct node_expect expect; /* what a node must have in common with us */
    enum router_mode mode;
    bool move_roles;           /* nodes that can are moved between prefill and decode */
    uint64_t salt;             /* of the cluster: of prefix names */
    uint32_t slo_ttft_ms, slo_tpot_ms; /* targets; 0: none */
    uint32_t heartbeat_ms, dead_ms;
    uint32_t queue_max;         /* requests waiting */
    uint32_t tenant_concurrent, tenant_tokens_minute; /* limits of each tenant that has none of its own; 0: none */
    uint32_t priority_age_ms;   /* after so long a band counts as one higher; 0: never */
    uint32_t queue_deadline_ms; /* longest wait for a pair of nodes */
    uint32_t queue_prefill_ms;  /* bounds of admission.h; 0: the deadline, */
    uint64_t queue_kv;          /* and ADMISSION_POOLS */
    uint64_t first_request;     /* request numbers start here: unlike those of an earlier router */
};

struct router_counters { /* since start */
    uint64_t submitted, finished, failed, cancelled;
    uint64_t refused_full, refused_no_nodes, refused_too_long, refused_slo, refused_tenant, refused_cost;
    uint64_t expired;
    uint64_t quarantined;
    uint64_t restarts, reserve_refused, stale_messages, protocol_faults;
    uint64_t nodes_registered, nodes_refused, nodes_lost, role_changes;
    uint64_t placed[SCHEDULE_RUNGS];
    uint64_t prefix_hits, prefix_hit_tokens; /* placements where a cache was expected to help */
    uint64_t cached_tokens;                  /* prompt tokens that caches did save */
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
/* The node of that name that is not waiting; NULL: none. */
const struct node *router_core_node_named(const struct router_core *core, const char *name);
/* Appends as JSON why the request with that id or number went where it went. False: it is not known,
 * or is not among the last EXPLAIN_KEPT that ended. */
bool router_core_explain(const struct router_core *core, uint64_t id, struct str *out);
/* Decode nodes that take new requests: registered and not draining. */
uint32_t router_core_decodes(const struct router_core *core);
/* Whether the node is the only one that takes new requests of a role without which none is served. */
bool router_core_needs(const struct router_core *core, const struct node *node);
/* What the mode needs is registered: a decode node, and in mode disaggregated a prefill node. */
bool router_core_ready(const struct router_core *core);
/* The longest sequence that the nodes can hold; if not ready, the model's own context. */
uint32_t router_core_ctx(const struct router_core *core);

#endif
