#include "tests/lib/test.h"

#include "bench/align.h"

static const uint32_t want[] = {1, 2, 3, 4, 5, 6, 7, 8};

static void damage_is(size_t n_got, const uint32_t *got, uint64_t lost, uint64_t repeated,
                      uint64_t changed)
{
    struct alignment a = {0};

    align_add(&a, want, 8, got, n_got);
    assert_int_equal(a.lost, lost);
    assert_int_equal(a.repeated, repeated);
    assert_int_equal(a.changed, changed);
}

#define DAMAGE(lost, repeated, changed, ...)                                                       \
    damage_is(sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t),                          \
              (const uint32_t[]){__VA_ARGS__}, lost, repeated, changed)

static void what_a_fault_does_is_counted(void **state)
{
    struct alignment a = {0};

    (void)state;
    DAMAGE(0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8);
    DAMAGE(3, 0, 0, 1, 2, 3, 4, 5);                      /* it ended early */
    DAMAGE(0, 2, 0, 1, 2, 3, 4, 3, 4, 5, 6, 7, 8);       /* went on from too early */
    DAMAGE(2, 2, 0, 1, 2, 3, 4, 3, 4, 5, 6);             /* and ended early */
    DAMAGE(4, 1, 0, 1, 2, 3, 4, 3);                      /* in what it repeats */
    DAMAGE(2, 0, 0, 1, 2, 3, 6, 7, 8);                   /* a gap */
    DAMAGE(3, 0, 0, 1, 2, 3, 6, 7);                      /* a gap, and an early end */
    DAMAGE(0, 0, 5, 1, 2, 3, 91, 92, 93, 94, 95);        /* another answer */
    DAMAGE(3, 0, 2, 1, 2, 3, 91, 92);
    DAMAGE(0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8);          /* the end twice */
    DAMAGE(0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8);
    damage_is(0, want, 8, 0, 0); /* nothing came */
    align_add(&a, want, 0, want, 0);
    align_add(&a, want, 0, want, 2); /* nothing was to come */
    assert_int_equal(a.repeated + a.changed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_a_fault_does_is_counted)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
