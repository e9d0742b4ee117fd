/* topo: the cores, hyper-threads and NUMA domains of a machine as plain arrays.
 *
 * Read through hwloc, of this machine or of a recorded XML file. Of this machine only what the
 * calling thread may use (cpuset cgroup, taskset) is listed. A domain is a NUMA node with cores; memory
 * without cores (CXL, flat HBM beside DRAM) is not listed. Plain data, immutable after topo_load;
 * any thread. Threads are bound here too, so that nobody else needs to know the system's calls. */
#ifndef TANDEM_HOST_TOPO_H
#define TANDEM_HOST_TOPO_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define TOPO_SMT_MAX 8       /* hyper-threads of a core: POWER has 8, all others fewer */
#define TOPO_DOMAINS_MAX 1024 /* Linux: CONFIG_NODES_SHIFT is at most 10 */

struct topo_core {
    uint32_t pu;                 /* OS index of its first hardware thread: where one thread a core runs */
    uint32_t pus[TOPO_SMT_MAX];  /* all of them, pus[0] == pu */
    uint32_t n_pus;
};

struct topo_domain {
    uint32_t os_index, package; /* NUMA node and socket as the system numbers them */
    uint64_t memory_bytes;      /* 0: unknown */
    struct topo_core *cores;    /* neighbours in this order share caches */
    uint32_t n_cores;           /* >= 1 */
};

struct topo {
    char host[64];
    struct topo_domain *domains; /* in the order of the sockets */
    uint32_t n_domains;          /* >= 1 */
    uint64_t *distances;         /* [n_domains][n_domains], 10 = local; NULL: not reported */
};

/* xml: a file written by lstopo or hwloc, or the text of one, which begins with '<'; NULL for this
 * machine. *t is owned by the caller. ERR_IO: unreadable; ERR_FORMAT: no usable core in it. */
int topo_load(struct topo **t, const char *xml, struct err *e);
void topo_free(struct topo **t);

/* Appends this machine as XML, with no more than the thread may use: on another machine topo_load
 * makes of it what it makes of NULL here. ERR_IO. */
int topo_export(struct str *out, struct err *e);

/* Keeps the hardware threads pus[n] alone; cores and domains left without any go. ERR_ARG: one of
 * them is not there, or n is 0; *t is then as before. */
int topo_restrict(struct topo *t, const uint32_t *pus, uint32_t n, struct err *e);

uint32_t topo_core_count(const struct topo *t);

/* Binds the calling thread to one hardware thread, or to a set of n >= 1; threads started later
 * inherit it. ERR_ARG if the process may not run there. */
int topo_bind_thread(uint32_t pu, struct err *e);
int topo_bind_pus(const uint32_t *pus, uint32_t n, struct err *e);

/* How many hardware threads the calling thread may run on; >= 1. */
uint32_t topo_allowed_pus(void);

/* Asks that pages of [p, p + bytes) not yet touched come from the domain; other domains are used
 * only when it is full: slow beats killed, and place() has checked the sizes. p is page aligned.
 * ERR_UNSUPPORTED where the system has no NUMA calls or forbids them (a container). */
int topo_bind_memory(void *p, size_t bytes, uint32_t domain_os_index, struct err *e);

#endif
