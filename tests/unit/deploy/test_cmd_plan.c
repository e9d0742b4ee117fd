#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/str.h"
#include "deploy/commands.h"
#include "host/topo.h"
#include "tests/lib/data.h"
#include "tests/lib/process.h"
#include "tests/unit/deploy/demo_model.h"

static char dir[64];

/* Runs `plan FILE --topology=topology` on a cluster.yaml of these lines, with stdout and stderr in text. */
static int plan(char text[65536], const char *lines, const char *topology)
{
    char yaml[128], *model = demo_model();
    struct str flag = {0}, out = {0};
    const char *args[] = {"plan", yaml, NULL, NULL};
    FILE *f;
    int rc;

    snprintf(yaml, sizeof(yaml), "%s/c.yaml", dir);
    f = fopen(yaml, "w");
    assert_non_null(f);
    fprintf(f, "model: %s\nratio: \"1:1\"\n%s", model, lines);
    assert_int_equal(fclose(f), 0);
    mem_free(model);
    str_addf(&flag, "--topology=%s", topology);
    args[2] = flag.data;
    rc = process_capture(&out, PROCESS_BOTH, cmd_plan, args);
    snprintf(text, 65536, "%s", str_text(&out));
    unlink(yaml);
    str_fini(&flag);
    str_fini(&out);
    return rc;
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/tandem-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

#define TWO "hosts: [{host: a@web1}, {host: web2, cores: '0-31', reserve: 2}]\n"

static void recorded_machines_are_planned(void **state)
{
    static const struct {
        const char *file, *host;
    } machines[] = {
        {"hwloc/altra-1s-q80-monolithic.synthetic.xml",
         "altra-1s-q80-monolithic.synthetic: 80 cores in 1 NUMA domain\n"},
        {"hwloc/altra-1s-q80-quadrant.synthetic.xml",
         "altra-1s-q80-quadrant.synthetic: 80 cores in 4 NUMA domains\n"},
        {"hwloc/altra-2s-q80-monolithic.synthetic.xml",
         "altra-2s-q80-monolithic.synthetic: 160 cores in 2 NUMA domains\n"},
        {"hwloc/arm-2s-kunpeng920-cluster4.xml", "ubuntu: 128 cores in 4 NUMA domains\n"},
        {"hwloc/arm-2s-thunderx2-smt4.xml", "ulna32: 64 cores in 2 NUMA domains\n"},
        {"hwloc/clx-2s-xeon8259cl-g4dnmetal.xml", "gpu-st-g4dnmetal-1: 48 cores in 2 NUMA domains\n"},
        {"hwloc/naples-2s-epyc7401-8numa.xml", "corona145: 48 cores in 8 NUMA domains\n"},
        {"hwloc/rome-2s-epyc7742-nps4.xml", "jrc0323: 128 cores in 8 NUMA domains\n"},
        {"hwloc/spr-2s-xeonmax9462-snc4-hbmcache.xml", "dp-intelmax01: 64 cores in 8 NUMA domains\n"},
    };
    static char text[65536];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
        DATA_OR_SKIP(path, machines[i].file);
        assert_int_equal(plan(text, "", path), 0);
        assert_non_null(strstr(text, machines[i].host));
        assert_non_null(strstr(text, "\ndecode-1     decode "));
        /* one that the model fits into, its KV not */
        assert_int_equal(plan(text, "decode: {kv_pages: 16777216}\n", path), 1);
        assert_non_null(strstr(text, "tandem plan: place: NUMA domain "));
    }
}

static void hosts_have_a_topology_each(void **state)
{
    static char text[65536];
    struct str list = {0};

    (void)state;
    DATA_OR_SKIP(xeon, "hwloc/clx-2s-xeon8259cl-g4dnmetal.xml");
    DATA_OR_SKIP(arm, "hwloc/arm-2s-kunpeng920-cluster4.xml");
    str_addf(&list, "a@web1=%s,web2=%s", xeon, arm);
    assert_int_equal(plan(text, TWO, str_text(&list)), 0);
    assert_non_null(strstr(text, "\nhost a@web1: 48 cores in 2 NUMA domains\n"));
    assert_non_null(strstr(text, "\nhost web2: 32 cores in 1 NUMA domain\n"
                                 "  domain 0: socket 36, 32 cores (2 reserved), memory 125.6 GiB"));
    assert_non_null(strstr(text, "\nprefill-1    prefill  a@web1      0  0-23 "));
    assert_non_null(strstr(text, "\nprefill-2    prefill  a@web1      1  24-47 "));
    assert_non_null(strstr(text, "\ndecode-1     decode   web2        0  0-29 ")); /* 48 : 32 cores */
    str_fini(&list);
}

static void a_topology_that_no_host_has_or_that_is_missing_is_refused(void **state)
{
    static const struct {
        const char *list, *want;
    } cases[] = {
        {"web3=/x", "tandem plan: --topology: %s/c.yaml has no host \"web3\"\n"},
        {"a@web1=/x,web2=/y,a@web1=/z", "tandem plan: --topology: host a@web1 is given twice\n"},
        {"/x,a@web1=/x", "tandem plan: --topology: host a@web1 is given twice\n"},
        {"a@web1=/x", "tandem plan: host web2: record its topology there with `lstopo FILE.xml` and say "
                      "--topology=web2=FILE.xml\n"},
        {"a@web1=/nonexistent,web2=/y", "tandem plan: host a@web1: topo: cannot read /nonexistent as an "
                                        "hwloc topology: No such file or directory\n"},
    };
    static char text[65536];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *percent = strstr(cases[i].want, "%s");
        struct str want = {0};

        assert_int_not_equal(plan(text, TWO, cases[i].list), 0);
        str_addf(&want, "%.*s%s%s", (int)(percent ? percent - cases[i].want : 0), cases[i].want,
                 percent ? dir : "", percent ? percent + 2 : cases[i].want);
        assert_string_equal(text, str_text(&want));
        str_fini(&want);
    }
}

/* As under taskset: in a child, whose binding ends with it. */
static void a_bound_process_plans_for_its_processors(void **state)
{
    static char text[65536];
    struct topo *t;
    uint32_t pu;
    pid_t pid;

    (void)state;
    assert_int_equal(topo_load(&t, NULL, NULL), 0);
    pu = t->domains[t->n_domains - 1].cores[0].pu;
    topo_free(&t);
    pid = fork();
    if (pid == 0) {
        char want[32];
        int bad = topo_bind_thread(pu, NULL) != 0 || plan(text, "", "") != 0;

        snprintf(want, sizeof(want), "  %u* ", pu);
        _exit(bad || !strstr(text, ": 1 core in 1 NUMA domain\n") || !strstr(text, want));
    }
    process_succeeds(pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_machines_are_planned),
        cmocka_unit_test(hosts_have_a_topology_each),
        cmocka_unit_test(a_topology_that_no_host_has_or_that_is_missing_is_refused),
        cmocka_unit_test(a_bound_process_plans_for_its_processors),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
