#include "kernels/panels.h"

#include <stddef.h>
#include <string.h>

#include "base/check.h"
#include "kernels/panel_layout.h"
#include "kernels/panel_pack.h"
#include "model/blocks_rounded.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF rows are read in place");

/* The form that a type is packed in; of the scaled ones all but Q4_0 and ternary ones become Q8_0, as
 * do those that no form holds. */
static enum dtype packed_type(enum dtype type)
{
    if (block_is_ternary(type))
        return DTYPE_TQ2_0;
    if (type == DTYPE_Q3_K)
        return DTYPE_Q6_K;
    if (block_is_rounded(type) || (block_is_scaled(type) && type != DTYPE_Q4_0))
        return DTYPE_Q8_0;
    return type;
}

void panels_init(struct panels *p, enum dtype type, uint32_t n_out, uint32_t n_in)
{
    *p = (struct panels){.type = packed_type(type), .from = type, .scale = 1, .n_out = n_out, .n_in = n_in};
    p->n_panels = (n_out + PANEL_ROWS - 1) / PANEL_ROWS;
    ASSERT(n_in % dtype_info(type)->block_elems == 0);
    switch (p->type) {
    case DTYPE_F32:
        p->panel_bytes = (size_t)n_in * PANEL_LINE;
        break;
    case DTYPE_F16:
    case DTYPE_BF16:
        p->panel_bytes = ((size_t)n_in + 1) / 2 * PANEL_LINE;
        break;
    case DTYPE_Q8_0:
    case DTYPE_Q4_0:
        p->panel_bytes = ((size_t)n_in / QK + 1) / 2 * PANEL_LINE +
                         n_in / QK * panel_block_bytes(p->type);
        break;
    case DTYPE_TQ2_0:
        p->panel_bytes = panel_t_blocks(n_in) * PANEL_T_BYTES;
        break;
    default:
        ASSERT(panel_is_k(p->type));
        p->panel_bytes = n_in / QK * (panel_k_bytes(p->type) / 8);
    }
}

void panels_init_by_rows(struct panels *p, enum dtype type, uint32_t n_out, uint32_t n_in)
{
    panels_init(p, type, n_out, n_in);
    p->by_rows = type == DTYPE_Q4_0 || type == DTYPE_Q4_K;
}

size_t panels_bytes(const struct panels *p) { return p->n_panels * p->panel_bytes; }

/* Index of (row n, k) in a panel of 16-bit floats. */
static size_t half_at(enum dtype type, size_t n, size_t k)
{
    size_t line = k / 2 * (PANEL_LINE / 2);

    return line + (type == DTYPE_F16 ? k % 2 * PANEL_ROWS + n : 2 * n + k % 2);
}

/* Byte of (row n, k) among a block's lines of Q8_0. */
static size_t q8_at(size_t n, size_t k) { return k / 4 * PANEL_LINE + 4 * n + k % 4; }

/* The same of Q4_0, where k % 8 < 4 is the low nibble. */
static size_t q4_at(size_t n, size_t k) { return k / 8 * PANEL_LINE + 4 * n + k % 4; }

static void pack_f32(uint8_t *panel, const struct panel_rows *rows, size_t n_in)
{
    for (size_t k = 0; k < n_in; k++)
        for (size_t n = 0; n < PANEL_ROWS; n++)
            memcpy(panel + k * PANEL_LINE + 4 * n, panel_rows_block(rows, n, k), 4);
}

static void pack_half(uint8_t *panel, enum dtype type, const struct panel_rows *rows, size_t n_in)
{
    for (size_t k = 0; k < n_in; k += 2) {
        if (k + 1 == n_in)
            memset(panel + k / 2 * PANEL_LINE, 0, PANEL_LINE);
        for (size_t n = 0; n < PANEL_ROWS; n++) {
            memcpy(panel + 2 * half_at(type, n, k), panel_rows_block(rows, n, k), 2);
            if (k + 1 < n_in)
                memcpy(panel + 2 * half_at(type, n, k + 1), panel_rows_block(rows, n, k + 1), 2);
        }
    }
}

