/* quarantine: requests that crash the nodes that they are on. Part of the core; used by its files only.
 *
 * A strike is: a node was lost while it computed for the request, or was about to. Not: BYE, a drain, a
 * refusal, a failure that the node reported itself, or a node that was killed from outside, as its
 * supervisor tells (ENDED, at once or late). A node that comes back as the same process was only
 * stopped or cut off: its strikes are taken back. And a request that has delivered
 * QUARANTINE_GOT_ON tokens more than when it was struck has passed the place where, being
 * deterministic, it would crash a node again: it starts from none.
 *
 * A strike weighs QUARANTINE_CRASH if the supervisor says that the node crashed, and 1 if nobody says
 * anything: a host that vanished may have been one of many. With QUARANTINE_GUILTY, two crashes or
 * four unexplained losses, a request is guilty if nothing else that was on the last node has as
 * much: it fails with 500 and is not tried on another. If several have, none is blamed yet: they are
 * suspects, and are tried again one a node at a time, so that the next crash has one cause. */
#ifndef TANDEM_ROUTER_QUARANTINE_H
#define TANDEM_ROUTER_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

#define QUARANTINE_GOT_ON 8 /* tokens: more than are under way when a node dies */
#define QUARANTINE_CRASH 2
#define QUARANTINE_GUILTY 4
#define QUARANTINE_STRIKES 8 /* remembered; a suspect may collect some more than it takes */

struct msg_register;
struct node;
struct router_core;
struct session;

/* Why a node is no more, as far as is known. */
enum node_end {
    NODE_LEFT,    /* it said BYE, or registered anew */
    NODE_KILLED,  /* from outside */
    NODE_UNHEARD, /* it fell silent or its connection broke, and nobody says why */
    NODE_CRASHED, /* by itself */
};

struct strike {
    uint64_t boot, process; /* of the node; quarantine_process */
    uint32_t weight;
};

/* A process of a node, as its supervisor knows it. */
uint64_t quarantine_process(const char *name, const char *host, int32_t pid);

/* The node is lost: strikes all requests that it computed for, unless it left or was killed. Returns
 * how many of them have reached QUARANTINE_GUILTY now. */
uint32_t quarantine_strike(struct router_core *c, const struct node *node, enum node_end end);

/* s was on the node that was lost, with n_suspects as quarantine_strike said. True: s is guilty and has
 * failed. Otherwise it may have become a suspect. */
bool quarantine_takes(struct router_core *c, struct session *s, uint32_t n_suspects,
                      const struct node *node);

/* A suspect has delivered something: if enough, it is none any more. */
void quarantine_got_on(struct router_core *c, struct session *s);

/* The process that is registering has not crashed. */
void quarantine_pardon(struct router_core *c, uint64_t boot);

/* A process that was lost before is explained now. A request that has QUARANTINE_GUILTY by that is a
 * suspect, wherever it runs. */
void quarantine_told(struct router_core *c, uint64_t process, bool crashed);

#endif
