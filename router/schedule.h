/* schedule: which prefill node and which decode node serve a request, or which decode node alone.
 * Pure functions over a snapshot of the nodes: no clock, no state, no preference that the snapshot
 * does not hold.
 *
 * Every pair that has room is a candidate, and every decode node alone (`local`), as the mode allows.
 * A candidate's score is a sum of delays in seconds, its own and those it inflicts; less is better:
 *
 *   n     tokens of the prompt (on a restart with those delivered), hit_p and hit_d of them cached
 *   out   tokens expected: min(max_new, SCHEDULE_OUT)
 *   pair  ttft  = queued tokens at P * token_s(P) + (n - hit_p) * token_s(P)
 *         ship  = max(0, (n - hit_d) * kv_token_bytes / link - (n - hit_p) * token_s(P)) + handoff:
 *                 KV leaves while it is computed, so only what computing does not hide counts
 *   local u     = n - hit_d tokens, computed in chunks of c between the steps of the R that run there
 *         ttft  = (queued tokens at D + u) * token_s(D) + ceil(u / c) * step(D) if R > 0
 *         stall = max(R, 1) * u * token_s(D): each of them waits while the chunks are computed; an
 *                 idle node has at least one that comes soon, else long prompts would all go there
 *   both  tpot  = step of D with one row and n tokens of KV more
 *         slow  = R * (what this row and its KV add to a step)
 *   score = ttft + ship + stall + out * (tpot + slow)
 *
 * c is what a TPOT target leaves room for, (tpot_target - step(D)) / token_s(D), at most, and without
 * a target, SCHEDULE_CHUNK. So conditional disaggregation is one comparison: a prompt is computed
 * where it is decoded if that delays everybody together less than shipping it.
 *
 * Order: candidates without the node to avoid come first, then those that meet the targets, then the
 * score. Of candidates of the best one's kind whose scores are within SCHEDULE_TIE of it, for
 * predictions are no better than that, the one that starts soonest wins, then the nodes with the
 * least load, then those that were used longest ago. */
#ifndef TANDEM_ROUTER_SCHEDULE_H
#define TANDEM_ROUTER_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/options.h"
#include "net/msg.h"
#include "router/cost.h"

#define SCHEDULE_OUT 128    /* tokens: what most answers of a chat have */
#define SCHEDULE_CHUNK 32   /* tokens of a local prompt in a step, where no target says otherwise */
#define SCHEDULE_TIE 0.05
#define SCHEDULE_BEST 16    /* nodes of each role that are paired: the best by their own part */
#define SCHEDULE_SHOWN 8    /* candidates kept to explain a decision */
/* Links between hosts are not measured; guesses of a memory copy through a socket, and of 10 GbE. */
#define SCHEDULE_LINK_HOST 4e9 /* bytes/s on one host */
#define SCHEDULE_LINK_NET 1e9
#define SCHEDULE_HANDOFF_HOST 0.001 /* s: the last pages, KV_END, the next step */
#define SCHEDULE_HANDOFF_DOMAIN 0.0005 /* less on one domain of a host */
#define SCHEDULE_HANDOFF_NET 0.003

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
    uint64_t kv_tokens;                /* decode: of the running sequences */
    uint64_t last_used;                /* order number of its last assignment; 0: never */
    uint64_t host;                     /* equal: one machine; 0: unknown, a machine of its own */
    uint32_t domain;
    uint32_t hit_tokens; /* of this request's prompt, in its cache */
    struct cost_rates cost;
};

struct schedule_need {
    uint32_t tokens;  /* prompt and everything that may be generated */
    uint32_t pages;   /* KV pages that it is charged with; a node must have room for all `tokens` */
    uint32_t n, max_new; /* to compute, and to generate then */
    uint64_t avoid;   /* handle of a node to avoid; 0: none */
    enum router_mode mode;
    double ttft_s, tpot_s; /* targets; 0: none */
};

#define SCHEDULE_LOCAL SIZE_MAX /* no prefill node: the decode node computes the prompt */

/* Why a request went where it went: the rung of the ladder. */
enum schedule_rung {
    RUNG_PAIR,
    RUNG_OTHER_PAIR, /* without the node that it failed on */
    RUNG_LOCAL,      /* what the mode says: aggregated */
    RUNG_CHEAPER,    /* a decode node alone, since shipping costs more than it saves */
    RUNG_NO_PREFILL, /* a decode node alone, for want of a pair */
    SCHEDULE_RUNGS
};
extern const char *const schedule_rung_names[];

struct schedule_score {
    size_t prefill, decode; /* indices into the snapshot; prefill may be SCHEDULE_LOCAL */
    bool avoided, misses;   /* has the node to avoid; misses a target */
    uint32_t hit_prefill, hit_decode;
    double queue_s, prefill_s; /* ttft is their sum, and in steps for local prompts */
    double ship_s, ttft_s, tpot_s;
    double others_s; /* inflicted on others: stall + out * slow */
    double score_s;
};

struct schedule_choice {
    struct schedule_score best[SCHEDULE_SHOWN]; /* best[0] was chosen */
    uint32_t n, considered;
    bool pairs; /* some candidate was a pair without the node to avoid */
    enum schedule_rung rung;
};

/* The score of one candidate; the nodes are of the roles that it says. */
void schedule_score(struct schedule_score *out, const struct schedule_node *nodes, size_t prefill,
                    size_t decode, const struct schedule_need *need);

/* False: nothing can take it now, and out->n is 0. */
bool schedule_pick(struct schedule_choice *out, const struct schedule_node *nodes, size_t n,
                   const struct schedule_need *need);

/* The longest sequence that some pair of these nodes (or, by the mode, a decode node alone) could hold
 * if it were idle, in tokens; 0 if there is none. Counts nodes that are not open: they may reopen. */
uint32_t schedule_ctx(const struct schedule_node *nodes, size_t n, enum router_mode mode);

#endif
