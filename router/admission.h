/* admission: what the waiting requests cost together, as predicted, and whether one more may wait. Pure
 * functions over a snapshot of the nodes.
 *
 *   prefill  (prompt tokens that wait, in the router and at nodes) / sum of 1 / token_s of the nodes that
 *            compute prompts: seconds until all of them are computed
 *   kv       tokens that waiting requests may come to have, times the bytes of a token's KV
 *
 * A request is refused while what waits is over a bound: with nobody waiting there is always room for
 * one, however large. Retry-After is the time in which the excess is worked off. Without nodes that
 * say what they can do nothing is predicted, and nothing refused. */
#ifndef TANDEM_ROUTER_ADMISSION_H
#define TANDEM_ROUTER_ADMISSION_H

#include "router/schedule.h"

#define ADMISSION_POOLS 8 /* times the KV that the decode nodes hold may wait, if no bound is given */

struct admission {
    double prefill_s;
    double kv_bytes, pool_bytes; /* pool: of all decode nodes */
    bool known;
};

/* prompts: tokens of the prompts in the queue; reserve: of what they may come to have in all. */
struct admission admission_predict(const struct schedule_node *nodes, size_t n, enum router_mode mode,
                                   uint64_t prompts, uint64_t reserve);

#endif
