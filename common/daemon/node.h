/* node: what a prefill and a decode node have in common: the engine on its thread, the KV pool with
 * its prefix cache, and what the router is told about them. Network thread. */
#ifndef TANDEM_DAEMON_NODE_H
#define TANDEM_DAEMON_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hist.h"
#include "daemon/compute.h"
#include "daemon/options.h"
#include "engine/cost.h"
#include "kv/kv_pool.h"
#include "kv/prefix.h"
#include "net/msg.h"

/* Plain data, constant after node_open but for what the pool and the thread do, and spent. */
struct node {
    struct compute *compute;
    struct kv_pool *pool;
    struct prefix *prefix; /* of the pool */
    bool prefix_reset;     /* the router knows nothing of it yet */
    struct kv_layout layout;
    enum kv_type wire; /* what KV travels as */
    uint32_t n_vocab, ctx_max, n_threads;
    uint64_t model_hash;
    enum cpu_tier tier;
    int64_t opened_at;
    struct cost spent;              /* by all passes, at least */
    struct hist passes, pass_rows;  /* ns, rows */
    uint64_t sampled;               /* tokens */
};

/* The type of KV where `asked` is KV_AUTO or a type: nodes of a router beyond this machine may be of
 * other tiers, and get the one type that all have. KV_AUTO: the tier's. */
enum kv_type node_kv_type(int asked, const char *router);

/* The type that KV of a pool travels as, where `asked` is KV_AUTO or a type. ERR_CONFIG if that would
 * change the KV: see kv_wire_exact. */
int node_wire(enum kv_type *wire, int asked, enum kv_type pool, struct err *e);

/* Loads the model (this takes its time), starts the compute thread, maps the pool, and logs what
 * they take. rows_max: of a pass; sequences: of full length that a pool sized from the model has room
 * for; ships: KV is to leave the pool, so let other processes map it, if they may (kv_path) and it travels
 * as it lies there. On failure n is closed. */
int node_open(struct node *n, const struct node_options *o, uint32_t rows_max, uint32_t sequences,
              bool ships, struct err *e);
void node_close(struct node *n); /* also of a zeroed one; waits for a running pass */

/* What both roles register with; the caller adds role, endpoint, slots and boot. */
void node_register(const struct node *n, const struct node_options *o, struct msg_register *reg);

/* The next PREFIX_REPORT for the router; false: there is nothing to tell. One a beat keeps a large
 * cache's news from crowding out anything else. The first after node_joined tells all anew. */
bool node_prefix_report(struct node *n, struct msg *report);
void node_joined(struct node *n);

/* Has the compute thread run the job, and counts what it costs. Bug: COMPUTE_JOBS_MAX are waiting. */
void node_run(struct node *n, struct compute_job *job);
/* Its DONE has come. */
void node_ran(struct node *n, const struct compute_job *job);

struct sample_params node_sampling(const struct sampling *s);

/* Pages for `sequences` of ctx_max tokens each, but no more than `memory` bytes hold, and no fewer
 * than one such sequence needs. */
uint32_t node_pool_pages(const struct kv_layout *l, uint32_t sequences, uint32_t ctx_max,
                         uint64_t memory);

#endif
