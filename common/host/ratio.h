/* ratio: how to share nodes between prefill and decode. Pure functions; `tandem up` asks before
 * anything ran, the router again and again with what it has seen.
 *
 * A request costs the prefill pool the time to compute its prompt, and the decode pool the share of
 * the steps that its tokens ride in:
 *   prefill_s = (prompt - cached) * flops_token / flops_s
 *   decode_s  = output * step_s / batch
 *   step_s    = (weight_bytes + batch * context * kv_token_bytes) / read_bytes_s
 *   context   = prompt + output / 2
 * with batch the largest, at most `slots`, whose step_s keeps the TPOT target. Neither pool waits for
 * the other when the nodes stand as prefill_s : decode_s. Attention's own arithmetic is left out of
 * flops_token: below some 8,000 tokens it is a small part of the prompt's. */
#ifndef TANDEM_HOST_RATIO_H
#define TANDEM_HOST_RATIO_H

#include <stdint.h>

struct ratio_cost { /* of a model on a node */
    double flops_token;    /* arithmetic of one row */
    double weight_bytes;   /* read by a step */
    double kv_token_bytes; /* read by a step for each token of context */
    double flops_s;        /* what the node computes at a full chunk */
    double read_bytes_s;   /* what it reads */
};

struct ratio_mix { /* mean tokens of a request */
    double prompt, cached, output;
};

struct ratio_times {
    double prefill_s, decode_s; /* node seconds of one request */
    uint32_t batch;             /* that decode_s assumes */
};

/* prefill and decode: what a node of either kind is like; slots >= 1; tpot_s 0: no target. Costs and
 * rates are above 0. */
struct ratio_times ratio_times(const struct ratio_cost *prefill, const struct ratio_cost *decode,
                               const struct ratio_mix *mix, uint32_t slots, double tpot_s);

/* How many of n >= 2 nodes should prefill: 1 .. n - 1, rounded so that the slower pool is as fast as
 * it can be. */
uint32_t ratio_prefill_nodes(const struct ratio_times *t, uint32_t n);

/* Node seconds of a request in the slower pool: what bounds the cluster's requests a second. */
double ratio_bound(const struct ratio_times *t, uint32_t n_prefill, uint32_t n_decode);

#endif
