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
    DTYPE_BF16 = 30,
    DTYPE_LIMIT = 64 /* one past the largest value a table needs */
};

#define QK 32 /* weights a block of Q4_0 and Q8_0, and activations a block of int8 */

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
_Static_assert(sizeof(struct block_q4_0) == 18, "Q4_0 is 18 bytes a block");
_Static_assert(sizeof(struct block_q8_0) == 34, "Q8_0 is 34 bytes a block");

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

/* out[n] = the n elements of one stored row, at any alignment; type is supported, n a multiple of
 * its block. */
void dtype_row_to_f32(float *out, const void *row, enum dtype type, size_t n);

#endif
