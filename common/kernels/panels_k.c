/* Panels of the K types, and of Q4_1 and Q5_1. What bytes of a row become is worked out on dwords:
 * byte i of a line's dword n is of k = i, 4 + i, ... whatever the line packs. */
#include <stddef.h>
#include <string.h>

#include "kernels/panel_pack.h"
#include "model/blocks.h"

typedef uint8_t bytes16 __attribute__((vector_size(16)));

/* The 8 scales and 8 minima of every row's block: of each 32 k the scales of 16 rows, then the minima.
 * Riffling 16 rows of 16 bytes four times turns them. */
static void pack_all_scales(uint8_t *to, bytes16 *rows)
{
    bytes16 riffled[PANEL_ROWS];

    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < 8; i++) {
            riffled[2 * i] = __builtin_shufflevector(rows[i], rows[i + 8], 0, 16, 1, 17, 2, 18, 3,
                                                     19, 4, 20, 5, 21, 6, 22, 7, 23);
            riffled[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + 8], 8, 24, 9, 25, 10, 26,
                                                         11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(rows, riffled, sizeof(riffled));
    }
    for (size_t i = 0; i < 8; i++, to += 2 * PANEL_ROWS) {
        memcpy(to, &rows[i], PANEL_ROWS);
        memcpy(to + PANEL_ROWS, &rows[i + 8], PANEL_ROWS);
    }
}

/* Scales i of a row's blocks of 32, 8 bytes each of scales and minima. */
static void pack_scales(uint8_t *to, const uint8_t *sc, const uint8_t *mn, size_t n)
{
    for (size_t i = 0; i < 8; i++, to += 2 * PANEL_ROWS) {
        to[n] = sc[i];
        to[PANEL_ROWS + n] = mn[i];
    }
}

static void pack_q4_k(uint8_t *panel, bool by_rows, const struct panel_rows *rows, size_t b)
{
    uint8_t *at = panel + b * panel_k_bytes(DTYPE_Q4_K);
    const uint8_t *qs[PANEL_ROWS];
    bytes16 scales[PANEL_ROWS];

    for (size_t n = 0; n < PANEL_ROWS; n++) {
        const uint8_t *block = panel_rows_block(rows, n, b);

        memcpy(at + 2 * n, block, 2);
        memcpy(at + 2 * (PANEL_ROWS + n), block + offsetof(struct block_q4_k, dmin), 2);
        block_scales((uint8_t *)&scales[n], (uint8_t *)&scales[n] + 8,
                     block + offsetof(struct block_q4_k, scales));
        qs[n] = block + offsetof(struct block_q4_k, qs);
    }
    pack_all_scales(at + PANEL_K_SCALES, scales);
    at += PANEL_K_LINES;
    for (size_t k = 0; k < QK_K / 2; k += QK, at += 8 * PANEL_LINE) {
        uint8_t *low = at, *high = at + 4 * PANEL_LINE;

        if (by_rows) {
            panel_pack_by_rows(low, high, qs, k);
            panel_pack_by_rows(low + QK, high + QK, qs, k + QK / 2);
            continue;
        }
        for (size_t n = 0; n < PANEL_ROWS; n++)
            for (size_t l = 0; l < 4; l++)
                panel_pack_lines(low + l * PANEL_LINE + 4 * n, high + l * PANEL_LINE + 4 * n,
                                 qs[n] + k + 8 * l);
    }
}

/* Two dwords of four values each: nibbles of one line. */
static uint32_t pack_nibbles(const uint8_t *q)
{
    return (panel_load32(q) & 0x0f0f0f0f) | (panel_load32(q + 4) & 0x0f0f0f0f) << 4;
}

/* Fifth bits of 8 dwords, side by side. */
static uint32_t pack_fifth(const uint8_t *q)
{
    uint32_t v = 0;

    for (size_t j = 0; j < 8; j++)
        v |= (panel_load32(q + 4 * j) >> 4 & 0x01010101) << j;
    return v;
}

/* Block b of row n, of 32 or 256 k, of any type with minima. */
static void pack_min(uint8_t *panel, enum dtype type, const uint8_t *bytes, size_t n, size_t b)
{
    struct block_min block;

    block_to_min(&block, bytes, type);
    b *= block.n / QK;
    memcpy(panel + panel_k_at(type, b) + 2 * n, &block.d, 2);
    memcpy(panel + panel_k_at(type, b) + 2 * (PANEL_ROWS + n), &block.dmin, 2);
    if (block.n == QK_K)
        pack_scales(panel + panel_k_scales_at(type, b), block.sc, block.mn, n);
    for (size_t i = 0; i < block.n / QK; i++, b++) {
        uint8_t *lines = panel + panel_k_lines_at(type, b) + 4 * n;
        const uint8_t *q = block.q + i * QK;

        for (size_t l = 0; l < 4; l++)
            panel_store32(lines + l * PANEL_LINE, pack_nibbles(q + 8 * l));
        if (panel_k_lines(type) == 5)
            panel_store32(lines + 4 * PANEL_LINE, pack_fifth(q));
    }
}

