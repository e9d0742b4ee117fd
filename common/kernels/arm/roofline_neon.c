#include <arm_neon.h>

#include "kernels/roofline_loops.h"

double roofline_f32_neon(uint32_t turns)
{
    float32x4_t a[ROOFLINE_CHAINS], x = vdupq_n_f32(0.5f);

    _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++) a[j] = x;
    for (uint32_t i = 0; i < turns; i++)
        _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++) {
            a[j] = vfmaq_f32(a[j], x, x);
            __asm__ volatile("" : "+w"(a[j]));
        }
    return 2.0 * 4 * ROOFLINE_CHAINS * turns;
}
