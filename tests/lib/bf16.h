/* bf16: plain C of what Intel's manual says TDPBF16PS and VCVTNE2PS2BF16 do. Denormals are zeros, in
 * and out. */
#ifndef TANDEM_TESTS_BF16_H
#define TANDEM_TESTS_BF16_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "model/dtype.h"

static inline float bf16_flush(float x) { return fabsf(x) < FLT_MIN ? copysignf(0, x) : x; }

static inline uint16_t bf16_round(float x) { return dtype_f32_to_bf16(bf16_flush(x)); }

/* c + the 32 products of a block: even and odd ones on their own, each by fused multiply-adds. */
static inline float bf16_add_block(float c, const uint16_t *a, const uint16_t *b)
{
    float sum[2] = {0, 0};

    for (size_t i = 0; i < 32; i++)
        sum[i % 2] = bf16_flush(fmaf(bf16_flush(dtype_bf16_to_f32(a[i])),
                                     bf16_flush(dtype_bf16_to_f32(b[i])), sum[i % 2]));
    return bf16_flush(bf16_flush(c) + bf16_flush(sum[0] + sum[1]));
}

#endif
