/* lanes_avx512: what the AVX-512 files share: masks, the summing tree, the exponential. */
#ifndef TANDEM_KERNELS_X86_LANES_AVX512_H
#define TANDEM_KERNELS_X86_LANES_AVX512_H

#include <immintrin.h>
#include <math.h>

#include "kernels/exp_poly.h"

/* kernels_exp of 16 lanes, the same bits in each. */
static inline __m512 exp_avx512(__m512 x)
{
    const __m512 shift = _mm512_set1_ps(EXP_SHIFT), one = _mm512_set1_ps(1);
    __m512 t = _mm512_fmadd_ps(x, _mm512_set1_ps(EXP_LOG2E), shift);
    __m512 n = _mm512_sub_ps(t, shift), r, p;

    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-EXP_LN2_HI), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-EXP_LN2_LO), r);
    p = _mm512_fmadd_ps(_mm512_set1_ps(EXP_C6), r, _mm512_set1_ps(EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C2));
    p = _mm512_fmadd_ps(p, r, one);
    p = _mm512_fmadd_ps(p, r, one);
    p = _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
    p = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(EXP_LO), _CMP_NLT_UQ), p);
    p = _mm512_mask_mov_ps(p, _mm512_cmp_ps_mask(x, _mm512_set1_ps(EXP_HI), _CMP_GT_OQ),
                           _mm512_set1_ps(INFINITY));
    return _mm512_mask_mov_ps(p, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
}

/* The same where x <= 0 in all lanes or is NaN; lanes out of `in` are 0. */
static inline __m512 exp_down_avx512(__m512 x, __mmask16 in)
{
    const __m512 shift = _mm512_set1_ps(EXP_SHIFT), one = _mm512_set1_ps(1);
    __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(EXP_LOG2E), shift), shift), r, p;

    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-EXP_LN2_HI), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-EXP_LN2_LO), r);
    p = _mm512_fmadd_ps(_mm512_set1_ps(EXP_C6), r, _mm512_set1_ps(EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C2));
    p = _mm512_fmadd_ps(p, r, one);
    p = _mm512_fmadd_ps(p, r, one);
    in = _mm512_mask_cmp_ps_mask(in, x, _mm512_set1_ps(EXP_LO), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(in, p, n);
}

/* The sum of 16 lanes by the tree of kernels.h: j += j + 8, += 4, += 2, += 1. */
static inline float tree_sum_avx512(__m512 v)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* The first n of 16 lanes; all for n >= 16. */
static inline __mmask16 lanes_avx512(size_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffff);
}

#endif
