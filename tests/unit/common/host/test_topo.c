#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "host/topo.h"
#include "tests/lib/data.h"

/* Counted in the XML files by hand. */
static const struct recorded {
    const char *file, *host;
    uint32_t domains, packages, cores, smt;
    bool distances;
} recorded[] = {
    {"altra-1s-q80-monolithic.synthetic.xml", "altra-1s-q80-monolithic.synthetic", 1, 1, 80, 1, false},
    {"altra-1s-q80-quadrant.synthetic.xml", "altra-1s-q80-quadrant.synthetic", 4, 1, 80, 1, false},
    {"altra-2s-q80-monolithic.synthetic.xml", "altra-2s-q80-monolithic.synthetic", 2, 2, 160, 1, false},
    {"arm-2s-kunpeng920-cluster4.xml", "ubuntu", 4, 2, 128, 1, true},
    {"arm-2s-thunderx2-smt4.xml", "ulna32", 2, 2, 64, 4, true},
    {"clx-2s-xeon8259cl-g4dnmetal.xml", "gpu-st-g4dnmetal-1", 2, 2, 48, 2, true},
    {"naples-2s-epyc7401-8numa.xml", "corona145", 8, 2, 48, 2, true},
    {"rome-2s-epyc7742-nps4.xml", "jrc0323", 8, 2, 128, 2, true},
    {"spr-2s-xeonmax9462-snc4-hbmcache.xml", "dp-intelmax01", 8, 2, 64, 2, true},
};

/* No hardware thread is listed twice, each core's first is its pu. */
static void assert_consistent(const struct topo *t)
{
    static uint8_t seen[8192];

    memset(seen, 0, sizeof(seen));
    assert_true(t->n_domains >= 1);
    for (uint32_t d = 0; d < t->n_domains; d++) {
        assert_true(t->domains[d].n_cores >= 1);
        for (uint32_t c = 0; c < t->domains[d].n_cores; c++) {
            const struct topo_core *core = &t->domains[d].cores[c];

            assert_in_range(core->n_pus, 1, TOPO_SMT_MAX);
            assert_int_equal(core->pu, core->pus[0]);
            for (uint32_t i = 0; i < core->n_pus; i++) {
                assert_in_range(core->pus[i], 0, sizeof(seen) - 1);
                assert_int_equal(seen[core->pus[i]]++, 0);
            }
        }
    }
    for (uint32_t d = 0; t->distances && d < t->n_domains; d++)
        assert_int_equal(t->distances[d * t->n_domains + d], 10);
}

static void recorded_machines_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(recorded); i++) {
        const struct recorded *want = &recorded[i];
        char rel[128];
        struct topo *t;
        struct err e = {0};
        uint32_t last = 0;

        snprintf(rel, sizeof(rel), "hwloc/%s", want->file);
        DATA_OR_SKIP(path, rel);
        if (topo_load(&t, path, &e) != ERR_OK)
            fail_msg("%s", e.text);
        assert_consistent(t);
        assert_string_equal(t->host, want->host);
        assert_int_equal(t->n_domains, want->domains);
        assert_int_equal(topo_core_count(t), want->cores);
        assert_int_equal(t->distances != NULL, want->distances);
        for (uint32_t d = 0; d < t->n_domains; d++) {
            assert_true(t->domains[d].memory_bytes > (uint64_t)16 << 30);
            assert_int_equal(t->domains[d].n_cores, want->cores / want->domains);
            assert_int_equal(t->domains[d].cores[0].n_pus, want->smt);
            assert_true(t->domains[d].package >= last); /* in the order of the sockets */
            last = t->domains[d].package;
        }
        assert_int_equal(t->domains[t->n_domains - 1].package == t->domains[0].package,
                         want->packages == 1);
        topo_free(&t);
        assert_null(t);
    }
}

static void this_machine_lists_what_the_process_may_use(void **state)
{
    struct topo *t;
    struct err e = {0};
    uint32_t pus = 0;

    (void)state;
    if (topo_load(&t, NULL, &e) != ERR_OK)
        fail_msg("%s", e.text);
    assert_consistent(t);
    for (uint32_t d = 0; d < t->n_domains; d++)
        for (uint32_t c = 0; c < t->domains[d].n_cores; c++)
            pus += t->domains[d].cores[c].n_pus;
    assert_int_equal(pus, topo_allowed_pus());
    topo_free(&t);
}

