/* roster: the hosts of a cluster that was started, as `up` remembers them for the commands that come
 * after it, in the run directory of the machine that it ran on. Plain data, strings owned. */
#ifndef TANDEM_DEPLOY_ROSTER_H
#define TANDEM_DEPLOY_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "deploy/cluster.h"
#include "deploy/rundir.h"
#include "host/place.h"
#include "host/topo.h"

#define ROSTER_FILE "hosts"

struct roster_host {
    char *host;     /* "local", or a name for ssh */
    char *address;  /* where the others reach it; "": nobody has to */
    char *programs; /* folder there */
    char *model;    /* file there */
    char *cores;    /* ranges.h, the only ones to be used; "": all */
    uint32_t reserve;             /* cores of each domain that no node computes on */
    bool named, prefill, decode;  /* it named kinds of node, and which it is to run */
};

struct roster {
    char *ssh;
    struct roster_host *hosts; /* [n]; the router is on the first */
    size_t n;
    uint32_t prefill, decode; /* the ratio that was solved for, 0:0: it was given */
};

/* Fills a zeroed r; roster_fini in any case. */
void roster_from_cluster(struct roster *r, const struct cluster *c);

/* Of this machine alone, with the programs that are beside ourselves. */
void roster_local(struct roster *r);

/* ERR_NOT_FOUND: there is no such file; ERR_FORMAT: it is none of ours. */
int roster_read(struct roster *r, const struct rundir *d, struct err *e);
void roster_text(const struct roster *r, struct str *out);

void roster_add(struct roster *r, const struct roster_host *host); /* copies */
size_t roster_find(const struct roster *r, const char *host);      /* r->n: it has none */

/* Takes from *t, the host's topology, what it does not give, and fills what place_add is told of it.
 * ERR_ARG: cores that are not there any more. */
int roster_apply(const struct roster_host *h, struct topo *t, struct place_host *said, struct err *e);
bool roster_is_local(const struct roster *r, size_t host); /* that host is this machine */
bool roster_has_local(const struct roster *r);             /* one of them is */
bool roster_is_here(const struct roster *r);               /* this machine alone */
void roster_fini(struct roster *r);

#endif
