/* panel_pack: how rows of the file become a panel, a block of all 16 rows at a time: so what is read
 * and what is written is a few KiB, in cache. For panels*.c only. */
#ifndef TANDEM_KERNELS_PANEL_PACK_H
#define TANDEM_KERNELS_PANEL_PACK_H

#include <string.h>

#include "kernels/panel_layout.h"

#define PANEL_BLOCK_MAX 256 /* bytes of a block; Q6_K's has 210 */

/* The rows as the file has them, blocks one after the other. Where there is no row: one block of
 * zeros, over and over. */
struct panel_rows {
    const uint8_t *row[PANEL_ROWS];
    size_t step[PANEL_ROWS]; /* to a row's next block; 0: no row */
    const uint8_t *next;     /* the rows of the next panel, */
    size_t next_step;        /* and so many bytes of them for each block of these */
};

static inline const uint8_t *panel_rows_block(const struct panel_rows *r, size_t n, size_t b)
{
    return r->row[n] + b * r->step[n];
}

/* Asks for a share of the next panel's rows; 16 streams are more than the hardware follows well. */
static inline void panel_rows_fetch(const struct panel_rows *r, size_t b)
{
    for (size_t i = b * r->next_step; i < (b + 1) * r->next_step; i += PANEL_LINE)
        __builtin_prefetch(r->next + i);
}

static inline uint32_t panel_load32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return v;
}

static inline void panel_store32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

/* A row's 8 bytes of nibbles: a dword of the line of the low ones, and one of the high ones'. */
static inline void panel_pack_lines(uint8_t *low, uint8_t *high, const uint8_t *eight)
{
    uint32_t a = panel_load32(eight), b = panel_load32(eight + 4);

    panel_store32(low, (a & 0x0f0f0f0f) | (b & 0x0f0f0f0f) << 4);
    panel_store32(high, (a >> 4 & 0x0f0f0f0f) | (b & 0xf0f0f0f0));
}

/* 16 bytes of nibbles of each row, from qs[row] + at on, by rows (panel_row_nibble_at): 32 bytes of
 * each of 4 lines of the low ones, and of the high ones'. */
static inline void panel_pack_by_rows(uint8_t *low, uint8_t *high, const uint8_t *const *qs, size_t at)
{
    for (size_t i = 0; i < 8; i += 2, low += PANEL_LINE, high += PANEL_LINE) {
        const uint8_t *a = qs[i] + at, *a8 = qs[i + 8] + at;
        const uint8_t *b = qs[i + 1] + at, *b8 = qs[i + 9] + at;
        uint8_t l[32], h[32]; /* of their own, so that the loop becomes vectors */

        for (size_t k = 0; k < 16; k++) {
            l[2 * k] = (uint8_t)((a[k] & 15) | a8[k] << 4);
            l[2 * k + 1] = (uint8_t)((b[k] & 15) | b8[k] << 4);
            h[2 * k] = (uint8_t)(a[k] >> 4 | (a8[k] & 0xf0));
            h[2 * k + 1] = (uint8_t)(b[k] >> 4 | (b8[k] & 0xf0));
        }
        memcpy(low, l, sizeof(l));
        memcpy(high, h, sizeof(h));
    }
}

/* A panel of a ternary type. */
void panel_t_pack(uint8_t *panel, const struct panels *p, const struct panel_rows *rows);

/* A panel of a type of panel_is_k. */
void panel_k_pack(uint8_t *panel, const struct panels *p, const struct panel_rows *rows);

#endif
