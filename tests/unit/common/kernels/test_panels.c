#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "kernels/panels.h"
#include "model/blocks_rounded.h"
#include "tests/lib/guard.h"
#include "tests/lib/weights.h"

typedef void panels_init_fn(struct panels *p, enum dtype type, uint32_t n_out, uint32_t n_in);

/* What is packed of a type without a form of its values: the Q8_0 that its blocks become. */
static void rounded_row(float *out, const uint8_t *row, enum dtype type, size_t n_in)
{
    const struct dtype_info *info = dtype_info(type);
    struct block_q8_0 blocks[QK_K / QK];

    for (size_t i = 0; i < n_in; i += info->block_elems, row += info->block_bytes) {
        assert_int_equal(block_rounded_to_q8_0(blocks, row, type), info->block_elems / QK);
        dtype_row_to_f32(out + i, blocks, DTYPE_Q8_0, info->block_elems);
    }
}

static void check_rows(enum dtype type, uint32_t n_out, uint32_t n_in, enum weights_kind kind,
                       panels_init_fn *init)
{
    struct guard rows, data, out;
    struct panels p;
    size_t row_bytes = weights_row_bytes(type, n_in);
    float *want = mem_calloc(n_in, sizeof(float));

    guard_open(&rows, n_out * row_bytes);
    weights_fill(rows.data, type, n_out, n_in, kind, n_out * 1000 + n_in);
    init(&p, type, n_out, n_in);
    assert_null(p.data);
    assert_int_equal(p.n_panels, (n_out + 15) / 16);
    assert_int_equal(p.panel_bytes % 64, 0);
    p.data = guard_open(&data, panels_bytes(&p));
    panels_pack(&p, rows.data, 0, p.n_panels);
    guard_open(&out, n_in * sizeof(float));
    for (uint32_t r = 0; r < n_out; r++) {
        if (block_is_rounded(type))
            rounded_row(want, (uint8_t *)rows.data + r * row_bytes, type, n_in);
        else
            dtype_row_to_f32(want, rows.data + r * row_bytes, type, n_in);
        panels_row((float *)out.data, &p, r);
        assert_memory_equal(out.data, want, n_in * sizeof(float));
    }
    guard_close(&out);
    guard_close(&data);
    guard_close(&rows);
    mem_free(want);
}

static void test_a_packed_row_is_the_files_row(void **state)
{
    static const uint32_t outs[] = {1, 2, 15, 16, 17, 33, 65};
    static panels_init_fn *const inits[] = {panels_init, panels_init_by_rows};

    (void)state;
    for (size_t t = 0; t < WEIGHTS_TYPES; t++)
        for (size_t i = 0; i < ARRAY_LEN(outs); i++)
            for (uint32_t blocks = 1; blocks < 6; blocks++)
                for (int kind = 0; kind < 2 * WEIGHTS_KIND_COUNT; kind++)
                    check_rows(weights_types[t], outs[i],
                               blocks * weights_length(weights_types[t], QK),
                               (enum weights_kind)(kind / 2), inits[kind % 2]);
}

static void test_float_rows_may_have_any_length(void **state)
{
    (void)state;
    for (uint32_t n_in = 1; n_in < 40; n_in++) {
        check_rows(DTYPE_F32, 19, n_in, WEIGHTS_PLAIN, panels_init);
        check_rows(DTYPE_F16, 19, n_in, WEIGHTS_PLAIN, panels_init);
        check_rows(DTYPE_BF16, 19, n_in, WEIGHTS_PLAIN, panels_init);
    }
}

/* A thread packs its own range and touches nothing of its neighbours. */
static void test_ranges_pack_to_the_same_bytes(void **state)
{
    (void)state;
    for (size_t t = 0; t < WEIGHTS_TYPES; t++) {
        uint32_t n_in = weights_length(weights_types[t], 96);
        struct panels whole, parts;
        size_t bytes;
        void *rows = mem_alloc(57 * weights_row_bytes(weights_types[t], n_in));

        weights_fill(rows, weights_types[t], 57, n_in, WEIGHTS_PLAIN, 7);
        panels_init(&whole, weights_types[t], 57, n_in);
        parts = whole;
        bytes = panels_bytes(&whole);
        whole.data = mem_aligned(bytes, 64);
        parts.data = mem_aligned(bytes, 64);
        memset(parts.data, 0xa5, bytes);
        panels_pack(&whole, rows, 0, 4);
        panels_pack(&parts, rows, 2, 3);
        for (size_t i = 0; i < 2 * whole.panel_bytes; i++)
            assert_int_equal(parts.data[i], 0xa5);
        for (size_t i = 3 * whole.panel_bytes; i < bytes; i++)
            assert_int_equal(parts.data[i], 0xa5);
        panels_pack(&parts, rows, 0, 2);
        panels_pack(&parts, rows, 3, 4);
        assert_memory_equal(parts.data, whole.data, bytes);
        mem_free(whole.data);
        mem_free(parts.data);
        mem_free(rows);
    }
}

/* What is read per token at decode: 34 and 18 bytes a block of 32, padding aside; of K types 2.8 %
 * and 1 % more than in the file, of TQ2_0 3 %. */
static void test_packing_adds_less_than_a_line_a_panel(void **state)
{
    struct panels p;

    (void)state;
    panels_init(&p, DTYPE_Q8_0, 16, 96);
    assert_int_equal(p.panel_bytes, 3 * 544 + 32);
    panels_init(&p, DTYPE_Q8_0, 16, 128);
    assert_int_equal(p.panel_bytes, 4 * 544);
    panels_init(&p, DTYPE_Q4_0, 16, 128);
    assert_int_equal(p.panel_bytes, 4 * 288);
    panels_init(&p, DTYPE_Q4_K, 16, 512);
    assert_int_equal(p.panel_bytes, 2 * 2368);
    panels_init(&p, DTYPE_Q6_K, 16, 512);
    assert_int_equal(p.panel_bytes, 2 * 3392);
    panels_init(&p, DTYPE_TQ2_0, 16, 512);
    assert_int_equal(p.panel_bytes, 2 * 1088);
    panels_init(&p, DTYPE_F16, 16, 5);
    assert_int_equal(p.panel_bytes, 3 * 64);
}

/* Weights are in memory once, in at most 1.07 times the bytes of the file. */
static void test_a_matrix_is_little_larger_than_in_the_file(void **state)
{
    static const enum dtype types[] = {DTYPE_Q4_0, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K,
                                       DTYPE_F16,  DTYPE_BF16, DTYPE_F32};
    static panels_init_fn *const inits[] = {panels_init, panels_init_by_rows};

    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(types); t++)
        for (size_t i = 0; i < ARRAY_LEN(inits); i++) {
            struct panels p;

            inits[i](&p, types[t], 2048, 2048);
            assert_true((double)panels_bytes(&p) <= 1.07 * 2048 * (double)weights_row_bytes(types[t], 2048));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_packed_row_is_the_files_row),
        cmocka_unit_test(test_float_rows_may_have_any_length),
        cmocka_unit_test(test_ranges_pack_to_the_same_bytes),
        cmocka_unit_test(test_packing_adds_less_than_a_line_a_panel),
        cmocka_unit_test(test_a_matrix_is_little_larger_than_in_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
