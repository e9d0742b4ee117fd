/* Panels of the K types. What eight or sixteen bytes of a row become is worked out on dwords: byte i
 * of a line's dword n is of k = i, 4 + i, ... whatever the line packs. */
#include <string.h>

#include "base/check.h"
#include "kernels/panel_layout.h"

#define NIBBLES 0x0f0f0f0fu
#define PAIRS 0x03030303u

static uint32_t load32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return v;
}

static void store32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

static void pack_q4_k(uint8_t *at, const uint8_t *row, size_t n)
{
    struct block_q4_k block;
    uint8_t q[QK_K], sc[8], m[8];

    memcpy(&block, row, sizeof(block));
    dtype_q4_k_unpack(q, sc, m, &block);
    memcpy(at + 2 * n, &block.d, 2);
    memcpy(at + 2 * (PANEL_ROWS + n), &block.dmin, 2);
    for (size_t j = 0; j < 8; j++) {
        at[PANEL_K_SCALES + 2 * j * PANEL_ROWS + n] = sc[j];
        at[PANEL_K_SCALES + (2 * j + 1) * PANEL_ROWS + n] = m[j];
    }
    for (size_t j = 0; j < 32; j++)
        store32(at + PANEL_K_LINES + j * PANEL_LINE + 4 * n,
                load32(q + 8 * j) | load32(q + 8 * j + 4) << 4);
}

static void pack_q6_k(uint8_t *at, const uint8_t *row, size_t n)
{
    struct block_q6_k block;
    uint8_t q[QK_K];

    memcpy(&block, row, sizeof(block));
    dtype_q6_k_unpack(q, &block);
    memcpy(at + 2 * n, &block.d, 2);
    for (size_t b = 0; b < 16; b++) {
        uint8_t *lines = at + PANEL_K_LINES + 3 * b * PANEL_LINE + 4 * n;
        uint32_t high = 0;

        at[PANEL_K_SCALES + b * PANEL_ROWS + n] = (uint8_t)block.scales[b];
        for (size_t j = 0; j < 4; j++)
            high |= (load32(q + 16 * b + 4 * j) >> 4 & PAIRS) << 2 * j;
        for (size_t j = 0; j < 2; j++) {
            uint32_t lo = load32(q + 16 * b + 8 * j), hi = load32(q + 16 * b + 8 * j + 4);

            store32(lines + j * PANEL_LINE, (lo & NIBBLES) | (hi & NIBBLES) << 4);
        }
        store32(lines + 2 * PANEL_LINE, high);
    }
}

void panel_k_pack(uint8_t *panel, enum dtype type, const uint8_t *row, size_t n, size_t n_in)
{
    const struct dtype_info *info = dtype_info(type);

    for (size_t b = 0; b < n_in / QK_K; b++, row += info->block_bytes) {
        uint8_t *at = panel + b * panel_k_bytes(type);

        if (type == DTYPE_Q4_K)
            pack_q4_k(at, row, n);
        else
            pack_q6_k(at, row, n);
    }
}

static float load_half(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, 2);
    return dtype_f16_to_f32(h);
}

static void row_q4_k(float *out, const uint8_t *at, size_t n)
{
    float d = load_half(at + 2 * n), dmin = load_half(at + 2 * (PANEL_ROWS + n));

    for (size_t i = 0; i < QK_K; i++) {
        const uint8_t *sc = at + PANEL_K_SCALES + i / 32 * 2 * PANEL_ROWS + n;
        uint8_t q = at[PANEL_K_LINES + i / 8 * PANEL_LINE + 4 * n + i % 4];

        out[i] = d * sc[0] * (float)(q >> (i & 4) & 15) - dmin * sc[PANEL_ROWS];
    }
}

static void row_q6_k(float *out, const uint8_t *at, size_t n)
{
    float d = load_half(at + 2 * n);

    for (size_t i = 0; i < QK_K; i++) {
        const uint8_t *lines = at + PANEL_K_LINES + i / 16 * 3 * PANEL_LINE + 4 * n + i % 4;
        int sc = (int8_t)at[PANEL_K_SCALES + i / 16 * PANEL_ROWS + n];
        int low = lines[i / 8 % 2 * PANEL_LINE] >> (i & 4) & 15;
        int high = lines[2 * PANEL_LINE] >> i / 4 % 4 * 2 & 3;

        out[i] = d * (float)sc * (float)((low | high << 4) - 32);
    }
}

void panel_k_row(float *out, const uint8_t *panel, enum dtype type, size_t n, size_t n_in)
{
    for (size_t b = 0; b < n_in / QK_K; b++, out += QK_K) {
        const uint8_t *at = panel + b * panel_k_bytes(type);

        if (type == DTYPE_Q4_K)
            row_q4_k(out, at, n);
        else
            row_q6_k(out, at, n);
    }
}
