/* quarantine: requests that crash the nodes that they are on. Part of the core; used by its files only.
 *
 * A strike is: a node fell silent or its connection broke while it computed for the request, or was about to.
 * Not: BYE, a drain, a refusal, a failure that the node reported itself. A node that comes back as
 * the same process was only stopped or cut off: its strikes are taken back. And a request that has
 * delivered QUARANTINE_GOT_ON tokens more than when it was struck has passed the place where, being
 * deterministic, it would crash a node again: it starts from none.
 *
 * With two strikes a request is guilty if nothing else that was on the second node has two: it
 * fails with 500 and is not tried on a third. If several have, none is blamed yet: they are suspects, and
 * are tried again one a node at a time, so that the next crash (a third strike) has one cause. */
#ifndef TANDEM_ROUTER_QUARANTINE_H
#define TANDEM_ROUTER_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

#define QUARANTINE_GOT_ON 8 /* tokens: more than are under way when a node dies */

struct node;
struct router_core;
struct session;

/* The node has crashed, as far as can be told: strikes all requests that it computed for. Returns
 * how many of them have two strikes now, or more. */
uint32_t quarantine_strike(struct router_core *c, const struct node *node);

/* s was on the node that was lost, with n_suspects as quarantine_strike said (0: it was no crash).
 * True: s is guilty and has failed. Otherwise it may have become a suspect. */
bool quarantine_takes(struct router_core *c, struct session *s, uint32_t n_suspects,
                      const struct node *node);

/* A suspect has delivered something: if enough, it is none any more. */
void quarantine_got_on(struct router_core *c, struct session *s);

/* The process that is registering has not crashed. */
void quarantine_pardon(struct router_core *c, uint64_t boot);

#endif
