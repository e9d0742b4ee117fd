/* plan: which processes a cluster is made of, where they run and how much memory each takes. What
 * `tandem plan` prints and what `tandem up` starts. Made from the model's metadata and the hosts'
 * topologies; starts nothing. Read-only after plan_init. */
#ifndef TANDEM_DEPLOY_PLAN_H
#define TANDEM_DEPLOY_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "deploy/cluster.h"
#include "deploy/solve.h"
#include "host/place.h"
#include "host/topo.h"
#include "model/hparams.h"

struct plan_node {
    const struct place_node *place;   /* name, kind, cores */
    uint32_t host;                    /* index into the cluster's hosts */
    const struct topo_domain *domain; /* where it runs */
    uint32_t kv_pages;                /* of 32 tokens; 0: the router */
    uint64_t kv_bytes, weight_bytes;
};

struct plan {
    struct topo **topos;     /* [n_hosts], of the cores that the cluster may use */
    struct place_host *said; /* [n_hosts], what place() was told; its lists are the cluster's */
    size_t n_hosts;
    struct hparams hparams;
    uint64_t weight_bytes; /* of one copy, in packed form */
    struct placement placement;
    struct solve solve; /* prefill 0: the ratio was not ours to choose */
    struct plan_node *nodes; /* as placement.nodes: the router, prefill, decode */
    size_t n;
};

/* topo_xml[c->n_hosts]: each host's topology as topo_load takes it, a file or the text of one, NULL for
 * this machine; NULL alone: all are this machine. c is borrowed until plan_fini, which is called in any
 * case. The model c->model is opened and checked. ERR_CONFIG with file:line:column where a host has
 * not what its entry names; ERR_LIMIT where weights and KV exceed a domain's memory. */
int plan_init(struct plan *p, const struct cluster *c, const char *const *topo_xml, struct err *e);
void plan_fini(struct plan *p);

/* Appends the table that people read. In plan_print.c. */
void plan_print(const struct plan *p, const struct cluster *c, struct str *out);

/* KV pages of a node: `wanted` sequences of the model's full context, as far as they fit into a
 * quarter of the domain's memory divided among the domain's nodes, but one such sequence at least.
 * memory_bytes 0: unknown, no bound. Pure; here for its test. */
uint32_t plan_kv_pages(uint64_t page_bytes, uint32_t context, uint32_t wanted,
                       uint64_t memory_bytes, uint32_t sharers);

#endif
