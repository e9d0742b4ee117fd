#include "host/topo.h"

#include <errno.h>
#include <hwloc.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

#define PUS_MAX 8192 /* Linux: CONFIG_NR_CPUS is at most 8192 */

static uint32_t package_of(hwloc_topology_t hw, hwloc_obj_t core)
{
    hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(hw, HWLOC_OBJ_PACKAGE, core);

    return package && package->os_index != HWLOC_UNKNOWN_INDEX ? package->os_index : 0;
}

static void core_fill(struct topo_core *core, hwloc_const_bitmap_t pus)
{
    int pu;

    for (pu = hwloc_bitmap_first(pus); pu >= 0 && core->n_pus < TOPO_SMT_MAX;
         pu = hwloc_bitmap_next(pus, pu))
        core->pus[core->n_pus++] = (uint32_t)pu;
    core->pu = core->pus[0];
}

/* Lists the cores of `node` that are in `free_pus`, and removes them from it: where two NUMA nodes
 * have the same cores (flat HBM beside DRAM) the first, which is DRAM, gets them. */
static void domain_fill(struct topo_domain *domain, hwloc_topology_t hw, hwloc_obj_t node,
                        hwloc_bitmap_t free_pus)
{
    /* Some virtual machines and files report no cores: then each hardware thread is one. */
    hwloc_obj_type_t type =
        hwloc_get_nbobjs_by_type(hw, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    int n = hwloc_get_nbobjs_by_type(hw, type);
    hwloc_bitmap_t pus = hwloc_bitmap_alloc();

    domain->os_index = node->os_index;
    domain->memory_bytes = node->attr->numanode.local_memory;
    domain->cores = mem_calloc((size_t)size_max((size_t)n, 1), sizeof(*domain->cores));
    for (int i = 0; i < n; i++) {
        hwloc_obj_t core = hwloc_get_obj_by_type(hw, type, (unsigned)i);

        hwloc_bitmap_and(pus, core->cpuset, node->cpuset);
        hwloc_bitmap_and(pus, pus, free_pus);
        if (hwloc_bitmap_iszero(pus))
            continue;
        if (domain->n_cores == 0)
            domain->package = package_of(hw, core);
        core_fill(&domain->cores[domain->n_cores++], pus);
        hwloc_bitmap_andnot(free_pus, free_pus, pus);
    }
    hwloc_bitmap_free(pus);
}

static void distances_fill(struct topo *t, hwloc_topology_t hw)
{
    struct hwloc_distances_s *d = NULL;
    unsigned nr = 1;
    uint32_t n = t->n_domains;

    if (hwloc_distances_get_by_type(hw, HWLOC_OBJ_NUMANODE, &nr, &d,
                                    HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) != 0 ||
        nr == 0)
        return;
    t->distances = mem_calloc((size_t)n * n, sizeof(*t->distances));
    for (uint32_t i = 0; i < n; i++)
        for (unsigned a = 0; a < d->nbobjs; a++) {
            if (d->objs[a]->os_index != t->domains[i].os_index)
                continue;
            for (uint32_t j = 0; j < n; j++)
                for (unsigned b = 0; b < d->nbobjs; b++)
                    if (d->objs[b]->os_index == t->domains[j].os_index)
                        t->distances[(size_t)i * n + j] = d->values[a * d->nbobjs + b];
        }
    hwloc_distances_release(hw, d);
}

/* Of an XML file: the recorded host's name, or the file's without folder and ".xml". */
static void host_fill(struct topo *t, hwloc_topology_t hw, const char *xml)
{
    const char *name = hwloc_obj_get_info_by_name(hwloc_get_root_obj(hw), "HostName");
    size_t n;

    if (!xml) {
        if (gethostname(t->host, sizeof(t->host) - 1) != 0)
            snprintf(t->host, sizeof(t->host), "localhost");
        return;
    }
    if (!name && *xml == '<')
        name = "unnamed";
    if (!name) {
        const char *slash = strrchr(xml, '/');

        name = slash ? slash + 1 : xml;
    }
    snprintf(t->host, sizeof(t->host), "%s", name);
    n = strlen(t->host);
    if (n > 4 && strcmp(t->host + n - 4, ".xml") == 0)
        t->host[n - 4] = '\0';
}

static void topo_fill(struct topo *t, hwloc_topology_t hw, const char *xml)
{
    int nodes = hwloc_get_nbobjs_by_type(hw, HWLOC_OBJ_NUMANODE);
    hwloc_bitmap_t pus = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(hw));

    if (!xml) {
        hwloc_bitmap_t bound = hwloc_bitmap_alloc(); /* taskset, systemd's CPUAffinity= */

        if (hwloc_get_cpubind(hw, bound, HWLOC_CPUBIND_THREAD) == 0)
            hwloc_bitmap_and(pus, pus, bound);
        hwloc_bitmap_free(bound);
    }
    if (nodes > TOPO_DOMAINS_MAX)
        nodes = TOPO_DOMAINS_MAX;
    t->domains = mem_calloc((size_t)(nodes > 0 ? nodes : 1), sizeof(*t->domains));
    for (int i = 0; i < nodes; i++) {
        struct topo_domain *domain = &t->domains[t->n_domains];

        domain_fill(domain, hw, hwloc_get_obj_by_type(hw, HWLOC_OBJ_NUMANODE, (unsigned)i), pus);
        if (domain->n_cores > 0) {
            t->n_domains++;
        } else {
            mem_free(domain->cores);
            memset(domain, 0, sizeof(*domain));
        }
    }
    hwloc_bitmap_free(pus);
    distances_fill(t, hw);
    host_fill(t, hw, xml);
}

