/* softmax_avx512: from a page's scores to its weights, for up to 8 query heads at a time. */
#ifndef TANDEM_KERNELS_X86_SOFTMAX_AVX512_H
#define TANDEM_KERNELS_X86_SOFTMAX_AVX512_H

#include <stdbool.h>

#include "kernels/x86/lanes_avx512.h"
#include "kernels/tile.h"
#include "kv/kv_layout.h"

#define SOFTMAX_HEADS 8

TILE_INLINE __m512 join(__m512 a, __m512 b, bool max)
{
    return max ? _mm512_max_ps(a, b) : _mm512_add_ps(a, b);
}

/* Lane g of the result: the maximum or the sum of v[g], by the tree of kernels.h. */
TILE_INLINE __m256 fold(const __m512 *v, bool max)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512 a[4], b[2], c;

    TILE_UNROLL for (int j = 0; j < 4; j++) /* [lane j + lane j + 8 of two heads] */
        a[j] = join(_mm512_shuffle_f32x4(v[2 * j], v[2 * j + 1], 0x44),
                    _mm512_shuffle_f32x4(v[2 * j], v[2 * j + 1], 0xee), max);
    TILE_UNROLL for (int j = 0; j < 2; j++) /* four heads, 4 lanes each */
        b[j] = join(_mm512_shuffle_f32x4(a[2 * j], a[2 * j + 1], 0x88),
                    _mm512_shuffle_f32x4(a[2 * j], a[2 * j + 1], 0xdd), max);
    c = join(_mm512_shuffle_ps(b[0], b[1], 0x44), _mm512_shuffle_ps(b[0], b[1], 0xee), max);
    c = join(c, _mm512_movehdup_ps(c), max);
    return _mm512_castps512_ps256(_mm512_permutexvar_ps(order, c));
}

/* Scores of c[g] tokens become p in place; mx and sum move on. Each step is done for all heads
 * before the next, so that their latencies overlap. */
TILE_INLINE void softmax(float (*s)[KV_PAGE_TOKENS], float *corr, float *mx, float *sum,
                         const uint32_t *c, float scale, int heads)
{
    const __m512 low = _mm512_set1_ps(-INFINITY), by = _mm512_set1_ps(scale);
    const __mmask8 some = (__mmask8)((1u << heads) - 1);
    __m256 old = _mm256_maskz_loadu_ps(some, mx), now;
    __mmask16 in[SOFTMAX_HEADS][2];
    __m512 v[SOFTMAX_HEADS], factor;
    float top[SOFTMAX_HEADS];

    TILE_UNROLL for (int g = 0; g < SOFTMAX_HEADS; g++) {
        if (g >= heads) {
            v[g] = _mm512_setzero_ps();
            continue;
        }
        in[g][0] = lanes_avx512(c[g]);
        in[g][1] = lanes_avx512(c[g] < 16 ? 0 : c[g] - 16);
        for (int j = 0; j < 2; j++) {
            __m512 x = _mm512_mul_ps(_mm512_loadu_ps(s[g] + 16 * j), by);

            x = _mm512_mask_mov_ps(low, in[g][j], x);
            _mm512_storeu_ps(s[g] + 16 * j, x);
            v[g] = j ? _mm512_max_ps(v[g], x) : x;
        }
    }
    now = _mm256_add_ps(_mm256_max_ps(fold(v, true), old), _mm256_setzero_ps());
    _mm256_storeu_ps(top, now);
    factor = exp_down_avx512(_mm512_zextps256_ps512(_mm256_sub_ps(old, now)), 0xff);
    TILE_UNROLL for (int g = 0; g < heads; g++) {
        __m512 p0 = _mm512_sub_ps(_mm512_loadu_ps(s[g]), _mm512_set1_ps(top[g]));
        __m512 p1 = _mm512_sub_ps(_mm512_loadu_ps(s[g] + 16), _mm512_set1_ps(top[g]));

        p0 = exp_down_avx512(p0, in[g][0]);
        p1 = exp_down_avx512(p1, in[g][1]);
        _mm512_storeu_ps(s[g], p0);
        _mm512_storeu_ps(s[g] + 16, p1);
        v[g] = _mm512_add_ps(p0, p1);
    }
    _mm256_mask_storeu_ps(mx, some, now);
    now = _mm512_castps512_ps256(factor);
    _mm256_mask_storeu_ps(corr, some, now);
    now = _mm256_fmadd_ps(_mm256_maskz_loadu_ps(some, sum), now, fold(v, false));
    _mm256_mask_storeu_ps(sum, some, now);
}

#endif
