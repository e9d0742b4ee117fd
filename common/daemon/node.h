/* node: what a prefill and a decode node have in common: the engine on its thread, the KV pool, and
 * what the router is told about them. Network thread. */
#ifndef TANDEM_DAEMON_NODE_H
#define TANDEM_DAEMON_NODE_H

#include <stdint.h>

#include "base/err.h"
#include "daemon/compute.h"
#include "daemon/options.h"
#include "kv/kv_pool.h"
#include "net/msg.h"

struct node_options {
    const struct daemon_options *common;
    const char *cores; /* as in options.h */
    int32_t domain;
    uint32_t kv_pages;
    int kv_type;
    uint32_t rows_max;
    uint32_t sequences; /* of full length that a pool sized from the model has room for */
};

/* Plain data, constant after node_open but for what the pool and the thread do. */
struct node {
    struct compute *compute;
    struct kv_pool *pool;
    struct kv_layout layout;
    uint32_t n_vocab, ctx_max, n_threads;
    uint64_t model_hash;
    enum cpu_tier tier;
};

/* Loads the model (this takes its time), starts the compute thread, maps the pool, and logs what
 * they take. On failure n is closed. */
int node_open(struct node *n, const struct node_options *o, struct err *e);
void node_close(struct node *n); /* also of a zeroed one; waits for a running pass */

/* What both roles register with; the caller adds role, endpoint, slots and boot. */
void node_register(const struct node *n, const struct node_options *o, struct msg_register *reg);

struct sample_params node_sampling(const struct sampling *s);

/* Pages for `sequences` of ctx_max tokens each, but no more than `memory` bytes hold, and no fewer
 * than one such sequence needs. */
uint32_t node_pool_pages(const struct kv_layout *l, uint32_t sequences, uint32_t ctx_max,
                         uint64_t memory);

#endif
