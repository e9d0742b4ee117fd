#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kv/prefix.h"
#include "router/prefix_index.h"

static void test_longest_leading_run(void **state)
{
    struct prefix_index x = {0};
    uint32_t total = 0, names[] = {70, 0, 134, 6};

    (void)state;
    assert_int_equal(prefix_index_run(&x, names, 4), 0);
    for (int i = 0; i < 4; i++)
        prefix_index_add(&x, names[i], &total);
    prefix_index_add(&x, 70, &total); /* twice is once */
    assert_int_equal(total, 4);
    assert_int_equal(prefix_index_run(&x, names, 4), 4);
    assert_int_equal(prefix_index_run(&x, names, 2), 2);
    prefix_index_remove(&x, 134, &total);
    prefix_index_remove(&x, 999, &total);
    assert_int_equal(prefix_index_run(&x, names, 4), 2);
    prefix_index_reset(&x, &total);
    assert_int_equal(total, 0);
    assert_int_equal(prefix_index_run(&x, names, 4), 0);
    prefix_index_fini(&x);
}

/* Against a plain table: names of few bits, so that runs of slots are long and removals close gaps. */
static void test_agrees_with_a_plain_set(void **state)
{
    static bool there[512];
    struct prefix_index x = {0};
    uint32_t total = 0, n = 0;

    (void)state;
    for (uint32_t i = 0; i < 200000; i++) {
        uint64_t r = rng_u64(1, i);
        uint32_t slot = (uint32_t)(r % 512), name = slot % 16 + (slot / 16) * 0x10000 + 1;
        bool add = (r >> 32) % 3 < (i / 20000) % 3;

        add ? prefix_index_add(&x, name, &total) : prefix_index_remove(&x, name, &total);
        n += add && !there[slot];
        n -= !add && there[slot];
        there[slot] = add;
        assert_int_equal(x.n, n);
        if (i % 1000 == 0) {
            for (slot = 0; slot < 512; slot++) {
                name = slot % 16 + (slot / 16) * 0x10000 + 1;
                assert_int_equal(prefix_index_run(&x, &name, 1), there[slot]);
            }
            assert_true(x.cap <= 64 || x.cap <= 8 * x.n + 8);
        }
    }
    assert_int_equal(total, n);
    prefix_index_fini(&x);
}

static void test_memory_is_bounded(void **state)
{
    struct prefix_index x = {0};
    uint32_t total = 0;

    (void)state;
    for (uint32_t i = 0; i < PREFIX_INDEX_MAX + 1000; i++)
        prefix_index_add(&x, i + 1, &total);
    assert_int_equal(x.n, PREFIX_INDEX_MAX);
    assert_int_equal(x.cap, 2 * PREFIX_INDEX_MAX);
    total = PREFIX_INDEX_TOTAL;
    prefix_index_remove(&x, 1, &total);
    assert_int_equal(total, PREFIX_INDEX_TOTAL - 1);
    total++;
    prefix_index_add(&x, 1, &total);
    assert_int_equal(x.n, PREFIX_INDEX_MAX - 1);
    prefix_index_fini(&x);
}

static void test_names_are_those_of_the_cache(void **state)
{
    uint32_t tokens[100], names[3] = {0}, again[3] = {0};
    uint64_t a, b, end;

    (void)state;
    for (uint32_t i = 0; i < 100; i++)
        tokens[i] = i * 7;
    end = prefix_index_names(names, 0, 42, tokens, 100);
    a = prefix_name(42, tokens);
    b = prefix_name(a, tokens + 32);
    assert_int_equal(names[0], (uint32_t)a);
    assert_int_equal(names[1], (uint32_t)b);
    assert_true(end == prefix_name(b, tokens + 64));
    /* as a stream grows */
    a = prefix_index_names(again, 0, 42, tokens, 40);
    assert_true(prefix_index_names(again, 1, a, tokens, 96) == end);
    assert_memory_equal(names, again, sizeof(names));
    prefix_index_names(again, 0, 43, tokens, 100);
    assert_true(names[0] != again[0]); /* another tenant */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_longest_leading_run),
        cmocka_unit_test(test_agrees_with_a_plain_set),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_names_are_those_of_the_cache),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
