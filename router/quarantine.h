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
 * suspects, and are tried again one a node at a time, so that the next crash has one cause. When one
 * that may be guilty ends, the others' strikes of the same losses are its own, and taken back. And one
 * that would be guilty if what nobody explained was a crash waits QUARANTINE_WORD for a word, so that it
 * does not take a third node meanwhile. */
#ifndef TANDEM_ROUTER_QUARANTINE_H
#define TANDEM_ROUTER_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#define QUARANTINE_GOT_ON 8 /* tokens: more than are under way when a node dies */
#define QUARANTINE_CRASH 2
#define QUARANTINE_GUILTY 4
#define QUARANTINE_WORD (300 * CLOCK_MS) /* a supervisor takes about 50 ms */
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

/* The greatest weight of strikes of a request that a loss has struck, if that is QUARANTINE_GUILTY, and how
 * many have it. */
struct blame {
    uint32_t weight, n;
};

/* The node is lost: strikes all requests that it computed for, unless it left or was killed. */
struct blame quarantine_strike(struct router_core *c, const struct node *node, enum node_end end);

/* s was on the node that was lost. True: s is guilty and has failed. Otherwise it may have become a
 * suspect. */
bool quarantine_takes(struct router_core *c, struct session *s, const struct blame *blame,
                      const char *node);

/* s ends, and not well: what it may be guilty of, no other is. */
void quarantine_ends(struct router_core *c, struct session *s);

/* s waits for room: it is to wait for a word first. */
bool quarantine_holds(struct router_core *c, struct session *s);
/* Time passes: who waited long enough for a word has a turn again. */
void quarantine_tick(struct router_core *c);

/* A suspect has delivered something: if enough, it is none any more. */
void quarantine_got_on(struct router_core *c, struct session *s);

/* The process that is registering has not crashed. */
void quarantine_pardon(struct router_core *c, uint64_t boot);

/* A process that was lost before, of the node of that name, is explained now. Who is guilty by that has
 * failed, wherever it ran; or there are suspects. */
void quarantine_told(struct router_core *c, uint64_t process, const char *name, bool crashed);

#endif
