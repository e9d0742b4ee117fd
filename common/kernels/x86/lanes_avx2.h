/* lanes_avx2: what the AVX2 files share: masks, the summing tree, the exponential, a load. */
#ifndef TANDEM_KERNELS_X86_LANES_AVX2_H
#define TANDEM_KERNELS_X86_LANES_AVX2_H

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/exp_poly.h"

/* kernels_exp of 8 lanes, the same bits in each. */
static inline __m256 exp_avx2(__m256 x)
{
    const __m256 shift = _mm256_set1_ps(EXP_SHIFT), one = _mm256_set1_ps(1);
    __m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(EXP_LOG2E), shift);
    __m256 n = _mm256_sub_ps(t, shift), r, p;

    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-EXP_LN2_HI), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-EXP_LN2_LO), r);
    p = _mm256_fmadd_ps(_mm256_set1_ps(EXP_C6), r, _mm256_set1_ps(EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C2));
    p = _mm256_fmadd_ps(p, r, one);
    p = _mm256_fmadd_ps(p, r, one);
    p = _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
    p = _mm256_and_ps(p, _mm256_cmp_ps(x, _mm256_set1_ps(EXP_LO), _CMP_NLT_UQ));
    p = _mm256_blendv_ps(p, _mm256_set1_ps(INFINITY),
                         _mm256_cmp_ps(x, _mm256_set1_ps(EXP_HI), _CMP_GT_OQ));
    return _mm256_blendv_ps(p, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

/* The sum of 16 lanes, 8 in each, by the tree of kernels.h: j += j + 8, += 4, += 2, += 1. */
static inline float tree_sum_avx2(__m256 lo, __m256 hi)
{
    __m256 a = _mm256_add_ps(lo, hi);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* A mask of those of 8 lanes that are below n - skip; none for n <= skip. */
static inline __m256i lanes_avx2(size_t n, size_t skip)
{
    size_t left = n > skip ? n - skip : 0;

    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left < 8 ? (int)left : 8),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Lanes i .. i + 7 of x[n], those past n zero; and their store. Masks only where the end is near:
 * a masked store costs several plain ones. */
static inline __m256 load_avx2(const float *x, size_t n, size_t i)
{
    return n - i >= 8 ? _mm256_loadu_ps(x + i) : _mm256_maskload_ps(x + i, lanes_avx2(n, i));
}
static inline void store_avx2(float *y, size_t n, size_t i, __m256 v)
{
    if (n - i >= 8)
        _mm256_storeu_ps(y + i, v);
    else
        _mm256_maskstore_ps(y + i, lanes_avx2(n, i), v);
}

/* Four values of x in each lane. */
static inline __m256i broadcast_avx2(const int8_t *dword)
{
    return _mm256_set1_epi32(*(const int32_t *)(const void *)dword);
}

#endif
