#include "deploy/solve.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* 64 wide, 4 heads and 2 kv heads of 16, 128 in the feed-forward, 3 layers: by hand. */
static const struct hparams tiny = {
    .n_embd = 64, .n_head = 4, .n_head_kv = 2, .head_dim = 16, .n_ff = 128, .n_layer = 3};

static void arithmetic_of_a_row(void **state)
{
    struct hparams moe = tiny;

    (void)state;
    /* q 64x64, k and v 64x32 each, o 64x64: 12,288; gate, up, down 64x128: 24,576 */
    assert_true(fabs(solve_flops_token(&tiny) - 2.0 * 3 * (12288 + 24576)) < 0.5);
    moe.n_expert = 8;
    moe.n_expert_used = 2;
    assert_true(fabs(solve_flops_token(&moe) - 2.0 * 3 * (12288 + 2 * 24576)) < 0.5);
}

static void a_core_is_measured(void **state)
{
    struct ratio_cost c = {0};
    struct err e = {0};

    (void)state;
    assert_int_equal(solve_measure(&c, CPU_REF, &e), 0);
    assert_true(c.read_bytes_s > 1e7);
    assert_true(c.flops_s > 1e6);
}

static void lengths_decide_the_share(void **state)
{
    struct solve s = {.cost = {.flops_token = 1e9, .weight_bytes = 1e9, .kv_token_bytes = 1,
                               .flops_s = 1e12, .read_bytes_s = 1e10}};
    struct str text = {0};

    (void)state;
    s.mix = (struct ratio_mix){.prompt = 100, .output = 160}; /* 0.1 s and 160 x 0.1 s / 16 = 1 s */
    solve_share(&s, 11, 16);
    assert_int_equal(s.prefill, 1);
    assert_int_equal(s.decode, 10);
    solve_print(&s, &text);
    assert_non_null(strstr(str_text(&text), "ratio auto: 1:10 for prompts of 100 and answers of 160"));
    str_fini(&text);
    s.mix.prompt = 10000; /* 10 s */
    solve_share(&s, 11, 16);
    assert_int_equal(s.prefill, 10);
    solve_share(&s, 1, 16);
    assert_int_equal(s.prefill, 1);
    assert_int_equal(s.decode, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic_of_a_row),
        cmocka_unit_test(a_core_is_measured),
        cmocka_unit_test(lengths_decide_the_share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
