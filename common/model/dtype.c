#include "model/dtype.h"

#include <string.h>

#include "base/check.h"
#include "model/blocks_rounded.h"

/* Numbers, names and block sizes of the file format (ggml.h, ggml-common.h of llama.cpp). A type
 * that was removed from the format keeps its name, for the error, and has no block. */
#define DTYPES(X)                                                                                  \
    X(0, "F32", 1, 4, 1)                                                                           \
    X(1, "F16", 1, 2, 1)                                                                           \
    X(2, "Q4_0", 32, 18, 1)                                                                        \
    X(3, "Q4_1", 32, 20, 1)                                                                        \
    X(4, "Q4_2", 0, 0, 0)                                                                          \
    X(5, "Q4_3", 0, 0, 0)                                                                          \
    X(6, "Q5_0", 32, 22, 1)                                                                        \
    X(7, "Q5_1", 32, 24, 1)                                                                        \
    X(8, "Q8_0", 32, 34, 1)                                                                        \
    X(9, "Q8_1", 32, 36, 0)                                                                        \
    X(10, "Q2_K", 256, 84, 1)                                                                      \
    X(11, "Q3_K", 256, 110, 1)                                                                     \
    X(12, "Q4_K", 256, 144, 1)                                                                     \
    X(13, "Q5_K", 256, 176, 1)                                                                     \
    X(14, "Q6_K", 256, 210, 1)                                                                     \
    X(15, "Q8_K", 256, 292, 0)                                                                     \
    X(16, "IQ2_XXS", 256, 66, 0)                                                                   \
    X(17, "IQ2_XS", 256, 74, 0)                                                                    \
    X(18, "IQ3_XXS", 256, 98, 0)                                                                   \
    X(19, "IQ1_S", 256, 50, 0)                                                                     \
    X(20, "IQ4_NL", 32, 18, 1)                                                                     \
    X(21, "IQ3_S", 256, 110, 0)                                                                    \
    X(22, "IQ2_S", 256, 82, 0)                                                                     \
    X(23, "IQ4_XS", 256, 136, 1)                                                                   \
    X(24, "I8", 1, 1, 0)                                                                           \
    X(25, "I16", 1, 2, 0)                                                                          \
    X(26, "I32", 1, 4, 0)                                                                          \
    X(27, "I64", 1, 8, 0)                                                                          \
    X(28, "F64", 1, 8, 0)                                                                          \
    X(29, "IQ1_M", 256, 56, 0)                                                                     \
    X(30, "BF16", 1, 2, 1)                                                                         \
    X(31, "Q4_0_4_4", 0, 0, 0)                                                                     \
    X(32, "Q4_0_4_8", 0, 0, 0)                                                                     \
    X(33, "Q4_0_8_8", 0, 0, 0)                                                                     \
    X(34, "TQ1_0", 256, 54, 1)                                                                     \
    X(35, "TQ2_0", 256, 66, 1)                                                                     \
    X(36, "I2_S", 128, 32, 1) /* of bitnet.cpp; llama.cpp had IQ4_NL_4_4 here, and removed it */    \
    X(37, "IQ4_NL_4_8", 0, 0, 0)                                                                   \
    X(38, "IQ4_NL_8_8", 0, 0, 0)                                                                   \
    X(39, "MXFP4", 32, 17, 1)                                                                      \
    X(40, "NVFP4", 64, 36, 0)                                                                      \
    X(41, "Q1_0", 128, 18, 0)                                                                      \
    X(42, "Q2_0", 64, 18, 0)

static const struct dtype_info dtypes[DTYPE_LIMIT] = {
#define X(number, text, elems, bytes, runs)                                                        \
    [number] = {(text), (elems), (bytes), (runs)},
    DTYPES(X)
#undef X
};

const struct dtype_info *dtype_info(uint32_t type)
{
    return type < DTYPE_LIMIT && dtypes[type].name ? &dtypes[type] : NULL;
}

float dtype_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff;
    union {
        uint32_t u;
        float f;
    } v;

    if (exponent == 31) /* infinity, or NaN: made quiet, as hardware does */
        v.u = 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0);
    else if (exponent)
        v.u = (exponent + 127 - 15) << 23 | fraction << 13;
    else
        v.f = (float)fraction * 0x1p-24f; /* subnormal or zero; the product is exact */
    v.u |= sign;
    return v.f;
}

