#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx2.h"
#include "kernels/tile.h"

/* 4 rows by a panel are 8 sums of 8 lanes: enough chains to hide the latency of two FMA ports, and
 * half of the registers. */
#define TILE_ROWS 4

/* What one tile works on: rows of x and y from the tile's first, one panel. */
struct tile {
    float *y;
    const float *x;
    const uint8_t *panel;
    size_t y_stride, x_stride;
    size_t k0, k1; /* k0 is even */
    size_t ahead;
    __m256i lanes[2]; /* the panel's rows that are rows of W */
};

/* The weights of the panel's rows 8 half .. 8 half + 7 at k. */
TILE_INLINE __m256 weights(const uint8_t *panel, enum dtype type, size_t k, int half)
{
    __m256i pair;

    if (type == DTYPE_F32)
        return _mm256_load_ps((const float *)(const void *)(panel + k * PANEL_LINE + half * 32));
    if (type == DTYPE_F16)
        return _mm256_cvtph_ps(
            _mm_load_si128((const __m128i *)(panel + k * PANEL_LINE / 2 + half * 16)));
    pair = _mm256_load_si256((const __m256i *)(panel + k / 2 * PANEL_LINE + half * 32));
    return _mm256_castsi256_ps(k % 2 ? _mm256_and_si256(pair, _mm256_set1_epi32(-65536))
                                     : _mm256_slli_epi32(pair, 16));
}

TILE_INLINE void step(__m256 (*acc)[2], const struct tile *t, enum dtype type, size_t k, int rows)
{
    __m256 lo = weights(t->panel, type, k, 0), hi = weights(t->panel, type, k, 1);

    TILE_UNROLL for (int m = 0; m < rows; m++) {
        __m256 x = _mm256_broadcast_ss(t->x + m * t->x_stride + k);

        acc[m][0] = _mm256_fmadd_ps(lo, x, acc[m][0]);
        acc[m][1] = _mm256_fmadd_ps(hi, x, acc[m][1]);
    }
}

TILE_INLINE void tile(const struct tile *t, enum dtype type, int rows)
{
    const size_t k_bytes = type == DTYPE_F32 ? PANEL_LINE : PANEL_LINE / 2;
    __m256 acc[TILE_ROWS][2];
    size_t k = t->k0;

    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int h = 0; h < 2; h++)
            acc[m][h] = k == 0 ? _mm256_setzero_ps()
                               : _mm256_maskload_ps(t->y + m * t->y_stride + 8 * h, t->lanes[h]);
    for (; k + 2 <= t->k1; k += 2) {
        _mm_prefetch(t->panel + k * k_bytes + t->ahead, _MM_HINT_T0);
        if (type == DTYPE_F32)
            _mm_prefetch(t->panel + (k + 1) * k_bytes + t->ahead, _MM_HINT_T0);
        step(acc, t, type, k, rows);
        step(acc, t, type, k + 1, rows);
    }
    if (k < t->k1)
        step(acc, t, type, k, rows);
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int h = 0; h < 2; h++)
            _mm256_maskstore_ps(t->y + m * t->y_stride + 8 * h, t->lanes[h], acc[m][h]);
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

void matmul_f_avx2(float *y, size_t y_stride, const struct panels *w, const float *x,
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
        t.lanes[0] = lanes_avx2(w->n_out, p * PANEL_ROWS);
        t.lanes[1] = lanes_avx2(w->n_out, p * PANEL_ROWS + 8);
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
