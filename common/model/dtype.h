/* dtype: the number formats of GGUF tensors. Values are those of the format. What is in the blocks
 * of a quantised type, blocks.h says. */
#ifndef TANDEM_MODEL_DTYPE_H
#define TANDEM_MODEL_DTYPE_H

#include <stddef.h>
#include <stdint.h>

enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16 = 1,
    DTYPE_Q4_0 = 2,
    DTYPE_Q4_1 = 3,
    DTYPE_Q5_0 = 6,
    DTYPE_Q5_1 = 7,
    DTYPE_Q8_0 = 8,
    DTYPE_Q2_K = 10,
    DTYPE_Q3_K = 11,
    DTYPE_Q4_K = 12,
    DTYPE_Q5_K = 13,
    DTYPE_Q6_K = 14,
    DTYPE_IQ4_NL = 20,
    DTYPE_IQ4_XS = 23,
    DTYPE_BF16 = 30,
    DTYPE_TQ1_0 = 34,
    DTYPE_TQ2_0 = 35,
    DTYPE_I2_S = 36,
    DTYPE_MXFP4 = 39,
    DTYPE_LIMIT = 64 /* one past the largest value a table needs */
};

#define QK 32    /* weights a block of the types without K, and activations a block of int8 */
#define QK_I2_S 128 /* weights a block of that type */
#define QK_K 256 /* weights a block of the K and T types and IQ4_XS; it has blocks of 32 or 16 of its own */

struct dtype_info {
    const char *name;     /* "Q4_0" */
    uint32_t block_elems; /* 0: removed from the format, only the name is left */
    uint32_t block_bytes;
    int supported; /* the engine runs it */
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

/* Nearest even; a NaN stays one. */
static inline uint16_t dtype_f32_to_bf16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};

    if ((v.u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(v.u >> 16 | 0x40);
    return (uint16_t)((v.u + 0x7fff + (v.u >> 16 & 1)) >> 16);
}

/* Bytes after a tensor's rows, of all its matrices: of I2_S 32, which begin with its one scale, f32. */
static inline size_t dtype_tail_bytes(uint32_t type) { return type == DTYPE_I2_S ? 32 : 0; }

/* out[n] = the n elements of one stored row, at any alignment; type is supported, n a multiple of
 * its block. Of I2_S without the tensor's scale: -1, 0 or 1. */
void dtype_row_to_f32(float *out, const void *row, enum dtype type, size_t n);

#endif