/* What scaled panels have behind an odd number of blocks: scales of the one that is missing. */
static void pack_no_scales(uint8_t *panel, enum dtype type, size_t blocks)
{
    if (blocks % 2)
        memset(panel + panel_scales_at(type, blocks), 0, PANEL_LINE / 2);
}

static void pack_q8_block(uint8_t *panel, const uint8_t *block, size_t n, size_t b)
{
    uint8_t *lines = panel + panel_lines_at(DTYPE_Q8_0, b);

    memcpy(panel + panel_scales_at(DTYPE_Q8_0, b) + 2 * n, block, 2);
    for (size_t k = 0; k < QK; k += 4) /* 4 values of a row lie together */
        panel_store32(lines + q8_at(n, k),
                      panel_load32(block + offsetof(struct block_q8_0, qs) + k) ^
                          PANEL_Q8_FLIP * 0x01010101u);
}

static void pack_q8(uint8_t *panel, const struct panel_rows *rows, size_t n_in)
{
    for (size_t b = 0; b < n_in / QK; b++) {
        panel_rows_fetch(rows, b);
        for (size_t n = 0; n < PANEL_ROWS; n++)
            pack_q8_block(panel, panel_rows_block(rows, n, b), n, b);
    }
    pack_no_scales(panel, DTYPE_Q8_0, n_in / QK);
}

/* The rows are of another scaled type, or one that no form holds. */
static void pack_as_q8(uint8_t *panel, enum dtype from, const struct panel_rows *rows, size_t n_in)
{
    size_t elems = dtype_info(from)->block_elems, per = elems / QK;
    size_t (*to_q8_0)(struct block_q8_0 *, const void *, enum dtype) =
        block_is_rounded(from) ? block_rounded_to_q8_0 : block_to_q8_0;

    for (size_t b = 0; b < n_in / elems; b++)
        for (size_t n = 0; n < PANEL_ROWS; n++) {
            struct block_q8_0 blocks[QK_K / QK] = {0};

            if (rows->step[n]) /* else there is no such row: zeros */
                to_q8_0(blocks, panel_rows_block(rows, n, b), from);
            for (size_t i = 0; i < per; i++)
                pack_q8_block(panel, (const uint8_t *)&blocks[i], n, b * per + i);
        }
    pack_no_scales(panel, DTYPE_Q8_0, n_in / QK);
}

static void pack_q4(uint8_t *panel, bool by_rows, const struct panel_rows *rows, size_t n_in)
{
    for (size_t b = 0; b < n_in / QK; b++) {
        uint8_t *lines = panel + panel_lines_at(DTYPE_Q4_0, b);
        const uint8_t *qs[PANEL_ROWS];

        panel_rows_fetch(rows, b);
        for (size_t n = 0; n < PANEL_ROWS; n++) {
            const uint8_t *block = panel_rows_block(rows, n, b);

            memcpy(panel + panel_scales_at(DTYPE_Q4_0, b) + 2 * n, block, 2);
            qs[n] = block + offsetof(struct block_q4_0, qs);
        }
        if (by_rows) /* k of low nibbles from 0 on, of high ones from 16 */
            panel_pack_by_rows(lines, lines + QK, qs, 0);
        for (size_t n = 0; !by_rows && n < PANEL_ROWS; n++) {
            panel_pack_lines(lines + 4 * n, lines + 2 * PANEL_LINE + 4 * n, qs[n]);
            panel_pack_lines(lines + PANEL_LINE + 4 * n, lines + 3 * PANEL_LINE + 4 * n, qs[n] + 8);
        }
    }
    pack_no_scales(panel, DTYPE_Q4_0, n_in / QK);
}

