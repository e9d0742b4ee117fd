#include "model/blocks_rounded.h"

#include <math.h>
#include <string.h>

/* Twice the floats of a sign, two bits of exponent and one of fraction. */
static const int8_t fp4_table[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

bool block_is_rounded(enum dtype type)
{
    return type == DTYPE_Q2_K || type == DTYPE_IQ4_XS || type == DTYPE_MXFP4;
}

/* 32 weights with one scale: w = d q. */
struct table_block {
    float d;
    int8_t q[QK];
};

static size_t from_iq4_xs(struct table_block *out, const void *bytes)
{
    struct block_iq4_xs b;

    memcpy(&b, bytes, sizeof(b));
    for (size_t j = 0; j < QK_K / QK; j++) {
        int sc = (b.scales_l[j / 2] >> j % 2 * 4 & 15) | (b.scales_h >> 2 * j & 3) << 4;

        out[j].d = dtype_f16_to_f32(b.d) * (float)(sc - 32);
        block_look_up(out[j].q, b.qs + j * QK / 2, block_iq4_table);
    }
    return QK_K / QK;
}

static size_t from_mxfp4(struct table_block *out, const void *bytes)
{
    struct block_mxfp4 b;

    memcpy(&b, bytes, sizeof(b));
    out->d = ldexpf(1, b.e - 128);
    block_look_up(out->q, b.qs, fp4_table);
    return 1;
}

/* 32 weights of two scales and minima: w = level[q], q below 4 in the first 16. */
struct level_block {
    float level[8];
    uint8_t q[QK];
};

static void from_q2_k(struct level_block *out, const void *bytes)
{
    struct block_q2_k b;
    float d, dmin;

    memcpy(&b, bytes, sizeof(b));
    d = dtype_f16_to_f32(b.d);
    dmin = dtype_f16_to_f32(b.dmin);
    for (size_t j = 0; j < QK_K / QK; j++) {
        for (size_t i = 0; i < 8; i++) {
            uint8_t scale = b.scales[2 * j + i / 4];

            out[j].level[i] = d * (float)((scale & 15) * (i % 4)) - dmin * (float)(scale >> 4);
        }
        for (size_t i = 0; i < QK; i++)
            out[j].q[i] = (uint8_t)((b.qs[j / 4 * 32 + i] >> j % 4 * 2 & 3) + i / 16 * 4);
    }
}

size_t block_rounded_to_f32(float *out, const void *block, enum dtype type)
{
    struct table_block b[QK_K / QK];
    struct level_block levels[QK_K / QK];
    size_t n;

    if (type == DTYPE_Q2_K) {
        from_q2_k(levels, block);
        for (size_t i = 0; i < QK_K; i++)
            out[i] = levels[i / QK].level[levels[i / QK].q[i % QK]];
        return QK_K;
    }
    n = type == DTYPE_IQ4_XS ? from_iq4_xs(b, block) : from_mxfp4(b, block);
    for (size_t i = 0; i < n * QK; i++)
        out[i] = b[i / QK].d * (float)b[i / QK].q[i % QK];
    return n * QK;
}

/* The largest of 32 weights is 127 steps, unless the step is a denormal half. A NaN makes the step one. */
static void round_to_q8_0(struct block_q8_0 *out, const struct level_block *b)
{
    float largest = 0, d;
    unsigned used = 0;
    int8_t steps[8];

    for (size_t i = 0; i < QK; i++)
        used |= 1u << b->q[i];
    for (size_t i = 0; i < 8; i++)
        if (used >> i & 1 && (isnan(b->level[i]) || fabsf(b->level[i]) > largest))
            largest = fabsf(b->level[i]);
    out->d = dtype_f32_to_f16(largest / 127);
    d = dtype_f16_to_f32(out->d);
    for (size_t i = 0; i < 8; i++)
        steps[i] = d > 0 ? (int8_t)fmaxf(-127, fminf(127, rintf(b->level[i] / d))) : 0;
    for (size_t i = 0; i < QK; i++)
        out->qs[i] = steps[b->q[i]];
}

size_t block_rounded_to_q8_0(struct block_q8_0 *out, const void *block, enum dtype type)
{
    struct table_block b[QK_K / QK];
    struct level_block levels[QK_K / QK];
    size_t n = 0;

    if (type == DTYPE_Q2_K) {
        for (from_q2_k(levels, block); n < QK_K / QK; n++)
            round_to_q8_0(&out[n], &levels[n]);
        return n;
    }
    n = type == DTYPE_IQ4_XS ? from_iq4_xs(b, block) : from_mxfp4(b, block);
    for (size_t j = 0; j < n; j++) {
        out[j].d = dtype_f32_to_f16(b[j].d);
        memcpy(out[j].qs, b[j].q, QK);
    }
    return n;
}