/* What xml is, for messages. */
static const char *source_name(const char *xml)
{
    return !xml ? "this machine's topology" : *xml == '<' ? "the XML given" : xml;
}

/* Starts hwloc and loads; *hw is the caller's to destroy also on failure, unless NULL. */
static int hw_load(hwloc_topology_t *hw, const char *xml, struct err *e)
{
    int rc = 0;

    *hw = NULL;
    if (hwloc_topology_init(hw) != 0)
        return err_set(e, ERR_IO, "topo: hwloc does not start: %s", strerror(errno));
    if (xml && *xml == '<') {
        size_t n = strlen(xml) + 1; /* hwloc wants the NUL counted */

        rc = n <= INT_MAX ? hwloc_topology_set_xmlbuffer(*hw, xml, (int)n) : -1;
    } else if (xml) {
        rc = hwloc_topology_set_xml(*hw, xml);
    }
    if (rc != 0)
        return err_set(e, ERR_IO, "topo: cannot read %s as an hwloc topology: %s", source_name(xml),
                       strerror(errno));
    if (hwloc_topology_load(*hw) != 0)
        return err_set(e, ERR_IO, "topo: hwloc cannot load %s", source_name(xml));
    return 0;
}

int topo_load(struct topo **out, const char *xml, struct err *e)
{
    struct topo *t = NULL;
    hwloc_topology_t hw;
    int rc = hw_load(&hw, xml, e);

    if (!rc) {
        t = mem_zalloc(sizeof(*t));
        topo_fill(t, hw, xml);
        if (t->n_domains == 0) {
            rc = err_set(e, ERR_FORMAT, "topo: %s has no core that may be used", source_name(xml));
            topo_free(&t);
        }
    }
    if (hw)
        hwloc_topology_destroy(hw);
    *out = t;
    return rc;
}

int topo_export(struct str *out, struct err *e)
{
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();
    hwloc_topology_t hw;
    char *text = NULL;
    int rc = hw_load(&hw, NULL, e), n = 0;

    if (!rc && hwloc_get_cpubind(hw, bound, HWLOC_CPUBIND_THREAD) == 0 &&
        hwloc_topology_restrict(hw, bound, 0) != 0)
        rc = err_set(e, ERR_IO, "topo: hwloc cannot leave out what the process may not use: %s",
                     strerror(errno));
    if (!rc && hwloc_topology_export_xmlbuffer(hw, &text, &n, 0) != 0)
        rc = err_set(e, ERR_IO, "topo: hwloc cannot write this machine's topology: %s",
                     strerror(errno));
    if (!rc) {
        str_adds(out, text);
        hwloc_free_xmlbuffer(hw, text);
    }
    hwloc_bitmap_free(bound);
    if (hw)
        hwloc_topology_destroy(hw);
    return rc;
}

void topo_free(struct topo **t)
{
    if (!*t)
        return;
    for (uint32_t i = 0; i < (*t)->n_domains; i++)
        mem_free((*t)->domains[i].cores);
    mem_free((*t)->domains);
    mem_free((*t)->distances);
    mem_free(*t);
    *t = NULL;
}

static bool is_listed(const uint32_t *pus, uint32_t n, uint32_t pu)
{
    for (uint32_t i = 0; i < n; i++)
        if (pus[i] == pu)
            return true;
    return false;
}

static bool has_pu(const struct topo *t, uint32_t pu)
{
    for (uint32_t d = 0; d < t->n_domains; d++)
        for (uint32_t c = 0; c < t->domains[d].n_cores; c++)
            if (is_listed(t->domains[d].cores[c].pus, t->domains[d].cores[c].n_pus, pu))
                return true;
    return false;
}

