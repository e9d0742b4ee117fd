#include <math.h>
#include <string.h>

#include "kernels/exp_poly.h"
#include "kernels/kernels.h"

float kernels_exp(float x)
{
    float t, n, r, p;
    uint32_t shifted, bits;

    if (isnan(x))
        return x;
    if (x < EXP_LO)
        return 0;
    if (x > EXP_HI)
        return INFINITY;
    t = fmaf(x, EXP_LOG2E, EXP_SHIFT);
    n = t - EXP_SHIFT;
    r = fmaf(n, -EXP_LN2_HI, x);
    r = fmaf(n, -EXP_LN2_LO, r);
    p = fmaf(EXP_C6, r, EXP_C5);
    p = fmaf(p, r, EXP_C4);
    p = fmaf(p, r, EXP_C3);
    p = fmaf(p, r, EXP_C2);
    p = fmaf(p, r, 1);
    p = fmaf(p, r, 1);
    memcpy(&shifted, &t, 4);
    memcpy(&bits, &p, 4);
    bits += shifted << 23;
    memcpy(&p, &bits, 4);
    return p;
}
