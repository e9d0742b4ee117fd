#include "deploy/cluster_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "deploy/cluster.h"
#include "deploy/paths.h"
#include "kv/kv_layout.h"

#define MODEL "model: /m.gguf\n" /* the default one is looked for on disk */

static int load(struct cluster *c, const char *text, struct err *e)
{
    *c = (struct cluster){0};
    *e = (struct err){0};
    return cluster_load_text(c, text, strlen(text), "/some/c.yaml", NULL, e);
}

static void this_machine_alone_is_the_default(void **state)
{
    static const char *const texts[] = {MODEL, MODEL "hosts: [{host: local}]\n"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct cluster c;
        struct err e;

        assert_int_equal(load(&c, texts[i], &e), 0);
        assert_false(cluster_is_remote(&c));
        assert_int_equal(c.n_hosts, 1);
        assert_string_equal(c.hosts[0].host, "local");
        assert_string_equal(c.hosts[0].address, "");
        assert_string_equal(c.hosts[0].model, "/m.gguf");
        assert_string_equal(c.hosts[0].programs, paths_program_dir());
        assert_false(cluster_host_is_explicit(&c.hosts[0]));
        assert_string_equal(c.ssh, "ssh -o BatchMode=yes");
        assert_false(c.insecure);
        cluster_fini(&c);
    }
}

static void entries_are_read_with_their_defaults(void **state)
{
    static const char text[] =
        MODEL "ssh: ssh -p 2222\ninsecure: true\nhosts:\n"
              "  - {host: local, address: 10.0.0.1, model: mine.gguf, prefill: [1, 0], decode: []}\n"
              "  - {host: alice@web1, programs: /opt/tandem, model: /data/m.gguf, cores: '0-3,8',\n"
              "     reserve: 2, decode: 3}\n"
              "  - {host: web2, address: 'fe80::1%eth0'}\n";
    struct cluster c;
    struct err e;

    (void)state;
    assert_int_equal(load(&c, text, &e), 0);
    assert_true(cluster_is_remote(&c));
    assert_string_equal(c.ssh, "ssh -p 2222");
    assert_true(c.insecure);
    assert_int_equal(c.n_hosts, 3);
    assert_string_equal(c.hosts[0].model, "/some/mine.gguf");
    assert_int_equal(c.hosts[0].prefill.n, 2);
    assert_int_equal(c.hosts[0].prefill.domains[0], 1);
    assert_true(c.hosts[0].decode.said);
    assert_int_equal(c.hosts[0].decode.n, 0);
    assert_string_equal(c.hosts[1].address, "web1");
    assert_string_equal(c.hosts[1].programs, "/opt/tandem");
    assert_string_equal(c.hosts[1].model, "/data/m.gguf");
    assert_string_equal(c.hosts[1].cores, "0-3,8");
    assert_int_equal(c.hosts[1].reserve, 2);
    assert_false(c.hosts[1].prefill.said);
    assert_int_equal(c.hosts[1].decode.n, 3);
    assert_null(c.hosts[1].decode.domains);
    assert_true(cluster_host_is_explicit(&c.hosts[1]));
    assert_int_equal(c.hosts[1].mark.line, 6);
    assert_string_equal(c.hosts[2].address, "fe80::1%eth0");
    assert_string_equal(c.hosts[2].model, "/m.gguf");
    assert_false(cluster_host_is_explicit(&c.hosts[2]));
    cluster_fini(&c);
}

/* What the entries mean for the cluster. */
static void hosts_decide_about_keys_roles_and_kv(void **state)
{
    static const struct {
        const char *text;
        bool remote, keys, moves;
        int kv_type;
    } cases[] = {
        {MODEL, false, false, true, KV_AUTO},
        {MODEL "router: {nodes: 'tcp://127.0.0.1:7'}\n", false, false, true, KV_AUTO},
        {MODEL "router: {nodes: 'tcp://*:7'}\n", false, true, true, KV_F16},
        {MODEL "router: {nodes: 'tcp://*:7'}\ninsecure: true\n", false, false, true, KV_F16},
        {MODEL "router: {nodes: 'ipc:///tmp/a:7'}\n", false, false, true, KV_AUTO},
        {MODEL "hosts: [{host: local, decode: 2}]\n", false, false, false, KV_AUTO},
        {MODEL "hosts: [{host: a}]\n", true, true, true, KV_F16},
        {MODEL "hosts: [{host: a}]\ninsecure: true\nkv_type: q8\n", true, false, true, KV_Q8},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cluster c;
        struct err e;

        assert_int_equal(load(&c, cases[i].text, &e), 0);
        assert_int_equal(cluster_is_remote(&c), cases[i].remote);
        assert_int_equal(cluster_needs_keys(&c), cases[i].keys);
        assert_int_equal(c.router.move_roles, cases[i].moves);
        assert_int_equal(c.decode.options.kv_type, cases[i].kv_type);
        assert_int_equal(c.prefill.options.kv_type, cases[i].kv_type);
        cluster_fini(&c);
    }
}

