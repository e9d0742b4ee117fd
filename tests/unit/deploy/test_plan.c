#include "deploy/plan.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/launch.h"
#include "engine/engine.h"
#include "kv/kv_layout.h"
#include "tests/lib/data.h"
#include "tests/lib/topo_make.h"
#include "tests/unit/deploy/demo_model.h"

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

static void load_model(struct cluster *c, const char *model, const char *more)
{
    struct str text = {0};
    struct err e = {0};

    str_addf(&text, "cluster: demo\nmodel: \"%s\"\n%s", model, more);
    *c = (struct cluster){0};
    assert_int_equal(cluster_load_text(c, str_text(&text), text.len, "c.yaml", NULL, &e), 0);
    str_fini(&text);
}

/* A cluster with the demo model. */
static void load_text(struct cluster *c, const char *more)
{
    char *model = demo_model();

    load_model(c, model, more);
    mem_free(model);
}

/* Of 1 prefill and 2 decode nodes. */
static void load(struct cluster *c)
{
    load_text(c, "prefill: {nodes: 1}\ndecode: {nodes: 2}\n");
}

/* Q2_K has 2.6 bits a weight in the file and runs as Q8_0. */
static void test_weights_take_what_the_engine_packs_them_in(void **state)
{
    char model[PATH_MAX];
    struct engine_options o = {.model = model, .tier = CPU_REF, .n_threads = 1, .rows_max = 32,
                               .kv_type = KV_F16};
    struct plan p = {0};
    struct cluster c;
    struct engine *en;
    struct err e = {0};

    (void)state;
    DATA_OR_SKIP(path, "golden/llama256-q2_k.gguf");
    assert_non_null(realpath(path, model));
    load_model(&c, model, "prefill: {nodes: 1}\ndecode: {nodes: 1}\n");
    assert_int_equal(plan_init(&p, &c, NULL, &e), 0);
    assert_int_equal(engine_open(&en, &o, &e), 0);
    p.weight_bytes -= 5 * 256 * sizeof(float); /* norms; the rest is in whole pages of memory */
    assert_in_range(engine_weight_bytes(en), p.weight_bytes, p.weight_bytes + 4095);
    engine_close(&en);
    plan_fini(&p);
    cluster_fini(&c);
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
    c.decode.options.kv_type = c.prefill.options.kv_type = KV_Q8;
    assert_int_equal(plan_init(&p, &c, NULL, &e), 0);
    assert_true(p.nodes[3].kv_bytes < (uint64_t)p.nodes[3].kv_pages * 6 * 2 * 2 * 64 * 32 * 1.1);
    plan_fini(&p);
    cluster_fini(&c);
}

