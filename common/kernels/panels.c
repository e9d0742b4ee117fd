#include "kernels/panels.h"

#include <string.h>

#include "base/check.h"
#include "kernels/panel_layout.h"
#include "model/blocks.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF rows are read in place");

/* The form that a type is packed in; of the scaled ones all but Q4_0 become Q8_0. */
static enum dtype packed_type(enum dtype type)
{
    return block_is_scaled(type) && type != DTYPE_Q4_0 ? DTYPE_Q8_0 : type;
}

void panels_init(struct panels *p, enum dtype type, uint32_t n_out, uint32_t n_in)
{
    *p = (struct panels){.type = packed_type(type), .from = type, .n_out = n_out, .n_in = n_in};
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
    default:
        ASSERT(panel_is_k(type));
        p->panel_bytes = n_in / QK * (panel_k_bytes(type) / 8);
    }
}

void panels_init_by_rows(struct panels *p, enum dtype type, uint32_t n_out, uint32_t n_in)
{
    panels_init(p, type, n_out, n_in);
    p->by_rows = type == DTYPE_Q4_0 || type == DTYPE_Q4_K || type == DTYPE_TQ2_0;
    if (type == DTYPE_TQ2_0) {
        p->type = type;
        p->panel_bytes = n_in / QK_K * (size_t)PANEL_TQ2_BYTES;
    }
}

