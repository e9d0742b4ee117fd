#include <string.h>

#include "kernels/arm/lanes_neon.h"
#include "kernels/tiers.h"

void quantize_neon(struct act_q8 *a, uint32_t row, const float *x, size_t k)
{
    const uint32x4_t magnitude = vdupq_n_u32(0x7fffffff);
    size_t blocks = a->k_pad / QK;
    int8_t *q = a->q + (size_t)row * a->k_pad;

    for (size_t b = 0; b < blocks; b++, q += QK) {
        uint32x4_t bits = vdupq_n_u32(0);
        int16x8_t half[4];
        float32x4_t v[8];
        uint32_t top;
        float amax, id = 0;

        for (size_t j = 0; j < 8; j++) {
            v[j] = load_neon(x, k, b * QK + 4 * j);
            bits = vmaxq_u32(bits, vandq_u32(vreinterpretq_u32_f32(v[j]), magnitude));
        }
        top = vmaxvq_u32(bits);
        memcpy(&amax, &top, 4);
        if (amax >= QUANTIZE_MIN && amax < INFINITY)
            id = 127 / amax;
        else
            memset(v, 0, sizeof(v)); /* 0 * NaN is a NaN */
        for (size_t j = 0; j < 4; j++)
            half[j] = vcombine_s16(vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(v[2 * j], id))),
                                   vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(v[2 * j + 1], id))));
        for (size_t j = 0; j < 2; j++) {
            vst1q_s8(q + 16 * j, vcombine_s8(vmovn_s16(half[2 * j]), vmovn_s16(half[2 * j + 1])));
            a->sum[2 * (row * blocks + b) + j] = vaddvq_s16(
                vaddq_s16(half[2 * j], half[2 * j + 1]));
        }
        a->d[row * blocks + b] = amax / 127;
    }
}

void quantize_k_neon(struct act_q8k *a, uint32_t row, const float *x, size_t k)
{
    const uint32x4_t magnitude = vdupq_n_u32(0x7fffffff);
    size_t blocks = a->k_pad / QK_K;
    int8_t *q = a->q + row * ACT_Q8K_STRIDE(a->k_pad);

    for (size_t b = 0; b < blocks; b++, q += QK_K) {
        size_t n = k - b * QK_K < QK_K ? k - b * QK_K : QK_K;
        uint32x4_t bits = vdupq_n_u32(0);
        int32x4_t sum = vdupq_n_s32(0);
        uint32_t top;
        float amax;

        for (size_t i = 0; i < n; i += 4)
            bits = vmaxq_u32(
                bits, vandq_u32(vreinterpretq_u32_f32(load_neon(x + b * QK_K, n, i)), magnitude));
        top = vmaxvq_u32(bits);
        memcpy(&amax, &top, 4);
        memset(q, 0, QK_K);
        for (size_t i = 0; amax >= QUANTIZE_MIN && amax < INFINITY && i < n; i += 8) {
            int32x4_t v[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};

            for (size_t j = 0; j < 2 && i + 4 * j < n; j++)
                v[j] = vcvtnq_s32_f32(
                    vmulq_n_f32(load_neon(x + b * QK_K, n, i + 4 * j), 127 / amax));
            sum = vaddq_s32(sum, vaddq_s32(v[0], v[1]));
            vst1_s8(q + i, vmovn_s16(vcombine_s16(vmovn_s32(v[0]), vmovn_s32(v[1]))));
        }
        a->d[row * blocks + b] = amax / 127;
        a->sum[row * blocks + b] = vaddvq_s32(sum);
    }
}

void rms_norm_neon(float *y, const float *x, const float *w, size_t n, float eps)
{
    float32x4_t s[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    float r;

    for (size_t i = 0; i < n; i += 16)
        for (size_t j = 0; j < 4; j++) {
            float32x4_t v = load_neon(x, n, i + 4 * j);

            s[j] = vfmaq_f32(s[j], v, v);
        }
    r = 1 / sqrtf(tree_sum_neon(s) / (float)n + eps);
    for (size_t i = 0; i < n; i += 4)
        store_neon(y, n, i, vmulq_f32(vmulq_n_f32(load_neon(x, n, i), r), load_neon(w, n, i)));
}

void rope_neon(float *x, const float *cs, uint32_t n_head, uint32_t head_dim, uint32_t n_rot)
{
    /* The sign of b in even lanes: a' takes -b sin, b' takes +b cos. */
    const uint32x4_t sign = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000));

    for (uint32_t h = 0; h < n_head; h++, x += head_dim)
        for (uint32_t i = 0; i < n_rot; i += 4) {
            float32x4_t v = load_neon(x, n_rot, i), c = load_neon(cs, n_rot, i);
            float32x4_t a = vtrn1q_f32(v, v), b = vtrn2q_f32(v, v);

            b = vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(b), sign));
            store_neon(x, n_rot, i, vfmaq_f32(vmulq_f32(a, c), b, vrev64q_f32(c)));
        }
}

void silu_mul_neon(float *y, const float *gate, const float *up, size_t n)
{
    const float32x4_t one = vdupq_n_f32(1);

    for (size_t i = 0; i < n; i += 4) {
        float32x4_t g = load_neon(gate, n, i);
        float32x4_t s = vaddq_f32(one, exp_neon(vnegq_f32(g)));

        store_neon(y, n, i, vmulq_f32(vdivq_f32(g, s), load_neon(up, n, i)));
    }
}

void add_neon(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        store_neon(y, n, i, vaddq_f32(load_neon(y, n, i), load_neon(x, n, i)));
}

void axpy_neon(float *y, float a, const float *x, size_t n)
{
    const float32x4_t va = vdupq_n_f32(a);

    for (size_t i = 0; i < n; i += 4)
        store_neon(y, n, i, vfmaq_f32(load_neon(y, n, i), va, load_neon(x, n, i)));
}
