#include "deploy/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "kv/kv_layout.h"

#define MODEL "model: /m.gguf\n" /* the default one is looked for on disk */

static int load(struct cluster *c, const char *text, const struct cluster_override *o,
                struct err *e)
{
    *c = (struct cluster){0};
    *e = (struct err){0};
    return cluster_load_text(c, text, strlen(text), "c.yaml", o, e);
}

static void test_everything_has_a_default(void **state)
{
    struct cluster c;
    struct err e;

    (void)state;
    assert_int_equal(load(&c, MODEL, NULL, &e), 0);
    assert_string_equal(c.cluster, "tandem");
    assert_string_equal(c.model, "/m.gguf");
    assert_int_equal(c.ratio_prefill, 0);
    assert_int_equal(c.ratio_decode, 0);
    assert_int_equal(c.prefill.nodes, 0);
    assert_string_equal(c.router.http, "127.0.0.1:8000");
    assert_string_equal(c.router.nodes, "");
    assert_string_equal(c.router.clients, "");
    assert_int_equal(c.prefill.options.chunk_tokens, 256);
    assert_int_equal(c.decode.options.slots, 16);
    cluster_fini(&c);
}

static void test_keys_reach_their_daemons(void **state)
{
    static const char text[] = "cluster: demo\nmodel: /m.gguf\nratio: 1:3\ncpu: ref\n"
                               "log_level: warn\nchat_template: chatml\nkv_type: q8\n"
                               "router: {http: '0.0.0.0:80', clients: 'tcp://127.0.0.1:9', queue_max: 7}\n"
                               "prefill: {nodes: 2, chunk_tokens: 64, log_level: debug}\n"
                               "decode:\n  nodes: 5\n  slots: 3\n  credit_bytes: 1MiB\n"
                               "hosts:\n  - {host: local}\n";
    struct cluster c;
    struct err e;

    (void)state;
    assert_int_equal(load(&c, text, NULL, &e), 0);
    assert_string_equal(c.cluster, "demo");
    assert_int_equal(c.ratio_prefill, 1);
    assert_int_equal(c.ratio_decode, 3);
    assert_string_equal(c.router.http, "0.0.0.0:80");
    assert_string_equal(c.router.clients, "tcp://127.0.0.1:9");
    assert_int_equal(c.router.queue_max, 7);
    assert_string_equal(c.router.chat_template, "chatml");
    assert_int_equal(c.prefill.options.kv_type, KV_Q8);
    assert_int_equal(c.decode.options.kv_type, KV_Q8);
    assert_string_equal(c.router.common.cpu, "ref");
    assert_string_equal(c.decode.options.common.cpu, "ref");
    assert_int_equal(c.prefill.nodes, 2);
    assert_int_equal(c.prefill.options.chunk_tokens, 64);
    assert_int_equal(c.prefill.options.common.log_level, 3);
    assert_int_equal(c.decode.options.common.log_level, 1);
    assert_int_equal(c.decode.nodes, 5);
    assert_int_equal(c.decode.options.slots, 3);
    assert_int_equal(c.decode.options.credit_bytes, 1 << 20);
    cluster_fini(&c);
}

static void test_bad_files_are_refused_with_their_place(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"clustr: x\n", "c.yaml:1:1: unknown key \"clustr\"; did you mean \"cluster\"?"},
        {"cluster: a b\n", "c.yaml:1:10: cluster: \"a b\" is not a name: 1 to 63 letters, digits, "
                           "'.', '_' or '-', not starting with '.' or '-'"},
        {"router:\n  http: 127.0.0.1:8000\n  slotz: 1\n", "c.yaml:3:3: unknown key \"slotz\" in router"},
        {"decode:\n  slotz: 1\n",
         "c.yaml:2:3: unknown key \"slotz\" in decode; did you mean \"slots\"?"},
        {"router: {http: 8000}\n",
         "c.yaml:1:16: http: \"8000\" is not an address, host:port, port 0..65535"},
        {"router: [a]\n", "c.yaml:1:9: router: key: value lines expected here"},
        {"prefill: {chunk_tokens: 33}\n",
         "c.yaml:1:25: chunk_tokens: \"33\" is not a multiple of 32, 32..8192"},
        {"decode: {nodes: 0}\n", "c.yaml:1:17: nodes: \"0\" is not in 1..4096"},
        {"prefill: {nodes: 4097}\n", "c.yaml:1:18: nodes: \"4097\" is not in 0..4096"},
        {MODEL "prefill: {nodes: 0}\nhosts: [{host: local, prefill: 1, decode: 1}]\n",
         "c.yaml: prefill: nodes: 0, but host local names 1 of them"},
        {MODEL "prefill: {nodes: 0}\nrouter: {mode: disaggregated}\n",
         "c.yaml: prefill: nodes: 0 leaves nobody to compute prompts in mode disaggregated; without "
         "prefill nodes it is auto or aggregated"},
        {"prefill: {cores: 0-3}\n", "c.yaml:1:11: cores in prefill: tandem decides this itself"},
        {"decode: {insecure: 1}\n",
         "c.yaml:1:10: insecure in decode: tandem decides this itself"},
        {"decode: {kv: 'tcp://a:1'}\n", "c.yaml:1:10: kv in decode: tandem decides this itself"},
        {"router: {nodes: 3}\n",
         "c.yaml:1:17: nodes: \"3\" is not an endpoint, tcp://host:port or ipc://path"},
        {MODEL "router: {nodes: 'tcp://a:0'}\n",
         "c.yaml: nodes: tcp://a:0: a cluster needs a port that is known, not 0"},
        {MODEL "router: {nodes: 'ipc:///a'}\nhosts: [{host: b}]\n",
         "c.yaml: nodes: ipc:///a: other hosts need tcp://ADDRESS:PORT"},
        {"ssh: ' '\n", "c.yaml:1:6: ssh: \" \" is not a command"},
        {"ratio: 1:0\n", "c.yaml:1:8: ratio: \"1:0\" is not P:D with both sides 1..1024, nor auto"},
        {"ratio: 3\n", "c.yaml:1:8: ratio: \"3\" is not P:D with both sides 1..1024, nor auto"},
        {"ratio: 1:2000\n",
         "c.yaml:1:8: ratio: \"1:2000\" is not P:D with both sides 1..1024, nor auto"},
        {"cpu: z80\n", "c.yaml:1:6: cpu: \"z80\" is not a kernel tier: auto, ref, avx2, avx512vnni, amx, neon-dotprod, neon-i8mm"},
        {"slo: {ttft_s: 500}\n", "c.yaml:1:7: unknown key \"ttft_s\" in slo"},
        {"hosts: local\n", "c.yaml:1:8: hosts: a list such as [{host: local}] expected"},
        {"hosts: []\n", "c.yaml:1:8: hosts: a list such as [{host: local}] expected"},
        {MODEL "router: {http: 'a:0'}\n",
         "c.yaml: http: a:0: a cluster needs a port that is known, not 0"},
        {"model: [a]\n", "c.yaml:1:8: model: one value expected, not a list"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cluster c;
        struct err e;

        assert_int_equal(load(&c, cases[i].text, NULL, &e), ERR_CONFIG);
        assert_string_equal(e.text, cases[i].want);
        cluster_fini(&c);
    }
}