/* Four dwords of two upper bits of each of 16 k, which are bits 2j and 2j + 1 of the bytes. */
static uint32_t pack_upper(const uint8_t *qh, size_t j)
{
    uint32_t v = 0;

    for (size_t i = 0; i < 4; i++)
        v |= (panel_load32(qh + 4 * i) >> 2 * j & 0x03030303) << 2 * i;
    return v;
}

/* Where the bits of 128 k are is in blocks.h: 4 runs of 32, each two blocks of 16. */
static void pack_q6_k(uint8_t *panel, const uint8_t *block, size_t n, size_t b)
{
    uint8_t *at = panel + b * panel_k_bytes(DTYPE_Q6_K), *lines = at + PANEL_K_LINES + 4 * n;
    const uint8_t *ql = block, *qh = block + offsetof(struct block_q6_k, qh);

    memcpy(at + 2 * n, block + offsetof(struct block_q6_k, d), 2);
    for (size_t i = 0; i < 16; i++)
        at[PANEL_K_SCALES + i * PANEL_ROWS + n] = block[offsetof(struct block_q6_k, scales) + i];
    for (size_t half = 0; half < 2; half++, ql += 64, qh += 32, lines += 24 * PANEL_LINE)
        for (size_t i = 0; i < 4; i++) { /* of the first two runs, and 64 k on of the others */
            uint8_t *low = lines + 3 * i * PANEL_LINE, *high = low + 12 * PANEL_LINE;

            panel_pack_lines(low, high, ql + 16 * i);
            panel_pack_lines(low + PANEL_LINE, high + PANEL_LINE, ql + 16 * i + 8);
            panel_store32(low + 2 * PANEL_LINE, pack_upper(qh + i % 2 * 16, i / 2));
            panel_store32(high + 2 * PANEL_LINE, pack_upper(qh + i % 2 * 16, i / 2 + 2));
        }
}

void panel_k_pack(uint8_t *panel, const struct panels *p, const struct panel_rows *rows)
{
    for (size_t b = 0; b < p->n_in / dtype_info(p->type)->block_elems; b++) {
        panel_rows_fetch(rows, b);
        if (p->type == DTYPE_Q4_K) {
            pack_q4_k(panel, p->by_rows, rows, b);
            continue;
        }
        if (p->type == DTYPE_Q6_K) /* half of its line of f16 scales has nothing */
            memset(panel + panel_k_at(p->type, 8 * b) + 2 * PANEL_ROWS, 0, 2 * PANEL_ROWS);
        for (size_t n = 0; n < PANEL_ROWS; n++) {
            const uint8_t *block = panel_rows_block(rows, n, b);

            if (p->from == DTYPE_Q3_K && rows->step[n]) { /* else there is no such row: zeros */
                struct block_q6_k same;

                block_to_q6_k(&same, block, p->from);
                pack_q6_k(panel, (const uint8_t *)&same, n, b);
            } else if (p->type == DTYPE_Q6_K)
                pack_q6_k(panel, block, n, b);
            else
                pack_min(panel, p->type, block, n, b);
        }
    }
}

static float load_half(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, 2);
    return dtype_f16_to_f32(h);
}

static float weight_min(const uint8_t *panel, const struct panels *p, size_t n, size_t k)
{
    enum dtype type = p->type;
    const uint8_t *f16 = panel + panel_k_at(type, k / QK) + 2 * n;
    const uint8_t *first = panel + panel_k_lines_at(type, k / QK), *lines = first + 4 * n + k % 4;
    float d = load_half(f16), dmin = load_half(f16 + 2 * PANEL_ROWS);
    int q = lines[k % QK / 8 * PANEL_LINE] >> (k & 4) & 15;

    if (p->by_rows)
        q = first[panel_row_nibble_at(n, k % QK)] >> n / 8 * 4 & 15;
    if (panel_k_lines(type) == 5)
        q |= (lines[4 * PANEL_LINE] >> k % QK / 4 & 1) << 4;
    if (type == DTYPE_Q4_K || type == DTYPE_Q5_K) {
        d *= panel[panel_k_scales_at(type, k / QK) + n];
        dmin *= panel[panel_k_scales_at(type, k / QK) + PANEL_ROWS + n];
    }
    return d * (float)q - dmin;
}

static float weight_q6_k(const uint8_t *panel, size_t n, size_t k)
{
    const uint8_t *at = panel + panel_k_at(DTYPE_Q6_K, k / QK);
    const uint8_t *lines = panel + panel_k_lines_at(DTYPE_Q6_K, k / QK) +
                           k / 16 % 2 * 3 * PANEL_LINE + 4 * n + k % 4;
    int sc = (int8_t)at[PANEL_K_SCALES + k % QK_K / 16 * PANEL_ROWS + n];
    int low = lines[k / 8 % 2 * PANEL_LINE] >> (k & 4) & 15;
    int high = lines[2 * PANEL_LINE] >> k / 4 % 4 * 2 & 3;

    return load_half(at + 2 * n) * (float)sc * (float)((low | high << 4) - 32);
}

void panel_k_row(float *out, const uint8_t *panel, const struct panels *p, size_t n)
{
    for (size_t k = 0; k < p->n_in; k++)
        out[k] = p->type == DTYPE_Q6_K ? weight_q6_k(panel, n, k) : weight_min(panel, p, n, k);
}
