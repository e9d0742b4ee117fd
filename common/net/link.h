/* link: is the other end alive? Pure: no clock, no socket; the owner says what time it is.
 *
 * Anything heard counts as a beat. Silence counts only while somebody asks: if this process itself
 * was stopped or starved and comes back late, the gap is not held against the peer, whose beats may
 * still wait in the socket. So ask link_dead on a timer of at most one beat. */
#ifndef TANDEM_NET_LINK_H
#define TANDEM_NET_LINK_H

#include <stdbool.h>
#include <stdint.h>

struct link {
    int64_t beat_ns, dead_ns;
    int64_t heard; /* when, less the time in which nobody asked */
    int64_t asked; /* last link_dead */
    int64_t next;  /* when our own beat is due */
};

/* Alive now, first beat due now. 0 < heartbeat_ms < dead_ms; three to five beats are usual. */
void link_init(struct link *l, int64_t now, uint32_t heartbeat_ms, uint32_t dead_ms);

/* Any message of the peer came. */
void link_heard(struct link *l, int64_t now);

/* True when it is time to send a beat, once per period. A beat that could not be sent is skipped. */
bool link_due(struct link *l, int64_t now);

/* True once nothing was heard for dead_ms. Stays true until link_heard. */
bool link_dead(struct link *l, int64_t now);

#endif
