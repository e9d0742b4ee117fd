/* place_add: where one more node goes in a cluster that runs. A pure function, as place() is. */
#ifndef TANDEM_HOST_PLACE_ADD_H
#define TANDEM_HOST_PLACE_ADD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "host/place.h"
#include "host/topo.h"

#define PLACE_ANY_HOST UINT32_MAX

/* What is asked for, and what is there. All borrowed. */
struct place_more {
    enum place_kind kind;
    uint32_t host;                    /* index into hosts, or PLACE_ANY_HOST */
    const struct topo *const *hosts;  /* NULL: takes none, nothing of the cluster is there */
    size_t n_hosts;
    const struct place_host *said;    /* of each host, as for place(); NULL: nothing of any */
    const struct place_node *running; /* the cluster's nodes, of all hosts; the router's cores count as
                                       * free, reserved ones do not */
    size_t n_running;
};

/* Those that run stay where they are; the new one gets the cores that nobody has, in the domain with
 * most of them. Where all are taken it shares: the cores of its own kind, else all, in the domain with
 * fewest nodes a core. Of any host means: not of one that named its nodes and none of this kind. Its
 * name is the first that is free. out->pus is owned by the caller. ERR_LIMIT: PLACE_NODES_MAX;
 * ERR_ARG: no such host, or none that takes the kind. */
int place_add(struct place_node *out, const struct place_more *more, struct err *e);

#endif
