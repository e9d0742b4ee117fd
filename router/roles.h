/* roles: when a node should change between prefill and decode, from the requests that were served
 * and what the nodes' machines give. State in plain data; no clock.
 *
 * Every ROLES_PERIOD the mix of the last requests says how long a request occupies a node of either
 * pool (host/ratio.h). A move is due if it would make the slower pool faster by ROLES_GAIN, in
 * ROLES_ROUNDS rounds in a row, while the slower pool is busy for ROLES_BUSY of the time at least; for
 * ROLES_REST after a move there is no other. So a burst moves nothing, and nothing swings: after a
 * move the way back would have to gain as much again. */
#ifndef TANDEM_ROUTER_ROLES_H
#define TANDEM_ROUTER_ROLES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "host/ratio.h"
#include "net/msg.h"

#define ROLES_PERIOD (5 * CLOCK_S)
#define ROLES_ROUNDS 3
#define ROLES_REST (60 * CLOCK_S)
#define ROLES_GAIN 1.2
#define ROLES_BUSY 0.5
#define ROLES_MEMORY 64 /* requests that the smoothed mix remembers */

struct roles { /* zeroed: has seen nothing */
    struct ratio_mix mix;
    uint64_t seen;           /* requests, ever */
    uint64_t seen_at_period; /* `seen` when this period began */
    int64_t period_at, rest_until;
    enum node_role want; /* what the last rounds wanted more of; 0: nothing */
    uint32_t rounds;
};

struct roles_pool {
    uint32_t n;             /* nodes that are up */
    struct ratio_cost cost; /* of one, on average */
    uint32_t slots;         /* of one; decode only */
};

/* A request has ended well, with so many tokens; cached: of the prompt, found in a prefix cache. */
void roles_request(struct roles *r, uint32_t prompt, uint32_t cached, uint32_t output);

/* Whether one node should become *to now; then it counts as moved. tpot_s 0: no target. A pool whose
 * costs are not known (a zero) moves nothing, nor does one whose last node it would be. */
bool roles_due(struct roles *r, const struct roles_pool *prefill, const struct roles_pool *decode,
               double tpot_s, int64_t now, enum node_role *to);

#endif
