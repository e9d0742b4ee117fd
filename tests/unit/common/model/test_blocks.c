/* Blocks written here value by value, as the format says where each value goes, and read as f32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "model/blocks_rounded.h"

#define HALF 0x3800  /* 0.5 */
#define MINUS 0xbe00 /* -1.5 */

static void set_bits(uint8_t *byte, unsigned shift, unsigned v)
{
    *byte = (uint8_t)(*byte | v << shift);
}

/* q of weight i of a block of 32 with five bits; all values come up. */
static unsigned five(unsigned i) { return (i * 7 + 3) % 32; }

static void set_nibble(uint8_t *qs, unsigned i, unsigned v)
{
    set_bits(&qs[i % 16], i < 16 ? 0 : 4, v & 15);
}

static void test_q4_1_rows(void **state)
{
    struct block_q4_1 b = {.d = HALF, .m = MINUS};
    float out[QK];

    (void)state;
    for (unsigned i = 0; i < QK; i++)
        set_nibble(b.qs, i, five(i));
    dtype_row_to_f32(out, &b, DTYPE_Q4_1, QK);
    for (unsigned i = 0; i < QK; i++)
        assert_true(out[i] == (float)(five(i) & 15) / 2 - 1.5f);
}

static void test_q5_0_rows(void **state)
{
    struct block_q5_0 b[2] = {{.d = HALF}};
    float out[2 * QK];

    (void)state;
    for (unsigned i = 0; i < QK; i++) {
        set_nibble(b[0].qs, i, five(i));
        set_bits(&b[0].qh[i / 8], i % 8, five(i) >> 4);
    }
    b[1] = b[0];
    b[1].d = MINUS;
    dtype_row_to_f32(out, b, DTYPE_Q5_0, 2 * QK);
    for (unsigned i = 0; i < QK; i++) {
        assert_true(out[i] == ((float)five(i) - 16) / 2);
        assert_true(out[QK + i] == ((float)five(i) - 16) * -1.5f);
    }
}

static void test_q5_1_rows(void **state)
{
    struct block_q5_1 b = {.d = HALF, .m = MINUS};
    float out[QK];

    (void)state;
    for (unsigned i = 0; i < QK; i++) {
        set_nibble(b.qs, i, five(i));
        set_bits(&b.qh[i / 8], i % 8, five(i) >> 4);
    }
    dtype_row_to_f32(out, &b, DTYPE_Q5_1, QK);
    for (unsigned i = 0; i < QK; i++)
        assert_true(out[i] == (float)five(i) / 2 - 1.5f);
}

static void test_iq4_nl_rows(void **state)
{
    static const float table[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};
    struct block_iq4_nl b = {.d = HALF};
    float out[QK];

    (void)state;
    for (unsigned i = 0; i < QK; i++)
        set_nibble(b.qs, i, five(i));
    dtype_row_to_f32(out, &b, DTYPE_IQ4_NL, QK);
    for (unsigned i = 0; i < QK; i++)
        assert_true(out[i] == table[five(i) & 15] / 2);
}

/* Scales below 16 are only low bits; test_dtype.c has others, which Q4_K stores the same way. */
static void test_q5_k_rows(void **state)
{
    struct block_q5_k b = {.d = HALF, .dmin = 0x3c00 /* 1 */};
    float out[QK_K];

    (void)state;
    for (unsigned j = 0; j < 8; j++) {
        unsigned sc = j + 3, mn = 2 * j;

        if (j < 4) {
            set_bits(&b.scales[j], 0, sc);
            set_bits(&b.scales[j + 4], 0, mn);
        } else {
            set_bits(&b.scales[j + 4], 0, sc);
            set_bits(&b.scales[j + 4], 4, mn);
        }
        for (unsigned i = 0; i < 32; i++) {
            unsigned q = five(i + j);

            set_bits(&b.qs[j / 2 * 32 + i], j % 2 ? 4 : 0, q & 15);
            set_bits(&b.qh[i], j, q >> 4);
        }
    }
    dtype_row_to_f32(out, &b, DTYPE_Q5_K, QK_K);
    for (unsigned i = 0; i < QK_K; i++) {
        unsigned j = i / 32;

        assert_true(out[i] == (float)((j + 3) * five(i % 32 + j)) / 2 - (float)(2 * j));
    }
}

/* sc of block i of 16: all values of 6 bits come up in four blocks. */
static unsigned six(unsigned i, unsigned turn) { return (i * 4 + turn) % 64; }

/* q of weight i, of 3 bits. */
static unsigned three(unsigned i) { return (i * 3 + i / 32) % 8; }

