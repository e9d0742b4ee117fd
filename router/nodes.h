/* nodes: the prefill and decode nodes that the router knows, what they said at registration, what
 * their heartbeats said last, and what the router has given them since. Owned by the core, which is
 * the only one to change them; no clock, no socket. */
#ifndef TANDEM_ROUTER_NODES_H
#define TANDEM_ROUTER_NODES_H

#include <stdbool.h>

#include "base/err.h"
#include "base/map.h"
#include "net/link.h"
#include "net/msg.h"
#include "router/cost.h"
#include "router/prefix_index.h"
#include "router/schedule.h"

#define NODES_MAX 4096 /* a registration beyond it is refused; as many as host/place.h places */

/* What a node must have in common with the router. */
struct node_expect {
    char cluster[MSG_NAME_MAX];
    uint64_t model_hash;
    struct kv_geometry geometry; /* but for wire_type, in which nodes must agree with each other */
    uint32_t ctx_max;            /* of the model */
    uint32_t n_vocab;
};

enum node_state {
    NODE_WAITING, /* another live node has its name; waits until that one beats (refused) or dies */
    NODE_UP,
    NODE_DRAINING, /* finishes what it has */
};
extern const char *const node_state_names[];

struct node {
    uint64_t handle;
    enum node_state state;
    struct msg_register reg;
    struct msg_heartbeat beat; /* the last one */
    struct link link;          /* is it alive, and when to beat */
    int64_t held_until;        /* no new work before: it has just refused some */
    /* what the router has given it and not yet seen ended */
    uint32_t running;
    uint32_t pages_taken;
    uint64_t queued_tokens;
    uint64_t kv_tokens; /* of the sequences that it runs */
    uint32_t suspects;  /* of those, under quarantine.h's watch */
    uint64_t last_used;
    struct cost_model cost;
    struct prefix_index prefix;
    bool drained; /* by hand: it stays draining, whatever it says */
};

struct node_table { /* zeroed: empty */
    struct node *items[NODES_MAX];
    size_t n, n_waiting; /* n_waiting of the n are NODE_WAITING */
    struct map by_handle;
    struct schedule_node snapshot[NODES_MAX];
    struct node *snapshot_of[NODES_MAX];
    uint32_t prefix_blocks; /* in all indices */
};

void node_table_fini(struct node_table *t);

/* NULL if absent. node_table_named looks among the nodes that are not waiting. */
struct node *node_table_get(const struct node_table *t, uint64_t handle);
struct node *node_table_named(const struct node_table *t, const char *name);

/* Adds a node, which waits; handle is not in the table, the table not full. Owned by the table. */
struct node *node_table_add(struct node_table *t, uint64_t handle, const struct msg_register *reg);
/* It waits no longer, if it did: NODE_UP. */
void node_table_up(struct node_table *t, struct node *node);
void node_table_remove(struct node_table *t, struct node *node);

/* Fills t->snapshot with the nodes that are not waiting and returns how many. */
size_t node_table_snapshot(struct node_table *t, int64_t now);

/* Nodes of the role that are up or draining. */
uint32_t node_table_count(const struct node_table *t, enum node_role role);

/* ERR_PEER with one sentence that names the value and the expectation, if the registration does not
 * fit this cluster. Does not look at the name's uniqueness. */
int node_check(const struct node_table *t, const struct node_expect *expect,
               const struct msg_register *reg, struct err *e);

/* If the nodes do not agree bit for bit, for their kernel tiers are amx and others or their pages have
 * several types: writes "amx with bf16 (prefill-1), ..." and returns true. */
bool node_table_mixed(const struct node_table *t, char *out, size_t out_bytes);

#endif