static void a_bound_process_sees_only_its_cores(void **state)
{
    struct topo *all, *one;
    struct err e = {0};
    uint32_t pus[8192], n = 0, last;

    (void)state;
    assert_int_equal(topo_load(&all, NULL, &e), ERR_OK);
    for (uint32_t d = 0; d < all->n_domains; d++)
        for (uint32_t c = 0; c < all->domains[d].n_cores; c++)
            for (uint32_t i = 0; i < all->domains[d].cores[c].n_pus; i++)
                pus[n++] = all->domains[d].cores[c].pus[i];
    last = pus[n - 1];
    if (topo_bind_thread(last, &e) != ERR_OK)
        fail_msg("%s", e.text);
    assert_int_equal(topo_allowed_pus(), 1);
    assert_int_equal(topo_load(&one, NULL, &e), ERR_OK);
    assert_int_equal(one->n_domains, 1);
    assert_int_equal(one->domains[0].n_cores, 1);
    assert_int_equal(one->domains[0].cores[0].pu, last);
    assert_int_equal(topo_bind_pus(pus, n, &e), ERR_OK);
    assert_int_equal(topo_allowed_pus(), n);
    topo_free(&one);
    topo_free(&all);
}

static void binding_where_there_is_no_cpu_is_refused(void **state)
{
    struct err e = {0};

    (void)state;
    assert_int_equal(topo_bind_thread(8000, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "8000"));
    assert_int_equal(topo_bind_thread(UINT32_MAX, &e), ERR_ARG);
    assert_int_equal(topo_bind_memory(NULL, 4096, 99999, &e), ERR_ARG);
}

static void memory_binds_to_a_domain_or_says_why_not(void **state)
{
    struct topo *t;
    struct err e = {0};
    struct mem_map map;
    int rc;

    (void)state;
    assert_int_equal(topo_load(&t, NULL, &e), ERR_OK);
    assert_int_equal(mem_map_open(&map, 1 << 20, false, &e), ERR_OK);
    rc = topo_bind_memory(map.data, map.size, t->domains[0].os_index, &e);
    if (rc != ERR_OK) { /* kernels without NUMA, containers without the right */
        assert_int_equal(rc, ERR_UNSUPPORTED);
        assert_non_null(strstr(e.text, "NUMA node"));
    }
    memset(map.data, 1, map.size);
    mem_map_close(&map);
    topo_free(&t);
}

static void a_file_that_is_no_topology_is_refused(void **state)
{
    struct topo *t;
    struct err e = {0};

    (void)state;
    assert_int_equal(topo_load(&t, "no-such-file.xml", &e), ERR_IO);
    assert_null(t);
    assert_non_null(strstr(e.text, "no-such-file.xml"));
    assert_int_equal(topo_load(&t, "Makefile", &e), ERR_IO);
    assert_null(t);
}

static void assert_same(const struct topo *a, const struct topo *b)
{
    assert_string_equal(a->host, b->host);
    assert_int_equal(a->n_domains, b->n_domains);
    for (uint32_t d = 0; d < a->n_domains; d++) {
        assert_int_equal(a->domains[d].os_index, b->domains[d].os_index);
        assert_int_equal(a->domains[d].memory_bytes, b->domains[d].memory_bytes);
        assert_int_equal(a->domains[d].n_cores, b->domains[d].n_cores);
        assert_memory_equal(a->domains[d].cores, b->domains[d].cores,
                            a->domains[d].n_cores * sizeof(*a->domains[d].cores));
    }
}

