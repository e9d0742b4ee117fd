#include "model/dtype.h"

#include <string.h>

#include "base/check.h"

/* Numbers, names and block sizes of the file format (ggml.h, ggml-common.h of llama.cpp). A type
 * that was removed from the format keeps its name, for the error, and has no block. */
#define DTYPES(X)                                                                                  \
    X(0, "F32", 1, 4, 1)                                                                           \
    X(1, "F16", 1, 2, 1)                                                                           \
    X(2, "Q4_0", 32, 18, 1)                                                                        \
    X(3, "Q4_1", 32, 20, 0)                                                                        \
    X(4, "Q4_2", 0, 0, 0)                                                                          \
    X(5, "Q4_3", 0, 0, 0)                                                                          \
    X(6, "Q5_0", 32, 22, 0)                                                                        \
    X(7, "Q5_1", 32, 24, 0)                                                                        \
    X(8, "Q8_0", 32, 34, 1)                                                                        \
    X(9, "Q8_1", 32, 36, 0)                                                                        \
    X(10, "Q2_K", 256, 84, 0)                                                                      \
    X(11, "Q3_K", 256, 110, 0)                                                                     \
    X(12, "Q4_K", 256, 144, 1)                                                                     \
    X(13, "Q5_K", 256, 176, 0)                                                                     \
    X(14, "Q6_K", 256, 210, 1)                                                                     \
    X(15, "Q8_K", 256, 292, 0)                                                                     \
    X(16, "IQ2_XXS", 256, 66, 0)                                                                   \
    X(17, "IQ2_XS", 256, 74, 0)                                                                    \
    X(18, "IQ3_XXS", 256, 98, 0)                                                                   \
    X(19, "IQ1_S", 256, 50, 0)                                                                     \
    X(20, "IQ4_NL", 32, 18, 0)                                                                     \
    X(21, "IQ3_S", 256, 110, 0)                                                                    \
    X(22, "IQ2_S", 256, 82, 0)                                                                     \
    X(23, "IQ4_XS", 256, 136, 0)                                                                   \
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
    X(34, "TQ1_0", 256, 54, 0)                                                                     \
    X(35, "TQ2_0", 256, 66, 0)                                                                     \
    X(36, "IQ4_NL_4_4", 0, 0, 0)                                                                   \
    X(37, "IQ4_NL_4_8", 0, 0, 0)                                                                   \
    X(38, "IQ4_NL_8_8", 0, 0, 0)                                                                   \
    X(39, "MXFP4", 32, 17, 0)                                                                      \
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

static void dtype_q8_0_to_f32(float *out, const uint8_t *row, size_t n)
{
    for (size_t b = 0; b < n / QK; b++, row += sizeof(struct block_q8_0)) {
        struct block_q8_0 block;
        float d;

        memcpy(&block, row, sizeof(block));
        d = dtype_f16_to_f32(block.d);
        for (size_t i = 0; i < QK; i++)
            out[b * QK + i] = d * (float)block.qs[i];
    }
}

static void dtype_q4_0_to_f32(float *out, const uint8_t *row, size_t n)
{
    for (size_t b = 0; b < n / QK; b++, row += sizeof(struct block_q4_0)) {
        struct block_q4_0 block;
        float d;

        memcpy(&block, row, sizeof(block));
        d = dtype_f16_to_f32(block.d);
        for (size_t i = 0; i < QK / 2; i++) {
            out[b * QK + i] = d * (float)((int)(block.qs[i] & 15) - 8);
            out[b * QK + i + QK / 2] = d * (float)((int)(block.qs[i] >> 4) - 8);
        }
    }
}

/* The eight 6-bit scales and minima of a K type's block, from 12 bytes: the first four of each are
 * the low bits of bytes 0..3 and 4..7; of the last four, the low nibbles (scales) and high nibbles
 * (minima) are in bytes 8..11, and their upper two bits are those of bytes 0..3 and 4..7. */
static void k_scales(uint8_t *sc, uint8_t *m, const uint8_t *s)
{
    for (size_t j = 0; j < 4; j++) {
        sc[j] = s[j] & 63;
        m[j] = s[j + 4] & 63;
        sc[j + 4] = (uint8_t)((s[j + 8] & 15) | s[j] >> 6 << 4);
        m[j + 4] = (uint8_t)(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
    }
}

void dtype_q4_k_unpack(uint8_t *q, uint8_t *sc, uint8_t *m, const struct block_q4_k *block)
{
    k_scales(sc, m, block->scales);
    for (size_t c = 0; c < 4; c++)
        for (size_t l = 0; l < 32; l++) {
            q[64 * c + l] = block->qs[32 * c + l] & 15;
            q[64 * c + 32 + l] = block->qs[32 * c + l] >> 4;
        }
}

void dtype_q6_k_unpack(uint8_t *q, const struct block_q6_k *block)
{
    for (size_t half = 0; half < 2; half++, q += 128) {
        const uint8_t *ql = block->ql + 64 * half, *qh = block->qh + 32 * half;

        for (size_t l = 0; l < 32; l++) {
            q[l] = (uint8_t)((ql[l] & 15) | (qh[l] & 3) << 4);
            q[l + 32] = (uint8_t)((ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4);
            q[l + 64] = (uint8_t)(ql[l] >> 4 | (qh[l] >> 4 & 3) << 4);
            q[l + 96] = (uint8_t)(ql[l + 32] >> 4 | qh[l] >> 6 << 4);
        }
    }
}

/* d * sc * q and dmin * m are exact: 11, 6 and 4 bits; only the difference rounds. */
static void dtype_q4_k_to_f32(float *out, const uint8_t *row, size_t n)
{
    for (size_t b = 0; b < n / QK_K; b++, row += sizeof(struct block_q4_k), out += QK_K) {
        struct block_q4_k block;
        uint8_t q[QK_K], sc[8], m[8];

        memcpy(&block, row, sizeof(block));
        dtype_q4_k_unpack(q, sc, m, &block);
        for (size_t i = 0; i < QK_K; i++)
            out[i] = dtype_f16_to_f32(block.d) * sc[i / 32] * q[i] -
                     dtype_f16_to_f32(block.dmin) * m[i / 32];
    }
}

/* Exact: 11, 7 and 5 bits. */
static void dtype_q6_k_to_f32(float *out, const uint8_t *row, size_t n)
{
    for (size_t b = 0; b < n / QK_K; b++, row += sizeof(struct block_q6_k), out += QK_K) {
        struct block_q6_k block;
        uint8_t q[QK_K];

        memcpy(&block, row, sizeof(block));
        dtype_q6_k_unpack(q, &block);
        for (size_t i = 0; i < QK_K; i++)
            out[i] = dtype_f16_to_f32(block.d) * block.scales[i / 16] * (float)(q[i] - 32);
    }
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
    case DTYPE_Q8_0:
        ASSERT(n % QK == 0);
        dtype_q8_0_to_f32(out, bytes, n);
        return;
    case DTYPE_Q4_0:
        ASSERT(n % QK == 0);
        dtype_q4_0_to_f32(out, bytes, n);
        return;
    case DTYPE_Q4_K:
        ASSERT(n % QK_K == 0);
        dtype_q4_k_to_f32(out, bytes, n);
        return;
    case DTYPE_Q6_K:
        ASSERT(n % QK_K == 0);
        dtype_q6_k_to_f32(out, bytes, n);
        return;
    case DTYPE_LIMIT:
        break;
    }
    UNREACHABLE();
}
