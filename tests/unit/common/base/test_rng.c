#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Random123's kat_vectors, philox4x32-10: counter, key, result. */
static const struct known {
    uint32_t counter[4], key[2], out[4];
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void test_philox_gives_the_known_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        uint32_t out[4];

        rng_philox(out, known[i].counter, known[i].key);
        assert_memory_equal(out, known[i].out, sizeof(out));
    }
}

static void test_the_counter_may_be_overwritten_by_the_result(void **state)
{
    uint32_t c[4] = {0};

    (void)state;
    rng_philox(c, c, known[0].key);
    assert_memory_equal(c, known[0].out, sizeof(c));
}

static void test_u64_is_a_function_of_key_and_counter(void **state)
{
    (void)state;
    assert_true(rng_u64(0, 0) == 0xe169c58d6627e8d5u);
    assert_true(rng_u64(1, 2) == rng_u64(1, 2));
    assert_true(rng_u64(1, 2) != rng_u64(2, 1));
    assert_true(rng_u64(1, (uint64_t)1 << 32) != rng_u64(1, 0));
    assert_true(rng_u64((uint64_t)1 << 32, 1) != rng_u64(0, 1));
}

static void test_f64_is_uniform_in_0_1(void **state)
{
    uint32_t cells[16] = {0};
    double sum = 0;

    (void)state;
    for (uint64_t i = 0; i < 160000; i++) {
        double x = rng_f64(42, i);

        assert_true(x >= 0 && x < 1);
        sum += x;
        cells[(int)(x * 16)]++;
    }
    assert_true(sum / 160000 > 0.497 && sum / 160000 < 0.503); /* 4 sigma; the draws are fixed */
    for (int c = 0; c < 16; c++)
        assert_in_range(cells[c], 9600, 10400);
}

static void test_entropy_differs(void **state)
{
    (void)state;
    assert_true(rng_entropy() != rng_entropy());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_gives_the_known_answers),
        cmocka_unit_test(test_the_counter_may_be_overwritten_by_the_result),
        cmocka_unit_test(test_u64_is_a_function_of_key_and_counter),
        cmocka_unit_test(test_f64_is_uniform_in_0_1),
        cmocka_unit_test(test_entropy_differs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
