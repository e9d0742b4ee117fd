#include "kv/kv_unit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/check.h"

static struct kv_cut cut_of(uint32_t n_layer, uint32_t n_kv_head, uint32_t head_dim, size_t limit)
{
    struct kv_layout l;
    struct kv_cut c;

    kv_layout_init(&l, KV_F16, n_layer, n_kv_head, head_dim);
    assert_true(kv_cut_init(&c, &l, KV_F16, limit));
    return c;
}

/* Every unit's index leads back to it, and the units cover each (page, layer, head, token) once. */
static void units_cover_the_sequence_once(void **state)
{
    (void)state;
    for (uint32_t n_tokens = 1; n_tokens < 100; n_tokens++) {
        struct kv_cut c = cut_of(3, 5, 16, 2048 * 2 + 100); /* 2 heads a unit, 3 parts */
        size_t n = kv_cut_count(&c, n_tokens), cells = 0;

        assert_int_equal(c.parts, 3);
        for (size_t i = 0; i < n; i++) {
            struct kv_unit u = kv_cut_unit(&c, i, n_tokens);
            size_t back;

            assert_true(kv_cut_index(&c, &back, &u, n_tokens));
            assert_int_equal(back, i);
            cells += (size_t)u.head_count * u.n_tokens;
        }
        assert_int_equal(cells, (size_t)3 * 5 * n_tokens);
    }
}

static void anything_but_the_cut_is_refused(void **state)
{
    struct kv_cut c = cut_of(2, 4, 16, 2048 * 2);
    const struct kv_unit bad[] = {
        {.layer = 2, .page = 0, .head_first = 0, .head_count = 2, .n_tokens = 32},
        {.layer = UINT32_MAX, .page = 0, .head_first = 0, .head_count = 2, .n_tokens = 32},
        {.layer = 0, .page = 2, .head_first = 0, .head_count = 2, .n_tokens = 32},
        {.layer = 0, .page = UINT32_MAX, .head_first = 0, .head_count = 2, .n_tokens = 32},
        {.layer = 0, .page = 0, .head_first = 1, .head_count = 2, .n_tokens = 32},
        {.layer = 0, .page = 0, .head_first = 4, .head_count = 0, .n_tokens = 32},
        {.layer = 0, .page = 0, .head_first = UINT32_MAX, .head_count = 2, .n_tokens = 32},
        {.layer = 0, .page = 0, .head_first = 0, .head_count = 4, .n_tokens = 32},
        {.layer = 0, .page = 0, .head_first = 0, .head_count = 0, .n_tokens = 32},
        {.layer = 0, .page = 0, .head_first = 0, .head_count = 2, .n_tokens = 31},
        {.layer = 0, .page = 1, .head_first = 0, .head_count = 2, .n_tokens = 32},
        {.layer = 0, .page = 1, .head_first = 0, .head_count = 2, .n_tokens = 0},
    };
    size_t index;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(kv_cut_index(&c, &index, &bad[i], 40)); /* pages of 32 and 8 tokens */
}

static void a_head_larger_than_a_frame_is_refused(void **state)
{
    struct kv_layout l;
    struct kv_cut c;

    (void)state;
    kv_layout_init(&l, KV_F32, 1, 1, 2048);
    assert_false(kv_cut_init(&c, &l, KV_F32, 256 << 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_cover_the_sequence_once),
        cmocka_unit_test(anything_but_the_cut_is_refused),
        cmocka_unit_test(a_head_larger_than_a_frame_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
