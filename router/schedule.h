/* schedule: which prefill node and which decode node serve a request. Pure functions over a
 * snapshot of the nodes: no clock, no state, no preference that the snapshot does not hold.
 *
 * The decode node with the fewest running sequences wins among those with a free slot and enough
 * pages; the prefill node with the fewest queued tokens wins among those with room in their queue.
 * Ties go to more free pages, then to the node that was used longest ago. A node that a request
 * asks to avoid (it failed there) is taken only if there is no other. */
#ifndef TANDEM_ROUTER_SCHEDULE_H
#define TANDEM_ROUTER_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/msg.h"

struct schedule_node {
    uint64_t node; /* its handle */
    enum node_role role;
    bool open;        /* takes new work now: registered, not draining, not held back */
    uint32_t ctx_max; /* longest sequence, tokens */
    uint32_t slots;   /* sequences at once (decode), jobs at once (prefill) */
    uint32_t running; /* of those, taken */
    uint32_t pages_total, pages_taken; /* decode only */
    uint64_t queued_tokens;            /* prefill only: prompt tokens that it has yet to compute */
    uint64_t last_used;                /* order number of its last assignment; 0: never */
};

struct schedule_need {
    uint32_t tokens; /* prompt and everything that may be generated */
    uint32_t pages;  /* KV pages for `tokens` */
    uint64_t avoid;  /* handle of a node to avoid; 0: none */
};

struct schedule_pair {
    size_t prefill, decode; /* indices into the snapshot */
};

/* False: no pair can take it now. Otherwise *out names both nodes. */
bool schedule_pick(struct schedule_pair *out, const struct schedule_node *nodes, size_t n,
                   const struct schedule_need *need);

/* The longest sequence that some pair of these nodes could hold if it were idle, in tokens; 0 if
 * there is no prefill node or no decode node. Counts nodes that are not open: they may reopen. */
uint32_t schedule_ctx(const struct schedule_node *nodes, size_t n);

#endif
