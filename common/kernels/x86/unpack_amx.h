/* unpack_amx: a block of QK weights of 16 rows, from a panel to a tile of bf16.
 *
 * The tile is the matrix unit's second operand: 16 lines, dword n of line i holds row n's weights
 * of k = 2i (low half) and 2i + 1. An integer weight u becomes a float by being put into bits 8..15
 * of 2^15: that float is 2^15 + u. One fused multiply-add then takes off the bias and the zero
 * point z at once, exactly, because (2^15 + z) d fits in 24 bits:
 *   d (u - z) = fma(2^15 + u, d, -(2^15 + z) d)
 * With more bits in d, as in Q6_K, u goes into bits 16..22 of 2^7 instead.
 * Such a vector is one byte permutation of a line of the panel, in the order (row 0, k), (row 0,
 * k + 1), (row 1, k), ... of 8 rows, so that two of them rounded to bf16 are a line of the tile. */
#ifndef TANDEM_KERNELS_X86_UNPACK_AMX_H
#define TANDEM_KERNELS_X86_UNPACK_AMX_H

#include <immintrin.h>
#include <string.h>

#include "kernels/panel_layout.h"

#define UNPACK_INLINE static inline __attribute__((always_inline))

/* Bytes of a tile: 16 lines of 64. */
#define TILE_BYTES 1024

/* What the rows of a block have in common: for rows 0-7 and 8-15, each value twice. */
struct unpack_scale {
    __m512 d[2], bias[2];
};

UNPACK_INLINE __m512i unpack_twice(int half)
{
    const __m512i pairs = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);

    return half ? _mm512_add_epi32(pairs, _mm512_set1_epi32(8)) : pairs;
}

UNPACK_INLINE __m512 unpack_f16(const uint8_t *f16)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)f16));
}

/* Each row's value twice. */
UNPACK_INLINE void unpack_spread(struct unpack_scale *s, __m512 d, __m512 bias)
{
    for (int half = 0; half < 2; half++) {
        s->d[half] = _mm512_permutexvar_ps(unpack_twice(half), d);
        s->bias[half] = _mm512_permutexvar_ps(unpack_twice(half), bias);
    }
}

/* f16[16] -> d and -(2^15 + zero) d */
UNPACK_INLINE void unpack_scales(struct unpack_scale *s, const uint8_t *f16, float zero)
{
    __m512 d = unpack_f16(f16);

    for (int half = 0; half < 2; half++) {
        s->d[half] = _mm512_permutexvar_ps(unpack_twice(half), d);
        s->bias[half] = _mm512_mul_ps(s->d[half], _mm512_set1_ps(-(0x1p15f + zero)));
    }
}

/* Bytes 4n + first, 4n + first + 1 of line, n = 8 half ..., as byte `to` of floats that are else `base`. */
UNPACK_INLINE __m512 unpack_bytes_to(__m512i line, int half, int first, uint32_t base, int to)
{
    const __m512i at = _mm512_slli_epi32(
        _mm512_add_epi32(
            _mm512_slli_epi32(unpack_twice(half), 2),
            _mm512_set_epi32(1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0)),
        8 * to);

    return _mm512_castsi512_ps(_mm512_mask_permutexvar_epi8(
        _mm512_set1_epi32((int)base), 0x1111111111111111ull << to,
        _mm512_add_epi32(at, _mm512_set1_epi32(first << 8 * to)), line));
}

/* As floats 2^15 + byte. */
UNPACK_INLINE __m512 unpack_bytes(__m512i line, int half, int first)
{
    return unpack_bytes_to(line, half, first, 0x47000000, 1);
}

