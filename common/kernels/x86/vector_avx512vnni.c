#include <string.h>

#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"

void quantize_avx512vnni(struct act_q8 *a, uint32_t row, const float *x, size_t k)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    size_t blocks = a->k_pad / QK;
    int8_t *q = a->q + (size_t)row * a->k_pad;

    for (size_t b = 0; b < blocks; b++, x += QK, q += QK) {
        size_t n = k - b * QK;
        __m512 lo = _mm512_maskz_loadu_ps(lanes_avx512(n), x);
        __m512 hi = _mm512_maskz_loadu_ps(lanes_avx512(n < 16 ? 0 : n - 16), x + 16);
        __m512i bits = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(lo), magnitude),
                                        _mm512_and_si512(_mm512_castps_si512(hi), magnitude));
        uint32_t top = _mm512_reduce_max_epu32(bits);
        __m512i qlo = _mm512_setzero_si512(), qhi = qlo;
        float amax;

        memcpy(&amax, &top, 4);
        if (amax >= QUANTIZE_MIN && amax < INFINITY) {
            __m512 id = _mm512_set1_ps(127 / amax);

            qlo = _mm512_cvtps_epi32(_mm512_mul_ps(lo, id));
            qhi = _mm512_cvtps_epi32(_mm512_mul_ps(hi, id));
        }
        _mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(qlo));
        _mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(qhi));
        a->d[row * blocks + b] = amax / 127;
        a->sum[2 * (row * blocks + b)] = (int16_t)_mm512_reduce_add_epi32(qlo);
        a->sum[2 * (row * blocks + b) + 1] = (int16_t)_mm512_reduce_add_epi32(qhi);
    }
}

void quantize_k_avx512vnni(struct act_q8k *a, uint32_t row, const float *x, size_t k)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    size_t blocks = a->k_pad / QK_K;
    int8_t *q = a->q + row * ACT_Q8K_STRIDE(a->k_pad);

    for (size_t b = 0; b < blocks; b++, x += QK_K, q += QK_K) {
        size_t n = k - b * QK_K;
        __m512i bits = _mm512_setzero_si512(), sum = bits;
        uint32_t top;
        float amax;

        for (size_t i = 0; i < QK_K && i < n; i += 16) {
            __m512 v = _mm512_maskz_loadu_ps(lanes_avx512(n - i), x + i);

            bits = _mm512_max_epu32(bits, _mm512_and_si512(_mm512_castps_si512(v), magnitude));
        }
        top = _mm512_reduce_max_epu32(bits);
        memcpy(&amax, &top, 4);
        for (size_t i = 0; i < QK_K; i += 16) {
            __m512i v = _mm512_setzero_si512();

            if (amax >= QUANTIZE_MIN && amax < INFINITY && i < n)
                v = _mm512_cvtps_epi32(_mm512_mul_ps(
                    _mm512_maskz_loadu_ps(lanes_avx512(n - i), x + i), _mm512_set1_ps(127 / amax)));
            sum = _mm512_add_epi32(sum, v);
            _mm_storeu_si128((__m128i *)(q + i), _mm512_cvtepi32_epi8(v));
        }
        a->d[row * blocks + b] = amax / 127;
        a->sum[row * blocks + b] = _mm512_reduce_add_epi32(sum);
    }
}

void rms_norm_avx512vnni(float *y, const float *x, const float *w, size_t n, float eps)
{
    __m512 s = _mm512_setzero_ps(), r;

    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(lanes_avx512(n - i), x + i);

        s = _mm512_fmadd_ps(v, v, s);
    }
    r = _mm512_set1_ps(1 / sqrtf(tree_sum_avx512(s) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = lanes_avx512(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), r);

        _mm512_mask_storeu_ps(y + i, lanes,
                              _mm512_mul_ps(v, _mm512_maskz_loadu_ps(lanes, w + i)));
    }
}

void rope_avx512vnni(float *x, const float *cs, uint32_t n_head, uint32_t head_dim, uint32_t n_rot)
{
    /* The sign of b in even lanes: a' takes -b sin, b' takes +b cos. */
    const __m512 sign = _mm512_castsi512_ps(_mm512_set1_epi64(0x80000000));

    for (uint32_t h = 0; h < n_head; h++, x += head_dim)
        for (uint32_t i = 0; i < n_rot; i += 16) {
            __mmask16 lanes = lanes_avx512(n_rot - i);
            __m512 v = _mm512_maskz_loadu_ps(lanes, x + i);
            __m512 c = _mm512_maskz_loadu_ps(lanes, cs + i);
            __m512 a = _mm512_moveldup_ps(v);
            __m512 b = _mm512_xor_ps(_mm512_movehdup_ps(v), sign);

            v = _mm512_fmadd_ps(b, _mm512_permute_ps(c, 0xb1), _mm512_mul_ps(a, c));
            _mm512_mask_storeu_ps(x + i, lanes, v);
        }
}

void silu_mul_avx512vnni(float *y, const float *gate, const float *up, size_t n)
{
    const __m512 one = _mm512_set1_ps(1), sign = _mm512_set1_ps(-0.0f);

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = lanes_avx512(n - i);
        __m512 g = _mm512_maskz_loadu_ps(lanes, gate + i);
        __m512 s = _mm512_add_ps(one, exp_avx512(_mm512_xor_ps(g, sign)));

        s = _mm512_mul_ps(_mm512_div_ps(g, s), _mm512_maskz_loadu_ps(lanes, up + i));
        _mm512_mask_storeu_ps(y + i, lanes, s);
    }
}

void add_avx512vnni(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = lanes_avx512(n - i);
        __m512 v = _mm512_maskz_loadu_ps(lanes, y + i);

        v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(lanes, x + i));
        _mm512_mask_storeu_ps(y + i, lanes, v);
    }
}

void axpy_avx512vnni(float *y, float a, const float *x, size_t n)
{
    const __m512 va = _mm512_set1_ps(a);

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = lanes_avx512(n - i);
        __m512 v = _mm512_maskz_loadu_ps(lanes, y + i);

        v = _mm512_fmadd_ps(va, _mm512_maskz_loadu_ps(lanes, x + i), v);
        _mm512_mask_storeu_ps(y + i, lanes, v);
    }
}
