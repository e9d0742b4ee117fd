/* change: nodes come to a cluster that runs and go from it, on any of its hosts; what `scale` and a
 * second `up` do. A node that goes is drained first, so no request is lost. One thread. */
#ifndef TANDEM_DEPLOY_CHANGE_H
#define TANDEM_DEPLOY_CHANGE_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "deploy/fleet.h"
#include "host/place.h"
#include "host/topo.h"

/* A process that runs. */
struct change_node {
    const char *name;    /* borrowed, as argv, from the list below */
    const json_t *argv;
    const char *last;    /* words of one that is dead just now; "" */
    bool stopping;       /* told to end, to be started anew */
    uint32_t host;
    enum place_kind kind; /* what it does, which may be another thing than it was started as */
};

struct change {
    struct fleet *fleet;   /* borrowed, greeted */
    const char *http;      /* borrowed: the router's, as its host knows it */
    int64_t patience;      /* ns, that one node may take to come or to go */
    bool *runs;            /* [fleet->n]: a supervisor is there */
    json_t **lists;        /* [fleet->n]: as the supervisors gave them; NULL: nothing runs there */
    struct change_node *nodes; /* [n], by host, in the supervisors' order */
    size_t n;
};

/* Fills *c from what the hosts said in their greetings, and looks. change_fini in any case. */
int change_init(struct change *c, struct fleet *fleet, const char *http, uint32_t patience_s,
                struct err *e);
void change_fini(struct change *c);

/* Asks all hosts what runs there. */
int change_look(struct change *c, struct err *e);

size_t change_find(const struct change *c, const char *name); /* c->n: there is none */

/* The value behind "--key=" in a node's command line; NULL: it is not there. */
const char *change_argument(const json_t *argv, const char *key);

/* Starts a process on a host where a supervisor is and waits until the router has it as ready; then
 * looks. It takes argv. One that dies, or does not come in time, is taken away again. */
int change_add(struct change *c, uint32_t host, const char *name, json_t *argv, struct err *e);

/* Drains a node, waits until it has gone, and looks. ERR_TIMEOUT: it is still busy, and goes on
 * draining. */
int change_remove(struct change *c, const char *name, struct err *e);

/* Waits until the router has each node that runs as ready: after it was started anew they have to come
 * back. ERR_TIMEOUT names one that is not. */
int change_settle(struct change *c, struct err *e);

/* Ends the router and starts it as argv says, which it takes, to listen at http, which it borrows; waits
 * until it answers. Requests under way have some seconds to end. One that does not start is replaced by
 * the one that was. */
int change_router(struct change *c, json_t *argv, const char *http, struct err *e);

#endif
