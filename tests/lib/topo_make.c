#include "tests/lib/topo_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <hwloc.h>

#include "base/mem.h"

struct topo *topo_make(const char *name, uint32_t n_domains, uint32_t n_cores, uint64_t memory_bytes)
{
    struct topo *t = mem_zalloc(sizeof(*t));
    uint32_t pu = 0;

    snprintf(t->host, sizeof(t->host), "%s", name);
    t->n_domains = n_domains;
    t->domains = mem_calloc(n_domains, sizeof(*t->domains));
    for (uint32_t d = 0; d < n_domains; d++) {
        struct topo_domain *domain = &t->domains[d];

        *domain = (struct topo_domain){.os_index = d, .memory_bytes = memory_bytes,
                                       .n_cores = n_cores};
        domain->cores = mem_calloc(n_cores, sizeof(*domain->cores));
        for (uint32_t c = 0; c < n_cores; c++, pu++)
            domain->cores[c] = (struct topo_core){
                .pu = pu, .pus = {pu, pu + n_domains * n_cores}, .n_pus = 2};
    }
    return t;
}

char *topo_make_xml(const char *shape)
{
    hwloc_topology_t hw;
    char *text, *copy;
    int n;

    assert_int_equal(hwloc_topology_init(&hw), 0);
    assert_int_equal(hwloc_topology_set_synthetic(hw, shape), 0);
    assert_int_equal(hwloc_topology_load(hw), 0);
    assert_int_equal(hwloc_topology_export_xmlbuffer(hw, &text, &n, 0), 0);
    copy = mem_strdup(text);
    hwloc_free_xmlbuffer(hw, text);
    hwloc_topology_destroy(hw);
    return copy;
}