void panels_init_ternary(struct panels *p, enum dtype type, uint32_t n_out, uint32_t n_in)
{
    panels_init(p, type, n_out, n_in);
    if (type == DTYPE_TQ2_0) {
        p->type = type;
        p->panel_bytes = n_in / QK_K * (size_t)PANEL_TQ2_BYTES;
    }
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

static void pack_f32(uint8_t *panel, const uint8_t *row, size_t n, size_t n_in)
{
    for (size_t k = 0; k < n_in; k++)
        memcpy(panel + k * PANEL_LINE + 4 * n, row + 4 * k, 4);
}

static void pack_half(uint8_t *panel, enum dtype type, const uint8_t *row, size_t n, size_t n_in)
{
    for (size_t k = 0; k < n_in; k++)
        memcpy(panel + 2 * half_at(type, n, k), row + 2 * k, 2);
}

static void pack_q8_block(uint8_t *panel, const struct block_q8_0 *block, size_t n, size_t b)
{
    uint8_t *lines = panel + panel_lines_at(DTYPE_Q8_0, b);

    memcpy(panel + panel_scales_at(DTYPE_Q8_0, b) + 2 * n, &block->d, 2);
    for (size_t k = 0; k < QK; k += 4) { /* 4 values of a row lie together */
        uint32_t four;

        memcpy(&four, block->qs + k, 4);
        four ^= PANEL_Q8_FLIP * 0x01010101u;
        memcpy(lines + q8_at(n, k), &four, 4);
    }
}

/* The nibbles of row n of a block, into panels by rows. */
static void pack_row_nibbles(uint8_t *lines, const uint8_t *w, size_t n)
{
    uint8_t *line = lines + n % 8 / 2 * PANEL_LINE;
    uint16_t pairs[QK]; /* of rows n and n ^ 1 */

    _Static_assert(sizeof(pairs) == PANEL_LINE, "panel_row_nibble_at");
    memcpy(pairs, line, sizeof(pairs));
    for (size_t k = 0; k < QK; k++)
        pairs[k] = (uint16_t)(pairs[k] | w[k] << (n % 2 * 8 + n / 8 * 4));
    memcpy(line, pairs, sizeof(pairs));
}

/* row is of a scaled type, or NULL */
static void pack_q8(uint8_t *panel, enum dtype from, const uint8_t *row, size_t n, size_t n_in)
{
    const struct dtype_info *info = dtype_info(from);
    struct block_q8_0 blocks[QK_K / QK] = {0};

    for (size_t b = 0; b < n_in / QK;) {
        size_t end = b + info->block_elems / QK;

        if (row)
            block_to_q8_0(blocks, row, from);
        for (size_t i = 0; b < end; i++, b++)
            pack_q8_block(panel, &blocks[i], n, b);
        row = row ? row + info->block_bytes : NULL;
    }
}

static void pack_q4(uint8_t *panel, bool by_rows, const uint8_t *row, size_t n, size_t n_in)
{
    for (size_t b = 0; b < n_in / QK; b++) {
        uint8_t *lines = panel + panel_lines_at(DTYPE_Q4_0, b);
        struct block_q4_0 block;
        uint8_t w[QK];

        memset(&block, 0, sizeof(block));
        if (row)
            memcpy(&block, row + b * sizeof(block), sizeof(block));
        else
            memset(block.qs, 0x88, sizeof(block.qs));
        memcpy(panel + panel_scales_at(DTYPE_Q4_0, b) + 2 * n, &block.d, 2);
        for (size_t k = 0; k < QK / 2; k++) {
            w[k] = block.qs[k] & 15;
            w[k + QK / 2] = block.qs[k] >> 4;
        }
        if (by_rows)
            pack_row_nibbles(lines, w, n);
        for (size_t k = 0; !by_rows && k < QK; k += 8) {
            uint32_t low, high;

            memcpy(&low, w + k, 4);
            memcpy(&high, w + k + 4, 4);
            low |= high << 4;
            memcpy(lines + q4_at(n, k), &low, 4);
        }
    }
}

static void pack_tq2(uint8_t *panel, bool by_rows, const uint8_t *row, size_t n, size_t n_in)
{
    struct block_tq2_0 block;

    for (size_t b = 0; b < n_in / QK_K; b++, row += sizeof(block)) {
        memcpy(&block, row, sizeof(block));
        memcpy(panel + b * PANEL_TQ2_BYTES + 2 * n, &block.d, 2);
        for (size_t k = 0; k < QK_K; k++) {
            int q = block.qs[k / 128 * QK + k % QK] >> k / QK % 4 * 2 & 3;

            panel[panel_tq2_lines_at(b * 8 + k / QK) + panel_tq2_at(by_rows, n, k % QK)] |=
                (uint8_t)(q << panel_tq2_bit(by_rows, n, k));
        }
    }
}

void panels_pack(struct panels *p, const void *rows, uint32_t p0, uint32_t p1)
{
    const struct dtype_info *info = dtype_info(p->from);
    size_t row_bytes = p->n_in / info->block_elems * (size_t)info->block_bytes;

    for (uint32_t i = p0; i < p1; i++) {
        uint8_t *panel = p->data + i * p->panel_bytes;

        memset(panel, 0, p->panel_bytes);
        for (uint32_t n = 0; n < PANEL_ROWS; n++) {
            uint32_t r = i * PANEL_ROWS + n;
            const uint8_t *row = r < p->n_out ? (const uint8_t *)rows + r * row_bytes : NULL;

            if (p->type == DTYPE_Q8_0)
                pack_q8(panel, p->from, row, n, p->n_in);
            else if (p->type == DTYPE_Q4_0)
                pack_q4(panel, p->by_rows, row, n, p->n_in);
            else if (row && p->type == DTYPE_TQ2_0)
                pack_tq2(panel, p->by_rows, row, n, p->n_in);
            else if (row && panel_is_k(p->type))
                panel_k_pack(panel, p, row, n);
            else if (row && p->type == DTYPE_F32)
                pack_f32(panel, row, n, p->n_in);
            else if (row)
                pack_half(panel, p->type, row, n, p->n_in);
        }
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

static float weight_tq2(const uint8_t *panel, bool by_rows, size_t n, size_t k)
{
    uint8_t byte = panel[panel_tq2_lines_at(k / QK) + panel_tq2_at(by_rows, n, k % QK)];

    return dtype_f16_to_f32(load_half(panel + k / QK_K * PANEL_TQ2_BYTES + 2 * n)) *
           (float)((byte >> panel_tq2_bit(by_rows, n, k) & 3) - 1);
}

void panels_row(float *out, const struct panels *p, uint32_t row)
{
    const uint8_t *panel = panel_at(p, row / PANEL_ROWS);
    size_t n = row % PANEL_ROWS;

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
        case DTYPE_TQ2_0:
            out[k] = weight_tq2(panel, p->by_rows, n, k);
            break;
        default:
            out[k] = dtype_f16_to_f32(load_half(panel + panel_scales_at(p->type, k / QK) + 2 * n)) *
                     (float)weight_int(panel, p, n, k);
        }
    }
}
