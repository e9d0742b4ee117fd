#include "tests/lib/weights.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "model/blocks.h"

const enum dtype weights_types[WEIGHTS_TYPES] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0,
                                                 DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K,
                                                 DTYPE_Q4_1, DTYPE_Q5_1, DTYPE_Q5_0, DTYPE_IQ4_NL,
                                                 DTYPE_TQ1_0, DTYPE_TQ2_0, DTYPE_I2_S, DTYPE_Q3_K,
                                                 DTYPE_Q2_K, DTYPE_IQ4_XS, DTYPE_MXFP4};

uint32_t weights_length(enum dtype type, uint32_t n_in)
{
    uint32_t elems = dtype_info(type)->block_elems;

    return (n_in + elems - 1) / elems * elems;
}

size_t weights_row_bytes(enum dtype type, size_t n_in)
{
    const struct dtype_info *info = dtype_info(type);

    return n_in / info->block_elems * info->block_bytes;
}

static float plain(uint64_t r) { return (float)((double)(r >> 11) * 0x1p-52 - 1); }

static float extreme(uint64_t r)
{
    float f = plain(r);

    switch (r & 7) {
    case 0: return 0;
    case 1: return -0.0f;
    case 2: return ldexpf(f, -130);
    case 3: return ldexpf(f, 40);
    case 4: return 1;
    default: return f;
    }
}

void weights_floats(float *x, size_t n, enum weights_kind kind, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t r = rng_u64(seed, i);

        x[i] = kind == WEIGHTS_EXTREME ? extreme(r) : plain(r);
    }
}

/* 0, the largest, the smallest denormal, the largest denormal, -1 */
static const uint16_t extreme_halves[] = {0x0000, 0x7bff, 0x0001, 0x03ff, 0xbc00, 0xfbff, 0x8000};

static uint16_t half(enum weights_kind kind, uint64_t r)
{
    return kind == WEIGHTS_EXTREME ? extreme_halves[r % ARRAY_LEN(extreme_halves)]
                                   : dtype_f32_to_f16(plain(r));
}

/* Where the f16 scales of a block are; every type has one or two. */
static void scales_of(size_t at[2], enum dtype type)
{
    size_t last = dtype_info(type)->block_bytes - 2;

    at[0] = at[1] = 0;
    if (block_has_min(type))
        at[1] = 2;
    if (type == DTYPE_Q6_K || type == DTYPE_Q3_K || type == DTYPE_TQ1_0 || type == DTYPE_TQ2_0)
        at[0] = at[1] = last;
    if (type == DTYPE_Q2_K) {
        at[0] = last - 2;
        at[1] = last;
    }
}

/* Random bytes, or runs of 4 or all of the block's at an end of their range; under scales. */
static void fill_bytes(uint8_t *block, enum dtype type, enum weights_kind kind, uint64_t seed)
{
    static const uint8_t ends[] = {0xff, 0x00, 0x0f, 0xf0, 0x7f, 0x80};
    size_t at[2], n = dtype_info(type)->block_bytes;
    uint64_t pick = rng_u64(seed, 0);

    for (size_t i = 0; i < n; i++) {
        block[i] = (uint8_t)rng_u64(seed, i + 1);
        if (kind == WEIGHTS_EXTREME)
            block[i] = ends[(pick & 1 ? rng_u64(seed, i / 4) : pick >> 8) % 6];
    }
    if (kind == WEIGHTS_EXTREME && type == DTYPE_Q6_K)
        memset(block + offsetof(struct block_q6_k, scales), ends[pick / 64 % 6], 16);
    if (type == DTYPE_I2_S)
        return; /* its scale is not in blocks */
    if (type == DTYPE_MXFP4) { /* an exponent; at most those that a half has */
        block[0] = (uint8_t)(kind == WEIGHTS_EXTREME ? 104 + pick / 64 % 2 * 39 : 118 + pick / 64 % 8);
        return;
    }
    scales_of(at, type);
    for (size_t i = 0; i < 2; i++) {
        uint16_t d = half(kind, pick >> (16 + 16 * i));

        memcpy(block + at[i], &d, 2);
    }
}

void weights_fill(void *rows, enum dtype type, size_t n_out, size_t n_in, enum weights_kind kind,
                  uint64_t seed)
{
    const struct dtype_info *info = dtype_info(type);
    uint8_t *at = rows;

    for (size_t i = 0; i < n_out * n_in / info->block_elems; i++, at += info->block_bytes) {
        uint64_t r = rng_u64(seed, i);
        float f = kind == WEIGHTS_EXTREME ? extreme(r) : plain(r);
        uint16_t h = half(kind, r);

        if (info->block_elems > 1)
            fill_bytes(at, type, kind, r);
        else if (type == DTYPE_F16)
            memcpy(at, &h, 2);
        else /* F32, or its upper half: bfloat16 */
            memcpy(at, (uint8_t *)&f + 4 - info->block_bytes, info->block_bytes);
    }
}
