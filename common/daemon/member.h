/* member: a node's place in the cluster: it registers with the router, beats, notices that the router
 * has gone, and registers again when there is one. Network thread only.
 *
 *   JOINING --REGISTERED--> UP --silence, REFUSED--> JOINING
 *      |
 *      +--REFUSED--> the node ends: the router's sentence says why
 *
 * While JOINING it says REGISTER every second, on a socket with a new identity from time to time: the
 * router may still hold the old one. The router answers late if an earlier life of the node is not
 * yet known to be dead. */
#ifndef TANDEM_DAEMON_MEMBER_H
#define TANDEM_DAEMON_MEMBER_H

#include <stdbool.h>

#include "net/loop.h"
#include "net/msg.h"
#include "net/sock.h"

struct member;

struct member_events {
    void *ctx; /* of all that follow */
    /* A message of the router for the node itself. As loop_msg_fn: borrowed, may be moved out. */
    void (*message)(void *ctx, struct msg *m);
    /* Registered: the first time, or again. */
    void (*joined)(void *ctx);
    /* The router is silent or knows us no more: what it asked for is void. */
    void (*lost)(void *ctx);
    /* The router does not want this node; the member stays silent from now on. */
    void (*refused)(void *ctx, const char *sentence);
    /* Fills in a beat. */
    void (*beat)(void *ctx, struct msg_heartbeat *h);
};

/* Starts to join the router at the endpoint, as reg says. reg and events are copied, loop and ctx
 * borrowed. ERR_NET: the endpoint is none. Owned by the caller. */
int member_open(struct member **m, struct loop *loop, struct sock_ctx *ctx, const char *endpoint,
                const struct msg_register *reg, const struct member_events *events, struct err *e);
void member_close(struct member **m);

/* Sends msg to the router, or drops it while there is none: nobody waits for it. Takes msg. */
void member_send(struct member *m, struct msg *msg);

/* A beat at once: something changed that the router should know. */
void member_beat(struct member *m);

/* Says BYE, if there is a router; nothing is sent after it. */
void member_bye(struct member *m, const char *why);

bool member_up(const struct member *m);

#endif
