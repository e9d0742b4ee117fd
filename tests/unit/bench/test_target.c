#include "tests/lib/test.h"

#include "bench/target.h"

static void targets_are_read_and_held(void **state)
{
    double ms[METRIC_COUNT] = {[METRIC_TTFT] = 500, [METRIC_TPOT] = 99, [METRIC_E2EL] = 1e6};
    struct targets t;

    (void)state;
    assert_int_equal(targets_parse(&t, "ttft:500 tpot:100.5", NULL), ERR_OK);
    assert_int_equal(t.n, 2);
    assert_true(t.ms[METRIC_TPOT] == 100.5);
    assert_true(targets_hold(&t, ms)); /* the bound itself holds */
    ms[METRIC_TPOT] = 101;
    assert_false(targets_hold(&t, ms));
    ms[METRIC_TPOT] = -1; /* a single token has none */
    assert_true(targets_hold(&t, ms));
    assert_int_equal(targets_parse(&t, "e2el:1e3,", NULL), ERR_OK);
    assert_false(targets_hold(&t, ms));
    assert_int_equal(targets_parse(&t, "", NULL), ERR_OK);
    assert_true(targets_hold(&t, ms));
}

static void others_are_one_sentence(void **state)
{
    static const char *const bad[] = {"ttft", "ttft:", "ttft:x", "tfft:5", "ttft:-1", "ttft:5ms",
                                      "ttft:5 tpot", ":5", "ttft:0", "ttft:nan"};
    struct targets t;
    struct err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(targets_parse(&t, bad[i], &e), ERR_CONFIG);
    assert_int_equal(targets_parse(&t, "ttft:5 tfft:6", &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "\"tfft:6\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_are_read_and_held),
        cmocka_unit_test(others_are_one_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
