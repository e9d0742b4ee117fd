#include <immintrin.h>

#include "kernels/roofline_loops.h"

double roofline_f32_avx2(uint32_t turns)
{
    _Alignas(32) uint32_t noise[3 * 8];
    __m256 a[ROOFLINE_CHAINS], x[3];

    roofline_noise(noise, 24, ROOFLINE_ANY_F32, ROOFLINE_ONE_F32);
    for (int j = 0; j < 3; j++)
        x[j] = _mm256_load_ps((const float *)(noise + 8 * j));
    _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        a[j] = x[0];
    for (uint32_t i = 0; i < turns; i++)
        _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        {
            a[j] = _mm256_fmadd_ps(x[j % 3], x[(j + 1) % 3], a[j]);
            __asm__ volatile("" : "+x"(a[j]));
        }
    return 2.0 * 8 * ROOFLINE_CHAINS * turns;
}

/* maddubs, madd and add: what one exact step of 32 products takes without VNNI. */
double roofline_int8_avx2(uint32_t turns)
{
    _Alignas(32) uint32_t noise[2 * 8];
    __m256i a[ROOFLINE_CHAINS], x, y, ones = _mm256_set1_epi16(1);

    roofline_noise(noise, 16, UINT32_MAX, 0);
    x = _mm256_load_si256((const __m256i *)noise);
    y = _mm256_load_si256((const __m256i *)(noise + 8));
    _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        a[j] = x;
    for (uint32_t i = 0; i < turns; i++)
        _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        {
            __m256i p = x;

            __asm__ volatile("" : "+x"(p));
            p = _mm256_madd_epi16(_mm256_maddubs_epi16(p, j % 2 ? x : y), ones);
            a[j] = _mm256_add_epi32(a[j], p);
            __asm__ volatile("" : "+x"(a[j]));
        }
    return 2.0 * 32 * ROOFLINE_CHAINS * turns;
}
