/* explain: why requests went where they went. Keeps the last decision of every live request, and of
 * the last EXPLAIN_KEPT that ended, for GET /tandem/explain. Owned by the core. One thread.
 *
 * Memory: about 1 KiB a request, live or kept. Node names are kept once each, the first
 * EXPLAIN_NAMES_MAX that were ever seen. */
#ifndef TANDEM_ROUTER_EXPLAIN_H
#define TANDEM_ROUTER_EXPLAIN_H

#include "base/str.h"
#include "router/event.h"
#include "router/schedule.h"

#define EXPLAIN_KEPT 1024
#define EXPLAIN_NAMES_MAX 4096

struct explain_candidate {
    uint16_t prefill, decode; /* numbers of names */
    bool local;
    struct schedule_score score;
};

struct explain_entry {
    uint64_t ids[2]; /* as in struct router_submit; 0: none */
    struct router_stats stats;
    int64_t placed_after_ns; /* from submit to this decision */
    uint32_t max_new, epoch, delivered; /* delivered: when it was placed */
    uint32_t priority;
    char tenant[MSG_NAME_MAX];
    bool ended;
    enum schedule_rung rung;
    uint32_t n, considered;
    struct explain_candidate best[SCHEDULE_SHOWN];
    int status;              /* of the end; 200 */
    enum finish finish;
    char text[MSG_TEXT_MAX / 2]; /* why it failed */
};

struct explain { /* zeroed: empty */
    struct explain_entry *ring[EXPLAIN_KEPT]; /* the ended, oldest overwritten */
    size_t next;
    char (*names)[MSG_NAME_MAX];
    uint32_t n_names, cap_names;
};

void explain_fini(struct explain *x);

/* Notes the decision in entry. name: of the node with a handle. */
void explain_choice(struct explain *x, struct explain_entry *entry,
                    const struct schedule_choice *choice, const struct schedule_node *nodes,
                    const char *(*name)(void *ctx, uint64_t handle), void *ctx);

/* Keeps an entry of a request that has ended; takes it. */
void explain_keep(struct explain *x, struct explain_entry *entry);

/* Of the ended ones, the latest with that id or request number; NULL: none. */
const struct explain_entry *explain_find(const struct explain *x, uint64_t id);
bool explain_is(const struct explain_entry *entry, uint64_t id);

/* Appends it as a JSON object. */
void explain_json(const struct explain *x, const struct explain_entry *entry, struct str *out);

#endif
