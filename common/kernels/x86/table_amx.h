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
UNPACK_INLINE void table_rows(uint8_t *tile, const uint8_t *line, const struct table *t, int q)
{
    const __m512i low = _mm512_set1_epi16(15), second = _mm512_set1_epi16(16);
    __m512i w = _mm512_load_si512(line + q * PANEL_LINE);
    __m512i v = (__m512i)_mm512_cvtne2ps_pbh(table_row(t, 2 * q + 1), table_row(t, 2 * q));
    /* the other way round: what is left of w >> 12 has no 5th bit */
    __m512i u = (__m512i)_mm512_cvtne2ps_pbh(table_row(t, 2 * q + 8), table_row(t, 2 * q + 9));
    __m512i at1 = _mm512_or_si512(_mm512_srli_epi16(w, 8), second);
    __m512i at8 = _mm512_or_si512(_mm512_srli_epi16(w, 4), second);

    tile += 2 * q * PANEL_LINE;
    _mm512_store_si512(tile, _mm512_permutexvar_epi16(_mm512_and_si512(w, low), v));
    _mm512_store_si512(tile + PANEL_LINE, _mm512_permutexvar_epi16(at1, v));
    _mm512_store_si512(tile + 8 * PANEL_LINE, _mm512_permutexvar_epi16(at8, u));
    _mm512_store_si512(tile + 9 * PANEL_LINE,
                       _mm512_permutexvar_epi16(_mm512_srli_epi16(w, 12), u));
}

/* A table of Q4_0 that is being made, from d, none of which is zero, infinite or NaN: of the 16 multiples
 * of a row's d only the four odd ones are rounded (to nearest, as all would be), for 16 rows at once.
 * odd[0] has those of rows 0-3 and 8-11, odd[1] of the others: of each 1 and 5 times d in lanes 0 and 1,
 * 3 and 7 times d in lanes 2 and 3. */
struct table_make {
    __m512 d;
    __m512i odd[2];
};

UNPACK_INLINE void table_odd(struct table_make *m, __m512 d)
{
    __m512i p = (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(d, _mm512_set1_ps(3)), d);
    __m512i q = (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(d, _mm512_set1_ps(7)),
                                             _mm512_mul_ps(d, _mm512_set1_ps(5)));

    m->d = d;
    m->odd[0] = _mm512_unpacklo_epi16(p, q);
    m->odd[1] = _mm512_unpackhi_epi16(p, q);
}

/* For each q, which of 1, 3, 5 and 7 times d is q - 8 times d but for a power of two, 2^e, and the sign:
 * where its two bytes are, d's being at `at`, and e in a bf16's exponent with the sign. */
#define TABLE_ODD(at)                                                                              \
    (at) + 0, (at) + 1, (at) + 34, (at) + 35, (at) + 32, (at) + 33, (at) + 2, (at) + 3,            \
    (at) + 0, (at) + 1, (at) + 32, (at) + 33, (at) + 0, (at) + 1, (at) + 0, (at) + 1,              \
    (at) + 0, (at) + 1, (at) + 0, (at) + 1, (at) + 0, (at) + 1, (at) + 32, (at) + 33,              \
    (at) + 0, (at) + 1, (at) + 2, (at) + 3, (at) + 32, (at) + 33, (at) + 34, (at) + 35
#define TABLE_POWER                                                                                \
    0x8180, 0x8000, 0x8080, 0x8000, 0x8100, 0x8000, 0x8080, 0x8000, 0x0000, 0x0000, 0x0080,        \
    0x0000, 0x0100, 0x0000, 0x0080, 0x0000

/* value of rows n and n + 1, n even. */
UNPACK_INLINE void table_multiples(struct table *t, const struct table_make *m, int n)
{
    static const uint8_t odd[4][PANEL_LINE] = {{TABLE_ODD(0), TABLE_ODD(4)},
                                               {TABLE_ODD(8), TABLE_ODD(12)},
                                               {TABLE_ODD(16), TABLE_ODD(20)},
                                               {TABLE_ODD(24), TABLE_ODD(28)}};
    static const uint16_t power[PANEL_LINE / 2] = {TABLE_POWER, TABLE_POWER};
    __m512i v = _mm512_permutexvar_epi8(_mm512_loadu_si512(odd[n / 8 * 2 + n / 2 % 2]),
                                        m->odd[n / 4 % 2]);

    _mm512_store_si512(t->value[n],
                       _mm512_maskz_add_epi16(0xfefffeff, v, _mm512_loadu_si512(power)));
}

