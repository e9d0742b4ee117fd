/* cluster_host: an entry of `hosts:` in cluster.yaml, checked, with defaults filled in. Plain data,
 * a part of struct cluster. What the machine really has is for plan to compare. */
#ifndef TANDEM_DEPLOY_CLUSTER_HOST_H
#define TANDEM_DEPLOY_CLUSTER_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/yaml.h"

#define CLUSTER_HOSTS_MAX 256
#define CLUSTER_HOST_LOCAL "local" /* this machine, without ssh */

/* Nodes of one kind that a host is to run, where its entry says so. A host that names either kind
 * runs what it names and nothing else; the ratio shares the domains of the others. */
struct cluster_wish {
    bool said;
    uint32_t *domains; /* [n] NUMA domains by os number, a node each; NULL: any */
    uint32_t n;        /* nodes */
    struct yaml_mark mark;
};

struct cluster_host {
    char *host;       /* "local", or a name for ssh; unique */
    char *address;    /* where the other hosts reach it; "" only if there is no other host */
    char *programs;   /* folder there; absolute */
    char *model;      /* file there; absolute */
    char *cores;      /* ranges.h, the only ones to be used; "": all that the host allows */
    uint32_t reserve; /* cores of each domain that no node computes on */
    struct cluster_wish prefill, decode;
    struct yaml_mark mark; /* of the entry; 0:0 if the file has no hosts */
};

bool cluster_host_is_local(const struct cluster_host *h);
bool cluster_host_is_explicit(const struct cluster_host *h); /* it names a kind of node */

/* Reads the list into *out, [*n], which cluster_hosts_free takes in any case. hosts NULL: local alone.
 * What the file leaves out is "" or 0 until cluster_hosts_finish. dir: relative paths of the local
 * host start there. ERR_CONFIG with file:line:column. */
int cluster_hosts_read(struct cluster_host **out, size_t *n, const struct yaml_doc *doc,
                       const struct yaml_node *hosts, const char *dir, struct err *e);

/* Fills in the model and the programs of hosts whose entry names none. */
void cluster_hosts_finish(struct cluster_host *hosts, size_t n, const char *model,
                          const char *programs);

void cluster_hosts_free(struct cluster_host **hosts, size_t *n);

#endif
