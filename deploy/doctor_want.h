/* doctor_want: what a cluster needs of one host, made from cluster.yaml and its plan, and sent to the
 * host as JSON. Plain data, one thread. */
#ifndef TANDEM_DEPLOY_DOCTOR_WANT_H
#define TANDEM_DEPLOY_DOCTOR_WANT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "deploy/cluster.h"
#include "deploy/plan.h"

#define DOCTOR_PORTS_MAX 8
#define DOCTOR_DOMAINS_MAX 64 /* of a host: what one machine is made of, and much more */

/* A NUMA domain and the bytes that nodes take there, or that there are. */
struct doctor_domain {
    uint32_t os_index;
    uint64_t bytes;
};

/* "", 0 and NULL: nothing. Strings are borrowed. */
struct doctor_want {
    const char *model, *programs; /* a file, a folder */
    uint32_t ports[DOCTOR_PORTS_MAX], n_ports;
    struct doctor_domain domains[DOCTOR_DOMAINS_MAX];
    uint32_t n_domains;
    uint32_t *cores, n_cores; /* that nodes are bound to; owned */
    uint32_t files;           /* descriptors of the process with most */
    bool huge_pages;          /* huge_pages: on */
    bool running;             /* the cluster serves: it has its ports and memory */
};

/* What the cluster wants of host number `host`; p NULL: it could not be planned, so neither memory nor
 * cores. Returns owned. */
json_t *doctor_want_json(const struct cluster *c, const struct plan *p, uint32_t host, bool running);

/* Reads that JSON, whose strings it borrows; NULL or {}: wants nothing. What is malformed is left
 * out. */
void doctor_want_read(struct doctor_want *w, const json_t *json);
void doctor_want_fini(struct doctor_want *w);

#endif
