#include "decode-node/pace.h"

#include "tests/lib/test.h"

/* Of any type and shape, units of several frames and padding included. */
static void every_layout_has_a_pace(void **state)
{
    static const uint32_t shapes[][3] = {{1, 1, 8}, {3, 2, 40}, {2, 48, 128}, {22, 4, 64}};

    (void)state;
    for (int type = 0; type < KV_TYPE_COUNT; type++)
        for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
            struct kv_layout l;

            kv_layout_init(&l, (enum kv_type)type, shapes[i][0], shapes[i][1], shapes[i][2]);
            assert_true(pace_measure(&l, l.type) > 0);
        }
}

/* Where not even a head fits into a frame nothing can come in, and nothing need be paced. */
static void what_fits_no_frame_has_none(void **state)
{
    struct kv_layout l;

    (void)state;
    kv_layout_init(&l, KV_F32, 1, 1, 4096);
    assert_int_equal(pace_measure(&l, KV_F32), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_has_a_pace),
        cmocka_unit_test(what_fits_no_frame_has_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
