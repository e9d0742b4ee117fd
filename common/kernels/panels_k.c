/* Panels of the K types, and of Q4_1 and Q5_1. What bytes of a row become is worked out on dwords:
 * byte i of a line's dword n is of k = i, 4 + i, ... whatever the line packs. */
#include <string.h>

#include "kernels/panel_layout.h"
#include "model/blocks.h"

static uint32_t load32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return v;
}

static void store32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

/* Two dwords of four values each: nibbles of one line. */
static uint32_t pack_nibbles(const uint8_t *q)
{
    return (load32(q) & 0x0f0f0f0f) | (load32(q + 4) & 0x0f0f0f0f) << 4;
}

/* The upper bits of n dwords, `bits` of each value (mask: in every byte), side by side. */
static uint32_t pack_upper(const uint8_t *q, size_t n, size_t bits, uint32_t mask)
{
    uint32_t v = 0;

    for (size_t j = 0; j < n; j++)
        v |= (load32(q + 4 * j) >> 4 & mask) << bits * j;
    return v;
}

/* Block b of the row, of 32 or 256 k; the lines hold 32 of them each. */
static void pack_min(uint8_t *panel, const struct panels *p, const uint8_t *bytes, size_t n,
                     size_t b)
{
    enum dtype type = p->type;
    struct block_min block;

    block_to_min(&block, bytes, type);
    b *= block.n / QK;
    memcpy(panel + panel_k_at(type, b) + 2 * n, &block.d, 2);
    memcpy(panel + panel_k_at(type, b) + 2 * (PANEL_ROWS + n), &block.dmin, 2);
    for (size_t i = 0; i < block.n / QK; i++, b++) {
        uint8_t *first = panel + panel_k_lines_at(type, b), *lines = first + 4 * n;
        const uint8_t *q = block.q + i * QK;

        if (block.n == QK_K) {
            panel[panel_k_scales_at(type, b) + n] = block.sc[i];
            panel[panel_k_scales_at(type, b) + PANEL_ROWS + n] = block.mn[i];
        }
        for (size_t k = 0; p->by_rows && k < QK; k++)
            first[panel_row_nibble_at(n, k)] |= (uint8_t)(q[k] << n / 8 * 4);
        for (size_t l = 0; !p->by_rows && l < 4; l++)
            store32(lines + l * PANEL_LINE, pack_nibbles(q + 8 * l));
        if (panel_k_lines(type) == 5)
            store32(lines + 4 * PANEL_LINE, pack_upper(q, 8, 1, 0x01010101));
    }
}

static void pack_q6_k(uint8_t *panel, const uint8_t *bytes, size_t n, size_t b)
{
    uint8_t *at = panel + b * panel_k_bytes(DTYPE_Q6_K);
    struct block_q6_k block;
    uint8_t q[QK_K];

    memcpy(&block, bytes, sizeof(block));
    block_q6_k_unpack(q, &block);
    memcpy(at + 2 * n, &block.d, 2);
    for (size_t i = 0; i < 16; i++) {
        uint8_t *lines = at + PANEL_K_LINES + 3 * i * PANEL_LINE + 4 * n;

        at[PANEL_K_SCALES + i * PANEL_ROWS + n] = (uint8_t)block.scales[i];
        store32(lines, pack_nibbles(q + 16 * i));
        store32(lines + PANEL_LINE, pack_nibbles(q + 16 * i + 8));
        store32(lines + 2 * PANEL_LINE, pack_upper(q + 16 * i, 4, 2, 0x03030303));
    }
}

void panel_k_pack(uint8_t *panel, const struct panels *p, const uint8_t *row, size_t n)
{
    const struct dtype_info *info = dtype_info(p->type);

    for (size_t b = 0; b < p->n_in / info->block_elems; b++, row += info->block_bytes) {
        if (p->type == DTYPE_Q6_K)
            pack_q6_k(panel, row, n, b);
        else
            pack_min(panel, p, row, n, b);
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
