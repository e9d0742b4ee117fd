/* table_amx: a block of QK weights of 16 rows, from a panel by rows to a tile of bf16 whose line n is
 * row n: the matrix unit's first operand.
 *
 * The weights of a block of a row are 16 values, and its line of the tile is 32 look-ups, whose index is
 * the low 5 bits of a word. Of Q4_K the values are made and rounded for two rows together, and the 5th bit
 * says whose of the two it is; of Q4_0 all rows' go to memory first, twice each, and that bit is any. */
#ifndef TANDEM_KERNELS_X86_TABLE_AMX_H
#define TANDEM_KERNELS_X86_TABLE_AMX_H

#include "kernels/x86/unpack_amx.h"

/* Of one block: row n's value q is d[n] * q + bias[n], or d[n] * (q - 8), or, rounded, value[n][q]. */
struct table {
    float d[PANEL_ROWS], bias[PANEL_ROWS];
    uint16_t value[PANEL_ROWS][16];
} __attribute__((aligned(64)));

/* What is stored in a table goes through memory: the compiler would rather shuffle registers. */
#define TABLE_STORED() __asm__ volatile("" : : : "memory")

UNPACK_INLINE __m512 table_values(int first)
{
    return _mm512_add_ps(
        _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
        _mm512_set1_ps((float)first));
}

/* The 16 values of a row. */
UNPACK_INLINE __m512 table_row(const struct table *t, int n)
{
    return _mm512_fmadd_ps(table_values(0), _mm512_set1_ps(t->d[n]), _mm512_set1_ps(t->bias[n]));
}

/* A quarter of the tile: rows n, n + 1, n + 8 and n + 9, n = 2 q, whose nibbles are, in other order, those
 * of a word of line q. */
UNPACK_INLINE void table_rows(uint8_t *tile, const uint8_t *line, const struct table *t, int q,
                              size_t ahead)
{
    const __m512i low = _mm512_set1_epi16(15), second = _mm512_set1_epi16(16);
    __m512i w = _mm512_load_si512(line + q * PANEL_LINE);
    __m512i v = (__m512i)_mm512_cvtne2ps_pbh(table_row(t, 2 * q + 1), table_row(t, 2 * q));
    /* the other way round: what is left of w >> 12 has no 5th bit */
    __m512i u = (__m512i)_mm512_cvtne2ps_pbh(table_row(t, 2 * q + 8), table_row(t, 2 * q + 9));
    __m512i at1 = _mm512_or_si512(_mm512_srli_epi16(w, 8), second);
    __m512i at8 = _mm512_or_si512(_mm512_srli_epi16(w, 4), second);

    _mm_prefetch(line + q * PANEL_LINE + ahead, _MM_HINT_T0);
    tile += 2 * q * PANEL_LINE;
    _mm512_store_si512(tile, _mm512_permutexvar_epi16(_mm512_and_si512(w, low), v));
    _mm512_store_si512(tile + PANEL_LINE, _mm512_permutexvar_epi16(at1, v));
    _mm512_store_si512(tile + 8 * PANEL_LINE, _mm512_permutexvar_epi16(at8, u));
    _mm512_store_si512(tile + 9 * PANEL_LINE,
                       _mm512_permutexvar_epi16(_mm512_srli_epi16(w, 12), u));
}

/* For each q, which of 1, 3, 5 and 7 times d is q - 8 times d but for a power of two, 2^e, and the sign:
 * where its two bytes are after others of a row, and e in a bf16's exponent with the sign. */
#define TABLE_ODD(row)                                                                             \
    (row) + 0, (row) + 1, (row) + 6, (row) + 7, (row) + 2, (row) + 3, (row) + 4, (row) + 5,        \
    (row) + 0, (row) + 1, (row) + 2, (row) + 3, (row) + 0, (row) + 1, (row) + 0, (row) + 1,        \
    (row) + 0, (row) + 1, (row) + 0, (row) + 1, (row) + 0, (row) + 1, (row) + 2, (row) + 3,        \
    (row) + 0, (row) + 1, (row) + 4, (row) + 5, (row) + 2, (row) + 3, (row) + 6, (row) + 7
#define TABLE_POWER                                                                                \
    0x8180, 0x8000, 0x8080, 0x8000, 0x8100, 0x8000, 0x8080, 0x8000, 0x0000, 0x0000, 0x0080,        \
    0x0000, 0x0100, 0x0000, 0x0080, 0x0000

/* value of all rows from d, none of which is zero, infinite or NaN: of the 16 multiples of d only the
 * four odd ones are rounded (to nearest, as all would be), four times for 16 rows at once. */
