#include <math.h>
#include <string.h>

#include "kernels/tiers.h"

#define LANES 16

/* Magnitudes of floats order as their bits do; and so a NaN is the largest of all and is kept. */
static float block_amax(const float *x, size_t n)
{
    uint32_t top = 0;
    float amax;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, x + i, 4);
        bits &= 0x7fffffff;
        top = bits > top ? bits : top;
    }
    memcpy(&amax, &top, 4);
    return amax;
}

void quantize_ref(struct act_q8 *a, uint32_t row, const float *x, size_t k)
{
    size_t blocks = a->k_pad / QK;
    int8_t *q = a->q + (size_t)row * a->k_pad;

    for (size_t b = 0; b < blocks; b++, q += QK) {
        size_t n = k - b * QK < QK ? k - b * QK : QK;
        float amax = block_amax(x + b * QK, n);
        float id = amax >= QUANTIZE_MIN && amax < INFINITY ? 127 / amax : 0;
        int16_t *sum = a->sum + 2 * (row * blocks + b);

        sum[0] = sum[1] = 0;
        memset(q, 0, QK);
        for (size_t i = 0; i < n && id > 0; i++) {
            q[i] = (int8_t)lrintf(x[b * QK + i] * id);
            sum[i / 16] = (int16_t)(sum[i / 16] + q[i]);
        }
        a->d[row * blocks + b] = amax / 127;
    }
}

void quantize_k_ref(struct act_q8k *a, uint32_t row, const float *x, size_t k)
{
    size_t blocks = a->k_pad / QK_K;
    int8_t *q = a->q + row * ACT_Q8K_STRIDE(a->k_pad);

    for (size_t b = 0; b < blocks; b++, q += QK_K) {
        size_t n = k - b * QK_K < QK_K ? k - b * QK_K : QK_K;
        float amax = block_amax(x + b * QK_K, n);
        float id = amax >= QUANTIZE_MIN && amax < INFINITY ? 127 / amax : 0;
        int32_t sum = 0;

        memset(q, 0, QK_K);
        for (size_t i = 0; i < n && id > 0; i++) {
            q[i] = (int8_t)lrintf(x[b * QK_K + i] * id);
            sum += q[i];
        }
        a->sum[row * blocks + b] = sum;
        a->d[row * blocks + b] = amax / 127;
    }
}

void rms_norm_ref(float *y, const float *x, const float *w, size_t n, float eps)
{
    float s[LANES] = {0}, r;

    for (size_t i = 0; i < n; i++)
        s[i % LANES] = fmaf(x[i], x[i], s[i % LANES]);
    for (size_t step = LANES / 2; step; step /= 2)
        for (size_t j = 0; j < step; j++)
            s[j] += s[j + step];
    r = 1 / sqrtf(s[0] / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * r * w[i];
}

void rope_ref(float *x, const float *cs, uint32_t n_head, uint32_t head_dim, uint32_t n_rot)
{
    for (uint32_t h = 0; h < n_head; h++, x += head_dim)
        for (uint32_t i = 0; i < n_rot; i += 2) {
            float a = x[i], b = x[i + 1];

            x[i] = fmaf(-b, cs[i + 1], a * cs[i]);
            x[i + 1] = fmaf(b, cs[i], a * cs[i + 1]);
        }
}

void silu_mul_ref(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gate[i] / (1 + kernels_exp(-gate[i])) * up[i];
}

void add_ref(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

void axpy_ref(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fmaf(a, x[i], y[i]);
}