static void test_q3_k_rows(void **state)
{
    (void)state;
    for (unsigned turn = 0; turn < 4; turn++) {
        struct block_q3_k b = {.d = MINUS};
        float out[QK_K];

        for (unsigned i = 0; i < 16; i++) {
            set_bits(&b.scales[i % 8], i < 8 ? 0 : 4, six(i, turn) & 15);
            set_bits(&b.scales[8 + i % 4], i / 4 * 2, six(i, turn) >> 4);
        }
        for (unsigned i = 0; i < QK_K; i++) {
            set_bits(&b.qs[i / 128 * 32 + i % 32], i % 128 / 32 * 2, three(i) & 3);
            set_bits(&b.hmask[i % 32], i / 32, three(i) >> 2);
        }
        dtype_row_to_f32(out, &b, DTYPE_Q3_K, QK_K);
        for (unsigned i = 0; i < QK_K; i++)
            assert_true(out[i] == -1.5f * ((float)six(i / 16, turn) - 32) * ((float)three(i) - 4));
    }
}

static int ternary(unsigned i) { return (int)((i * i + i / 5) % 3) - 1; }

static void test_tq2_0_rows(void **state)
{
    struct block_tq2_0 b = {.d = HALF};
    float out[QK_K];

    (void)state;
    for (unsigned i = 0; i < QK_K; i++)
        set_bits(&b.qs[i / 128 * 32 + i % 32], i % 128 / 32 * 2, (unsigned)(ternary(i) + 1));
    dtype_row_to_f32(out, &b, DTYPE_TQ2_0, QK_K);
    for (unsigned i = 0; i < QK_K; i++)
        assert_true(out[i] == (float)ternary(i) / 2);
}

/* Of 128 weights, 32 beside each other are in the same bits, the first in the upper ones. */
static void test_i2_s_rows(void **state)
{
    uint8_t row[3 * 32] = {0};
    float out[3 * QK_I2_S];

    (void)state;
    for (unsigned i = 0; i < 3 * QK_I2_S; i++)
        set_bits(&row[i / 128 * 32 + i % 32], 6 - i % 128 / 32 * 2, (unsigned)(ternary(i) + 1));
    dtype_row_to_f32(out, row, DTYPE_I2_S, 3 * QK_I2_S);
    for (unsigned i = 0; i < 3 * QK_I2_S; i++)
        assert_true(out[i] == (float)ternary(i));
}

/* A byte holds n digits of base 3, the first one highest, as a fraction of 256 rounded up; a
 * missing fifth digit is 0. Digit j of byte i is of weight j * step + i. */
static void pack_digits(uint8_t *bytes, unsigned step, unsigned n, unsigned first)
{
    for (unsigned i = 0; i < step; i++) {
        unsigned v = 0;

        for (unsigned j = 0; j < 5; j++)
            v = v * 3 + (j < n ? (unsigned)(ternary(first + j * step + i) + 1) : 0);
        bytes[i] = (uint8_t)((v * 256 + 242) / 243);
    }
}

static void test_tq1_0_rows(void **state)
{
    struct block_tq1_0 b = {.d = HALF};
    float out[QK_K];

    (void)state;
    pack_digits(b.qs, 32, 5, 0);
    pack_digits(b.qs + 32, 16, 5, 160);
    pack_digits(b.qh, 4, 4, 240);
    dtype_row_to_f32(out, &b, DTYPE_TQ1_0, QK_K);
    for (unsigned i = 0; i < QK_K; i++)
        assert_true(out[i] == (float)ternary(i) / 2);
}

static void test_every_quantised_type_is_of_one_family(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < DTYPE_LIMIT; t++) {
        const struct dtype_info *d = dtype_info(t);

        if (d && d->supported && d->block_elems > 1)
            assert_int_equal(block_is_scaled(t) + block_has_min(t) + block_is_rounded(t) +
                                 (t == DTYPE_Q6_K || t == DTYPE_Q3_K) + (t == DTYPE_I2_S),
                             1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_q4_1_rows),
        cmocka_unit_test(test_q5_0_rows),
        cmocka_unit_test(test_q5_1_rows),
        cmocka_unit_test(test_iq4_nl_rows),
        cmocka_unit_test(test_q5_k_rows),
        cmocka_unit_test(test_q3_k_rows),
        cmocka_unit_test(test_tq2_0_rows),
        cmocka_unit_test(test_i2_s_rows),
        cmocka_unit_test(test_tq1_0_rows),
        cmocka_unit_test(test_every_quantised_type_is_of_one_family),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
