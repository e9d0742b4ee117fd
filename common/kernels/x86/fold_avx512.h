/* fold_avx512: maxima and sums of the vectors of 8 query heads at a time. */
#ifndef TANDEM_KERNELS_X86_FOLD_AVX512_H
#define TANDEM_KERNELS_X86_FOLD_AVX512_H

#include <immintrin.h>
#include <stdbool.h>

#include "kernels/tile.h"

#define FOLD_HEADS 8

TILE_INLINE __m512 join(__m512 a, __m512 b, bool max)
{
    return max ? _mm512_max_ps(a, b) : _mm512_add_ps(a, b);
}

/* Lane g of the result: the maximum or the sum of v[g], by the tree of kernels.h. */
TILE_INLINE __m256 fold(const __m512 *v, bool max)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512 a[4], b[2], c;

    TILE_UNROLL for (int j = 0; j < 4; j++) /* [lane j + lane j + 8 of two heads] */
        a[j] = join(_mm512_shuffle_f32x4(v[2 * j], v[2 * j + 1], 0x44),
                    _mm512_shuffle_f32x4(v[2 * j], v[2 * j + 1], 0xee), max);
    TILE_UNROLL for (int j = 0; j < 2; j++) /* four heads, 4 lanes each */
        b[j] = join(_mm512_shuffle_f32x4(a[2 * j], a[2 * j + 1], 0x88),
                    _mm512_shuffle_f32x4(a[2 * j], a[2 * j + 1], 0xdd), max);
    c = join(_mm512_shuffle_ps(b[0], b[1], 0x44), _mm512_shuffle_ps(b[0], b[1], 0xee), max);
    c = join(c, _mm512_movehdup_ps(c), max);
    return _mm512_castps512_ps256(_mm512_permutexvar_ps(order, c));
}

#endif