/* Two lines of a tile from a line of 16 rows x 4 bytes. */
UNPACK_INLINE void unpack_line(uint8_t *tile, __m512i line, const struct unpack_scale *s)
{
    for (int i = 0; i < 2; i++) {
        __m512 lo = _mm512_fmadd_ps(unpack_bytes(line, 0, 2 * i), s->d[0], s->bias[0]);
        __m512 hi = _mm512_fmadd_ps(unpack_bytes(line, 1, 2 * i), s->d[1], s->bias[1]);

        _mm512_store_si512(tile + i * PANEL_LINE, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
}

/* A block that is being unpacked, by quarters of its tile: what they have in common. */
struct unpack {
    struct unpack_scale s;
    __m512i t[4]; /* of types by rows: its lines, turned */
    const uint8_t *at;
    size_t b, ahead;
};

UNPACK_INLINE void unpack_q8_0(struct unpack *u, const uint8_t *panel)
{
    u->at = panel + panel_lines_at(DTYPE_Q8_0, u->b);
    unpack_scales(&u->s, panel + panel_scales_at(DTYPE_Q8_0, u->b), 128);
    if (u->b % 2 == 0)
        _mm_prefetch(u->at - PANEL_LINE + u->ahead, _MM_HINT_T0);
}

UNPACK_INLINE void unpack_q8_0_quarter(struct unpack *u, uint8_t *tile, int q)
{
    for (int j = 2 * q; j < 2 * q + 2; j++) {
        _mm_prefetch(u->at + j * PANEL_LINE + u->ahead, _MM_HINT_T0);
        unpack_line(tile + j * 2 * PANEL_LINE, _mm512_load_si512(u->at + j * PANEL_LINE), &u->s);
    }
}

/* Of panels by rows: dwords of 4 lines as lines of dwords, 16 by 4 to 4 by 16. Lane l of t[q] is for
 * line 4l + q of the tile: its byte 4j + 2p + h is of k parity p, of row 2j + h in its low nibble and
 * of row 8 + 2j + h in its high one. */
UNPACK_INLINE void unpack_turn(__m512i t[4], const uint8_t *line, size_t ahead)
{
    __m512i l[4], lo[2], hi[2];

    for (int j = 0; j < 4; j++) {
        l[j] = _mm512_load_si512(line + j * PANEL_LINE);
        _mm_prefetch(line + j * PANEL_LINE + ahead, _MM_HINT_T0);
    }
    for (int j = 0; j < 2; j++) {
        lo[j] = _mm512_unpacklo_epi32(l[2 * j], l[2 * j + 1]);
        hi[j] = _mm512_unpackhi_epi32(l[2 * j], l[2 * j + 1]);
    }
    t[0] = _mm512_unpacklo_epi64(lo[0], lo[1]);
    t[1] = _mm512_unpackhi_epi64(lo[0], lo[1]);
    t[2] = _mm512_unpacklo_epi64(hi[0], hi[1]);
    t[3] = _mm512_unpackhi_epi64(hi[0], hi[1]);
}

/* Bytes of lane `lane` in the order of 8 rows, as floats 2^15 + byte. */
UNPACK_INLINE __m512 unpack_lane(__m512i t, int lane)
{
    const __m512i at = _mm512_slli_epi32(
        _mm512_set_epi32(15, 13, 14, 12, 11, 9, 10, 8, 7, 5, 6, 4, 3, 1, 2, 0), 8);

    return _mm512_castsi512_ps(_mm512_mask_permutexvar_epi8(
        _mm512_set1_epi32(0x47000000), 0x2222222222222222,
        _mm512_add_epi32(at, _mm512_set1_epi32(16 * lane << 8)), t));
}

UNPACK_INLINE void unpack_q4_0(struct unpack *u, const uint8_t *panel)
{
    const uint8_t *line = panel + panel_lines_at(DTYPE_Q4_0, u->b);

    unpack_scales(&u->s, panel + panel_scales_at(DTYPE_Q4_0, u->b), 8);
    if (u->b % 2 == 0)
        _mm_prefetch(line - PANEL_LINE + u->ahead, _MM_HINT_T0);
    unpack_turn(u->t, line, u->ahead);
}

UNPACK_INLINE void unpack_q4_0_quarter(struct unpack *u, uint8_t *tile, int q)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i low = _mm512_and_si512(u->t[q], nibble);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(u->t[q], 4), nibble);

    for (int l = 0; l < 4; l++) {
        __m512 lo = _mm512_fmadd_ps(unpack_lane(low, l), u->s.d[0], u->s.bias[0]);
        __m512 hi = _mm512_fmadd_ps(unpack_lane(high, l), u->s.d[1], u->s.bias[1]);

        _mm512_store_si512(tile + (4 * l + q) * PANEL_LINE, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
}

/* Two lines of a tile as unpack_line, of weights d (2^7 + u) + bias with u < 2^7: d may have 18 bits, and
 * a bias with 2^15 in it would need 29. */
UNPACK_INLINE void unpack_line_7(uint8_t *tile, __m512i line, const struct unpack_scale *s)
{
    for (int i = 0; i < 2; i++) {
        __m512 lo = unpack_bytes_to(line, 0, 2 * i, 0x43000000, 2);
        __m512 hi = unpack_bytes_to(line, 1, 2 * i, 0x43000000, 2);

        lo = _mm512_fmadd_ps(lo, s->d[0], s->bias[0]);
        hi = _mm512_fmadd_ps(hi, s->d[1], s->bias[1]);
        _mm512_store_si512(tile + i * PANEL_LINE, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
}

/* The scales of a block of a K type, once in its QK_K weights. */
UNPACK_INLINE void unpack_ahead_k(const uint8_t *at, size_t b, size_t ahead)
{
    for (int j = 0; b % (QK_K / QK) == 0 && j < PANEL_K_LINES / PANEL_LINE; j++)
        _mm_prefetch(at + j * PANEL_LINE + ahead, _MM_HINT_T0);
}

/* Of 16 rows: w = d q + bias. */
struct unpack_min {
    __m512 d, bias;
};

/* d sc q - dmin m: the two products with f16 are exact, and so is that with q. */
UNPACK_INLINE struct unpack_min unpack_min_q4_k(const uint8_t *f16, const uint8_t *scales)
{
    __m512 sc, m;

    sc = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)scales)));
    m = _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(scales + PANEL_ROWS))));
    sc = _mm512_mul_ps(unpack_f16(f16), sc);
    m = _mm512_mul_ps(unpack_f16(f16 + PANEL_LINE / 2), m);
    return (struct unpack_min){sc, _mm512_sub_ps(_mm512_setzero_ps(), m)}; /* of zero: +0 */
}

