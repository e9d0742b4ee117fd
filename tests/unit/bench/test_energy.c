#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/energy.h"

static char dir[] = "/tmp/tandem-bench-XXXXXX";

static void put(const char *zone, const char *file, const char *text)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, zone);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/%s/%s", dir, zone, file);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void zone(const char *name, const char *kind, const char *uj)
{
    put(name, "name", kind);
    put(name, "energy_uj", uj);
    put(name, "max_energy_range_uj", "10000000\n");
}

/* Packages and memory count, not the cores that a package has in it, nor the mmio twin. */
static void joules_are_those_of_packages_and_memory(void **state)
{
    char command[64];
    struct energy e;

    (void)state;
    assert_non_null(mkdtemp(dir));
    zone("intel-rapl:0", "package-0\n", "1000000\n");
    zone("intel-rapl:0:0", "core\n", "500000\n");
    zone("intel-rapl:0:1", "dram\n", "9500000\n");
    zone("intel-rapl-mmio:0", "package-0\n", "1000000\n");
    energy_open(&e, dir);
    assert_int_equal(e.n, 2);
    zone("intel-rapl:0", "package-0\n", "3500000\n");
    zone("intel-rapl:0:1", "dram\n", "500000\n"); /* began again after 10 J: 1 J was used */
    energy_update(&e);
    assert_true(e.joules > 3.499999 && e.joules < 3.500001);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    assert_int_equal(system(command), 0);
    energy_open(&e, dir);
    assert_int_equal(e.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(joules_are_those_of_packages_and_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
