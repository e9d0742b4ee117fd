#include "deploy/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "deploy/launch.h"
#include "deploy/paths.h"
#include "kv/kv_layout.h"

static void test_pages_are_bounded_by_memory_and_by_one_sequence(void **state)
{
    const uint64_t mib = 1 << 20;

    (void)state;
    assert_int_equal(plan_kv_pages(mib, 1000, 4, 0, 1), 4 * 32); /* memory unknown */
    assert_int_equal(plan_kv_pages(mib, 1024, 4, 1024 * mib, 1), 4 * 32);
    assert_int_equal(plan_kv_pages(mib, 1024, 4, 400 * mib, 1), 100);
    assert_int_equal(plan_kv_pages(mib, 1024, 4, 400 * mib, 2), 50);
    assert_int_equal(plan_kv_pages(mib, 1024, 4, 4 * mib, 2), 32); /* place() then refuses */
    assert_int_equal(plan_kv_pages(1, UINT32_MAX, UINT32_MAX, 0, 1), OPTIONS_KV_PAGES_MAX);
}

/* The model in the source tree, found from the test's own place in build/tests/deploy. */
static char *demo_model(void)
{
    struct str path = {0};
    char *found;

    str_addf(&path, "%s/../../../deploy", paths_program_dir());
    found = paths_default_model(str_text(&path), NULL);
    if (!found) { /* build/san/tests/deploy */
        str_clear(&path);
        str_addf(&path, "%s/../../../../deploy", paths_program_dir());
        found = paths_default_model(str_text(&path), NULL);
    }
    str_fini(&path);
    return found;
}

/* A cluster of 1 prefill and 2 decode nodes with the demo model. */
static void load(struct cluster *c)
{
    char *model = demo_model();
    struct str text = {0};
    struct err e = {0};

    assert_non_null(model);
    str_addf(&text, "cluster: demo\nmodel: \"%s\"\nprefill: {nodes: 1}\ndecode: {nodes: 2}\n", model);
    *c = (struct cluster){0};
    assert_int_equal(cluster_load_text(c, str_text(&text), text.len, "c.yaml", NULL, &e), 0);
    mem_free(model);
    str_fini(&text);
}

static void test_plan_of_this_machine(void **state)
{
    struct str text = {0};
    struct plan p = {0};
    struct cluster c;
    struct err e = {0};

    (void)state;
    load(&c);
    assert_int_equal(plan_init(&p, &c, NULL, &e), 0);
    assert_int_equal(p.n, 4);
    assert_int_equal(p.nodes[0].place->kind, PLACE_ROUTER);
    assert_int_equal(p.nodes[0].kv_pages, 0);
    assert_int_equal(p.nodes[1].place->kind, PLACE_PREFILL);
    assert_int_equal(p.nodes[1].kv_pages, 4 * 1024 / 32);
    assert_int_equal(p.nodes[3].kv_pages, 16 * 1024 / 32);
    assert_true(p.weight_bytes > 5000000);
    plan_print(&p, &c, &text);
    assert_non_null(strstr(str_text(&text), "decode-2     decode "));
    assert_non_null(strstr(str_text(&text), "http://127.0.0.1:8000"));
    str_fini(&text);
    plan_fini(&p);
    cluster_fini(&c);
}

static void test_a_missing_model_is_named(void **state)
{
    struct plan p = {0};
    struct cluster c;
    struct err e = {0};

    (void)state;
    load(&c);
    c.model[0] = '?';
    assert_int_not_equal(plan_init(&p, &c, NULL, &e), 0);
    assert_memory_equal(e.text, "model: ?", 8);
    plan_fini(&p);
    cluster_fini(&c);
}

/* A wire that would round the KV is refused before anything starts. */
static void test_a_wire_that_rounds_is_refused(void **state)
{
    struct plan p = {0};
    struct cluster c;
    struct err e = {0};

    (void)state;
    load(&c);
    c.decode.options.kv_type = KV_F16;
    c.decode.options.kv_wire = KV_Q8;
    assert_int_equal(plan_init(&p, &c, NULL, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "kv_wire: q8 does not carry a kv_type of f16"));
    plan_fini(&p);
    c.decode.options.kv_type = KV_Q8;
    assert_int_equal(plan_init(&p, &c, NULL, &e), 0);
    assert_true(p.nodes[3].kv_bytes < (uint64_t)p.nodes[3].kv_pages * 6 * 2 * 2 * 64 * 32 * 1.1);
    plan_fini(&p);
    cluster_fini(&c);
}

static bool has(char **argv, const char *want)
{
    for (; *argv; argv++)
        if (!strcmp(*argv, want))
            return true;
    return false;
}

static void test_command_lines_agree_with_each_other(void **state)
{
    struct launch l = {0};
    struct plan p = {0};
    struct cluster c;
    struct err e = {0};

    (void)state;
    load(&c);
    assert_int_equal(plan_init(&p, &c, NULL, &e), 0);
    /* The lines are there even though the programs are not. */
    assert_int_equal(launch_init(&l, &c, &p, "/nonexistent", "/run/demo", &e), ERR_NOT_FOUND);
    assert_string_equal(e.text, "/nonexistent/tandem-router: No such file or directory");
    assert_int_equal(l.n, 4);
    assert_true(has(l.processes[0].argv, "--nodes=ipc:///run/demo/nodes.sock"));
    assert_true(has(l.processes[0].argv, "--clients=ipc:///run/demo/clients.sock"));
    assert_string_equal(l.processes[1].argv[0], "/nonexistent/tandem-prefill");
    assert_true(has(l.processes[1].argv, "--router=ipc:///run/demo/nodes.sock"));
    assert_true(has(l.processes[1].argv, "--name=prefill-1"));
    assert_true(has(l.processes[3].argv, "--cluster=demo"));
    assert_true(has(l.processes[3].argv, "--kv=ipc:///run/demo/decode-2.sock"));
    assert_true(has(l.processes[3].argv, "--kv_pages=512"));
    launch_fini(&l);
    plan_fini(&p);
    cluster_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_are_bounded_by_memory_and_by_one_sequence),
        cmocka_unit_test(test_plan_of_this_machine),
        cmocka_unit_test(test_a_missing_model_is_named),
        cmocka_unit_test(test_a_wire_that_rounds_is_refused),
        cmocka_unit_test(test_command_lines_agree_with_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
