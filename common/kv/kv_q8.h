/* kv_q8: how values of K or V become int8 with one scale: x ~ d * q, for the values of one token and
 * head together. d = amax / 127, amax = max |x|; q = round-to-nearest-even(x * (127 / amax)). Where
 * amax < KV_Q8_MIN or is not finite, q = 0; d stays, so that a NaN or infinity is not lost. Pure. */
#ifndef TANDEM_KV_KV_Q8_H
#define TANDEM_KV_KV_Q8_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KV_Q8_MIN 0x1p-120f /* 127 / amax is finite down to here */

/* What to multiply values by whose largest magnitude is amax; 0: all q are 0. */
static inline float kv_q8_factor(float amax)
{
    return amax >= KV_Q8_MIN && amax < INFINITY ? 127 / amax : 0;
}

/* q[i * stride] of x[n], i < n. Returns d. */
static inline float kv_q8_row(int8_t *q, size_t stride, const float *x, size_t n)
{
    uint32_t top = 0; /* magnitudes order as their bits do, and a NaN is the largest of all */
    float amax, by;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, x + i, 4);
        bits &= 0x7fffffff;
        top = bits > top ? bits : top;
    }
    memcpy(&amax, &top, 4);
    by = kv_q8_factor(amax);
    for (size_t i = 0; i < n; i++)
        q[i * stride] = by > 0 ? (int8_t)lrintf(x[i] * by) : 0;
    return amax / 127;
}

#endif
