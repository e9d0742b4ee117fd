/* panel_layout: where things are inside a panel. For panels.c and the kernels only.
 *
 * Float panels are lines of 64 bytes, k ascending; F32 has one k a line, F16 and BF16 two.
 * Quantised panels are pairs of blocks, so that every line of weights stays 64-byte aligned:
 *
 *   | 16 f16 scales of block 2j | 16 f16 scales of 2j + 1 | lines of 2j | lines of 2j + 1 |
 *
 * with 8 lines a block for Q8_0 and 4 for Q4_0. With an odd number of blocks the last pair ends
 * after its first block; the 32 bytes of the missing scales are there, and zero. */
#ifndef TANDEM_KERNELS_PANEL_LAYOUT_H
#define TANDEM_KERNELS_PANEL_LAYOUT_H

#include "kernels/panels.h"

#define PANEL_LINE 64

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

static inline const uint8_t *panel_at(const struct panels *w, uint32_t p)
{
    return w->data + (size_t)p * w->panel_bytes;
}

#endif
