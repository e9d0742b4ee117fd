/* tunnel: the router's HTTP port of a cluster whose router is on another host and listens there for its
 * own machine alone: a port of this one's loopback, each of whose connections an agent carries on
 * there. A process of its own serves it, as long as its starter lives. Where the agent or
 * the router does not answer, what is asked gets 502 and a sentence. */
#ifndef TANDEM_DEPLOY_TUNNEL_H
#define TANDEM_DEPLOY_TUNNEL_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "deploy/roster.h"

struct tunnel {
    pid_t pid; /* 0: none is open */
    uint16_t port;
};

/* http: host:port as the router has it, on the roster's first host. */
int tunnel_open(struct tunnel *t, const struct roster *r, const char *http, struct err *e);
void tunnel_close(struct tunnel *t); /* also of a zeroed one */

/* Carries bytes until the socket ends or fails: from `in` to it, and from it to `out`. The end of `in`
 * is passed on. Blocks; all three may. */
void tunnel_carry(int in, int out, int socket);

#endif