/* Whether some d is zero, infinite or NaN. */
UNPACK_INLINE bool table_is_any(__m512 d)
{
    return _mm512_fpclass_ps_mask(d, 0x9f) != 0;
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
UNPACK_INLINE void table_rows_values(uint8_t *tile, const uint8_t *line, const struct table *t, int q)
{
    __m512i w = _mm512_load_si512(line + q * PANEL_LINE);
    /* a load is cheaper than a shift, but not past the panel's end */
    __m512i w1 = q < 3 ? _mm512_loadu_si512(line + q * PANEL_LINE + 1) : _mm512_srli_epi16(w, 8);
    __m512i at[4] = {w, w1, _mm512_srli_epi16(w, 4), _mm512_srli_epi16(w1, 4)};

    for (int i = 0; i < 4; i++) {
        int row = 2 * q + i / 2 * 8 + i % 2;
        __m512i v = _mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)t->value[row]));

        _mm512_store_si512(tile + row * PANEL_LINE, _mm512_permutexvar_epi16(at[i], v));
    }
}

/* Where a block's scales and lines are. */
struct table_at {
    const uint8_t *f16, *scales, *lines;
};

UNPACK_INLINE struct table_at table_at(enum dtype type, const uint8_t *panel, size_t b)
{
    if (type == DTYPE_Q4_0)
        return (struct table_at){panel + panel_scales_at(type, b), panel,
                                 panel + panel_lines_at(type, b)};
    return (struct table_at){panel + panel_k_at(type, b), panel + panel_k_scales_at(type, b),
                             panel + panel_k_lines_at(type, b)};
}

/* The block after an even one. */
UNPACK_INLINE struct table_at table_next(enum dtype type, struct table_at at)
{
    return (struct table_at){at.f16 + (type == DTYPE_Q4_0 ? PANEL_LINE / 2 : 0),
                             at.scales + (type == DTYPE_Q4_0 ? 0 : 2 * PANEL_ROWS),
                             at.lines + panel_block_bytes(type)};
}

/* Asks for the scales whose lines are at `lines`, of block b, even. */
UNPACK_INLINE void table_ahead(enum dtype type, const uint8_t *lines, size_t b)
{
    int n = type == DTYPE_Q4_0 ? 1 : b % (QK_K / QK) == 0 ? PANEL_K_LINES / PANEL_LINE : 0;

    for (int i = 1; i <= n; i++)
        _mm_prefetch(lines - i * PANEL_LINE, _MM_HINT_T0);
}

/* Part 0 to 7 of a table, in this order; table_whole is to follow. type and part are constants. */
UNPACK_INLINE void table_part(struct table *t, struct table_make *m, enum dtype type,
                              const uint8_t *f16, const uint8_t *scales, int part)
{
    if (type == DTYPE_Q4_0) {
        if (part == 0)
            table_odd(m, unpack_f16(f16));
        table_multiples(t, m, 2 * part);
    } else if (part == 0) {
        struct unpack_min s = unpack_min_q4_k(f16, scales);

        _mm512_store_ps(t->d, s.d);
        _mm512_store_ps(t->bias, s.bias);
    }
}

/* The tables of a block of up to four panels that are step and bytes apart. */
UNPACK_INLINE void table_whole(struct table *t, size_t step, const struct table_make *m,
                               enum dtype type, const uint8_t *f16, size_t bytes, int panels)
{
    if (type == DTYPE_Q4_0) {
        /* of four d that are finite and not zero the product is, too: they come from f16 */
        __m512 d = m[0].d;

        for (int i = 1; i < panels; i++)
            d = _mm512_mul_ps(d, m[i].d);
        if (table_is_any(d))
            for (int i = 0; i < panels; i++)
                if (table_is_any(unpack_f16(f16 + i * bytes)))
                    table_any(t + i * step, unpack_f16(f16 + i * bytes));
    }
    TABLE_STORED();
}

/* Quarter q of the tile whose lines these are. type and q are constants. */
UNPACK_INLINE void table_quarter(uint8_t *tile, const struct table *t, enum dtype type,
                                 const uint8_t *lines, int q)
{
    if (type == DTYPE_Q4_0)
        table_rows_values(tile, lines, t, q);
    else
        table_rows(tile, lines, t, q);
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