/* False: nothing of the core is left. */
static bool core_restrict(struct topo_core *core, const uint32_t *pus, uint32_t n)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < core->n_pus; i++)
        if (is_listed(pus, n, core->pus[i]))
            core->pus[kept++] = core->pus[i];
    core->n_pus = kept;
    core->pu = core->pus[0];
    return kept > 0;
}

/* Row and column of each domain that stays, kept[i] being what was its index. */
static void distances_restrict(struct topo *t, const uint32_t *kept, uint32_t n)
{
    /* Never written before it is read: kept[] rises, so i * n + j <= kept[i] * n_domains + kept[j]. */
    for (uint32_t i = 0; t->distances && i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            t->distances[(size_t)i * n + j] = t->distances[(size_t)kept[i] * t->n_domains + kept[j]];
}

int topo_restrict(struct topo *t, const uint32_t *pus, uint32_t n, struct err *e)
{
    uint32_t *kept, n_kept = 0;

    if (n == 0)
        return err_set(e, ERR_ARG, "topo: no processor of %s is left", t->host);
    for (uint32_t i = 0; i < n; i++)
        if (!has_pu(t, pus[i]))
            return err_set(e, ERR_ARG, "topo: %s has no processor %u that may be used", t->host,
                           pus[i]);
    kept = mem_calloc(t->n_domains, sizeof(*kept));
    for (uint32_t d = 0; d < t->n_domains; d++) {
        struct topo_domain *domain = &t->domains[d];
        uint32_t n_cores = 0;

        for (uint32_t c = 0; c < domain->n_cores; c++)
            if (core_restrict(&domain->cores[c], pus, n))
                domain->cores[n_cores++] = domain->cores[c];
        domain->n_cores = n_cores;
        if (n_cores > 0)
            kept[n_kept++] = d;
        else
            mem_free(domain->cores);
    }
    distances_restrict(t, kept, n_kept);
    for (uint32_t i = 0; i < n_kept; i++)
        t->domains[i] = t->domains[kept[i]];
    t->n_domains = n_kept;
    mem_free(kept);
    return 0;
}

uint32_t topo_core_count(const struct topo *t)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->n_domains; i++)
        n += t->domains[i].n_cores;
    return n;
}

int topo_bind_thread(uint32_t pu, struct err *e)
{
    return topo_bind_pus(&pu, 1, e);
}

int topo_bind_pus(const uint32_t *pus, uint32_t n, struct err *e)
{
    size_t bytes = CPU_ALLOC_SIZE(PUS_MAX);
    cpu_set_t *set = mem_zalloc(bytes);
    int rc = ERR_OK;

    ASSERT(n > 0);
    for (uint32_t i = 0; i < n; i++) {
        if (pus[i] >= PUS_MAX) {
            rc = err_set(e, ERR_ARG, "topo: PU %u is over the limit of %u", pus[i], PUS_MAX - 1);
            goto out;
        }
        CPU_SET_S(pus[i], bytes, set);
    }
    if (sched_setaffinity(0, bytes, set) != 0)
        rc = err_set(e, ERR_ARG, "topo: cannot bind a thread to PU %u%s: %s", pus[0],
                     n > 1 ? " and others" : "", strerror(errno));
out:
    mem_free(set);
    return rc;
}

uint32_t topo_allowed_pus(void)
{
    size_t bytes = CPU_ALLOC_SIZE(PUS_MAX);
    cpu_set_t *set = mem_zalloc(bytes);
    int n = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 1;

    mem_free(set);
    return n > 0 ? (uint32_t)n : 1;
}

int topo_bind_memory(void *p, size_t bytes, uint32_t domain_os_index, struct err *e)
{
    enum { WORD_BITS = 8 * sizeof(unsigned long) };
    unsigned long mask[TOPO_DOMAINS_MAX / WORD_BITS] = {0};

    ASSERT((uintptr_t)p % 4096 == 0);
    if (domain_os_index >= TOPO_DOMAINS_MAX)
        return err_set(e, ERR_ARG, "topo: NUMA node %u is over the limit of %u", domain_os_index,
                       TOPO_DOMAINS_MAX - 1);
    mask[domain_os_index / WORD_BITS] |= 1UL << (domain_os_index % WORD_BITS);
    /* The kernel reads maxnode - 1 bits (mm/mempolicy.c, get_nodes), hence the + 1. */
    if (syscall(SYS_mbind, p, bytes, MPOL_PREFERRED, mask, (unsigned long)TOPO_DOMAINS_MAX + 1, 0) ==
        0)
        return ERR_OK;
    return err_set(e, errno == EINVAL ? ERR_ARG : ERR_UNSUPPORTED,
                   "topo: cannot bind %zu bytes to NUMA node %u: %s", bytes, domain_os_index,
                   strerror(errno));
}
