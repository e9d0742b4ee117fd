#include <immintrin.h>

#include "kernels/roofline_loops.h"

double roofline_f32_avx512vnni(uint32_t turns)
{
    _Alignas(64) uint32_t noise[4 * 16];
    __m512 a[ROOFLINE_CHAINS], x[4];

    roofline_noise(noise, 64, ROOFLINE_ANY_F32, ROOFLINE_ONE_F32);
    for (int j = 0; j < 4; j++)
        x[j] = _mm512_load_ps((const float *)noise + 16 * j);
    _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        a[j] = x[0];
    for (uint32_t i = 0; i < turns; i++)
        _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        {
            a[j] = _mm512_fmadd_ps(x[j % 4], x[(j + 1) % 4], a[j]);
            __asm__ volatile("" : "+v"(a[j]));
        }
    return 2.0 * 16 * ROOFLINE_CHAINS * turns;
}

double roofline_int8_avx512vnni(uint32_t turns)
{
    _Alignas(64) uint32_t noise[4 * 16];
    __m512i a[ROOFLINE_CHAINS], x[4];

    roofline_noise(noise, 64, UINT32_MAX, 0);
    for (int j = 0; j < 4; j++)
        x[j] = _mm512_load_si512(noise + 16 * j);
    _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        a[j] = x[0];
    for (uint32_t i = 0; i < turns; i++)
        _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++)
        {
            a[j] = _mm512_dpbusd_epi32(a[j], x[j % 4], x[(j + 1) % 4]);
            __asm__ volatile("" : "+v"(a[j]));
        }
    return 2.0 * 64 * ROOFLINE_CHAINS * turns;
}

/* Two streams, each asked for this far ahead: of one or two streams and 0 to 8 KiB the best here, with
 * huge and with small pages. */
#define READ_AHEAD 1024

uint64_t roofline_read_avx512vnni(const uint8_t *p, size_t n)
{
    __m512i s[4];

    for (int j = 0; j < 4; j++)
        s[j] = _mm512_setzero_si512();
    for (size_t i = 0; i < n / 2; i += 128)
        _Pragma("GCC unroll 4") for (int j = 0; j < 4; j++)
        {
            const uint8_t *line = p + i + j % 2 * 64 + j / 2 * (n / 2);

            _mm_prefetch(line + READ_AHEAD, _MM_HINT_T0);
            s[j] = _mm512_add_epi64(s[j], _mm512_loadu_si512(line));
        }
    s[0] = _mm512_add_epi64(_mm512_add_epi64(s[0], s[1]), _mm512_add_epi64(s[2], s[3]));
    return (uint64_t)_mm512_reduce_add_epi64(s[0]);
}