/* So are types of which a decode node rounds one to the other, though a wire of f32 carries both. */
static void test_roles_of_one_tier_have_one_kv_type(void **state)
{
    struct plan p = {0};
    struct cluster c;
    struct err e = {0};

    (void)state;
    load(&c);
    c.prefill.options.kv_wire = c.decode.options.kv_wire = KV_F32;
    c.prefill.options.kv_type = KV_F16;
    c.decode.options.kv_type = KV_F32;
    assert_int_equal(plan_init(&p, &c, NULL, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "prefill nodes have f16 and decode nodes f32"));
    plan_fini(&p);
    c.decode.options.kv_type = KV_F16;
    assert_int_equal(plan_init(&p, &c, NULL, &e), 0);
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
    const struct launch_place place = {.program_dir = "/nonexistent", .run_dir = "/run/demo"};
    struct launch l = {0};
    struct plan p = {0};
    struct cluster c;
    struct err e = {0};

    (void)state;
    load(&c);
    assert_int_equal(plan_init(&p, &c, NULL, &e), 0);
    /* The lines are there even though the programs are not. */
    assert_int_equal(launch_init(&l, &c, &p, &place, &e), ERR_NOT_FOUND);
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

/* Two machines of hwloc's synthetic kind, as their text. */
static void two_topologies(char *xml[2])
{
    static const char *const shapes[] = {"numa:2(memory=17179869184) core:4 pu:2",
                                         "numa:4(memory=8589934592) core:8 pu:1"};

    for (int i = 0; i < 2; i++)
        xml[i] = topo_make_xml(shapes[i]);
}

#define TWO_HOSTS                                                                                  \
    "insecure: true\nhosts:\n"                                                                     \
    "  - {host: alice@web1, address: 10.0.0.1, programs: /opt/a, cores: '0-5,8-13'}\n"             \
    "  - {host: web2, address: 'fd00::2', programs: /opt/b, model: /data/m.gguf, prefill: [3],\n"    \
    "     decode: 2, reserve: 1}\n"

/* TWO_HOSTS at 1:2, planned. */
struct two {
    char *xml[2];
    struct cluster c;
    struct plan p;
};

static void two_plan(struct two *t)
{
    struct err e = {0};

    *t = (struct two){0};
    two_topologies(t->xml);
    load_text(&t->c, "ratio: 1:2\n" TWO_HOSTS);
    if (plan_init(&t->p, &t->c, (const char *const *)t->xml, &e))
        fail_msg("%s", e.text);
}

static void two_fini(struct two *t)
{
    plan_fini(&t->p);
    cluster_fini(&t->c);
    mem_free(t->xml[0]);
    mem_free(t->xml[1]);
}

static void several_hosts_are_one_plan(void **state)
{
    struct str text = {0};
    struct two t;

    (void)state;
    two_plan(&t);
    plan_print(&t.p, &t.c, &text);
    /* Of 5 nodes 2 by the ratio prefill: domain 3 of web2, and one of the ratio's. */
    assert_int_equal(t.p.n, 6);
    assert_non_null(strstr(str_text(&text), "host alice@web1: 6 cores in 2 NUMA domains\n"));
    assert_non_null(strstr(str_text(&text), "\nprefill-1    prefill  alice@web1      0  0,2,4 "));
    assert_non_null(strstr(str_text(&text), "\nprefill-2    prefill  web2            3  24-30 "));
    assert_non_null(strstr(str_text(&text), "\ndecode-1     decode   alice@web1      1  8,10,12 "));
    assert_non_null(strstr(str_text(&text), "\ndecode-3     decode   web2            1  8-14 "));
    assert_int_equal(t.p.nodes[2].host, 1);
    str_fini(&text);
    two_fini(&t);
}

/* What a host has not is found out where its topology is known, and said where it was written. */
static void what_a_host_has_not_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *more, *want;
        int code;
    } cases[] = {
        {"hosts: [{host: a}, {host: b, decode: [4]}]\n",
         "c.yaml:3:38: decode: host b has no NUMA domain 4 with cores to use", ERR_CONFIG},
        {"hosts: [{host: a}, {host: b, cores: '0-7', prefill: [1]}]\n",
         "c.yaml:3:53: prefill: host b has no NUMA domain 1 with cores to use", ERR_CONFIG},
        {"hosts: [{host: a}, {host: b, cores: '0,32'}]\n",
         "c.yaml:3:20: cores: 0,32: topo: b has no processor 32 that may be used", ERR_CONFIG},
        {"hosts: [{host: a, reserve: 4}, {host: b}]\n",
         "c.yaml:3:9: reserve: 4 leaves none of the 4 cores of domain 0 of host a", ERR_CONFIG},
        {"decode: {kv_pages: 65536}\nhosts: [{host: a, prefill: 1}, {host: b, decode: 5}]\n",
         "place: NUMA domain 0 of b has 8.00 GiB, its 0 prefill and 2 decode nodes need 0.01 GiB of "
         "weights and 12.", ERR_LIMIT},
    };
    char *xml[2];

    (void)state;
    two_topologies(xml);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct plan p = {0};
        struct cluster c;
        struct err e = {0};

        load_text(&c, cases[i].more);
        assert_int_equal(plan_init(&p, &c, (const char *const *)xml, &e), cases[i].code);
        e.text[strlen(cases[i].want)] = '\0';
        assert_string_equal(e.text, cases[i].want);
        plan_fini(&p);
        cluster_fini(&c);
    }
    mem_free(xml[0]);
    mem_free(xml[1]);
}

static void several_hosts_meet_over_tcp(void **state)
{
    static const struct launch_place places[2] = {
        {.program_dir = "/opt/a", .run_dir = "/run/a"},
        {.program_dir = "/opt/b", .run_dir = "/run/b", .keys = "/run/b/keys"},
    };
    struct launch l = {0};
    struct err e = {0};
    struct two t;

    (void)state;
    two_plan(&t);
    assert_int_equal(launch_init(&l, &t.c, &t.p, places, &e), 0); /* programs there are not looked for */
    assert_int_equal(l.processes[0].host, 0);
    assert_string_equal(l.processes[0].argv[0], "/opt/a/tandem-router");
    assert_true(has(l.processes[0].argv, "--nodes=tcp://10.0.0.1:5555"));
    assert_true(has(l.processes[0].argv, "--clients=ipc:///run/a/clients.sock"));
    for (size_t i = 1; i < l.n; i++) {
        bool second = l.processes[i].host == 1;

        assert_int_equal(second, t.p.nodes[i].host == 1);
        assert_true(has(l.processes[i].argv, "--router=tcp://10.0.0.1:5555"));
        assert_true(has(l.processes[i].argv, second ? "--kv=tcp://[fd00::2]:0" : "--kv=tcp://10.0.0.1:0"));
        assert_true(has(l.processes[i].argv, second ? "--metrics=[fd00::2]:0" : "--metrics=10.0.0.1:0"));
        assert_int_equal(has(l.processes[i].argv, "--model=/data/m.gguf"), second);
        assert_true(has(l.processes[i].argv, second ? "--keys=/run/b/keys" : "--keys="));
        assert_true(has(l.processes[i].argv, "--insecure=true"));
        assert_true(has(l.processes[i].argv, "--kv_type=f16"));
    }
    launch_fini(&l);
    /* A port said in the file; a router that listens everywhere is reached at its host. */
    mem_free(t.c.router.nodes);
    t.c.router.nodes = mem_strdup("tcp://*:7000");
    assert_int_equal(launch_init(&l, &t.c, &t.p, places, &e), 0);
    assert_true(has(l.processes[0].argv, "--nodes=tcp://*:7000"));
    assert_true(has(l.processes[1].argv, "--router=tcp://10.0.0.1:7000"));
    launch_fini(&l);
    two_fini(&t);
}

