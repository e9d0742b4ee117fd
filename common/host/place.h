/* place: which node of the cluster runs on which cores. A pure function of the hosts' topologies and
 * the policy: `tandem plan` prints its result and `tandem up` starts it. Any thread. */
#ifndef TANDEM_HOST_PLACE_H
#define TANDEM_HOST_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "host/topo.h"

#define PLACE_NODES_MAX 4096 /* prefill and decode nodes of a cluster */

enum place_kind { PLACE_ROUTER, PLACE_PREFILL, PLACE_DECODE };

/* Nodes of a kind that one host is to run. */
struct place_wish {
    const uint32_t *domains; /* [n] by os number, different ones, a node each; NULL: any n of them */
    uint32_t n;
};

/* What is said of one host. */
struct place_host {
    bool explicit; /* it runs the nodes below and no others; else the ratio decides */
    struct place_wish prefill, decode;
    uint32_t reserved_cores; /* of each domain, its last ones: for network threads and the router;
                              * given up in a domain whose nodes would not get a core each */
};

struct place_policy {
    uint32_t prefill, decode;       /* the ratio P:D; 0:0 is auto, for now 1:1 */
    uint32_t n_prefill, n_decode;   /* how many nodes in all; 0: from the ratio */
    bool decode_only;               /* no prefill nodes by the ratio; n_prefill is 0 */
    const struct place_host *hosts; /* of each host, in their order; NULL: nothing is said of any */
};

struct place_node {
    enum place_kind kind;
    char name[64];    /* "router", "prefill-1", "decode-1", ...: counted by kind */
    uint32_t host;    /* index into hosts */
    uint32_t domain;  /* index into the host's domains */
    uint32_t *pus;    /* one hardware thread a core: where compute threads are pinned */
    uint32_t n_pus;   /* >= 1 */
    bool shared;      /* another node has some of these cores too: there were too few */
};

struct placement {
    struct place_node *nodes; /* the router, prefill nodes, decode nodes; each by host, domain */
    size_t n;
};

/* Hosts of which nothing is said: each domain runs one node if the counts allow. Without counts the
 * ratio divides the cores of all hosts by whole domains, the smaller ones being for prefill, each kind
 * getting at least one; of a single domain it divides the cores. With more nodes than domains, those of a domain divide its cores: in the ratio
 * between the kinds, evenly among nodes of a kind, evenly among all if the ratio is auto. With more
 * nodes than cores they share. Prefill nodes are spread over the hosts, so that KV seldom crosses
 * between hosts. An explicit host's nodes count among n_prefill and n_decode; those that its lists do
 * not place go where fewest are, on it. The router is on host 0, on reserved cores if there are some,
 * else unpinned in effect: on all cores of domain 0.
 *
 * ERR_ARG: no host or domain, a ratio with one side zero, counts over the limit or below what explicit
 * hosts run, a domain that a host has not, no decode node at all. *out is then empty. Memory is not
 * looked at: place_check_memory. */
int place(struct placement *out, const struct topo *const *hosts, size_t n_hosts,
          const struct place_policy *policy, struct err *e);

/* What a node takes of its domain's memory. */
struct place_memory {
    uint64_t weight_bytes, kv_bytes;
};

/* Whether each domain holds what memory[p->n] says its nodes take; where memory_bytes is 0 that is
 * not known and passes. ERR_LIMIT names the first domain that does not. */
int place_check_memory(const struct placement *p, const struct topo *const *hosts, size_t n_hosts,
                       const struct place_memory *memory, struct err *e);

void placement_fini(struct placement *p); /* also of a zeroed struct; leaves it zeroed */

const char *place_kind_name(enum place_kind kind); /* "router", "prefill", "decode" */

/* As strcmp, of nodes' names: they count up, decode-10 is behind decode-9. */
int place_name_order(const char *a, const char *b);

#endif
