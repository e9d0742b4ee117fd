#include <arm_neon.h>

#include "kernels/roofline_loops.h"

double roofline_f32_neon(uint32_t turns)
{
    uint32_t noise[4 * 4];
    float32x4_t a[ROOFLINE_CHAINS], x[4];

    roofline_noise(noise, 16, ROOFLINE_ANY_F32, ROOFLINE_ONE_F32);
    for (int j = 0; j < 4; j++)
        x[j] = vreinterpretq_f32_u32(vld1q_u32(noise + 4 * j));
    _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++) a[j] = x[0];
    for (uint32_t i = 0; i < turns; i++)
        _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++) {
            a[j] = vfmaq_f32(a[j], x[j % 4], x[(j + 1) % 4]);
            __asm__ volatile("" : "+w"(a[j]));
        }
    return 2.0 * 4 * ROOFLINE_CHAINS * turns;
}
