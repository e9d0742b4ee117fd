/* lanes_neon: what the Arm files share: ends of rows, the summing tree, the exponential. */
#ifndef TANDEM_KERNELS_ARM_LANES_NEON_H
#define TANDEM_KERNELS_ARM_LANES_NEON_H

#include <arm_neon.h>
#include <math.h>
#include <stddef.h>

#include "kernels/exp_poly.h"

/* kernels_exp of 4 lanes, the same bits in each. */
static inline float32x4_t exp_neon(float32x4_t x)
{
    const float32x4_t shift = vdupq_n_f32(EXP_SHIFT), one = vdupq_n_f32(1);
    float32x4_t t = vfmaq_f32(shift, x, vdupq_n_f32(EXP_LOG2E));
    float32x4_t n = vsubq_f32(t, shift), r, p;

    r = vfmaq_f32(x, n, vdupq_n_f32(-EXP_LN2_HI));
    r = vfmaq_f32(r, n, vdupq_n_f32(-EXP_LN2_LO));
    p = vfmaq_f32(vdupq_n_f32(EXP_C5), vdupq_n_f32(EXP_C6), r);
    p = vfmaq_f32(vdupq_n_f32(EXP_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_C2), p, r);
    p = vfmaq_f32(one, p, r);
    p = vfmaq_f32(one, p, r);
    p = vreinterpretq_f32_u32(
        vaddq_u32(vreinterpretq_u32_f32(p), vshlq_n_u32(vreinterpretq_u32_f32(t), 23)));
    p = vbslq_f32(vcltq_f32(x, vdupq_n_f32(EXP_LO)), vdupq_n_f32(0), p);
    p = vbslq_f32(vcgtq_f32(x, vdupq_n_f32(EXP_HI)), vdupq_n_f32(INFINITY), p);
    return vbslq_f32(vceqq_f32(x, x), p, x);
}

/* The sum of 16 lanes by the tree of kernels.h: j += j + 8, += 4, += 2, += 1. */
static inline float tree_sum_neon(const float32x4_t *v)
{
    float32x4_t a = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));

    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}

/* Lanes i .. i + 3 of x[n], those past n zero; and their store. */
static inline float32x4_t load_neon(const float *x, size_t n, size_t i)
{
    float end[4] = {0};

    if (i + 4 <= n)
        return vld1q_f32(x + i);
    for (size_t j = i; j < n; j++)
        end[j - i] = x[j];
    return vld1q_f32(end);
}
static inline void store_neon(float *y, size_t n, size_t i, float32x4_t v)
{
    float end[4];

    if (i + 4 <= n) {
        vst1q_f32(y + i, v);
        return;
    }
    vst1q_f32(end, v);
    for (size_t j = i; j < n; j++)
        y[j] = end[j - i];
}

/* 4 halves as f32. */
static inline float32x4_t halves_neon(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

#endif
