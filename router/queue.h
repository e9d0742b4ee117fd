/* queue: the requests that wait for nodes, and whose turn it is. Owned by the core; no clock.
 *
 *   restarted          requests that a failure or a refusal sent back: before everybody, by number
 *   band 0 .. 7        online before batch: band 0 first. A band that waits grows older: for every
 *                      age_ns since it was last served (or began to wait) it counts as one band
 *                      higher, up to 0, and among equals the one that waited longest goes first. So
 *                      band b waits about b * age_ns at most while others are served.
 *   flows of a band    one a tenant: deficit round robin. A flow in turn is given QUEUE_QUANTUM tokens
 *                      and may send requests for as many as it has; what a request costs is the KV it
 *                      reserves, in tokens. So tenants share a band by tokens, not by requests.
 *   requests of a flow by number
 *
 * Deadlines are looked at in the order of waiting, apart from all that. Each operation is O(flows of a
 * band) at most. */
#ifndef TANDEM_ROUTER_QUEUE_H
#define TANDEM_ROUTER_QUEUE_H

#include <stdbool.h>

#include "base/map.h"
#include "router/session.h"

#define QUEUE_BANDS (MSG_PRIORITY_MAX + 1)
#define QUEUE_QUANTUM 16 /* tokens: less than a request, so that nobody sends several in a turn */

struct queue_flow { /* a tenant's requests in a band; exists while there are some */
    uint64_t tenant;
    struct session *head, *tail;
    int64_t deficit;
    struct queue_flow *prev, *next; /* in the ring of the band */
};

struct queue_band {
    struct queue_flow *turn; /* the ring's first: whose turn it is; NULL: empty */
    struct map flows;        /* by tenant */
    uint32_t n;
    int64_t served_at;       /* last served, or began to wait */
};

struct queue { /* zeroed, but for age_ns: empty */
    int64_t age_ns;
    struct session *restarted_head, *restarted_tail;
    struct queue_band bands[QUEUE_BANDS];
    struct session *oldest, *newest; /* by queued_at */
    uint32_t n;
    uint64_t tokens;  /* of their prompts */
    uint64_t reserve; /* of KV that they will reserve, in tokens */
};

void queue_fini(struct queue *q); /* the sessions are not touched */

/* s->queued_at says since when it waits. It is put among the restarted if it was placed before. */
void queue_add(struct queue *q, struct session *s, int64_t now);

/* Whose turn it is, NULL if nobody waits; the same until something is added or removed, or a band ages.
 * It waits for room at the head rather than being passed by small ones for ever. */
struct session *queue_next(struct queue *q, int64_t now);

/* It waits for its deadline, and for queue_unpark, but has no turn: what it needs may never come, and others
 * are not to wait behind it. */
void queue_park(struct queue *q, struct session *s);
void queue_unpark(struct queue *q, int64_t now);

/* It was placed: its flow pays. */
void queue_take(struct queue *q, struct session *s, int64_t now);
/* It is gone: nobody pays. */
void queue_remove(struct queue *q, struct session *s);

/* What a request costs its flow: the tokens of KV that it reserves. */
uint32_t queue_cost(const struct session *s);

#endif
