#include "tests/lib/test.h"

#include <signal.h>

#include "base/clock.h"
#include "bench/fault.h"

static void faults_have_a_node_and_a_time(void **state)
{
    struct faults f;

    (void)state;
    assert_int_equal(faults_parse(&f, "decode:3@30s,prefill:1@250ms", "decode:2@1.5+2s", NULL),
                     ERR_OK);
    assert_int_equal(f.n, 4);
    assert_string_equal(f.list[0].node, "decode-3");
    assert_int_equal(f.list[0].signal, SIGKILL);
    assert_int_equal(f.list[0].at_ns, 30 * CLOCK_S);
    assert_string_equal(f.list[1].node, "prefill-1");
    assert_int_equal(f.list[1].at_ns, 250 * CLOCK_MS);
    assert_int_equal(f.list[2].signal, SIGSTOP);
    assert_int_equal(f.list[2].at_ns, 1500 * CLOCK_MS);
    assert_int_equal(f.list[3].signal, SIGCONT);
    assert_int_equal(f.list[3].at_ns, 3500 * CLOCK_MS);
    assert_int_equal(faults_parse(&f, "", "", NULL), ERR_OK);
    assert_int_equal(f.n, 0);
}

static void others_are_one_sentence(void **state)
{
    static const char *const bad[] = {"decode@3",     "decode:x@3",  "router:1@3",  "decode:1",
                                      "decode:1@",    "decode:1@-3", "decode:1@3h", "decode:1@3+5",
                                      "decode:1@3,,", "a:1@1,b:1@1", "decode:1@nan"};
    struct faults f;
    struct err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(faults_parse(&f, bad[i], "", &e), ERR_CONFIG);
    assert_int_equal(faults_parse(&f, "decode:1@3x", "", &e), ERR_CONFIG);
    assert_string_equal(e.text, "\"decode:1@3x\" is not ROLE:NUMBER@TIME, like decode:3@30s");
    assert_int_equal(
        faults_parse(&f, "", "decode:1@1,decode:1@2,decode:1@3,decode:1@4,decode:1@5", &e),
        ERR_CONFIG);
}

/* Nothing is signalled that was not stopped before. */
static void what_was_not_stopped_is_not_continued(void **state)
{
    struct faults f;

    (void)state;
    assert_int_equal(faults_parse(&f, "", "decode:1@0", NULL), ERR_OK);
    assert_int_equal(fault_fire(&f, 0, "http://127.0.0.1:1", NULL), ERR_NET);
    assert_int_equal(f.list[0].pid, 0);
    assert_int_equal(fault_fire(&f, 1, "http://127.0.0.1:1", NULL), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_have_a_node_and_a_time),
        cmocka_unit_test(others_are_one_sentence),
        cmocka_unit_test(what_was_not_stopped_is_not_continued),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