UNPACK_INLINE void unpack_q4_k(struct unpack *u, const uint8_t *panel)
{
    struct unpack_min min = unpack_min_q4_k(panel + panel_k_at(DTYPE_Q4_K, u->b),
                                               panel + panel_k_scales_at(DTYPE_Q4_K, u->b));

    unpack_spread(&u->s, min.d, min.bias);
    unpack_ahead_k(panel + panel_k_at(DTYPE_Q4_K, u->b), u->b, u->ahead);
    unpack_turn(u->t, panel + panel_k_lines_at(DTYPE_Q4_K, u->b), u->ahead);
}

UNPACK_INLINE void unpack_q4_k_quarter(struct unpack *u, uint8_t *tile, int q)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512 base = _mm512_set1_ps(0x1p15f);
    __m512i low = _mm512_and_si512(u->t[q], nibble);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(u->t[q], 4), nibble);

    for (int l = 0; l < 4; l++) {
        __m512 lo = _mm512_sub_ps(unpack_lane(low, l), base);
        __m512 hi = _mm512_sub_ps(unpack_lane(high, l), base);

        lo = _mm512_fmadd_ps(lo, u->s.d[0], u->s.bias[0]);
        hi = _mm512_fmadd_ps(hi, u->s.d[1], u->s.bias[1]);
        _mm512_store_si512(tile + (4 * l + q) * PANEL_LINE, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
}

/* Bits 0-3 of each byte from low, 4 and 5 from high. */
UNPACK_INLINE __m512i unpack_join(__m512i low, __m512i high)
{
    __m512i q = _mm512_ternarylogic_epi32(_mm512_set1_epi8(15), low, high, 0xca);

    return _mm512_and_si512(q, _mm512_set1_epi8(63));
}

/* Of a half block, d sc (q - 32), exact: 11 + 7 + 6 bits; the bias has 3 more than d sc. */
UNPACK_INLINE void unpack_q6_k(struct unpack *u, const uint8_t *panel, int half)
{
    const uint8_t *at = panel + u->b / (QK_K / QK) * panel_k_bytes(DTYPE_Q6_K);
    size_t i = u->b % (QK_K / QK) * 2 + (size_t)half;
    __m128i scales = _mm_load_si128((const __m128i *)(at + PANEL_K_SCALES + i * PANEL_ROWS));
    __m512 d = _mm512_mul_ps(unpack_f16(at), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)));

    if (!half)
        unpack_ahead_k(at, u->b, u->ahead);
    u->at = at + PANEL_K_LINES + i * 3 * PANEL_LINE;
    unpack_spread(&u->s, d, _mm512_mul_ps(d, _mm512_set1_ps(-(0x1p7f + 32))));
    for (int j = 0; j < 3; j++) {
        u->t[j] = _mm512_load_si512(u->at + j * PANEL_LINE);
        _mm_prefetch(u->at + j * PANEL_LINE + u->ahead, _MM_HINT_T0);
    }
}