/* Also while the process may use one processor only. */
static void this_machine_is_the_same_elsewhere(void **state)
{
    struct topo *here, *all;
    struct err e = {0};
    uint32_t pus[8192], n = 0;

    (void)state;
    assert_int_equal(topo_load(&all, NULL, &e), ERR_OK);
    for (uint32_t d = 0; d < all->n_domains; d++)
        for (uint32_t c = 0; c < all->domains[d].n_cores; c++)
            for (uint32_t i = 0; i < all->domains[d].cores[c].n_pus; i++)
                pus[n++] = all->domains[d].cores[c].pus[i];
    for (int bound = 0; bound < 2; bound++) {
        struct str xml = {0};
        struct topo *there;

        if (bound)
            assert_int_equal(topo_bind_thread(pus[n - 1], &e), ERR_OK);
        assert_int_equal(topo_load(&here, NULL, &e), ERR_OK);
        if (topo_export(&xml, &e) || topo_load(&there, str_text(&xml), &e))
            fail_msg("%s", e.text);
        assert_same(there, here);
        str_fini(&xml);
        topo_free(&there);
        topo_free(&here);
    }
    assert_int_equal(topo_bind_pus(pus, n, &e), ERR_OK);
    topo_free(&all);
}

static void a_text_that_is_no_topology_is_refused(void **state)
{
    static const char *const texts[] = {"<", "<topology", "<a/>", "<topology></topology>",
                                        "<topology version=\"2.0\"><object type=\"Machine\"/>"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct err e = {0};
        struct topo *t;

        assert_int_not_equal(topo_load(&t, texts[i], &e), ERR_OK);
        assert_null(t);
        assert_non_null(strstr(e.text, "the XML given"));
    }
}

/* On two cores of a domain in the middle, one of them with its second hardware thread only. */
static void a_restricted_topology_keeps_what_is_listed(void **state)
{
    struct topo *t;
    struct err e = {0};
    uint32_t first, second, bad[] = {0, 4095};

    (void)state;
    DATA_OR_SKIP(path, "hwloc/rome-2s-epyc7742-nps4.xml");
    assert_int_equal(topo_load(&t, path, &e), ERR_OK);
    first = t->domains[5].cores[1].pus[0];
    second = t->domains[5].cores[3].pus[1];
    assert_int_equal(topo_restrict(t, bad, 2, &e), ERR_ARG);
    assert_string_equal(e.text, "topo: jrc0323 has no processor 4095 that may be used");
    assert_int_equal(topo_restrict(t, bad, 0, &e), ERR_ARG);
    assert_int_equal(t->n_domains, 8);
    assert_int_equal(topo_core_count(t), 128);
    assert_int_equal(t->distances[3], 12);
    assert_int_equal(topo_restrict(t, (uint32_t[]){second, first}, 2, &e), ERR_OK);
    assert_consistent(t);
    assert_int_equal(t->n_domains, 1);
    assert_int_equal(t->domains[0].os_index, 5);
    assert_int_equal(t->domains[0].n_cores, 2);
    assert_int_equal(t->domains[0].cores[0].pu, first);
    assert_int_equal(t->domains[0].cores[1].pu, second);
    assert_int_equal(t->domains[0].cores[1].n_pus, 1);
    topo_free(&t);
    /* Domains 1 and 6 stay: 32 apart, being in two sockets. */
    assert_int_equal(topo_load(&t, path, &e), ERR_OK);
    first = t->domains[1].cores[0].pu;
    second = t->domains[6].cores[0].pu;
    assert_int_equal(topo_restrict(t, (uint32_t[]){first, second}, 2, &e), ERR_OK);
    assert_consistent(t);
    assert_int_equal(t->domains[1].os_index, 6);
    assert_int_equal(t->distances[0], 10);
    assert_int_equal(t->distances[1], 32);
    assert_int_equal(t->distances[2], 32);
    topo_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_machines_are_read),
        cmocka_unit_test(this_machine_lists_what_the_process_may_use),
        cmocka_unit_test(a_bound_process_sees_only_its_cores),
        cmocka_unit_test(binding_where_there_is_no_cpu_is_refused),
        cmocka_unit_test(memory_binds_to_a_domain_or_says_why_not),
        cmocka_unit_test(a_file_that_is_no_topology_is_refused),
        cmocka_unit_test(this_machine_is_the_same_elsewhere),
        cmocka_unit_test(a_text_that_is_no_topology_is_refused),
        cmocka_unit_test(a_restricted_topology_keeps_what_is_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
