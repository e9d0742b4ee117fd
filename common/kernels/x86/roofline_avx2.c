#include <immintrin.h>

#include "kernels/roofline_loops.h"

double roofline_f32_avx2(uint32_t turns)
{
    __m256 a[ROOFLINE_CHAINS], x = _mm256_set1_ps(0.5f);

    _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        a[j] = x;
    for (uint32_t i = 0; i < turns; i++)
        _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        {
            a[j] = _mm256_fmadd_ps(x, x, a[j]);
            __asm__ volatile("" : "+x"(a[j]));
        }
    return 2.0 * 8 * ROOFLINE_CHAINS * turns;
}

/* maddubs, madd and add: what one exact step of 32 products takes without VNNI. */
double roofline_int8_avx2(uint32_t turns)
{
    __m256i a[ROOFLINE_CHAINS], x = _mm256_set1_epi32(1), ones = _mm256_set1_epi16(1);

    _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        a[j] = x;
    for (uint32_t i = 0; i < turns; i++)
        _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        {
            __m256i p = x;

            __asm__ volatile("" : "+x"(p));
            p = _mm256_madd_epi16(_mm256_maddubs_epi16(p, x), ones);
            a[j] = _mm256_add_epi32(a[j], p);
            __asm__ volatile("" : "+x"(a[j]));
        }
    return 2.0 * 32 * ROOFLINE_CHAINS * turns;
}
