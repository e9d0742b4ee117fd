#include "bench/roof.h"

#include <math.h>

#include "tests/lib/test.h"

/* Two nodes after 2 s: one counts its work, one does not. */
static void nodes_are_placed_by_what_they_told(void **state)
{
    static struct monitor_nodes m = {
        .n = 2,
        .seconds = 2,
        .list = {{.name = "decode-1",
                  .peaks = {1e6, 1e5},
                  .last = {[MONITOR_FLOPS] = 900, [MONITOR_READ] = 900},
                  .total = {[MONITOR_FLOPS] = 400, [MONITOR_READ] = 860}},
                 {.name = "old-1", .total = {[MONITOR_TOKENS] = 40, [MONITOR_STEPS] = 8}}},
    };
    struct roof r = {0};

    (void)state;
    roof_nodes(&r, &m);
    assert_int_equal(r.n, 1); /* of the other nothing is known without a model */
    assert_true(fabs(r.points[0].flops - 400 / 2.0) < 1e-9);
    assert_true(fabs(r.points[0].bytes - 860 / 2.0) < 1e-9);
    assert_true(r.peak_flops == 1e6 && r.peak_bytes == 1e5);
    r = (struct roof){.weights = 7, .weight_bytes = 3, .peak_flops = 5e6, .peak_bytes = 4e5};
    roof_nodes(&r, &m);
    assert_int_equal(r.n, 2);
    assert_true(fabs(r.points[1].flops - 2 * 7 * 40 / 2.0) < 1e-9);
    assert_true(fabs(r.points[1].bytes - 3 * 8 / 2.0) < 1e-9);
    assert_true(r.peak_flops == 5e6); /* the file's stand */
}

static void half_a_ceiling_is_none(void **state)
{
    static struct monitor_nodes m = {.n = 1, .seconds = 1, .list = {{.name = "a", .peaks = {.flops = 1e6}}}};
    struct roof r = {0};

    (void)state;
    roof_nodes(&r, &m);
    assert_true(r.peak_flops == 0 && r.peak_bytes == 0 && r.n == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_placed_by_what_they_told),
        cmocka_unit_test(half_a_ceiling_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
