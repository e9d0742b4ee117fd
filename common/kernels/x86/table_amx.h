/* table_amx: a block of QK weights of 16 rows, from a panel by rows to a tile of bf16 whose line n is
 * row n: the matrix unit's first operand.
 *
 * 4 bits and one scale a block of a row: its weights are 16 values, made at once and rounded for two
 * rows together, and its line of the tile is 32 look-ups. The index of a look-up is the low 5 bits of
 * a word; the row's table is there twice, so that the 5th, which is of another row, does not matter. */
#ifndef TANDEM_KERNELS_X86_TABLE_AMX_H
#define TANDEM_KERNELS_X86_TABLE_AMX_H

#include "kernels/x86/unpack_amx.h"

/* Of one block: value q of row n is d[n] * (q + first) + bias[n]; its tables. */
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

/* Line n of the tile = the weights of row n. */
UNPACK_INLINE void table_look_up(uint8_t *tile, const uint8_t *line, const struct table *t,
                                 size_t ahead)
{
    TABLE_STORED();
    for (int j = 0; j < 4; j++) {
        __m512i q = _mm512_load_si512(line + j * PANEL_LINE);

        _mm_prefetch(line + j * PANEL_LINE + ahead, _MM_HINT_T0);
        for (int i = 0; i < 4; i++) {
            int n = 2 * j + i / 2 + i % 2 * 8;
            __m512i at = i ? _mm512_srli_epi16(q, 4 * i) : q;
            __m512i v = _mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)t->value[n]));

            _mm512_store_si512(tile + n * PANEL_LINE, _mm512_permutexvar_epi16(at, v));
        }
    }
}

UNPACK_INLINE void table_q4_0(uint8_t *tile, struct table *t, const uint8_t *panel, size_t b,
                              size_t ahead)
{
    const uint8_t *line = panel + panel_lines_at(DTYPE_Q4_0, b);

    if (b % 2 == 0)
        _mm_prefetch(line - PANEL_LINE + ahead, _MM_HINT_T0);
    _mm512_store_ps(t->d, unpack_f16(panel + panel_scales_at(DTYPE_Q4_0, b)));
    TABLE_STORED();
    for (int n = 0; n < PANEL_ROWS; n += 2) {
        __m512 lo = _mm512_mul_ps(table_values(-8), _mm512_set1_ps(t->d[n]));
        __m512 hi = _mm512_mul_ps(table_values(-8), _mm512_set1_ps(t->d[n + 1]));

        _mm512_store_si512(t->value[n], (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
    table_look_up(tile, line, t, ahead);
}

UNPACK_INLINE void table_q4_k(uint8_t *tile, struct table *t, const uint8_t *panel, size_t b,
                              size_t ahead)
{
    const uint8_t *at = panel + panel_k_at(DTYPE_Q4_K, b);
    struct unpack_min s = unpack_min_q4_k(panel, b);

    unpack_ahead_k(at, b, ahead);
    _mm512_store_ps(t->d, s.d);
    _mm512_store_ps(t->bias, s.bias);
    TABLE_STORED();
    for (int n = 0; n < PANEL_ROWS; n += 2) {
        __m512 lo = _mm512_fmadd_ps(table_values(0), _mm512_set1_ps(t->d[n]),
                                    _mm512_set1_ps(t->bias[n]));
        __m512 hi = _mm512_fmadd_ps(table_values(0), _mm512_set1_ps(t->d[n + 1]),
                                    _mm512_set1_ps(t->bias[n + 1]));

        _mm512_store_si512(t->value[n], (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
    table_look_up(tile, panel + panel_k_lines_at(DTYPE_Q4_K, b), t, ahead);
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

#endif
