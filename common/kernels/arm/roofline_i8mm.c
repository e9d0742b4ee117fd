#include <arm_neon.h>

#include "kernels/roofline_loops.h"

double roofline_int8_i8mm(uint32_t turns)
{
    int32x4_t a[ROOFLINE_CHAINS];
    int8x16_t x = vdupq_n_s8(1);

    _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++) a[j] = vdupq_n_s32(0);
    for (uint32_t i = 0; i < turns; i++)
        _Pragma("GCC unroll 12") for (int j = 0; j < ROOFLINE_CHAINS; j++) {
            a[j] = vmmlaq_s32(a[j], x, x);
            __asm__ volatile("" : "+w"(a[j]));
        }
    return 2.0 * 32 * ROOFLINE_CHAINS * turns;
}