/* A cluster of this machine that nodes elsewhere are to join. */
static void one_host_is_open_to_nodes_elsewhere(void **state)
{
    static const struct {
        const char *more, *nodes, *router, *kv; /* nodes NULL: refused with `router` */
    } cases[] = {
        {"router: {nodes: 'tcp://10.0.0.9:7000'}\n", "--nodes=tcp://10.0.0.9:7000",
         "--router=tcp://10.0.0.9:7000", "--kv=tcp://10.0.0.9:0"},
        {"router: {nodes: 'tcp://[fd00::1]:7'}\n", "--nodes=tcp://[fd00::1]:7",
         "--router=tcp://[fd00::1]:7", "--kv=tcp://[fd00::1]:0"},
        {"router: {nodes: 'tcp://0.0.0.0:7'}\nhosts: [{host: local, address: 10.0.0.9}]\n",
         "--nodes=tcp://0.0.0.0:7", "--router=tcp://10.0.0.9:7", "--kv=tcp://10.0.0.9:0"},
        {"router: {nodes: 'tcp://*:7'}\n", NULL,
         "c.yaml: nodes: tcp://*:7: say the `address:` of host local, at which nodes elsewhere reach it",
         NULL},
        {"hosts: [{host: local, address: localhost}]\nrouter: {nodes: 'tcp://*:7'}\n", NULL,
         "c.yaml:3:9: host local: localhost is this machine's loopback by name, which no other host "
         "reaches; say its `address:`", NULL},
        {"hosts: [{host: local, address: 10.0.0.9}]\nrouter: {nodes: 'tcp://a..b:7'}\n", NULL,
         "c.yaml: nodes: tcp://a..b:7: a..b has no address: Name or service not known", NULL},
        {"hosts: [{host: local, address: localhost}]\n", "--nodes=ipc:///run/d/nodes.sock",
         "--router=ipc:///run/d/nodes.sock", "--kv=ipc:///run/d/decode-1.sock"},
    };
    const struct launch_place place = {.program_dir = "/nonexistent", .run_dir = "/run/d"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct launch l = {0};
        struct plan p = {0};
        struct cluster c;
        struct err e = {0};

        load_text(&c, cases[i].more);
        assert_int_equal(plan_init(&p, &c, NULL, &e), 0);
        assert_int_equal(launch_init(&l, &c, &p, &place, &e),
                         cases[i].nodes ? ERR_NOT_FOUND : ERR_CONFIG);
        if (cases[i].nodes) {
            assert_true(has(l.processes[0].argv, cases[i].nodes));
            for (size_t k = 1; k < l.n; k++)
                assert_true(has(l.processes[k].argv, cases[i].router));
            for (size_t k = 1; k < l.n; k++)
                if (!strcmp(l.processes[k].name, "decode-1"))
                    assert_true(has(l.processes[k].argv, cases[i].kv));
        } else {
            assert_string_equal(e.text, cases[i].router);
        }
        launch_fini(&l);
        plan_fini(&p);
        cluster_fini(&c);
    }
}

/* A run directory may come from another host: its length is checked, not trusted. */
static void a_run_dir_too_long_for_a_socket_is_refused(void **state)
{
    char run_dir[120];
    const struct launch_place place = {.program_dir = "/", .run_dir = run_dir};
    struct launch l = {0};
    struct plan p = {0};
    struct cluster c;
    struct err e = {0};

    (void)state;
    load(&c);
    memset(run_dir, 'x', sizeof(run_dir));
    run_dir[0] = '/';
    run_dir[107 - 14] = '\0'; /* "/decode-1.sock" fits, "/prefill-1.sock" not */
    assert_int_equal(plan_init(&p, &c, NULL, &e), 0);
    assert_int_equal(launch_init(&l, &c, &p, &place, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "/prefill-1.sock is 108 bytes long, the system's limit is 107"));
    launch_fini(&l);
    plan_fini(&p);
    cluster_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_are_bounded_by_memory_and_by_one_sequence),
        cmocka_unit_test(test_weights_take_what_the_engine_packs_them_in),
        cmocka_unit_test(test_plan_of_this_machine),
        cmocka_unit_test(test_a_missing_model_is_named),
        cmocka_unit_test(test_a_wire_that_rounds_is_refused),
        cmocka_unit_test(test_roles_of_one_tier_have_one_kv_type),
        cmocka_unit_test(test_command_lines_agree_with_each_other),
        cmocka_unit_test(several_hosts_are_one_plan),
        cmocka_unit_test(what_a_host_has_not_is_refused_with_its_place),
        cmocka_unit_test(several_hosts_meet_over_tcp),
        cmocka_unit_test(one_host_is_open_to_nodes_elsewhere),
        cmocka_unit_test(a_run_dir_too_long_for_a_socket_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
