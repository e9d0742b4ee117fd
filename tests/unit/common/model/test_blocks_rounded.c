/* Blocks written here value by value, as the format says where each value goes: read as f32, and as
 * the Q8_0 that they run as. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"
#include "model/blocks_rounded.h"

#define HALF 0x3800    /* 0.5 */
#define MINUS 0xbe00   /* -1.5 */
#define LARGEST 0x7bff /* 65504 */

static void set_bits(uint8_t *byte, unsigned shift, unsigned v)
{
    *byte = (uint8_t)(*byte | v << shift);
}

/* As the Q8_0 that it becomes. */
static void packed(float *out, const void *block, enum dtype type)
{
    struct block_q8_0 blocks[QK_K / QK];
    size_t n = block_rounded_to_q8_0(blocks, block, type);

    assert_int_equal(n * QK, dtype_info(type)->block_elems);
    dtype_row_to_f32(out, blocks, DTYPE_Q8_0, n * QK);
}

static unsigned two(unsigned i) { return (i * i + i / 7) % 4; }

static void test_q2_k_rows(void **state)
{
    struct block_q2_k b = {.d = HALF, .dmin = MINUS};
    float out[QK_K];

    (void)state;
    for (unsigned i = 0; i < 16; i++)
        b.scales[i] = (uint8_t)((15 - i) | i << 4);
    for (unsigned i = 0; i < QK_K; i++)
        set_bits(&b.qs[i / 128 * 32 + i % 32], i % 128 / 32 * 2, two(i));
    dtype_row_to_f32(out, &b, DTYPE_Q2_K, QK_K);
    for (unsigned i = 0; i < QK_K; i++)
        assert_true(out[i] == 0.5f * (float)((15 - i / 16) * two(i)) + 1.5f * (float)(i / 16));
}

