/* Panels of the ternary types. */
#include <string.h>

#include "kernels/panel_pack.h"
#include "model/blocks.h"

/* The dword of a row in a line: bits 2j and 2j + 1 of byte i are of k = 4j + i. */
static uint32_t pack_16(const uint8_t *q)
{
    return panel_load32(q) | panel_load32(q + 4) << 2 | panel_load32(q + 8) << 4 |
           panel_load32(q + 12) << 6;
}

void panel_t_pack(uint8_t *panel, const struct panels *p, const struct panel_rows *rows)
{
    size_t per = QK_K / dtype_info(p->from)->block_elems; /* blocks of the file, one or two */
    uint8_t q[QK_K];

    for (size_t b = 0; b < panel_t_blocks(p->n_in); b++, panel += PANEL_T_BYTES) {
        size_t len = p->n_in - b * QK_K < QK_K ? p->n_in - b * QK_K : QK_K;

        panel_rows_fetch(rows, b * per);
        memset(q + len, 0, QK_K - len);
        for (size_t n = 0; n < PANEL_ROWS; n++) {
            const uint8_t *block = panel_rows_block(rows, n, b * per);
            float d = p->scale * block_ternary_unpack(q, block, p->from, len);

            if (!rows->step[n])
                d = 0; /* no row */
            memcpy(panel + 4 * n, &d, 4);
            for (size_t l = 0; l < QK_K / 16; l++)
                panel_store32(panel + (1 + l) * PANEL_LINE + 4 * n, pack_16(q + 16 * l));
        }
    }
}

void panel_t_row(float *out, const uint8_t *panel, const struct panels *p, size_t n)
{
    for (size_t k = 0; k < p->n_in; k++) {
        const uint8_t *block = panel + k / QK_K * PANEL_T_BYTES;
        uint8_t byte = block[(1 + k % QK_K / 16) * PANEL_LINE + 4 * n + k % 4];
        float d;

        memcpy(&d, block + 4 * n, 4);
        out[k] = d * (float)((byte >> k % 16 / 4 * 2 & 3) - 1);
    }
}
