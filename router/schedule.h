/* schedule: which prefill node and which decode node serve a request, or which decode node alone.
 * Pure functions over a snapshot of the nodes: no clock, no state, no preference that the snapshot
 * does not hold.
 *
 * In mode auto a request goes down a ladder: a pair; a pair without the node that it failed on; a
 * decode node that computes the prompt itself, if there is no prefill node but those that it failed
 * on; and nowhere for now. Mode disaggregated has only pairs, mode aggregated only decode nodes.
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

#include "daemon/options.h"
#include "net/msg.h"

struct schedule_node {
    uint64_t node; /* its handle */
    enum node_role role;
    bool up;          /* registered and not draining */
    bool open;        /* takes new work now: up and not held back */
    uint32_t ctx_max; /* longest sequence, tokens */
    uint32_t slots;   /* sequences at once (decode), jobs at once (prefill) */
    uint32_t running; /* of those, taken */
    uint32_t pages_total, pages_taken; /* decode only */
    uint64_t queued_tokens;            /* prompt tokens that it has yet to compute */
    uint64_t last_used;                /* order number of its last assignment; 0: never */
};

struct schedule_need {
    uint32_t tokens; /* prompt and everything that may be generated */
    uint32_t pages;  /* KV pages for `tokens` */
    uint64_t avoid;  /* handle of a node to avoid; 0: none */
    enum router_mode mode;
};

#define SCHEDULE_LOCAL SIZE_MAX /* no prefill node: the decode node computes the prompt */

/* Why a request went where it went: the rung of the ladder. */
enum schedule_rung {
    RUNG_PAIR,
    RUNG_OTHER_PAIR, /* without the node that it failed on */
    RUNG_LOCAL,      /* what the mode says: aggregated */
    RUNG_NO_PREFILL, /* a decode node alone, for want of a prefill node */
    SCHEDULE_RUNGS
};
extern const char *const schedule_rung_names[];

struct schedule_pair {
    size_t prefill, decode; /* indices into the snapshot */
    enum schedule_rung rung;
};

/* False: no pair can take it now. Otherwise *out names both nodes. */
bool schedule_pick(struct schedule_pair *out, const struct schedule_node *nodes, size_t n,
                   const struct schedule_need *need);

/* The longest sequence that some pair of these nodes (or, by the mode, a decode node alone) could hold
 * if it were idle, in tokens; 0 if there is none. Counts nodes that are not open: they may reopen. */
uint32_t schedule_ctx(const struct schedule_node *nodes, size_t n, enum router_mode mode);

#endif