/* Rows of panel i; of Q4_0, 8 is zero. */
static void rows_of(struct panel_rows *to, const struct panels *p, const uint8_t *rows, uint32_t i)
{
    static const uint8_t zeros[PANEL_BLOCK_MAX];
    static const struct block_q4_0 zeros_q4 = {0, {0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88,
                                                   0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88}};
    const struct dtype_info *info = dtype_info(p->from);
    size_t row_bytes = p->n_in / info->block_elems * (size_t)info->block_bytes;

    to->next = rows + (size_t)(i + 1) * PANEL_ROWS * row_bytes;
    to->next_step = (size_t)PANEL_ROWS * info->block_bytes;
    for (uint32_t n = 0, r = i * PANEL_ROWS; n < PANEL_ROWS; n++, r++) {
        bool there = r < p->n_out;

        to->row[n] = there                   ? rows + r * row_bytes
                     : p->from == DTYPE_Q4_0 ? (const uint8_t *)&zeros_q4
                                             : zeros;
        to->step[n] = there ? info->block_bytes : 0;
    }
}

void panels_pack(struct panels *p, const void *rows, uint32_t p0, uint32_t p1)
{
    for (uint32_t i = p0; i < p1; i++) {
        uint8_t *panel = p->data + i * p->panel_bytes;
        struct panel_rows of;

        rows_of(&of, p, rows, i);
        if (p->type == DTYPE_Q8_0 && p->from == DTYPE_Q8_0)
            pack_q8(panel, &of, p->n_in);
        else if (p->type == DTYPE_Q8_0)
            pack_as_q8(panel, p->from, &of, p->n_in);
        else if (p->type == DTYPE_Q4_0)
            pack_q4(panel, p->by_rows, &of, p->n_in);
        else if (p->type == DTYPE_TQ2_0)
            panel_t_pack(panel, p, &of);
        else if (panel_is_k(p->type))
            panel_k_pack(panel, p, &of);
        else if (p->type == DTYPE_F32)
            pack_f32(panel, &of, p->n_in);
        else
            pack_half(panel, p->type, &of, p->n_in);
    }
}

static uint16_t load_half(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, 2);
    return h;
}

/* The quantised weight (row n, k), without its scale. */
static int weight_int(const uint8_t *panel, const struct panels *p, size_t n, size_t k)
{
    const uint8_t *lines = panel + panel_lines_at(p->type, k / QK);

    if (p->by_rows)
        return (lines[panel_row_nibble_at(n, k % QK)] >> n / 8 * 4 & 15) - 8;
    if (p->type == DTYPE_Q8_0)
        return (int8_t)(lines[q8_at(n, k % QK)] ^ PANEL_Q8_FLIP);
    return (lines[q4_at(n, k % QK)] >> (k & 4) & 15) - 8;
}

void panels_row(float *out, const struct panels *p, uint32_t row)
{
    const uint8_t *panel = panel_at(p, row / PANEL_ROWS);
    size_t n = row % PANEL_ROWS;

    if (p->type == DTYPE_TQ2_0) {
        panel_t_row(out, panel, p, n);
        return;
    }
    if (panel_is_k(p->type)) {
        panel_k_row(out, panel, p, n);
        return;
    }
    for (size_t k = 0; k < p->n_in; k++) {
        switch (p->type) {
        case DTYPE_F32:
            memcpy(out + k, panel + k * PANEL_LINE + 4 * n, 4);
            break;
        case DTYPE_F16:
            out[k] = dtype_f16_to_f32(load_half(panel + 2 * half_at(p->type, n, k)));
            break;
        case DTYPE_BF16:
            out[k] = dtype_bf16_to_f32(load_half(panel + 2 * half_at(p->type, n, k)));
            break;
        default:
            out[k] = dtype_f16_to_f32(load_half(panel + panel_scales_at(p->type, k / QK) + 2 * n)) *
                     (float)weight_int(panel, p, n, k);
        }
    }
}
