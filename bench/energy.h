/* energy: what the packages and memory of this machine have used, from RAPL's counters in sysfs. */
#ifndef TANDEM_BENCH_ENERGY_H
#define TANDEM_BENCH_ENERGY_H

#include <stdint.h>

#define ENERGY_ZONES_MAX 32

struct energy {
    struct energy_zone {
        char path[128];
        uint64_t last_uj, range_uj; /* the counter begins again after its range */
    } zones[ENERGY_ZONES_MAX];
    uint32_t n;
    double joules; /* since open */
};

/* Looks under dir ("/sys/class/powercap") for zones that may be read: packages, or what a package does
 * not contain. n stays 0 if there are none: a virtual machine, or not root. */
void energy_open(struct energy *e, const char *dir);

/* Adds what was used since the last call; at least once in a counter's range (minutes). */
void energy_update(struct energy *e);

#endif
