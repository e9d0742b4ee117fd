/* outbox: messages for one peer that wait, in order, until its socket takes them: a connection that is
 * not there yet, or not there just now. Bounded. Network thread only. */
#ifndef TANDEM_DAEMON_OUTBOX_H
#define TANDEM_DAEMON_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "net/sock.h"

#define OUTBOX_MAX 4096 /* messages; a peer this far behind is gone */

/* A zeroed struct is empty. */
struct outbox {
    struct msg *items;
    uint32_t first, n, cap;
};

void outbox_fini(struct outbox *b);

/* Sends m on a DEALER, or keeps it behind those that wait; takes it either way. False: the outbox is
 * full or the socket refuses the message, which is lost; e says why. */
bool outbox_send(struct outbox *b, struct sock *s, struct msg *m, struct err *e);

/* Sends what the socket takes. True if nothing waits any more. */
bool outbox_flush(struct outbox *b, struct sock *s);

#endif
