#include "deploy/roster.h"

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
#include "tests/lib/data.h"

/* What roster_read makes of a file with this text. */
static int read_text(struct roster *r, const char *text, struct err *e)
{
    char file[PATH_MAX + 16];
    struct rundir d = {.path = "/tmp/tandem-test-XXXXXX"};
    FILE *f;
    int rc;

    *r = (struct roster){0};
    assert_non_null(mkdtemp(d.path));
    snprintf(file, sizeof(file), "%s/" ROSTER_FILE, d.path);
    f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    rc = roster_read(r, &d, e);
    unlink(file);
    rmdir(d.path);
    return rc;
}

static void what_up_knew_of_the_hosts_is_read_again(void **state)
{
    static const char yaml[] =
        "model: /m.gguf\nssh: ssh -p 22\nhosts:\n  - {host: local, address: 10.0.0.1}\n"
        "  - {host: a@web1, programs: /opt, model: /n.gguf, cores: '1,3-5', reserve: 2, decode: 2}\n";
    struct cluster c = {0};
    struct roster r = {0}, back;
    struct str text = {0};
    struct err e = {0};

    (void)state;
    if (cluster_load_text(&c, yaml, strlen(yaml), "c.yaml", NULL, &e))
        fail_msg("%s", e.text);
    roster_from_cluster(&r, &c);
    r.prefill = 3;
    roster_text(&r, &text);
    if (read_text(&back, str_text(&text), &e))
        fail_msg("%s", e.text);
    assert_string_equal(back.ssh, "ssh -p 22");
    assert_int_equal(back.prefill, 3);
    assert_int_equal(back.n, 2);
    assert_true(roster_has_local(&back));
    assert_int_equal(roster_find(&back, "a@web1"), 1);
    assert_string_equal(back.hosts[0].address, "10.0.0.1");
    assert_string_equal(back.hosts[0].cores, "");
    assert_false(back.hosts[0].named);
    assert_string_equal(back.hosts[1].programs, "/opt");
    assert_string_equal(back.hosts[1].model, "/n.gguf");
    assert_string_equal(back.hosts[1].cores, "1,3-5");
    assert_int_equal(back.hosts[1].reserve, 2);
    assert_true(back.hosts[1].named && back.hosts[1].decode && !back.hosts[1].prefill);
    roster_fini(&back);
    roster_fini(&r);
    str_fini(&text);
    cluster_fini(&c);
}

static void a_file_of_others_is_refused(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"hosts: [a]\n", ":1: "},
        {"{\"ssh\": \"ssh\", \"hosts\": []}", ": it names no host"},
        {"{\"hosts\": [{\"host\": \"a\", \"programs\": \"bin\"}]}",
         ": host 1 has no name or no programs"},
        {"{\"hosts\": [17]}", ": host 1 has no name or no programs"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct roster r;
        struct err e = {0};

        assert_int_equal(read_text(&r, cases[i].text, &e), ERR_FORMAT);
        assert_non_null(strstr(e.text, cases[i].want));
        roster_fini(&r);
    }
}

/* What is started later has no more than what `up` started. */
static void a_host_gives_what_its_entry_said(void **state)
{
    struct roster_host h = {.cores = "0-7,200", .reserve = 1, .named = true, .decode = true};
    struct place_host said;
    struct err e = {0};
    struct topo *t;

    (void)state;
    DATA_OR_SKIP(path, "hwloc/clx-2s-xeon8259cl-g4dnmetal.xml");
    assert_int_equal(topo_load(&t, path, &e), 0);
    assert_int_equal(roster_apply(&h, t, &said, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "no processor 200"));
    h.cores = "0-7,30";
    assert_int_equal(roster_apply(&h, t, &said, &e), 0);
    assert_int_equal(topo_core_count(t), 9);
    assert_int_equal(said.reserved_cores, 1);
    assert_true(said.explicit && said.decode.n > 0 && said.prefill.n == 0);
    h = (struct roster_host){.cores = ""};
    assert_int_equal(roster_apply(&h, t, &said, &e), 0);
    assert_int_equal(topo_core_count(t), 9);
    assert_false(said.explicit);
    topo_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_up_knew_of_the_hosts_is_read_again),
        cmocka_unit_test(a_file_of_others_is_refused),
        cmocka_unit_test(a_host_gives_what_its_entry_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
