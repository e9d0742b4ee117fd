/* Ternary weights are u = w / d + 1, of two bits: maddubs of them reach 2 * 3 * 127, and 32 of those,
 * half a block, fit in 16 bits. */
#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx2.h"
#include "kernels/tile.h"

#define TILE_ROWS 4

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
    __m256i lanes[2]; /* the panel's rows that are rows of W */
};

/* s[m][h] += the products of 16 k */
TILE_INLINE void line(__m256i (*s)[2], const struct tile *t, const uint8_t *from, const int8_t *q,
                      int rows)
{
    const __m256i two = _mm256_set1_epi8(3);

    _mm_prefetch(from + t->ahead, _MM_HINT_T0);
    TILE_UNROLL for (int f = 0; f < 4; f++)
        TILE_UNROLL for (int h = 0; h < 2; h++) {
            __m256i w = _mm256_load_si256((const __m256i *)(from + h * 32));
            __m256i u = _mm256_and_si256(_mm256_srli_epi16(w, 2 * f), two);

            TILE_UNROLL for (int m = 0; m < rows; m++)
                s[m][h] = _mm256_add_epi16(
                    s[m][h], _mm256_maddubs_epi16(u, broadcast_avx2(q + m * t->q_stride + 4 * f)));
        }
}

/* acc += block b */
TILE_INLINE void block(__m256 (*acc)[2], const struct tile *t, size_t b, int rows)
{
    const uint8_t *at = t->panel + b * PANEL_T_BYTES;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i s[TILE_ROWS][2];

    TILE_UNROLL for (int m = 0; m < rows; m++)
        s[m][0] = s[m][1] = _mm256_set1_epi32(-t->sum[m * t->blocks + b]);
    for (int half = 0; half < 2; half++) {
        __m256i part[TILE_ROWS][2];

        TILE_UNROLL for (int m = 0; m < rows; m++)
            part[m][0] = part[m][1] = _mm256_setzero_si256();
        for (int l = 8 * half; l < 8 * half + 8; l++)
            line(part, t, at + (1 + l) * PANEL_LINE, t->q + b * QK_K + 16 * l, rows);
        TILE_UNROLL for (int m = 0; m < rows; m++)
            TILE_UNROLL for (int h = 0; h < 2; h++)
                s[m][h] = _mm256_add_epi32(s[m][h], _mm256_madd_epi16(part[m][h], ones));
    }
    _mm_prefetch(at + t->ahead, _MM_HINT_T0);
    TILE_UNROLL for (int h = 0; h < 2; h++) {
        __m256 dw = _mm256_load_ps((const float *)(const void *)(at + 32 * h));

        TILE_UNROLL for (int m = 0; m < rows; m++) {
            __m256 d = _mm256_mul_ps(dw, _mm256_broadcast_ss(t->d + m * t->blocks + b));

            acc[m][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[m][h]), d, acc[m][h]);
        }
    }
}

TILE_INLINE void tile(const struct tile *t, int rows)
{
    __m256 acc[TILE_ROWS][2];

    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int h = 0; h < 2; h++)
            acc[m][h] = t->b0 == 0
                            ? _mm256_setzero_ps()
                            : _mm256_maskload_ps(t->y + m * t->y_stride + 8 * h, t->lanes[h]);
    for (size_t b = t->b0; b < t->b1; b++)
        block(acc, t, b, rows);
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int h = 0; h < 2; h++)
            _mm256_maskstore_ps(t->y + m * t->y_stride + 8 * h, t->lanes[h], acc[m][h]);
}

#define TILE(panels, rows) tile(t, rows)
static void tile_rows(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE

void matmul_t_avx2(float *y, size_t y_stride, const struct panels *w, const struct act_q8k *x,
                   uint32_t m, uint32_t p0, uint32_t p1)
{
    size_t blocks = x->k_pad / QK_K;
    size_t slice = m <= TILE_ROWS ? blocks : TILE_SLICE_BYTES / PANEL_T_BYTES;
    struct tile t = {.y_stride = y_stride, .q_stride = ACT_Q8K_STRIDE(x->k_pad),
                     .blocks = blocks};

    for (uint32_t p = p0; p < p1; p++) {
        t.panel = panel_at(w, p);
        t.lanes[0] = lanes_avx2(w->n_out, p * PANEL_ROWS);
        t.lanes[1] = lanes_avx2(w->n_out, p * PANEL_ROWS + 8);
        for (t.b0 = 0; t.b0 < blocks; t.b0 = t.b1) {
            t.b1 = blocks - t.b0 < slice ? blocks : t.b0 + slice;
            t.ahead = TILE_AHEAD;
            for (size_t i = 0; i < m; i += TILE_ROWS) {
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.q = x->q + i * t.q_stride;
                t.d = x->d + i * blocks;
                t.sum = x->sum + i * blocks;
                tile_rows(&t, m - i < TILE_ROWS ? (uint32_t)(m - i) : TILE_ROWS);
                t.ahead = 0;
            }
        }
    }
}
