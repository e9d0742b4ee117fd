/* panel_layout: where things are inside a panel. For panels.c and the kernels only.
 *
 * Float panels are lines of 64 bytes, k ascending; F32 has one k a line, F16 and BF16 two.
 * Quantised panels are pairs of blocks, so that every line of weights stays 64-byte aligned:
 *
 *   | 16 f16 scales of block 2j | 16 f16 scales of 2j + 1 | lines of 2j | lines of 2j + 1 |
 *
 * with 8 lines a block for Q8_0 and 4 for Q4_0. With an odd number of blocks the last pair ends
 * after its first block; the 32 bytes of the missing scales are there, and zero.
 *
 * Panels of K types are one block of 256 k after the other; such a block has 8 blocks of 32 (Q4_K,
 * Q5_K) or 16 of 16 (Q6_K), each with its scales. Those of Q4_1 and Q5_1 are blocks of 32.
 *
 *   Q4_K | 16 f16 d, 16 f16 dmin | 8 x (16 u8 scales, 16 u8 minima) | 8 x 4 lines of nibbles |
 *   Q5_K | the same | the same | 8 x (4 lines of nibbles, 1 of fifth bits) |
 *   Q6_K | 16 f16 d, 32 zeros | 16 x 16 s8 scales | 16 x (2 lines of nibbles, 1 of upper bits) |
 *   Q4_1 | 16 f16 d, 16 f16 -m | 4 lines of nibbles |
 *   Q5_1 | the same | 4 lines of nibbles, 1 of fifth bits | */
#ifndef TANDEM_KERNELS_PANEL_LAYOUT_H
#define TANDEM_KERNELS_PANEL_LAYOUT_H

#include <stdbool.h>

#include "kernels/panels.h"

#define PANEL_LINE 64

/* Bytes of Q8_0 are w XOR this: VNNI and maddubs want them unsigned, SDOT and SMMLA signed. */
#ifdef __aarch64__
#define PANEL_Q8_FLIP 0
#else
#define PANEL_Q8_FLIP 0x80
#endif

/* Bytes of weights of one block of a quantised type: its lines without the scales. */
static inline size_t panel_block_bytes(enum dtype type)
{
    return type == DTYPE_Q8_0 ? (size_t)QK * PANEL_ROWS : (size_t)QK * PANEL_ROWS / 2;
}

/* Offset of block b's 16 scales (each a f16) from the panel's start. */
static inline size_t panel_scales_at(enum dtype type, size_t b)
{
    return b / 2 * (PANEL_LINE + 2 * panel_block_bytes(type)) + b % 2 * (PANEL_LINE / 2);
}

/* Offset of block b's first line. */
static inline size_t panel_lines_at(enum dtype type, size_t b)
{
    return b / 2 * (PANEL_LINE + 2 * panel_block_bytes(type)) + PANEL_LINE +
           b % 2 * panel_block_bytes(type);
}

/* Of panels by rows: the byte of (row n, k) among the 4 lines of nibbles of a block of 32; from n = 8
 * on it is the high nibble. */
static inline size_t panel_row_nibble_at(size_t n, size_t k)
{
    return n % 8 / 2 * PANEL_LINE + 2 * k + n % 2;
}

/* Ternary panels: a block of 256 k is a line of 16 f32 scales and 16 lines of weights. */
#define PANEL_T_BYTES (17 * PANEL_LINE)

/* The blocks of a row; what the last one has past n_in is zero bits. */
static inline size_t panel_t_blocks(uint32_t n_in) { return (n_in + QK_K - 1) / QK_K; }

/* Row n of a panel of a ternary type, read back. */
void panel_t_row(float *out, const uint8_t *panel, const struct panels *p, size_t n);

/* A block of a K type: a line of f16 scales, 4 of integer scales, then the weights. */
#define PANEL_K_SCALES PANEL_LINE
#define PANEL_K_LINES (5 * PANEL_LINE)

/* Laid out as K types are, or Q4_1 and Q5_1. */
static inline bool panel_is_k(enum dtype type)
{
    return type == DTYPE_Q4_K || type == DTYPE_Q5_K || type == DTYPE_Q6_K || type == DTYPE_Q4_1 ||
           type == DTYPE_Q5_1;
}

/* Lines of weights of 32 k. */
static inline size_t panel_k_lines(enum dtype type)
{
    return type == DTYPE_Q6_K ? 6 : type == DTYPE_Q5_K || type == DTYPE_Q5_1 ? 5 : 4;
}

/* Bytes of 256 k. */
static inline size_t panel_k_bytes(enum dtype type)
{
    bool small = type == DTYPE_Q4_1 || type == DTYPE_Q5_1;

    return ((small ? 8 : 5) + 8 * panel_k_lines(type)) * PANEL_LINE;
}

/* Offset of the f16 scales of block b of 32 k, from the panel's start. */
static inline size_t panel_k_at(enum dtype type, size_t b)
{
    bool small = type == DTYPE_Q4_1 || type == DTYPE_Q5_1;

    return small ? b * (panel_k_bytes(type) / 8) : b / 8 * panel_k_bytes(type);
}

/* Offset of the integer scales of block b of 32 k: 2 x 16 bytes. Not in Q4_1 and Q5_1. */
static inline size_t panel_k_scales_at(enum dtype type, size_t b)
{
    return panel_k_at(type, b) + PANEL_K_SCALES + b % 8 * 2 * PANEL_ROWS;
}

/* Offset of the lines of block b of 32 k. */
static inline size_t panel_k_lines_at(enum dtype type, size_t b)
{
    bool small = type == DTYPE_Q4_1 || type == DTYPE_Q5_1;

    return panel_k_at(type, b) +
           (small ? PANEL_LINE : PANEL_K_LINES + b % 8 * panel_k_lines(type) * PANEL_LINE);
}

/* How far on a kernel asks for lines that reads `panels` panels of a quantised type or BF16 beside each
 * other, each once, and is at block b of 32 k (ternary: 256): a whole number of blocks, 2 to 3.4 KB (1 KiB
 * is slower, 4 KiB by a tenth), which near the end of the panels are blocks of those behind them. */
static inline size_t panel_ahead(enum dtype type, size_t b, size_t blocks, size_t panel_bytes,
                                 int panels)
{
    size_t n = type == DTYPE_BF16 || type == DTYPE_TQ2_0 ? 2 : type == DTYPE_Q8_0 ? 4 : 8;
    size_t bytes = type == DTYPE_BF16    ? n * QK * PANEL_LINE / 2
                   : type == DTYPE_TQ2_0 ? n * PANEL_T_BYTES
                   : panel_is_k(type)    ? panel_k_bytes(type)
                                         : panel_scales_at(type, n);

    return bytes + (b + n < blocks ? 0 : (size_t)(panels - 1) * panel_bytes);
}

/* Row n of a panel of such a type, read back. */
void panel_k_row(float *out, const uint8_t *panel, const struct panels *p, size_t n);

static inline const uint8_t *panel_at(const struct panels *w, uint32_t p)
{
    return w->data + (size_t)p * w->panel_bytes;
}

#endif