UNPACK_INLINE void unpack_q6_k_quarter(struct unpack *u, uint8_t *tile, int q)
{
    __m512i low = u->t[q % 2], high = u->t[2];

    tile += q * 4 * PANEL_LINE;
    unpack_line_7(tile, unpack_join(low, q % 2 ? high : _mm512_slli_epi16(high, 4)), &u->s);
    unpack_line_7(tile + 2 * PANEL_LINE,
                  unpack_join(_mm512_srli_epi16(low, 4),
                              q % 2 ? _mm512_srli_epi16(high, 2) : _mm512_slli_epi16(high, 2)),
                  &u->s);
}

/* The lines are tiles already; those past n_in are not there. */
UNPACK_INLINE void unpack_bf16_quarter(struct unpack *u, uint8_t *tile, const uint8_t *panel,
                                       size_t n_in, int q)
{
    const uint8_t *line = panel + u->b * (QK / 2) * PANEL_LINE;
    size_t n = n_in - u->b * QK < QK ? (n_in - u->b * QK + 1) / 2 : QK / 2;
    size_t j = 4 * (size_t)q, end = j + 4;

    for (; j < end && j < n; j++) {
        _mm_prefetch(line + j * PANEL_LINE + u->ahead, _MM_HINT_T0);
        _mm512_store_si512(tile + j * PANEL_LINE, _mm512_load_si512(line + j * PANEL_LINE));
    }
    for (; j < end; j++)
        _mm512_store_si512(tile + j * PANEL_LINE, _mm512_setzero_si512());
}

/* A quarter of the tile of block u->b, q = 0 to 3 in this order; asks for what lies u->ahead bytes after
 * it. type and q are constants. */
UNPACK_INLINE void unpack_quarter(struct unpack *u, uint8_t *tile, const struct panels *w,
                                  enum dtype type, const uint8_t *panel, int q)
{
    switch (type) {
    case DTYPE_Q8_0:
        if (q == 0)
            unpack_q8_0(u, panel);
        unpack_q8_0_quarter(u, tile, q);
        break;
    case DTYPE_Q4_0:
        if (q == 0)
            unpack_q4_0(u, panel);
        unpack_q4_0_quarter(u, tile, q);
        break;
    case DTYPE_Q4_K:
        if (q == 0)
            unpack_q4_k(u, panel);
        unpack_q4_k_quarter(u, tile, q);
        break;
    case DTYPE_Q6_K:
        if (q % 2 == 0)
            unpack_q6_k(u, panel, q / 2);
        unpack_q6_k_quarter(u, tile, q);
        break;
    default:
        unpack_bf16_quarter(u, tile, panel, w->n_in, q);
    }
}

/* tile = block b of the panel. */
UNPACK_INLINE void unpack_block(uint8_t *tile, const struct panels *w, enum dtype type,
                                const uint8_t *panel, size_t b, size_t ahead)
{
    struct unpack u = {.b = b, .ahead = ahead};

    unpack_quarter(&u, tile, w, type, panel, 0);
    unpack_quarter(&u, tile, w, type, panel, 1);
    unpack_quarter(&u, tile, w, type, panel, 2);
    unpack_quarter(&u, tile, w, type, panel, 3);
}

#endif
