#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/tile.h"

#define TILE_PANELS 2
#define TILE_ROWS 8

/* What one tile works on: rows of x and y from the tile's first, panels from its first. */
struct tile {
    float *y;
    const int8_t *q;
    const float *d;
    const int16_t *sum;
    const uint8_t *panel;
    size_t y_stride, k_pad, blocks, panel_bytes;
    size_t b0, b1;
    bool fetch; /* the weights are not in cache yet */
    __mmask16 last; /* lanes of the tile's last panel that are rows of W */
};

TILE_INLINE __m512i broadcast(const void *dword)
{
    return _mm512_set1_epi32(*(const int32_t *)dword);
}

/* The lines' bytes are unsigned, w + 128 or w + 8, so the products start at -128 or -8
 * times the sum of the row's q, which one dpwssd takes from the block's two sums. */
TILE_INLINE __m512i offset_of(enum dtype type, const int16_t *sum)
{
    return _mm512_dpwssd_epi32(_mm512_setzero_si512(), broadcast(sum),
                               _mm512_set1_epi16(type == DTYPE_Q8_0 ? -128 : -8));
}

/* s[i][m] += 4 (Q8_0) or 8 (Q4_0) products from line j of each panel */
TILE_INLINE void line(__m512i (*s)[TILE_ROWS], const struct tile *t, const uint8_t *const *lines,
                      const int8_t *q, enum dtype type, size_t ahead, int j, int panels,
                      int rows)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i w[TILE_PANELS], high[TILE_PANELS];
    int k = type == DTYPE_Q8_0 ? j * 4 : j * 8;

    TILE_UNROLL for (int i = 0; i < panels; i++) {
        w[i] = _mm512_load_si512(lines[i] + j * PANEL_LINE);
        _mm_prefetch(lines[i] + j * PANEL_LINE + ahead, _MM_HINT_T0);
        if (type == DTYPE_Q4_0) {
            high[i] = _mm512_and_si512(_mm512_srli_epi16(w[i], 4), nibble);
            w[i] = _mm512_and_si512(w[i], nibble);
        }
    }
    TILE_UNROLL for (int m = 0; m < rows; m++) {
        TILE_UNROLL for (int i = 0; i < panels; i++)
            s[i][m] = _mm512_dpbusd_epi32(s[i][m], w[i], broadcast(q + m * t->k_pad + k));
        if (type == DTYPE_Q4_0)
            TILE_UNROLL for (int i = 0; i < panels; i++)
                s[i][m] = _mm512_dpbusd_epi32(s[i][m], high[i],
                                              broadcast(q + m * t->k_pad + k + 4));
    }
}

TILE_INLINE void tile(const struct tile *t, enum dtype type, int panels, int rows)
{
    const int n_lines = type == DTYPE_Q8_0 ? 8 : 4;
    __m512 acc[TILE_PANELS][TILE_ROWS];

    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int i = 0; i < panels; i++) {
            __mmask16 lanes = t->b0 == 0 ? 0 : i == panels - 1 ? t->last : 0xffff;

            acc[i][m] = _mm512_maskz_loadu_ps(lanes, t->y + m * t->y_stride + i * PANEL_ROWS);
        }
    for (size_t b = t->b0; b < t->b1; b++) {
        size_t ahead = t->fetch ? panel_ahead(type, b, t->blocks, t->panel_bytes, panels) : 0;
        const int8_t *q = t->q + b * QK;
        const uint8_t *lines[TILE_PANELS];
        __m512i s[TILE_PANELS][TILE_ROWS];

        TILE_UNROLL for (int i = 0; i < panels; i++)
            lines[i] = t->panel + i * t->panel_bytes + panel_lines_at(type, b);
        TILE_UNROLL for (int m = 0; m < rows; m++)
            TILE_UNROLL for (int i = 0; i < panels; i++)
                s[i][m] = offset_of(type, t->sum + 2 * (m * t->blocks + b));
        TILE_UNROLL for (int j = 0; j < n_lines; j++)
            line(s, t, lines, q, type, ahead, j, panels, rows);
        TILE_UNROLL for (int i = 0; i < panels; i++) {
            const uint8_t *scales = t->panel + i * t->panel_bytes + panel_scales_at(type, b);
            __m512 dw = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)scales));

            _mm_prefetch(scales + ahead, _MM_HINT_T0);
            TILE_UNROLL for (int m = 0; m < rows; m++) {
                __m512 d = _mm512_mul_ps(dw, _mm512_set1_ps(t->d[m * t->blocks + b]));

                acc[i][m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[i][m]), d, acc[i][m]);
            }
        }
    }
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int i = 0; i < panels; i++)
            _mm512_mask_storeu_ps(t->y + m * t->y_stride + i * PANEL_ROWS,
                                  i == panels - 1 ? t->last : 0xffff, acc[i][m]);
}

#define TILE(panels, rows) tile(t, DTYPE_Q8_0, panels, rows)
static void tile_q8(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_Q4_0, panels, rows)
static void tile_q4(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE
void matmul_q_avx512vnni(float *y, size_t y_stride, const struct panels *w,
                         const struct act_q8 *x, uint32_t m, uint32_t p0, uint32_t p1)
{
    void (*run)(const struct tile *, uint32_t, uint32_t) = w->type == DTYPE_Q8_0 ? tile_q8
                                                                                 : tile_q4;
    size_t blocks = w->n_in / QK, slice = TILE_SLICE_BYTES / panel_block_bytes(w->type);
    struct tile t = {
        .y_stride = y_stride, .k_pad = x->k_pad, .blocks = blocks, .panel_bytes = w->panel_bytes};

    if (panel_is_k(w->type)) {
        matmul_k_avx512vnni(y, y_stride, w, x, m, p0, p1);
        return;
    }
    if (m <= TILE_ROWS)
        slice = blocks;
    for (uint32_t p = p0, n; p < p1; p += n) {
        n = p1 - p < TILE_PANELS ? p1 - p : TILE_PANELS;
        t.panel = panel_at(w, p);
        t.last = lanes_avx512(w->n_out - (p + n - 1) * PANEL_ROWS);
        for (t.b0 = 0; t.b0 < blocks; t.b0 = t.b1) {
            t.b1 = blocks - t.b0 < slice ? blocks : t.b0 + slice;
            t.fetch = true;
            for (size_t i = 0; i < m; i += TILE_ROWS) {
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.q = x->q + i * x->k_pad;
                t.d = x->d + i * blocks;
                t.sum = x->sum + 2 * i * blocks;
                run(&t, n, m - i < TILE_ROWS ? (uint32_t)(m - i) : TILE_ROWS);
                t.fetch = false;
            }
        }
    }
}
