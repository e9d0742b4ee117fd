/* credit: how many KV bytes may be under way, so that no pipe and no queue ever fills.
 *
 * The receiver opens with a window (KV_WELCOME), the sender spends it, and the receiver gives back
 * what it has used up (KV_CREDIT). At any time: granted - used <= window. Plain data, pure. A new
 * connection starts both sides anew. */
#ifndef TANDEM_NET_CREDIT_H
#define TANDEM_NET_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "net/msg.h"

/* The sender's side. A zeroed struct may send nothing. */
struct credit_out {
    uint64_t granted, used; /* bytes since the connection began */
};

/* A grant came. False: it would overflow; the peer is broken. */
static inline bool credit_out_grant(struct credit_out *c, uint64_t bytes)
{
    return !__builtin_add_overflow(c->granted, bytes, &c->granted);
}
static inline bool credit_out_can_send(const struct credit_out *c, uint64_t bytes)
{
    return c->granted - c->used >= bytes;
}
/* Only after can_send of at least as much. */
static inline void credit_out_sent(struct credit_out *c, uint64_t bytes)
{
    ASSERT(credit_out_can_send(c, bytes));
    c->used += bytes;
}

/* The receiver's side. */
struct credit_in {
    uint64_t window;  /* what the sender may have under way and unconsumed */
    uint64_t left;    /* what it may still send of what was announced */
    uint64_t pending; /* consumed, not yet announced */
};

/* window >= 2 * MSG_BULK_MAX, so that what stays unannounced (below a quarter) leaves room for a
 * frame. The first grant, to announce in KV_WELCOME, is the window. */
static inline void credit_in_init(struct credit_in *c, uint64_t window)
{
    ASSERT(window >= 2 * (uint64_t)MSG_BULK_MAX);
    *c = (struct credit_in){.window = window, .left = window};
}
/* Bytes came. False: more than was granted; the peer is broken. */
static inline bool credit_in_received(struct credit_in *c, uint64_t bytes)
{
    if (bytes > c->left)
        return false;
    c->left -= bytes;
    return true;
}
/* Bytes received before were used up. Returns the grant to announce now, 0: none yet; small ones are
 * gathered to a quarter of the window. */
static inline uint64_t credit_in_consumed(struct credit_in *c, uint64_t bytes)
{
    uint64_t grant;

    c->pending += bytes;
    ASSERT(c->left + c->pending <= c->window);
    if (c->pending < c->window / 4)
        return 0;
    grant = c->pending;
    c->left += grant;
    c->pending = 0;
    return grant;
}

#endif
