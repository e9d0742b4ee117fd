#include <arm_neon.h>

#include "kernels/roofline_loops.h"

double roofline_int8_dotprod(uint32_t turns)
{
    uint32_t noise[4 * 4];
    int32x4_t a[ROOFLINE_CHAINS];
    int8x16_t x[4];

    roofline_noise(noise, 16, UINT32_MAX, 0);
    for (int j = 0; j < 4; j++)
        x[j] = vreinterpretq_s8_u32(vld1q_u32(noise + 4 * j));
    _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++) a[j] = vdupq_n_s32(0);
    for (uint32_t i = 0; i < turns; i++)
        _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++) {
            a[j] = vdotq_s32(a[j], x[j % 4], x[(j + 1) % 4]);
            __asm__ volatile("" : "+w"(a[j]));
        }
    return 2.0 * 16 * ROOFLINE_CHAINS * turns;
}
