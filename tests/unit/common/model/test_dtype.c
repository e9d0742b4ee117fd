#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"
#include "model/blocks.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

static uint32_t bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof(u));
    return u;
}

static float from_bits(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof(f));
    return f;
}

/* The value of a finite half by its definition. */
static double half_value(uint32_t h)
{
    int exponent = h >> 10 & 31;
    double fraction = h & 0x3ff;
    double v = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);

    return h & 0x8000 ? -v : v;
}

static bool half_is_nan(uint32_t h) { return (h & 0x7c00) == 0x7c00 && (h & 0x3ff); }

static void test_every_half_converts_exactly_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h <= 0xffff; h++) {
        float f = dtype_f16_to_f32((uint16_t)h);

        if (half_is_nan(h)) {
            assert_true(isnan(f));
            assert_int_equal(dtype_f32_to_f16(f), h | 0x200); /* quiet, else the same */
            continue;
        }
        if ((h & 0x7c00) == 0x7c00)
            assert_true(isinf(f) && !signbit(f) == !(h >> 15));
        else
            assert_true((double)f == half_value(h) && !signbit(f) == !(h >> 15));
        assert_int_equal(dtype_f32_to_f16(f), h);
    }
}

static void test_floats_round_to_the_nearest_half_ties_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) { /* each pair of neighbours, both signs */
        float middle = (float)((half_value(h) + half_value(h + 1)) / 2);
        uint32_t even = h & 1 ? h + 1 : h;

        assert_int_equal(dtype_f32_to_f16(middle), even);
        assert_int_equal(dtype_f32_to_f16(-middle), even | 0x8000);
        assert_int_equal(dtype_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(dtype_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    }
}

static void test_floats_beyond_halves_become_infinite(void **state)
{
    (void)state;
    assert_int_equal(dtype_f32_to_f16(65504), 0x7bff);
    assert_int_equal(dtype_f32_to_f16(nextafterf(65520, 0)), 0x7bff);
    assert_int_equal(dtype_f32_to_f16(65520), 0x7c00);
    assert_int_equal(dtype_f32_to_f16(-65520), 0xfc00);
    assert_int_equal(dtype_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(dtype_f32_to_f16(3.4e38f), 0x7c00);
    assert_int_equal(dtype_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(dtype_f32_to_f16(from_bits(1)), 0);
    assert_int_equal(dtype_f32_to_f16(-0.0f), 0x8000);
}

#ifdef __x86_64__
__attribute__((target("f16c"))) static void compare_with_hardware(void)
{
    for (uint32_t h = 0; h <= 0xffff; h++)
        assert_int_equal(bits(dtype_f16_to_f32((uint16_t)h)), bits(_cvtsh_ss((uint16_t)h)));
    for (uint32_t i = 0; i < 1000000; i++) {
        float f = from_bits((uint32_t)rng_u64(16, i));

        assert_int_equal(dtype_f32_to_f16(f), _cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT));
    }
}
#endif

static void test_halves_are_those_of_the_hardware(void **state)
{
    (void)state;
#ifdef __x86_64__
    if (!__builtin_cpu_supports("avx2")) /* every such CPU has F16C; clang knows no name for it */
        skip();
    compare_with_hardware();
#else
    skip();
#endif
}

static void test_bf16_is_the_upper_half_of_a_float(void **state)
{
    (void)state;
    for (uint32_t b = 0; b <= 0xffff; b++)
        assert_int_equal(bits(dtype_bf16_to_f32((uint16_t)b)), b << 16);
}

static void test_float_rows_at_any_alignment(void **state)
{
    const float want[3] = {1, -2.5f, 0.125f};
    const uint16_t f16[3] = {0x3c00, 0xc100, 0x3000}, bf16[3] = {0x3f80, 0xc020, 0x3e00};
    uint8_t row[1 + sizeof(want)];
    float out[3];

    (void)state;
    memcpy(row + 1, want, sizeof(want));
    dtype_row_to_f32(out, row + 1, DTYPE_F32, 3);
    assert_memory_equal(out, want, sizeof(want));
    memcpy(row + 1, f16, sizeof(f16));
    dtype_row_to_f32(out, row + 1, DTYPE_F16, 3);
    assert_memory_equal(out, want, sizeof(want));
    memcpy(row + 1, bf16, sizeof(bf16));
    dtype_row_to_f32(out, row + 1, DTYPE_BF16, 3);
    assert_memory_equal(out, want, sizeof(want));
}

static void test_q8_0_rows(void **state)
{
    struct block_q8_0 row[2] = {{.d = 0x3800 /* 0.5 */}, {.d = 0xbc00 /* -1 */}};
    float out[2 * QK];

    (void)state;
    for (int i = 0; i < QK; i++) {
        row[0].qs[i] = (int8_t)(i * 8 - 128);
        row[1].qs[i] = (int8_t)i;
    }
    dtype_row_to_f32(out, row, DTYPE_Q8_0, 2 * QK);
    for (int i = 0; i < QK; i++) {
        assert_true(out[i] == (float)(i * 8 - 128) / 2);
        assert_true(out[QK + i] == (float)-i);
    }
}

static void test_q4_0_rows(void **state)
{
    struct block_q4_0 row[2] = {{.d = 0x4000 /* 2 */}, {.d = 0x4000}};
    float out[2 * QK];

    (void)state;
    for (int i = 0; i < QK / 2; i++) {
        row[0].qs[i] = (uint8_t)(i | (15 - i) << 4);
        row[1].qs[i] = 0x88; /* all zero */
    }
    dtype_row_to_f32(out, row, DTYPE_Q4_0, 2 * QK);
    for (int i = 0; i < QK / 2; i++) {
        assert_true(out[i] == 2.0f * (float)(i - 8));
        assert_true(out[i + QK / 2] == 2.0f * (float)(7 - i));
        assert_true(out[QK + i] == 0 && out[QK + QK / 2 + i] == 0);
    }
}

static void set_bits(uint8_t *byte, int shift, unsigned v)
{
    *byte = (uint8_t)(*byte | v << shift);
}

/* Block j of 32 has scale 60 - 7 j and minimum 5 + 8 j, so that all of their bits are used. */
static void test_q4_k_rows(void **state)
{
    struct block_q4_k row[2] = {{.d = 0x3800 /* 0.5 */, .dmin = 0x3c00 /* 1 */}};
    float out[2 * QK_K];

    (void)state;
    for (unsigned j = 0; j < 8; j++) {
        uint8_t *s = row[0].scales;
        unsigned sc = 60 - 7 * j, mn = 5 + 8 * j;

        if (j < 4) {
            set_bits(&s[j], 0, sc);
            set_bits(&s[j + 4], 0, mn);
        } else {
            set_bits(&s[j + 4], 0, sc & 15);
            set_bits(&s[j + 4], 4, mn & 15);
            set_bits(&s[j - 4], 6, sc >> 4);
            set_bits(&s[j], 6, mn >> 4);
        }
        for (unsigned i = 0; i < 32; i++)
            set_bits(&row[0].qs[j / 2 * 32 + i], j % 2 ? 4 : 0, (i + j) & 15);
    }
    row[1] = row[0];
    row[1].d = 0xbc00; /* -1 */
    row[1].dmin = 0;
    dtype_row_to_f32(out, row, DTYPE_Q4_K, 2 * QK_K);
    for (unsigned i = 0; i < QK_K; i++) {
        float sc = 60 - 7 * (float)(i / 32), mn = 5 + 8 * (float)(i / 32);
        float q = (float)((i + i / 32) & 15);

        assert_true(out[i] == sc * q / 2 - mn);
        assert_true(out[QK_K + i] == -sc * q);
    }
}

/* Weight i is (i mod 61) - 30, block j of 16 has scale 3 j - 20. */
static void test_q6_k_rows(void **state)
{
    struct block_q6_k row[2] = {{.d = 0x3800 /* 0.5 */}};
    float out[2 * QK_K];

    (void)state;
    for (unsigned i = 0; i < QK_K; i++) {
        unsigned half = i / 128, quarter = i / 32 % 4, l = i % 32, q = i % 61 + 2;

        set_bits(&row[0].ql[64 * half + 32 * (quarter % 2) + l], quarter < 2 ? 0 : 4, q & 15);
        set_bits(&row[0].qh[32 * half + l], 2 * (int)quarter, q >> 4);
        row[0].scales[i / 16] = (int8_t)(3 * (int)(i / 16) - 20);
    }
    row[1] = row[0];
    row[1].d = 0x0001; /* the smallest subnormal */
    dtype_row_to_f32(out, row, DTYPE_Q6_K, 2 * QK_K);
    for (int i = 0; i < QK_K; i++) {
        float w = (float)((3 * (i / 16) - 20) * (i % 61 - 30));

        assert_true(out[i] == w / 2);
        assert_true(out[QK_K + i] == w * 0x1p-24f);
    }
}

/* Bytes of hex digits; returns how many. */
static size_t hex_read(uint8_t *out, size_t cap, const char *hex)
{
    size_t n = strlen(hex) / 2;

    assert_true(n <= cap);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
    return n;
}

/* Quantised by the reference, and the floats that it makes of them: tests/fixtures/blocks/generate.py. */
static void test_rows_are_the_floats_of_the_reference(void **state)
{
    static char name[16], row[1024], floats[QK_K * 8 + 1];
    FILE *f = fopen("tests/fixtures/blocks/rows.txt", "r");
    uint32_t rows = 0;

    (void)state;
    assert_non_null(f);
    for (; fscanf(f, "%15s %1023s %2048s", name, row, floats) == 3; rows++) {
        uint8_t bytes[512], want[QK_K * 4];
        float out[QK_K];
        uint32_t type = 0;

        while (!dtype_info(type) || strcmp(dtype_info(type)->name, name) != 0)
            assert_true(++type < DTYPE_LIMIT);
        assert_int_equal(hex_read(bytes, sizeof(bytes), row),
                         QK_K / dtype_info(type)->block_elems * dtype_info(type)->block_bytes);
        assert_int_equal(hex_read(want, sizeof(want), floats), sizeof(want));
        dtype_row_to_f32(out, bytes, (enum dtype)type, QK_K);
        for (size_t i = 0; i < QK_K; i++)
            assert_int_equal(bits(out[i]), (uint32_t)want[4 * i] << 24 | want[4 * i + 1] << 16 |
                                               want[4 * i + 2] << 8 | want[4 * i + 3]);
    }
    assert_int_equal(rows, 4);
    fclose(f);
}

static void test_types_have_names_and_blocks(void **state)
{
    const uint32_t removed[] = {4, 5, 31, 32, 33, 37, 38};
    const uint32_t runs[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q8_0,   DTYPE_Q4_0,
                             DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q4_K,   DTYPE_Q5_K,
                             DTYPE_Q6_K, DTYPE_TQ1_0, DTYPE_TQ2_0, DTYPE_IQ4_NL, DTYPE_I2_S,
                             DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_IQ4_XS, DTYPE_MXFP4};
    uint32_t n_known = 0, n_supported = 0;

    (void)state;
    for (uint32_t t = 0; t < 1000; t++) {
        n_known += dtype_info(t) != NULL;
        n_supported += dtype_info(t) && dtype_info(t)->supported;
    }
    assert_int_equal(n_known, 43);
    assert_int_equal(n_supported, ARRAY_LEN(runs));
    for (size_t i = 0; i < ARRAY_LEN(runs); i++)
        assert_true(dtype_info(runs[i])->supported);
    for (size_t i = 0; i < ARRAY_LEN(removed); i++)
        assert_int_equal(dtype_info(removed[i])->block_elems, 0);
    assert_string_equal(dtype_info(14)->name, "Q6_K");
    assert_null(dtype_info(43));
    assert_null(dtype_info(UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half_converts_exactly_and_back),
        cmocka_unit_test(test_floats_round_to_the_nearest_half_ties_to_even),
        cmocka_unit_test(test_floats_beyond_halves_become_infinite),
        cmocka_unit_test(test_halves_are_those_of_the_hardware),
        cmocka_unit_test(test_bf16_is_the_upper_half_of_a_float),
        cmocka_unit_test(test_float_rows_at_any_alignment),
        cmocka_unit_test(test_q8_0_rows),
        cmocka_unit_test(test_q4_0_rows),
        cmocka_unit_test(test_q4_k_rows),
        cmocka_unit_test(test_q6_k_rows),
        cmocka_unit_test(test_rows_are_the_floats_of_the_reference),
        cmocka_unit_test(test_types_have_names_and_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
