#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "router/cost.h"

#define NEAR(a, b) assert_float_equal(a, b, 1e-9)

/* A token takes 2e9 / (0.5 * 4e11) = 10 ms, a step 0.1 s, a token of KV 100 ns. */
static const struct msg_register reg = {.weight_bytes = 1000000000,
                                        .kv_token_bytes = 1000,
                                        .flops_token = 2000000000,
                                        .read_bytes_s = 10000000000,
                                        .flops_s = 400000000000};

static void test_rates_come_from_the_roofline(void **state)
{
    struct cost_model m;
    struct cost_rates r;

    (void)state;
    cost_model_init(&m, &reg);
    r = cost_rates(&m, 5);
    assert_true(r.known);
    NEAR(r.token_s, 0.01);
    NEAR(r.step_s, 0.1);
    NEAR(r.step_row_s, 0.01 + 0.1 / 32);
    NEAR(r.step_kv_s, 1e-7);
    NEAR(cost_step_s(&r, 3, 1000), 0.1 + 3 * (0.01 + 0.1 / 32) + 1e-4);
}

static void test_unknown_rates_are_those_of_a_slow_machine(void **state)
{
    struct msg_register none = {0};
    struct cost_model m;
    struct cost_rates r;

    (void)state;
    cost_model_init(&m, &none);
    r = cost_rates(&m, 0);
    assert_false(r.known);
    NEAR(r.token_s, 0.14);
    NEAR(r.step_s, 0.4);
}

static void test_what_is_seen_corrects_and_fades(void **state)
{
    struct cost_model m;
    int64_t now = CLOCK_S;

    (void)state;
    cost_model_init(&m, &reg);
    /* 512 tokens at 40 ms, four times the prediction: half of the way, in the logarithm */
    cost_saw_prompt(&m, 512, 512 * 40 * CLOCK_MS, now);
    NEAR(cost_rates(&m, now).token_s, 0.02);
    NEAR(cost_rates(&m, now).step_s, 0.1); /* the other one is as it was */
    NEAR(cost_rates(&m, now + COST_FADE_NS).token_s, 0.01 * 1.4142135623730951);
    for (int i = 0; i < 100; i++)
        cost_saw_step(&m, 2, 0, 252500000, now); /* 0.1 + 2 * 0.013125 predicted */
    assert_float_equal(cost_rates(&m, now).step_s, 0.2, 1e-6);
    assert_float_equal(cost_rates(&m, now).step_row_s, 0.02625, 1e-6);
    NEAR(cost_rates(&m, now).token_s, 0.02);
}

static void test_absurd_observations_are_bounded(void **state)
{
    struct cost_model m;

    (void)state;
    cost_model_init(&m, &reg);
    cost_saw_prompt(&m, 0, 100, 0);
    cost_saw_prompt(&m, 100, 0, 0);
    cost_saw_step(&m, 0, 0, 100, 0);
    cost_saw_step(&m, 1, 0, -5, 0);
    NEAR(cost_rates(&m, 0).token_s, 0.01);
    for (int i = 0; i < 1000; i++)
        cost_saw_prompt(&m, 1u << 20, INT64_MAX, 0);
    assert_float_equal(cost_rates(&m, 0).token_s, 0.01 * COST_X_MAX, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates_come_from_the_roofline),
        cmocka_unit_test(test_unknown_rates_are_those_of_a_slow_machine),
        cmocka_unit_test(test_what_is_seen_corrects_and_fades),
        cmocka_unit_test(test_absurd_observations_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