uint16_t dtype_f32_to_f16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    uint32_t sign = v.u >> 16 & 0x8000, a = v.u & 0x7fffffff, half, rest, middle;

    if (a > 0x7f800000) /* NaN: quiet, the upper payload kept */
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x1ff));
    if (a >= 0x477ff000) /* 65520, halfway between the largest half and 2^16, and above */
        return (uint16_t)(sign | 0x7c00);
    if (a < 0x33000000) /* below 2^-25, half the smallest subnormal */
        return (uint16_t)sign;
    if (a >= 0x38800000) { /* 2^-14: a normal half */
        half = (a - 0x38000000) >> 13;
        rest = a & 0x1fff;
        middle = 0x1000;
    } else {
        uint32_t shift = 126 - (a >> 23), fraction = (a & 0x7fffff) | 0x800000;

        half = fraction >> shift; /* shift is 14..24 */
        rest = fraction & ((1u << shift) - 1);
        middle = 1u << (shift - 1);
    }
    /* to nearest, ties to even; a carry out of the fraction rightly raises the exponent */
    half += rest > middle || (rest == middle && (half & 1));
    return (uint16_t)(sign | half);
}

/* out[n_block] = the weights of a block whose weights are d q, and how many there are. */
static size_t scaled_to_f32(float *out, const uint8_t *bytes, enum dtype type)
{
    struct block_q8_0 blocks[QK_K / QK];
    size_t n = block_to_q8_0(blocks, bytes, type);

    for (size_t i = 0; i < n * QK; i++)
        out[i] = dtype_f16_to_f32(blocks[i / QK].d) * (float)blocks[i / QK].qs[i % QK];
    return n * QK;
}

/* d sc q and dmin mn are exact: 11, 6 and 5 bits; only the difference rounds. */
static size_t min_to_f32(float *out, const uint8_t *bytes, enum dtype type)
{
    struct block_min b;

    block_to_min(&b, bytes, type);
    for (size_t i = 0; i < b.n; i++)
        out[i] = dtype_f16_to_f32(b.d) * b.sc[i / QK] * b.q[i] -
                 dtype_f16_to_f32(b.dmin) * b.mn[i / QK];
    return b.n;
}

/* Exact: 11, 7 and 5 bits. */
static size_t q6_k_to_f32(float *out, const uint8_t *bytes, enum dtype type)
{
    struct block_q6_k b;
    uint8_t q[QK_K];

    block_to_q6_k(&b, bytes, type);
    block_q6_k_unpack(q, &b);
    for (size_t i = 0; i < QK_K; i++)
        out[i] = dtype_f16_to_f32(b.d) * b.scales[i / 16] * (float)(q[i] - 32);
    return QK_K;
}

static size_t i2_s_to_f32(float *out, const uint8_t *bytes)
{
    uint8_t q[QK_I2_S];

    block_ternary_unpack(q, bytes, DTYPE_I2_S, QK_I2_S);
    for (size_t i = 0; i < QK_I2_S; i++)
        out[i] = (float)(q[i] - 1);
    return QK_I2_S;
}

static void blocks_to_f32(float *out, const uint8_t *bytes, enum dtype type, size_t n)
{
    const struct dtype_info *info = dtype_info(type);

    ASSERT(n % info->block_elems == 0);
    for (float *end = out + n; out < end; bytes += info->block_bytes)
        out += type == DTYPE_I2_S    ? i2_s_to_f32(out, bytes)
               : block_is_scaled(type) ? scaled_to_f32(out, bytes, type)
               : block_has_min(type) ? min_to_f32(out, bytes, type)
               : block_is_rounded(type) ? block_rounded_to_f32(out, bytes, type)
                                        : q6_k_to_f32(out, bytes, type);
}

void dtype_row_to_f32(float *out, const void *row, enum dtype type, size_t n)
{
    const uint8_t *bytes = row;
    uint16_t h;

    switch (type) {
    case DTYPE_F32:
        memcpy(out, row, n * sizeof(float));
        return;
    case DTYPE_F16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&h, bytes + 2 * i, sizeof(h));
            out[i] = dtype_f16_to_f32(h);
        }
        return;
    case DTYPE_BF16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&h, bytes + 2 * i, sizeof(h));
            out[i] = dtype_bf16_to_f32(h);
        }
        return;
    default:
        ASSERT(dtype_info(type)->supported);
        blocks_to_f32(out, bytes, type, n);
    }
}
