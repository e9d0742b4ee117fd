/* loop: the one thread of a process that does its networking. ZeroMQ sockets, timers, descriptors and
 * signals on a libevent event_base, which the HTTP code shares through loop_base.
 *
 * ZeroMQ's descriptor tells of changes, not of states, and any call on a socket, a send too, may
 * swallow one. So each turn ends by asking every socket what it has, and the loop sleeps only after a
 * pass in which no callback ran. Per turn a socket hands over at most LOOP_BATCH messages: a busy one
 * starves neither the others nor HTTP.
 *
 *   turn = libevent's callbacks -> each socket: up to LOOP_BATCH messages -> again, asleep or not
 *
 * All functions, and all callbacks, belong to the thread of loop_run. A callback may add and remove
 * anything, itself included. */
#ifndef TANDEM_NET_LOOP_H
#define TANDEM_NET_LOOP_H

#include <stdint.h>

#include "base/err.h"
#include "net/msg.h"
#include "net/peer.h"
#include "net/sock.h"

#define LOOP_BATCH 32 /* 8 MiB of KV at the largest frame: a few milliseconds of checksums */

struct event_base;
struct loop;
struct loop_event; /* one timer, descriptor or signal */

typedef void loop_fn(void *ctx);

/* m is borrowed: what the callback keeps it moves out (copies the struct and clears m). from is
 * borrowed too; on a DEALER its n is 0. */
typedef void loop_msg_fn(void *ctx, const struct peer *from, struct msg *m);

/* Dies if the system has no descriptors left. Frees all that was added; sockets stay the caller's. */
struct loop *loop_new(void);
void loop_free(struct loop **l);

/* Returns after loop_stop, or when nothing was added that could wake it. May be called again. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* For libevent's own users. Never event_base_loopbreak it: use loop_stop. */
struct event_base *loop_base(struct loop *l);

/* cb is called for each message. What is malformed is logged (sparsely) and dropped; a ROUTER answers
 * it with REFUSED and the reason. The socket outlives its loop_del_sock. */
void loop_add_sock(struct loop *l, struct sock *s, loop_msg_fn *cb, void *ctx);
void loop_del_sock(struct loop *l, struct sock *s);

/* Repeats every ms, first after ms. */
struct loop_event *loop_add_timer(struct loop *l, uint32_t ms, loop_fn *cb, void *ctx);
/* While fd is readable. The callback reads it (an eventfd written by another thread, a pipe). */
struct loop_event *loop_add_fd(struct loop *l, int fd, loop_fn *cb, void *ctx);
/* One loop of a process may watch signals. */
struct loop_event *loop_add_signal(struct loop *l, int signo, loop_fn *cb, void *ctx);
/* Also of NULL; leaves NULL. */
void loop_del_event(struct loop_event **ev);

#endif
