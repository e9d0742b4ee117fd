/* topo_make: machines that never were, for tests of what is placed on them. */
#ifndef TANDEM_TESTS_TOPO_MAKE_H
#define TANDEM_TESTS_TOPO_MAKE_H

#include <stdint.h>

#include "host/topo.h"

/* A host of n_domains with n_cores each and two hardware threads a core, numbered as Linux does; topo_free. */
struct topo *topo_make(const char *name, uint32_t n_domains, uint32_t n_cores, uint64_t memory_bytes);

/* A machine of hwloc's synthetic kind ("numa:2(memory=8GiB) core:2 pu:1"), as its XML; mem_free. Fails the
 * running test if hwloc refuses the shape. */
char *topo_make_xml(const char *shape);

#endif
