/* table_amx: a block of QK weights of 16 rows, from a panel by rows to a tile of bf16 whose line n is
 * row n: the matrix unit's first operand.
 *
 * 4 bits and one scale a block of a row: its weights are 16 values, made at once and rounded for two
 * rows together, and its line of the tile is 32 look-ups. The index of a look-up is the low 5 bits of
 * a word, the 5th of which says whose of the two it is. (Tables of one row in memory, which leave
 * that bit alone, took a tenth longer.) */
#ifndef TANDEM_KERNELS_X86_TABLE_AMX_H
#define TANDEM_KERNELS_X86_TABLE_AMX_H

#include "kernels/x86/unpack_amx.h"

/* Of one block: row n's value q is d[n] * q + bias[n], or d[n] * (q - 8). */
struct table {
    float d[PANEL_ROWS], bias[PANEL_ROWS];
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
UNPACK_INLINE __m512 table_row(const struct table *t, enum dtype type, int n)
{
    __m512 d = _mm512_set1_ps(t->d[n]);

    if (type == DTYPE_Q4_0)
        return _mm512_mul_ps(table_values(-8), d);
    return _mm512_fmadd_ps(table_values(0), d, _mm512_set1_ps(t->bias[n]));
}

/* Line n of the tile = the weights of row n. Nibbles of a word are of rows n, n + 8, n + 1, n + 9. */
UNPACK_INLINE void table_look_up(uint8_t *tile, const uint8_t *line, const struct table *t,
                                 enum dtype type, size_t ahead)
{
    const __m512i low = _mm512_set1_epi16(15), second = _mm512_set1_epi16(16);

    TABLE_STORED();
    for (int n = 0; n < 8; n += 2, line += PANEL_LINE, tile += 2 * PANEL_LINE) {
        __m512i q = _mm512_load_si512(line);
        __m512i v = (__m512i)_mm512_cvtne2ps_pbh(table_row(t, type, n + 1), table_row(t, type, n));
        /* the other way round: what is left of q >> 12 has no 5th bit */
        __m512i u =
            (__m512i)_mm512_cvtne2ps_pbh(table_row(t, type, n + 8), table_row(t, type, n + 9));
        __m512i at1 = _mm512_or_si512(_mm512_srli_epi16(q, 8), second);
        __m512i at8 = _mm512_or_si512(_mm512_srli_epi16(q, 4), second);

        _mm_prefetch(line + ahead, _MM_HINT_T0);
        _mm512_store_si512(tile, _mm512_permutexvar_epi16(_mm512_and_si512(q, low), v));
        _mm512_store_si512(tile + PANEL_LINE, _mm512_permutexvar_epi16(at1, v));
        _mm512_store_si512(tile + 8 * PANEL_LINE, _mm512_permutexvar_epi16(at8, u));
        _mm512_store_si512(tile + 9 * PANEL_LINE,
                           _mm512_permutexvar_epi16(_mm512_srli_epi16(q, 12), u));
    }
}

UNPACK_INLINE void table_q4_0(uint8_t *tile, struct table *t, const uint8_t *panel, size_t b,
                              size_t ahead)
{
    const uint8_t *line = panel + panel_lines_at(DTYPE_Q4_0, b);

    if (b % 2 == 0)
        _mm_prefetch(line - PANEL_LINE + ahead, _MM_HINT_T0);
    _mm512_store_ps(t->d, unpack_f16(panel + panel_scales_at(DTYPE_Q4_0, b)));
    table_look_up(tile, line, t, DTYPE_Q4_0, ahead);
}

UNPACK_INLINE void table_q4_k(uint8_t *tile, struct table *t, const uint8_t *panel, size_t b,
                              size_t ahead)
{
    const uint8_t *at = panel + panel_k_at(DTYPE_Q4_K, b);
    struct unpack_min s = unpack_min_q4_k(panel, b);

    unpack_ahead_k(at, b, ahead);
    _mm512_store_ps(t->d, s.d);
    _mm512_store_ps(t->bias, s.bias);
    table_look_up(tile, panel + panel_k_lines_at(DTYPE_Q4_K, b), t, DTYPE_Q4_K, ahead);
}

/* tile = block b of the panel; asks for what lies `ahead` bytes after it. type is a constant. */
UNPACK_INLINE void table_block(uint8_t *tile, struct table *t, enum dtype type,
                               const uint8_t *panel, size_t b, size_t ahead)
{
    if (type == DTYPE_Q4_0)
        table_q4_0(tile, t, panel, b, ahead);
    else
        table_q4_k(tile, t, panel, b, ahead);
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