static void bad_entries_are_refused_with_their_place(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"hosts: [local]\n", "1:9: hosts: each entry is {host: NAME, ...}"},
        {"hosts: [{address: a}]\n", "1:9: hosts: each entry is {host: NAME, ...}"},
        {"hosts:\n  - {host: local, ratio: 1}\n", "2:19: unknown key \"ratio\""},
        {"hosts: [{host: [a]}]\n", "1:16: host: one value expected, not a list"},
        {"hosts: [{host: -oProxyCommand=x}]\n",
         "1:16: host: \"-oProxyCommand=x\" is neither local nor a name for ssh, [USER@]HOST"},
        {"hosts: [{host: 'a b'}]\n",
         "1:16: host: \"a b\" is neither local nor a name for ssh, [USER@]HOST"},
        {"hosts: [{host: ''}]\n", "1:16: host: \"\" is neither local nor a name for ssh, [USER@]HOST"},
        {"hosts:\n  - {host: local}\n  - {host: local}\n",
         "3:12: host local is listed twice, first in line 2"},
        {"hosts:\n  - {host: a@b}\n  - host: c\n  - host: a@b\n",
         "4:11: host a@b is listed twice, first in line 2"},
        {"hosts:\n  - {host: local}\n  - {host: web1}\n",
         "2:5: host local: say the address at which the other hosts reach it"},
        {"hosts: [{host: a, address: '10.0.0.1:5555'}]\n",
         "1:28: address: \"10.0.0.1:5555\" is not an address: a name, an IPv4 or an IPv6 address, "
         "without a port"},
        {"hosts: [{host: a, address: 'tcp://b'}]\n",
         "1:28: address: \"tcp://b\" is not an address: a name, an IPv4 or an IPv6 address, without a "
         "port"},
        {"hosts: [{host: 'a:b'}]\n", "1:16: host \"a:b\": say its address"},
        {"hosts: [{host: a, programs: bin}]\n",
         "1:29: programs: \"bin\" is not an absolute path, as one on another host must be"},
        {"hosts: [{host: a, model: m.gguf}]\n",
         "1:26: model: \"m.gguf\" is not an absolute path, as one on another host must be"},
        {"hosts: [{host: local, cores: 3-1}]\n",
         "1:30: cores: \"3-1\" is not a list of different processor numbers like 0,2-5"},
        {"hosts: [{host: local, reserve: -1}]\n", "1:32: reserve: \"-1\" is not a whole number, 0..1024"},
        {"hosts: [{host: local, prefill: x}]\n",
         "1:32: prefill: neither a number of nodes, 0..4096, nor a list of NUMA domains such as "
         "[0, 1]"},
        {"hosts: [{host: local, decode: 4097}]\n",
         "1:31: decode: neither a number of nodes, 0..4096, nor a list of NUMA domains such as "
         "[0, 1]"},
        {"hosts: [{host: local, decode: {a: 1}}]\n",
         "1:31: decode: neither a number of nodes, 0..4096, nor a list of NUMA domains such as "
         "[0, 1]"},
        {"hosts: [{host: local, decode: [0, 1024]}]\n",
         "1:35: decode: a NUMA domain is a number, 0..1023"},
        {"hosts: [{host: local, decode: [[0]]}]\n", "1:32: decode: a NUMA domain is a number, 0..1023"},
        {"hosts: [{host: local, prefill: [0, 0]}]\n", "1:36: prefill: domain 0 is listed twice"},
        {"hosts: [{host: local, decode: [2, 1], prefill: [0, 1]}]\n",
         "1:35: decode: domain 1 is listed for prefill too"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cluster c;
        struct err e;

        assert_int_equal(load(&c, cases[i].text, &e), ERR_CONFIG);
        assert_memory_equal(e.text, "/some/c.yaml:", 13);
        assert_string_equal(e.text + 13, cases[i].want);
        cluster_fini(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(this_machine_alone_is_the_default),
        cmocka_unit_test(entries_are_read_with_their_defaults),
        cmocka_unit_test(hosts_decide_about_keys_roles_and_kv),
        cmocka_unit_test(bad_entries_are_refused_with_their_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