UNPACK_INLINE void table_multiples(struct table *t, __m512 d)
{
    static const uint8_t odd[4][PANEL_LINE] = {{TABLE_ODD(0), TABLE_ODD(8)},
                                               {TABLE_ODD(16), TABLE_ODD(24)},
                                               {TABLE_ODD(32), TABLE_ODD(40)},
                                               {TABLE_ODD(48), TABLE_ODD(56)}};
    static const uint16_t power[PANEL_LINE / 2] = {TABLE_POWER, TABLE_POWER};
    /* words 0, 16, 1, 17, ... (a permutation of bytes is half the work of one of words) */
    const __m512i both = _mm512_set_epi8(
        63, 62, 31, 30, 61, 60, 29, 28, 59, 58, 27, 26, 57, 56, 25, 24, 55, 54, 23, 22, 53, 52, 21,
        20, 51, 50, 19, 18, 49, 48, 17, 16, 47, 46, 15, 14, 45, 44, 13, 12, 43, 42, 11, 10, 41, 40,
        9, 8, 39, 38, 7, 6, 37, 36, 5, 4, 35, 34, 3, 2, 33, 32, 1, 0);
    __m512i p = (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(d, _mm512_set1_ps(3)), d);
    __m512i q = (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(d, _mm512_set1_ps(7)),
                                             _mm512_mul_ps(d, _mm512_set1_ps(5)));
    __m512i rows[2]; /* lane l: rows 4l and 4l + 1, or 4l + 2 and 4l + 3; of each, 1, 3, 5, 7 times d */

    p = _mm512_permutexvar_epi8(both, p);
    q = _mm512_permutexvar_epi8(both, q);
    rows[0] = _mm512_unpacklo_epi32(p, q);
    rows[1] = _mm512_unpackhi_epi32(p, q);
    for (int n = 0; n < PANEL_ROWS; n += 2) {
        __m512i v = _mm512_permutexvar_epi8(_mm512_loadu_si512(odd[n / 4]), rows[n / 2 % 2]);

        _mm512_store_si512(t->value[n],
                           _mm512_maskz_add_epi16(0xfefffeff, v, _mm512_loadu_si512(power)));
    }
}

/* value of all rows where some d is zero, infinite or NaN. */
static __attribute__((noinline, cold)) void table_any(struct table *t, __m512 d)
{
    _mm512_store_ps(t->d, d);
    for (int n = 0; n < PANEL_ROWS; n++)
        _mm256_store_si256((__m256i *)t->value[n],
                           (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(
                               table_values(-8), _mm512_set1_ps(t->d[n]))));
}

/* As table_rows; the 5th bit of an index is any, as the table of a row is there twice. */
UNPACK_INLINE void table_rows_values(uint8_t *tile, const uint8_t *line, const struct table *t, int q,
                                     size_t ahead)
{
    __m512i w = _mm512_load_si512(line + q * PANEL_LINE);
    /* a load is cheaper than a shift, but not past the panel's end */
    __m512i w1 = q < 3 ? _mm512_loadu_si512(line + q * PANEL_LINE + 1) : _mm512_srli_epi16(w, 8);
    __m512i at[4] = {w, w1, _mm512_srli_epi16(w, 4), _mm512_srli_epi16(w1, 4)};

    _mm_prefetch(line + q * PANEL_LINE + ahead, _MM_HINT_T0);
    for (int i = 0; i < 4; i++) {
        int row = 2 * q + i / 2 * 8 + i % 2;
        __m512i v = _mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)t->value[row]));

        _mm512_store_si512(tile + row * PANEL_LINE, _mm512_permutexvar_epi16(at[i], v));
    }
}

/* What the quarters of block b share. */
UNPACK_INLINE void table_block(struct table *t, enum dtype type, const uint8_t *panel, size_t b,
                               size_t ahead)
{
    if (type == DTYPE_Q4_0) {
        __m512 d = unpack_f16(panel + panel_scales_at(DTYPE_Q4_0, b));

        if (b % 2 == 0)
            _mm_prefetch(panel + panel_lines_at(DTYPE_Q4_0, b) - PANEL_LINE + ahead, _MM_HINT_T0);
        if (_mm512_fpclass_ps_mask(d, 0x9f)) /* zeros, infinities, NaN */
            table_any(t, d);
        else
            table_multiples(t, d);
    } else {
        struct unpack_min s = unpack_min_q4_k(panel, b);

        unpack_ahead_k(panel + panel_k_at(DTYPE_Q4_K, b), b, ahead);
        _mm512_store_ps(t->d, s.d);
        _mm512_store_ps(t->bias, s.bias);
    }
    TABLE_STORED();
}

/* Quarter q of the tile of block b, q = 0 to 3 in this order; asks for what lies `ahead` bytes after it.
 * type and q are constants. */
UNPACK_INLINE void table_quarter(uint8_t *tile, struct table *t, enum dtype type,
                                 const uint8_t *panel, size_t b, int q, size_t ahead)
{
    if (q == 0)
        table_block(t, type, panel, b, ahead);
    if (type == DTYPE_Q4_0)
        table_rows_values(tile, panel + panel_lines_at(DTYPE_Q4_0, b), t, q, ahead);
    else
        table_rows(tile, panel + panel_k_lines_at(DTYPE_Q4_K, b), t, q, ahead);
}

/* 16 lines of 16 dwords: lane n of line i <-> lane i of line n. */
UNPACK_INLINE void table_turn(__m512i l[16])
{
    __m512i t[16];

    for (int i = 0; i < 16; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(l[i], l[i + 1]), b = _mm512_unpackhi_epi32(l[i], l[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(l[i + 2], l[i + 3]);
        __m512i d = _mm512_unpackhi_epi32(l[i + 2], l[i + 3]);

        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x88);
        __m512i b = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x88);
        __m512i d = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xdd);

        l[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        l[4 + i] = _mm512_shuffle_i32x4(b, d, 0x88);
        l[8 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
        l[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

#endif
