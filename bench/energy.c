#include "bench/energy.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool counter_read(uint64_t *out, const char *zone, const char *file)
{
    char path[192];
    FILE *f;
    bool good;

    snprintf(path, sizeof(path), "%s/%s", zone, file);
    f = fopen(path, "r");
    if (!f)
        return false;
    good = fscanf(f, "%" SCNu64, out) == 1;
    fclose(f);
    return good;
}

/* intel-rapl:0 is a package, intel-rapl:0:1 a part of it, which its sum has already, but for memory,
 * whose name says so. (The mmio twin, intel-rapl-mmio:0, is the same package again.) */
static bool zone_wanted(const char *dir, const char *name)
{
    char path[192], text[16] = "";
    int package, part;
    FILE *f;

    if (sscanf(name, "intel-rapl:%d:%d", &package, &part) != 2)
        return sscanf(name, "intel-rapl:%d", &package) == 1;
    snprintf(path, sizeof(path), "%.100s/%.60s/name", dir, name);
    f = fopen(path, "r");
    if (!f)
        return false;
    if (!fgets(text, sizeof(text), f))
        *text = '\0';
    fclose(f);
    return strncmp(text, "dram", 4) == 0;
}

void energy_open(struct energy *e, const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *entry;

    memset(e, 0, sizeof(*e));
    while (d && (entry = readdir(d)) && e->n < ENERGY_ZONES_MAX) {
        struct energy_zone *z = &e->zones[e->n];

        if (!zone_wanted(dir, entry->d_name))
            continue;
        snprintf(z->path, sizeof(z->path), "%.60s/%.60s", dir, entry->d_name);
        if (counter_read(&z->last_uj, z->path, "energy_uj") &&
            counter_read(&z->range_uj, z->path, "max_energy_range_uj"))
            e->n++;
    }
    if (d)
        closedir(d);
}

void energy_update(struct energy *e)
{
    for (uint32_t i = 0; i < e->n; i++) {
        struct energy_zone *z = &e->zones[i];
        uint64_t now;

        if (!counter_read(&now, z->path, "energy_uj"))
            continue;
        e->joules +=
            (double)(now >= z->last_uj ? now - z->last_uj : now + z->range_uj - z->last_uj) / 1e6;
        z->last_uj = now;
    }
}
