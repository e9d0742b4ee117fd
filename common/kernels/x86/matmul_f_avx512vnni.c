#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/tile.h"

#define TILE_PANELS 2
#define TILE_ROWS 8

/* What one tile works on: rows of x and y from the tile's first, panels from its first. */
struct tile {
    float *y;
    const float *x;
    const uint8_t *panel;
    size_t y_stride, x_stride, panel_bytes;
    size_t k0, k1; /* k0 is even */
    size_t ahead;
    __mmask16 last; /* lanes of the tile's last panel that are rows of W */
};

TILE_INLINE __m512 weights(const uint8_t *panel, enum dtype type, size_t k)
{
    __m512i pair;

    if (type == DTYPE_F32)
        return _mm512_load_ps(panel + k * PANEL_LINE);
    if (type == DTYPE_F16)
        return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(panel + k * PANEL_LINE / 2)));
    pair = _mm512_load_si512(panel + k / 2 * PANEL_LINE);
    return _mm512_castsi512_ps(k % 2 ? _mm512_and_si512(pair, _mm512_set1_epi32(-65536))
                                     : _mm512_slli_epi32(pair, 16));
}

TILE_INLINE void step(__m512 (*acc)[TILE_ROWS], const struct tile *t, enum dtype type, size_t k,
                      int panels, int rows)
{
    __m512 w[TILE_PANELS];

    TILE_UNROLL for (int i = 0; i < panels; i++)
        w[i] = weights(t->panel + i * t->panel_bytes, type, k);
    TILE_UNROLL for (int m = 0; m < rows; m++) {
        __m512 x = _mm512_set1_ps(t->x[m * t->x_stride + k]);

        TILE_UNROLL for (int i = 0; i < panels; i++)
            acc[i][m] = _mm512_fmadd_ps(w[i], x, acc[i][m]);
    }
}

TILE_INLINE void tile(const struct tile *t, enum dtype type, int panels, int rows)
{
    const size_t k_bytes = type == DTYPE_F32 ? PANEL_LINE : PANEL_LINE / 2;
    __m512 acc[TILE_PANELS][TILE_ROWS];
    size_t k = t->k0;

    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int i = 0; i < panels; i++) {
            __mmask16 lanes = k == 0 ? 0 : i == panels - 1 ? t->last : 0xffff;

            acc[i][m] = _mm512_maskz_loadu_ps(lanes, t->y + m * t->y_stride + i * PANEL_ROWS);
        }
    for (; k + 2 <= t->k1; k += 2) {
        TILE_UNROLL for (int i = 0; i < panels; i++) {
            const uint8_t *line = t->panel + i * t->panel_bytes + k * k_bytes + t->ahead;

            _mm_prefetch(line, _MM_HINT_T0);
            if (type == DTYPE_F32)
                _mm_prefetch(line + PANEL_LINE, _MM_HINT_T0);
        }
        step(acc, t, type, k, panels, rows);
        step(acc, t, type, k + 1, panels, rows);
    }
    if (k < t->k1)
        step(acc, t, type, k, panels, rows);
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int i = 0; i < panels; i++)
            _mm512_mask_storeu_ps(t->y + m * t->y_stride + i * PANEL_ROWS,
                                  i == panels - 1 ? t->last : 0xffff, acc[i][m]);
}

#define TILE(panels, rows) tile(t, DTYPE_F32, panels, rows)
static void tile_f32(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_F16, panels, rows)
static void tile_f16(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_BF16, panels, rows)
static void tile_bf16(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE

void matmul_f_avx512vnni(float *y, size_t y_stride, const struct panels *w, const float *x,
                         size_t x_stride, uint32_t m, uint32_t p0, uint32_t p1)
{
    void (*run)(const struct tile *, uint32_t, uint32_t) = w->type == DTYPE_F32   ? tile_f32
                                                           : w->type == DTYPE_F16 ? tile_f16
                                                                                  : tile_bf16;
    size_t slice = w->type == DTYPE_F32 ? TILE_SLICE_BYTES / 64 : TILE_SLICE_BYTES / 32;
    struct tile t = {.y_stride = y_stride, .x_stride = x_stride, .panel_bytes = w->panel_bytes};

    if (m <= TILE_ROWS)
        slice = w->n_in;
    for (uint32_t p = p0, n; p < p1; p += n) {
        n = p1 - p < TILE_PANELS ? p1 - p : TILE_PANELS;
        t.panel = panel_at(w, p);
        t.last = lanes_avx512(w->n_out - (p + n - 1) * PANEL_ROWS);
        for (t.k0 = 0; t.k0 < w->n_in; t.k0 = t.k1) {
            t.k1 = w->n_in - t.k0 < slice ? w->n_in : t.k0 + slice;
            t.ahead = TILE_AHEAD;
            for (size_t i = 0; i < m; i += TILE_ROWS) {
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.x = x + i * x_stride;
                run(&t, n, m - i < TILE_ROWS ? (uint32_t)(m - i) : TILE_ROWS);
                t.ahead = 0;
            }
        }
    }
}
