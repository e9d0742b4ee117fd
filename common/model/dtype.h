/* dtype: the number formats of GGUF tensors and their blocks. Values are those of the format. */
#ifndef TANDEM_MODEL_DTYPE_H
#define TANDEM_MODEL_DTYPE_H

#include <stddef.h>
#include <stdint.h>

enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16 = 1,
    DTYPE_Q4_0 = 2,
    DTYPE_Q8_0 = 8,
    DTYPE_Q4_K = 12,
    DTYPE_Q6_K = 14,
    DTYPE_BF16 = 30,
    DTYPE_LIMIT = 64 /* one past the largest value a table needs */
};

#define QK 32    /* weights a block of Q4_0 and Q8_0, and activations a block of int8 */
#define QK_K 256 /* weights a block of a K type; it has blocks of 32 or 16 of its own */

/* d: f16 scale. w[i] = d * (nibble - 8); byte i holds w[i] low and w[i + 16] high. */
struct block_q4_0 {
    uint16_t d;
    uint8_t qs[QK / 2];
};
/* w[i] = d * qs[i] */
struct block_q8_0 {
    uint16_t d;
    int8_t qs[QK];
};
/* 8 blocks of 32: w[i] = d * sc[j] * nibble - dmin * m[j], j = i / 32. sc and m have 6 bits and lie
 * in scales[12]; qs holds the blocks 2c and 2c + 1 as low and high nibbles of bytes 32c .. 32c + 31. */
struct block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[QK_K / 2];
};
/* 16 blocks of 16: w[i] = d * sc[i / 16] * (q - 32), q of 6 bits. In each half of 128, with l < 32:
 * the low nibbles of ql[l], ql[l + 32] and then the high nibbles are q's low bits of i = l, l + 32,
 * l + 64, l + 96, and qh[l] holds the upper two bits of these, lowest first. */
struct block_q6_k {
    uint8_t ql[QK_K / 2];
    uint8_t qh[QK_K / 4];
    int8_t scales[QK_K / 16];
    uint16_t d;
};
_Static_assert(sizeof(struct block_q4_0) == 18, "Q4_0 is 18 bytes a block");
_Static_assert(sizeof(struct block_q8_0) == 34, "Q8_0 is 34 bytes a block");
_Static_assert(sizeof(struct block_q4_k) == 144, "Q4_K is 144 bytes a block");
_Static_assert(sizeof(struct block_q6_k) == 210, "Q6_K is 210 bytes a block");

struct dtype_info {
    const char *name;     /* "Q4_0" */
    uint32_t block_elems; /* 0: removed from the format, only the name is left */
    uint32_t block_bytes;
    int supported; /* the engine has kernels for it */
};

/* NULL for a number that is no type of the format. Known types we cannot run have supported = 0. */
const struct dtype_info *dtype_info(uint32_t type);

/* IEEE half and bfloat16, exact to f32; f32 to half rounds to nearest even, NaN stays NaN. */
float dtype_f16_to_f32(uint16_t h);
uint16_t dtype_f32_to_f16(float f);
static inline float dtype_bf16_to_f32(uint16_t b)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)b << 16};

    return v.f;
}

/* The integers of a block: q[256] of 0..15, and the 6-bit scales and minima of its 8 blocks. */
void dtype_q4_k_unpack(uint8_t *q, uint8_t *sc, uint8_t *m, const struct block_q4_k *block);

/* The integers of a block: q[256] of 0..63, from which the format takes 32. */
void dtype_q6_k_unpack(uint8_t *q, const struct block_q6_k *block);

/* out[n] = the n elements of one stored row, at any alignment; type is supported, n a multiple of
 * its block. */
void dtype_row_to_f32(float *out, const void *row, enum dtype type, size_t n);

#endif
