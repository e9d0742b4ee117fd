/* Ternary weights are u = w / d + 1, of two bits. A dword lane of SDOT is a row of W, as in
 * matmul_q_dotprod.c: up to 4 rows of x go over a whole panel at once, 8 over 4 of its rows. */
#include "kernels/arm/lanes_neon.h"
#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/tile.h"

#define TILE_FEW 4
#define TILE_ROWS 8
#define VECTORS (PANEL_ROWS / 4)

/* What one tile works on: rows of x and y from the tile's first, one panel. */
struct tile {
    float *y;
    const int8_t *q;
    const float *d;
    const int32_t *sum;
    const uint8_t *panel;
    size_t y_stride, q_stride, blocks;
    size_t b0, b1;
    size_t ahead;
    size_t n; /* the panel's rows that are rows of W */
};

/* s[m][v] += the products of 16 k of the rows of vectors v0 + v */
TILE_INLINE void line(int32x4_t (*s)[VECTORS], const struct tile *t, const uint8_t *from,
                      const int8_t *q, size_t v0, size_t vectors, size_t rows)
{
    const uint8x16_t two = vdupq_n_u8(3);
    int8x16_t x[TILE_ROWS];

    TILE_UNROLL for (size_t m = 0; m < rows; m++) x[m] = vld1q_s8(q + m * t->q_stride);
    TILE_UNROLL for (size_t v = 0; v < vectors; v++) {
        uint8x16_t w = vld1q_u8(from + 16 * (v0 + v));
        int8x16_t u0 = vreinterpretq_s8_u8(vandq_u8(w, two));
        int8x16_t u1 = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 2), two));
        int8x16_t u2 = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 4), two));
        int8x16_t u3 = vreinterpretq_s8_u8(vshrq_n_u8(w, 6));

        TILE_UNROLL for (size_t m = 0; m < rows; m++) {
            s[m][v] = vdotq_laneq_s32(s[m][v], u0, x[m], 0);
            s[m][v] = vdotq_laneq_s32(s[m][v], u1, x[m], 1);
            s[m][v] = vdotq_laneq_s32(s[m][v], u2, x[m], 2);
            s[m][v] = vdotq_laneq_s32(s[m][v], u3, x[m], 3);
        }
    }
}

/* Vectors v0 .. v0 + vectors - 1 of the panel. */
TILE_INLINE void tile(const struct tile *t, size_t v0, size_t vectors, size_t rows)
{
    float32x4_t acc[TILE_ROWS][VECTORS];

    TILE_UNROLL for (size_t m = 0; m < rows; m++)
        TILE_UNROLL for (size_t v = 0; v < vectors; v++)
            acc[m][v] = t->b0 == 0 ? vdupq_n_f32(0)
                                   : load_neon(t->y + m * t->y_stride, t->n, 4 * (v0 + v));
    for (size_t b = t->b0; b < t->b1; b++) {
        const uint8_t *at = t->panel + b * PANEL_T_BYTES;
        int32x4_t s[TILE_ROWS][VECTORS];

        TILE_UNROLL for (size_t m = 0; m < rows; m++)
            TILE_UNROLL for (size_t v = 0; v < vectors; v++)
                s[m][v] = vdupq_n_s32(-t->sum[m * t->blocks + b]);
        for (size_t l = 0; l < 16; l++) {
            if (v0 == 0)
                __builtin_prefetch(at + l * PANEL_LINE + t->ahead);
            line(s, t, at + (1 + l) * PANEL_LINE, t->q + b * QK_K + 16 * l, v0, vectors, rows);
        }
        TILE_UNROLL for (size_t v = 0; v < vectors; v++) {
            float32x4_t d = vld1q_f32((const float *)(const void *)(at + 16 * (v0 + v)));

            TILE_UNROLL for (size_t m = 0; m < rows; m++)
                acc[m][v] = vfmaq_f32(acc[m][v], vcvtq_f32_s32(s[m][v]),
                                      vmulq_n_f32(d, t->d[m * t->blocks + b]));
        }
    }
    TILE_UNROLL for (size_t m = 0; m < rows; m++)
        TILE_UNROLL for (size_t v = 0; v < vectors; v++)
            store_neon(t->y + m * t->y_stride, t->n, 4 * (v0 + v), acc[m][v]);
}

static void run(const struct tile *t, size_t rows)
{
    switch (rows) {
    case 1:
        tile(t, 0, VECTORS, 1);
        return;
    case 2:
        tile(t, 0, VECTORS, 2);
        return;
    case 3:
        tile(t, 0, VECTORS, 3);
        return;
    case 4:
        tile(t, 0, VECTORS, 4);
        return;
    default:
        for (size_t v = 0; v < VECTORS; v++)
            tile(t, v, 1, TILE_ROWS);
    }
}

void matmul_t_dotprod(float *y, size_t y_stride, const struct panels *w, const struct act_q8k *x,
                      uint32_t m, uint32_t p0, uint32_t p1)
{
    size_t blocks = x->k_pad / QK_K;
    size_t slice = m <= TILE_FEW ? blocks : TILE_SLICE_BYTES / PANEL_T_BYTES;
    struct tile t = {.y_stride = y_stride, .q_stride = ACT_Q8K_STRIDE(x->k_pad),
                     .blocks = blocks};

    for (uint32_t p = p0; p < p1; p++) {
        t.panel = panel_at(w, p);
        t.n = w->n_out - p * PANEL_ROWS < PANEL_ROWS ? w->n_out - p * PANEL_ROWS : PANEL_ROWS;
        for (t.b0 = 0; t.b0 < blocks; t.b0 = t.b1) {
            t.b1 = blocks - t.b0 < slice ? blocks : t.b0 + slice;
            t.ahead = TILE_AHEAD;
            for (size_t i = 0, n; i < m; i += n) {
                n = m - i >= TILE_ROWS ? TILE_ROWS : m - i < TILE_FEW ? m - i : TILE_FEW;
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.q = x->q + i * t.q_stride;
                t.d = x->d + i * blocks;
                t.sum = x->sum + i * blocks;
                run(&t, n);
                t.ahead = 0;
            }
        }
    }
}
