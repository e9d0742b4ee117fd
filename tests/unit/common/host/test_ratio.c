#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/ratio.h"

/* A 1 GFLOP, 1 GB model on a node of 1 TFLOP/s and 10 GB/s, 1 MB of KV a token: numbers by hand. */
static const struct ratio_cost node = {
    .flops_token = 1e9, .weight_bytes = 1e9, .kv_token_bytes = 1e6, .flops_s = 1e12,
    .read_bytes_s = 1e10,
};

static void times_are_those_of_the_formulas(void **state)
{
    const struct ratio_mix mix = {.prompt = 1000, .cached = 200, .output = 100};
    struct ratio_times t = ratio_times(&node, &node, &mix, 10, 0);

    (void)state;
    /* 800 tokens of 1 ms; context 1050 tokens, 1.05 GB; a step of ten 11.5 GB, 1.15 s; 100 of them
     * shared by ten. */
    assert_true(fabs(t.prefill_s - 0.8) < 1e-9);
    assert_int_equal(t.batch, 10);
    assert_true(fabs(t.decode_s - 11.5) < 1e-9);
    /* 0.5 s a step: 5 GB, 1 GB of weights leave room for three contexts. */
    t = ratio_times(&node, &node, &mix, 10, 0.5);
    assert_int_equal(t.batch, 3);
    assert_true(fabs(t.decode_s - 100 * (1e9 / 3 + 1.05e9) / 1e10) < 1e-9);
    /* A target that even one sequence misses: one. A prompt held whole: one token is computed. */
    t = ratio_times(&node, &node, &(struct ratio_mix){1000, 1000, 100}, 10, 0.01);
    assert_int_equal(t.batch, 1);
    assert_true(fabs(t.prefill_s - 0.001) < 1e-12);
}

static void nodes_are_shared_so_that_the_slower_pool_is_fastest(void **state)
{
    struct ratio_times t = {.prefill_s = 1, .decode_s = 3};

    (void)state;
    assert_int_equal(ratio_prefill_nodes(&t, 8), 2);
    assert_int_equal(ratio_prefill_nodes(&t, 4), 1);
    assert_int_equal(ratio_prefill_nodes(&t, 2), 1);
    t.decode_s = 1000;
    assert_int_equal(ratio_prefill_nodes(&t, 8), 1);
    t.decode_s = 1e-6;
    assert_int_equal(ratio_prefill_nodes(&t, 8), 7);
    /* Against trying every split. */
    for (double d = 0.05; d < 20; d *= 1.1)
        for (uint32_t n = 2; n < 40; n++) {
            uint32_t got, best = 1;

            t.decode_s = d;
            got = ratio_prefill_nodes(&t, n);
            for (uint32_t p = 1; p < n; p++)
                if (ratio_bound(&t, p, n - p) < ratio_bound(&t, best, n - best))
                    best = p;
            assert_true(ratio_bound(&t, got, n - got) <=
                        ratio_bound(&t, best, n - best) * (1 + 1e-12));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_those_of_the_formulas),
        cmocka_unit_test(nodes_are_shared_so_that_the_slower_pool_is_fastest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