static void test_paths_start_at_the_files_folder(void **state)
{
    static const char text[] = "model: models/m.gguf\nchat_template: t.jinja\n";
    struct cluster c = {0};
    struct err e = {0};

    (void)state;
    assert_int_equal(cluster_load_text(&c, text, strlen(text), "/some/where/c.yaml", NULL, &e), 0);
    assert_string_equal(c.model, "/some/where/models/m.gguf");
    assert_string_equal(c.router.chat_template, "/some/where/t.jinja");
    cluster_fini(&c);
}

static void test_flag_beats_environment_beats_file(void **state)
{
    struct cluster_override o = {.cluster = "", .model = "/flag.gguf", .ratio = "2:1",
                                 .mode = "aggregated", .cpu = "", .log_level = "error",
                                 .log_format = "json", .http = ""};
    struct cluster c;
    struct err e;

    (void)state;
    setenv("TANDEM_HTTP", "127.0.0.1:9000", 1);
    setenv("TANDEM_MODEL", "/env.gguf", 1);
    setenv("TANDEM_SLOTS", "4", 1);
    setenv("TANDEM_NODES", "9", 1); /* not a key of the environment: it would be of all roles */
    assert_int_equal(load(&c, MODEL "prefill: {nodes: 3}\ndecode: {slots: 2}\n", &o, &e), 0);
    assert_string_equal(c.model, "/flag.gguf");
    assert_string_equal(c.router.http, "127.0.0.1:9000");
    assert_int_equal(c.router.mode, ROUTER_AGGREGATED);
    assert_int_equal(c.decode.options.slots, 4);
    assert_int_equal(c.decode.options.common.log_level, 0);
    assert_int_equal(c.decode.options.common.log_format, LOG_JSON);
    assert_int_equal(c.prefill.nodes, 0); /* the ratio that was given now stands above it */
    assert_int_equal(c.ratio_prefill, 2);
    assert_int_equal(c.decode.nodes, 0);
    cluster_fini(&c);
    o.cpu = "z80";
    assert_int_equal(load(&c, MODEL, &o, &e), ERR_CONFIG);
    assert_string_equal(e.text, "cpu: \"z80\" is not a kernel tier: auto, ref, avx2, avx512vnni, amx, neon-dotprod, neon-i8mm");
    cluster_fini(&c);
    unsetenv("TANDEM_HTTP");
    unsetenv("TANDEM_MODEL");
    unsetenv("TANDEM_SLOTS");
    unsetenv("TANDEM_NODES");
}

static void test_slo_is_the_routers(void **state)
{
    struct cluster c;
    struct err e;

    (void)state;
    assert_int_equal(load(&c, MODEL "slo: {ttft_ms: 500, tpot_ms: 100}\n", NULL, &e), 0);
    assert_int_equal(c.router.slo_ttft_ms, 500);
    assert_int_equal(c.router.slo_tpot_ms, 100);
    cluster_fini(&c);
    assert_int_equal(load(&c, MODEL "slo: {ttft: 500}\n", NULL, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "unknown key \"ttft\" in slo"));
    cluster_fini(&c);
    assert_int_equal(load(&c, MODEL "slo: {tpot_ms: soon}\n", NULL, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "slo: tpot_ms must be milliseconds"));
    cluster_fini(&c);
}

static void test_missing_file_is_named(void **state)
{
    struct cluster c = {0};
    struct err e = {0};

    (void)state;
    assert_int_equal(cluster_load(&c, "/nonexistent.yaml", NULL, &e), ERR_NOT_FOUND);
    assert_string_equal(e.text, "/nonexistent.yaml: No such file or directory");
    cluster_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_has_a_default),
        cmocka_unit_test(test_keys_reach_their_daemons),
        cmocka_unit_test(test_bad_files_are_refused_with_their_place),
        cmocka_unit_test(test_paths_start_at_the_files_folder),
        cmocka_unit_test(test_flag_beats_environment_beats_file),
        cmocka_unit_test(test_slo_is_the_routers),
        cmocka_unit_test(test_missing_file_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
