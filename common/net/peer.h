/* peer: the address of the other end as a ROUTER socket knows it. Plain data, compared by value.
 *
 * A peer chooses these bytes itself: they say where an answer goes, not who is there. */
#ifndef TANDEM_NET_PEER_H
#define TANDEM_NET_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* name (63) + '#' + boot (16 hex digits) + '.' + attempt (8 hex digits), rounded up. */
#define PEER_ID_MAX 96

struct peer {
    uint8_t id[PEER_ID_MAX];
    uint32_t n; /* bytes used; 0: none */
};

static inline bool peer_equal(const struct peer *a, const struct peer *b)
{
    return a->n == b->n && memcmp(a->id, b->id, a->n) == 0;
}

#endif
