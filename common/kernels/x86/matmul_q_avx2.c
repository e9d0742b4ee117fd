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
    const int16_t *sum;
    const uint8_t *panel;
    size_t y_stride, k_pad, blocks;
    size_t b0, b1;
    size_t ahead;
    __m256i lanes[2]; /* the panel's rows that are rows of W */
};

/* s[m][h] += the products of line j. maddubs takes |w| and x with w's sign: two products are at
 * most 2 * 128 * 127 = 32512, so 16 bits hold them. */
TILE_INLINE void line_q8(__m256i (*s)[2], const struct tile *t, const uint8_t *line,
                         const int8_t *q, int j, int rows)
{
    const __m256i ones = _mm256_set1_epi16(1), flip = _mm256_set1_epi8(-128);
    __m256i w[2];

    TILE_UNROLL for (int h = 0; h < 2; h++)
        w[h] = _mm256_xor_si256(
            _mm256_load_si256((const __m256i *)(line + j * PANEL_LINE + h * 32)), flip);
    TILE_UNROLL for (int m = 0; m < rows; m++) {
        __m256i x = broadcast_avx2(q + m * t->k_pad + j * 4);

        TILE_UNROLL for (int h = 0; h < 2; h++) {
            __m256i p = _mm256_maddubs_epi16(_mm256_abs_epi8(w[h]), _mm256_sign_epi8(x, w[h]));

            s[m][h] = _mm256_add_epi32(s[m][h], _mm256_madd_epi16(p, ones));
        }
    }
}

/* s[m][h] += the products of line j, in 16-bit lanes: nibbles are unsigned, and all 8 additions of
 * a block reach at most 8 * 2 * 15 * 127 = 30480. */
TILE_INLINE void line_q4(__m256i (*s)[2], const struct tile *t, const uint8_t *line,
                         const int8_t *q, int j, int rows)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i low[2], high[2];

    TILE_UNROLL for (int h = 0; h < 2; h++) {
        __m256i w = _mm256_load_si256((const __m256i *)(line + j * PANEL_LINE + h * 32));

        low[h] = _mm256_and_si256(w, nibble);
        high[h] = _mm256_and_si256(_mm256_srli_epi16(w, 4), nibble);
    }
    TILE_UNROLL for (int m = 0; m < rows; m++) {
        __m256i x0 = broadcast_avx2(q + m * t->k_pad + j * 8);
        __m256i x1 = broadcast_avx2(q + m * t->k_pad + j * 8 + 4);

        TILE_UNROLL for (int h = 0; h < 2; h++)
            s[m][h] = _mm256_add_epi16(s[m][h],
                                       _mm256_add_epi16(_mm256_maddubs_epi16(low[h], x0),
                                                        _mm256_maddubs_epi16(high[h], x1)));
    }
}

/* s[m][h] = the exact dot products of block b. */
TILE_INLINE void block(__m256i (*s)[2], const struct tile *t, enum dtype type, size_t b, int rows)
{
    const int lines = type == DTYPE_Q8_0 ? 8 : 4;
    const uint8_t *line = t->panel + panel_lines_at(type, b);

    TILE_UNROLL for (int m = 0; m < rows; m++)
        s[m][0] = s[m][1] = _mm256_setzero_si256();
    TILE_UNROLL for (int j = 0; j < lines; j++) {
        _mm_prefetch(line + j * PANEL_LINE + t->ahead, _MM_HINT_T0);
        if (type == DTYPE_Q8_0)
            line_q8(s, t, line, t->q + b * QK, j, rows);
        else
            line_q4(s, t, line, t->q + b * QK, j, rows);
    }
    if (type == DTYPE_Q4_0)
        TILE_UNROLL for (int m = 0; m < rows; m++) {
            const int16_t *sum = t->sum + 2 * (m * t->blocks + b);
            __m256i offset = _mm256_set1_epi32(8 * (sum[0] + sum[1]));

            TILE_UNROLL for (int h = 0; h < 2; h++)
                s[m][h] = _mm256_sub_epi32(
                    _mm256_madd_epi16(s[m][h], _mm256_set1_epi16(1)), offset);
        }
}

TILE_INLINE void tile(const struct tile *t, enum dtype type, int rows)
{
    __m256 acc[TILE_ROWS][2];

    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int h = 0; h < 2; h++)
            acc[m][h] = t->b0 == 0
                            ? _mm256_setzero_ps()
                            : _mm256_maskload_ps(t->y + m * t->y_stride + 8 * h, t->lanes[h]);
    for (size_t b = t->b0; b < t->b1; b++) {
        const uint8_t *scales = t->panel + panel_scales_at(type, b);
        __m256i s[TILE_ROWS][2];

        block(s, t, type, b, rows);
        _mm_prefetch(scales + t->ahead, _MM_HINT_T0);
        TILE_UNROLL for (int h = 0; h < 2; h++) {
            __m256 dw = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(scales + h * 16)));

            TILE_UNROLL for (int m = 0; m < rows; m++) {
                __m256 d = _mm256_mul_ps(dw, _mm256_broadcast_ss(t->d + m * t->blocks + b));

                acc[m][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[m][h]), d, acc[m][h]);
            }
        }
    }
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int h = 0; h < 2; h++)
            _mm256_maskstore_ps(t->y + m * t->y_stride + 8 * h, t->lanes[h], acc[m][h]);
}

#define TILE(panels, rows) tile(t, DTYPE_Q8_0, rows)
static void tile_q8(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_Q4_0, rows)
static void tile_q4(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE

void matmul_q_avx2(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                   uint32_t m, uint32_t p0, uint32_t p1)
{
    void (*run)(const struct tile *, uint32_t) = w->type == DTYPE_Q8_0 ? tile_q8 : tile_q4;
    size_t blocks = w->n_in / QK, slice = TILE_SLICE_BYTES / panel_block_bytes(w->type);
    struct tile t = {.y_stride = y_stride, .k_pad = x->k_pad, .blocks = blocks};

    if (panel_is_k(w->type)) {
        matmul_k_avx2(y, y_stride, w, x, m, p0, p1);
        return;
    }
    if (m <= TILE_ROWS)
        slice = blocks;
    for (uint32_t p = p0; p < p1; p++) {
        t.panel = panel_at(w, p);
        t.lanes[0] = lanes_avx2(w->n_out, p * PANEL_ROWS);
        t.lanes[1] = lanes_avx2(w->n_out, p * PANEL_ROWS + 8);
        for (t.b0 = 0; t.b0 < blocks; t.b0 = t.b1) {
            t.b1 = blocks - t.b0 < slice ? blocks : t.b0 + slice;
            t.ahead = TILE_AHEAD;
            for (size_t i = 0; i < m; i += TILE_ROWS) {
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.q = x->q + i * x->k_pad;
                t.d = x->d + i * blocks;
                t.sum = x->sum + 2 * i * blocks;
                run(&t, m - i < TILE_ROWS ? (uint32_t)(m - i) : TILE_ROWS);
                t.ahead = 0;
            }
        }
    }
}