static const float iq4[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* Scales 0..63 come up in eight blocks. */
static void test_iq4_xs_rows(void **state)
{
    (void)state;
    for (unsigned turn = 0; turn < 8; turn++) {
        struct block_iq4_xs b = {.d = MINUS};
        float out[QK_K], same[QK_K];

        for (unsigned j = 0; j < 8; j++) {
            unsigned sc = 8 * j + turn;

            set_bits(&b.scales_l[j / 2], j % 2 * 4, sc & 15);
            b.scales_h = (uint16_t)(b.scales_h | sc >> 4 << 2 * j);
            for (unsigned i = 0; i < QK; i++)
                set_bits(&b.qs[16 * j + i % 16], i < 16 ? 0 : 4, (i * 7 + j) % 16);
        }
        dtype_row_to_f32(out, &b, DTYPE_IQ4_XS, QK_K);
        packed(same, &b, DTYPE_IQ4_XS);
        for (unsigned i = 0; i < QK_K; i++) {
            float sc = (float)(8 * (i / 32) + turn) - 32;

            assert_true(out[i] == -1.5f * sc * iq4[(i % 32 * 7 + i / 32) % 16]);
            assert_true(same[i] == out[i]); /* few bits in d: the scale is a half */
        }
    }
}

/* A float of four bits by its definition: exponent biased by 1, denormal at 0. */
static float fp4(unsigned q)
{
    unsigned exponent = q >> 1 & 3;
    float v = exponent ? ldexpf(1 + (float)(q & 1) / 2, (int)exponent - 1) : (float)(q & 1) / 2;

    return q & 8 ? -v : v;
}

/* Every exponent; at the top, the largest floats are infinite. */
static void test_mxfp4_rows(void **state)
{
    (void)state;
    for (unsigned e = 0; e < 256; e++) {
        struct block_mxfp4 b = {.e = (uint8_t)e};
        float out[QK], same[QK];

        for (unsigned i = 0; i < QK; i++)
            set_bits(&b.qs[i % 16], i < 16 ? 0 : 4, (i * 5 + e) % 16);
        dtype_row_to_f32(out, &b, DTYPE_MXFP4, QK);
        packed(same, &b, DTYPE_MXFP4);
        for (unsigned i = 0; i < QK; i++) {
            assert_true(out[i] == (float)ldexp(fp4((i * 5 + e) % 16), (int)e - 127));
            if (e < 104) /* at most 6 * 2^-24 */
                assert_true(same[i] == 0);
            else if (e < 144)
                assert_true(same[i] == out[i]);
            else
                assert_false(isfinite(same[i]));
        }
    }
}

static void random_block(void *block, enum dtype type, uint16_t d, uint16_t dmin, uint64_t seed)
{
    uint8_t *bytes = block;

    for (size_t i = 0; i < dtype_info(type)->block_bytes; i++)
        bytes[i] = (uint8_t)rng_u64(seed, i);
    if (type == DTYPE_IQ4_XS)
        ((struct block_iq4_xs *)block)->d = d;
    else
        ((struct block_q2_k *)block)->d = d, ((struct block_q2_k *)block)->dmin = dmin;
}

/* Of 32 weights of Q2_K, half a 127th of the largest; the half of that step may be 2^-11 of it off. */
static void test_q2_k_runs_as_255_steps(void **state)
{
    static const uint16_t ds[][2] = {{HALF, HALF}, {0x2c00, 0x3555}, {LARGEST, LARGEST}, {0x211f, 0x9d3a},
                                     {LARGEST, 0xfbff}, {0, HALF}, {HALF, 0}, {0, 0}};

    (void)state;
    for (uint64_t seed = 0; seed < 64; seed++) {
        struct block_q2_k b;
        float want[QK_K], got[QK_K];

        random_block(&b, DTYPE_Q2_K, ds[seed % ARRAY_LEN(ds)][0], ds[seed % ARRAY_LEN(ds)][1], seed);
        dtype_row_to_f32(want, &b, DTYPE_Q2_K, QK_K);
        packed(got, &b, DTYPE_Q2_K);
        for (size_t j = 0; j < QK_K; j += QK) {
            float largest = 0;

            for (size_t i = j; i < j + QK; i++)
                largest = fmaxf(largest, fabsf(want[i]));
            for (size_t i = j; i < j + QK; i++)
                assert_true(fabsf(got[i] - want[i]) <= largest / 127 * 0.501f);
        }
    }
}

/* Steps below the smallest half: nothing wraps around, and what is left is no larger than it was by
 * more than that half's steps. */
static void test_q2_k_of_tiny_weights(void **state)
{
    (void)state;
    for (uint16_t d = 1; d < 64; d++) {
        struct block_q2_k b;
        float want[QK_K], got[QK_K];

        random_block(&b, DTYPE_Q2_K, d, (uint16_t)(d / 2 | 0x8000), d);
        dtype_row_to_f32(want, &b, DTYPE_Q2_K, QK_K);
        packed(got, &b, DTYPE_Q2_K);
        for (size_t i = 0; i < QK_K; i++)
            assert_true(fabsf(got[i] - want[i]) <= 64 * 0x1p-24f && got[i] * want[i] >= 0);
    }
}

/* IQ4_XS keeps its integers; the scale is off by half a step of a half. */
static void test_iq4_xs_runs_with_a_half_as_its_scale(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 64; seed++) {
        struct block_iq4_xs b;
        float want[QK_K], got[QK_K];

        random_block(&b, DTYPE_IQ4_XS, (uint16_t)(0x0801 + 977 * seed % 0x5c00), 0, seed);
        dtype_row_to_f32(want, &b, DTYPE_IQ4_XS, QK_K);
        packed(got, &b, DTYPE_IQ4_XS);
        for (size_t i = 0; i < QK_K; i++)
            assert_true(fabsf(got[i] - want[i]) <= 0x1p-11f * fabsf(want[i]));
    }
}

/* What no half holds does not become some other finite value. */
static void test_scales_beyond_a_half_and_nan_are_seen(void **state)
{
    struct block_iq4_xs b = {.d = LARGEST}; /* times -32 */
    struct block_q2_k nan = {.d = 0x7e00, .scales = {[2] = 1}};
    struct block_q2_k inf = {.d = 0x7c00, .scales = {[2] = 1}, .qs = {1}};
    float out[QK_K];

    (void)state;
    packed(out, &b, DTYPE_IQ4_XS);
    for (size_t i = 0; i < QK_K; i++)
        assert_true(isinf(out[i]) && out[i] > 0);
    packed(out, &nan, DTYPE_Q2_K);
    assert_true(isnan(out[0]) && isnan(out[QK]));
    packed(out, &inf, DTYPE_Q2_K);
    assert_false(isfinite(out[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_q2_k_rows),
        cmocka_unit_test(test_iq4_xs_rows),
        cmocka_unit_test(test_mxfp4_rows),
        cmocka_unit_test(test_q2_k_runs_as_255_steps),
        cmocka_unit_test(test_q2_k_of_tiny_weights),
        cmocka_unit_test(test_iq4_xs_runs_with_a_half_as_its_scale),
        cmocka_unit_test(test_scales_beyond_a_half_and_nan_are_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
