#include "kernels/arm/lanes_neon.h"
#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/tile.h"

/* 4 rows by a panel are 16 sums of 4 lanes: half of the registers. */
#define TILE_ROWS 4
#define VECTORS (PANEL_ROWS / 4)

/* What one tile works on: rows of x and y from the tile's first, one panel. */
struct tile {
    float *y;
    const float *x;
    const uint8_t *panel;
    size_t y_stride, x_stride;
    size_t k0, k1; /* k0 is even */
    size_t ahead;
    size_t n; /* the panel's rows that are rows of W */
};

/* The weights of the panel's rows 4 v .. 4 v + 3 at k + odd; k is even. */
TILE_INLINE float32x4_t weights(const uint8_t *panel, enum dtype type, size_t k, size_t odd,
                                size_t v)
{
    uint32x4_t pair;

    if (type == DTYPE_F32)
        return vreinterpretq_f32_u8(vld1q_u8(panel + (k + odd) * PANEL_LINE + v * 16));
    if (type == DTYPE_F16)
        return halves_neon(panel + (k + odd) * PANEL_LINE / 2 + v * 8);
    pair = vreinterpretq_u32_u8(vld1q_u8(panel + k / 2 * PANEL_LINE + v * 16));
    return vreinterpretq_f32_u32(odd ? vandq_u32(pair, vdupq_n_u32(0xffff0000))
                                     : vshlq_n_u32(pair, 16));
}

TILE_INLINE void step(float32x4_t (*acc)[VECTORS], const struct tile *t, enum dtype type, size_t k,
                      size_t odd, size_t rows)
{
    TILE_UNROLL for (size_t v = 0; v < VECTORS; v++) {
        float32x4_t w = weights(t->panel, type, k, odd, v);

        TILE_UNROLL for (size_t m = 0; m < rows; m++)
            acc[m][v] = vfmaq_n_f32(acc[m][v], w, t->x[m * t->x_stride + k + odd]);
    }
}

TILE_INLINE void tile(const struct tile *t, enum dtype type, size_t rows)
{
    const size_t k_bytes = type == DTYPE_F32 ? PANEL_LINE : PANEL_LINE / 2;
    float32x4_t acc[TILE_ROWS][VECTORS];
    size_t k = t->k0;

    TILE_UNROLL for (size_t m = 0; m < rows; m++)
        TILE_UNROLL for (size_t v = 0; v < VECTORS; v++)
            acc[m][v] = k == 0 ? vdupq_n_f32(0) : load_neon(t->y + m * t->y_stride, t->n, 4 * v);
    for (; k + 2 <= t->k1; k += 2) {
        __builtin_prefetch(t->panel + k * k_bytes + t->ahead);
        if (type == DTYPE_F32)
            __builtin_prefetch(t->panel + (k + 1) * k_bytes + t->ahead);
        step(acc, t, type, k, 0, rows);
        step(acc, t, type, k, 1, rows);
    }
    if (k < t->k1)
        step(acc, t, type, k, 0, rows);
    TILE_UNROLL for (size_t m = 0; m < rows; m++)
        TILE_UNROLL for (size_t v = 0; v < VECTORS; v++)
            store_neon(t->y + m * t->y_stride, t->n, 4 * v, acc[m][v]);
}

#define TILE(panels, rows) tile(t, DTYPE_F32, rows)
static void tile_f32(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_F16, rows)
static void tile_f16(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_BF16, rows)
static void tile_bf16(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE

void matmul_f_neon(float *y, size_t y_stride, const struct panels *w, const float *x,
                   size_t x_stride, uint32_t m, uint32_t p0, uint32_t p1)
{
    void (*run)(const struct tile *, uint32_t) = w->type == DTYPE_F32   ? tile_f32
                                                 : w->type == DTYPE_F16 ? tile_f16
                                                                        : tile_bf16;
    size_t slice = w->type == DTYPE_F32 ? TILE_SLICE_BYTES / 64 : TILE_SLICE_BYTES / 32;
    struct tile t = {.y_stride = y_stride, .x_stride = x_stride};

    if (m <= TILE_ROWS)
        slice = w->n_in;
    for (uint32_t p = p0; p < p1; p++) {
        t.panel = panel_at(w, p);
        t.n = w->n_out - p * PANEL_ROWS < PANEL_ROWS ? w->n_out - p * PANEL_ROWS : PANEL_ROWS;
        for (t.k0 = 0; t.k0 < w->n_in; t.k0 = t.k1) {
            t.k1 = w->n_in - t.k0 < slice ? w->n_in : t.k0 + slice;
            t.ahead = TILE_AHEAD;
            for (size_t i = 0; i < m; i += TILE_ROWS) {
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.x = x + i * x_stride;
                run(&t, m - i < TILE_ROWS ? (uint32_t)(m - i) : TILE_ROWS);
                t.ahead = 0;
            }
        }
    }
}
