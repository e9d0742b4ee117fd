/* Ternary weights are u = w / d + 1, of two bits, so the products start at minus the block's sum of q.
 *
 * Up to FEW rows go over packed lines: what a mask leaves of a byte is u, 4u, 16u or 64u, each with a
 * sum of its own, which saves the shifts; all four are exact. Of more rows, TILE_ROWS at a time go over
 * a block that is unpacked to L1 once. */
#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/tile.h"

#define TILE_PANELS 2
#define TILE_ROWS 8
#define FEW 4
#define ROWS 128

/* What one tile works on: rows of x and y from the tile's first, panels from its first. */
struct tile {
    float *y;
    const int8_t *q;
    const float *d;
    const int32_t *sum;
    const uint8_t *panel;
    size_t y_stride, q_stride, blocks, panel_bytes;
    __mmask16 last; /* lanes of the tile's last panel that are rows of W */
    /* of the block that is unpacked: [panels][QK_K / 4] lines, and where sums are and go */
    const uint8_t *w;
    size_t b;
    float *from, *to;
    size_t from_stride, to_stride;
};

TILE_INLINE __m512i broadcast(const void *dword)
{
    return _mm512_set1_epi32(*(const int32_t *)dword);
}

/* acc + s scaled */
TILE_INLINE __m512 fold(__m512 acc, __m512i s, const struct tile *t, int panel, int row, size_t b)
{
    const uint8_t *d = t->panel + panel * t->panel_bytes + b * PANEL_T_BYTES;
    __m512 dx = _mm512_set1_ps(t->d[row * t->blocks + b]);

    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(s),
                           _mm512_mul_ps(_mm512_load_ps((const float *)(const void *)d), dx), acc);
}

/* s[i][m][f] += 4^f times four products of each of 16 rows, of line l of each panel's block at `at` */
TILE_INLINE void line(__m512i (*s)[FEW][4], const struct tile *t, const uint8_t *at, size_t ahead,
                      const int8_t *q, int l, int panels, int rows)
{
    __m512i w[TILE_PANELS];

    TILE_UNROLL for (int i = 0; i < panels; i++) {
        const uint8_t *from = at + i * t->panel_bytes + (1 + l) * PANEL_LINE;

        w[i] = _mm512_load_si512(from);
        _mm_prefetch(from + ahead, _MM_HINT_T0);
    }
    TILE_UNROLL for (int f = 0; f < 4; f++) {
        const __m512i mask = _mm512_set1_epi8((char)(3 << 2 * f));

        TILE_UNROLL for (int i = 0; i < panels; i++) {
            __m512i u = _mm512_and_si512(w[i], mask);

            TILE_UNROLL for (int m = 0; m < rows; m++)
                s[i][m][f] = _mm512_dpbusd_epi32(s[i][m][f], u,
                                                 broadcast(q + m * t->q_stride + 16 * l + 4 * f));
        }
    }
}

TILE_INLINE void few(const struct tile *t, int panels, int rows)
{
    __m512 acc[TILE_PANELS][FEW];

    TILE_UNROLL for (int i = 0; i < panels; i++)
        TILE_UNROLL for (int m = 0; m < rows; m++)
            acc[i][m] = _mm512_setzero_ps();
    for (size_t b = 0; b < t->blocks; b++) {
        const uint8_t *at = t->panel + b * PANEL_T_BYTES;
        size_t ahead = panel_ahead(DTYPE_TQ2_0, b, t->blocks, t->panel_bytes, panels);
        __m512i s[TILE_PANELS][FEW][4];

        TILE_UNROLL for (int i = 0; i < panels; i++) {
            _mm_prefetch(at + i * t->panel_bytes + ahead, _MM_HINT_T0);
            TILE_UNROLL for (int m = 0; m < rows; m++)
                TILE_UNROLL for (int f = 0; f < 4; f++)
                    s[i][m][f] = _mm512_setzero_si512();
        }
        TILE_UNROLL for (int l = 0; l < 16; l++)
            line(s, t, at, ahead, t->q + b * QK_K, l, panels, rows);
        TILE_UNROLL for (int i = 0; i < panels; i++)
            TILE_UNROLL for (int m = 0; m < rows; m++) {
                __m512i lo = _mm512_add_epi32(s[i][m][0], _mm512_srai_epi32(s[i][m][1], 2));
                __m512i hi = _mm512_add_epi32(s[i][m][2], _mm512_srai_epi32(s[i][m][3], 2));

                lo = _mm512_add_epi32(lo, _mm512_srai_epi32(hi, 4));
                lo = _mm512_sub_epi32(lo, _mm512_set1_epi32(t->sum[m * t->blocks + b]));
                acc[i][m] = fold(acc[i][m], lo, t, i, m, b);
            }
    }
    TILE_UNROLL for (int i = 0; i < panels; i++)
        TILE_UNROLL for (int m = 0; m < rows; m++)
            _mm512_mask_storeu_ps(t->y + m * t->y_stride + i * PANEL_ROWS,
                                  i == panels - 1 ? t->last : 0xffff, acc[i][m]);
}

/* to = from + block b, unpacked */
TILE_INLINE void tile(const struct tile *t, int panels, int rows)
{
    __m512i s[TILE_PANELS][TILE_ROWS];

    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int i = 0; i < panels; i++)
            s[i][m] = _mm512_set1_epi32(-t->sum[m * t->blocks + t->b]);
    TILE_UNROLL for (size_t k = 0; k < QK_K; k += 4) {
        const uint8_t *line = t->w + k / 4 * PANEL_LINE;
        __m512i w[TILE_PANELS];

        TILE_UNROLL for (int i = 0; i < panels; i++)
            w[i] = _mm512_load_si512(line + i * QK_K / 4 * PANEL_LINE);
        TILE_UNROLL for (int m = 0; m < rows; m++) {
            __m512i x = broadcast(t->q + m * t->q_stride + t->b * QK_K + k);

            TILE_UNROLL for (int i = 0; i < panels; i++)
                s[i][m] = _mm512_dpbusd_epi32(s[i][m], w[i], x);
        }
    }
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int i = 0; i < panels; i++) {
            __mmask16 lanes = i == panels - 1 ? t->last : 0xffff;
            __m512 acc = _mm512_maskz_loadu_ps(t->b == 0 ? 0 : lanes,
                                               t->from + m * t->from_stride + i * PANEL_ROWS);

            _mm512_mask_storeu_ps(t->to + m * t->to_stride + i * PANEL_ROWS, lanes,
                                  fold(acc, s[i][m], t, i, m, t->b));
        }
}

static void unpack(uint8_t *to, const uint8_t *block)
{
    const __m512i two = _mm512_set1_epi8(3);

    for (size_t l = 0; l < 16; l++, to += 4 * PANEL_LINE) {
        const uint8_t *from = block + (1 + l) * PANEL_LINE;
        __m512i w = _mm512_load_si512(from);

        _mm_prefetch(from + PANEL_T_BYTES, _MM_HINT_T0);
        _mm512_store_si512(to, _mm512_and_si512(w, two));
        _mm512_store_si512(to + PANEL_LINE, _mm512_and_si512(_mm512_srli_epi16(w, 2), two));
        _mm512_store_si512(to + 2 * PANEL_LINE, _mm512_and_si512(_mm512_srli_epi16(w, 4), two));
        _mm512_store_si512(to + 3 * PANEL_LINE, _mm512_and_si512(_mm512_srli_epi16(w, 6), two));
    }
}

static void few_rows(const struct tile *t, uint32_t panels, uint32_t rows)
{
    switch (rows * 2 + panels) {
    case 3: few(t, 1, 1); break;
    case 4: few(t, 2, 1); break;
    case 5: few(t, 1, 2); break;
    case 6: few(t, 2, 2); break;
    case 7: few(t, 1, 3); break;
    default: few(t, 1, 4);
    }
}

#define TILE(panels, rows) tile(t, panels, rows)
static void tile_rows(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE

/* Rows m0 <= row < m1, at most ROWS: their sums stay in L1 beside the block. */
static void many_rows(struct tile t, const struct act_q8k *x, float *y, uint32_t m0, uint32_t m1,
                      uint32_t panels)
{
    uint8_t unpacked[TILE_PANELS * QK_K / 4 * PANEL_LINE] __attribute__((aligned(64)));
    float sums[ROWS][TILE_PANELS * PANEL_ROWS] __attribute__((aligned(64)));

    t.w = unpacked;
    t.from_stride = TILE_PANELS * PANEL_ROWS;
    for (t.b = 0; t.b < t.blocks; t.b++) {
        bool last = t.b + 1 == t.blocks;

        for (uint32_t i = 0; i < panels; i++)
            unpack(unpacked + i * QK_K / 4 * PANEL_LINE,
                   t.panel + i * t.panel_bytes + t.b * PANEL_T_BYTES);
        t.to_stride = last ? t.y_stride : t.from_stride;
        for (size_t i = m0; i < m1; i += TILE_ROWS) {
            t.from = sums[i - m0];
            t.to = last ? y + i * t.y_stride : t.from;
            t.q = x->q + i * t.q_stride;
            t.d = x->d + i * t.blocks;
            t.sum = x->sum + i * t.blocks;
            tile_rows(&t, panels, m1 - i < TILE_ROWS ? (uint32_t)(m1 - i) : TILE_ROWS);
        }
    }
}

void matmul_t_avx512vnni(float *y, size_t y_stride, const struct panels *w, const struct act_q8k *x,
                         uint32_t m, uint32_t p0, uint32_t p1)
{
    struct tile t = {.q = x->q, .d = x->d, .sum = x->sum, .y_stride = y_stride,
                     .q_stride = ACT_Q8K_STRIDE(x->k_pad),
                     .blocks = x->k_pad / QK_K, .panel_bytes = w->panel_bytes};
    uint32_t panels = m > 2 && m <= FEW ? 1 : TILE_PANELS;

    for (uint32_t p = p0, n; p < p1; p += n) {
        n = p1 - p < panels ? p1 - p : panels;
        t.panel = panel_at(w, p);
        t.last = lanes_avx512(w->n_out - (p + n - 1) * PANEL_ROWS);
        t.y = y + p * PANEL_ROWS;
        if (m <= FEW)
            few_rows(&t, n, m);
        for (uint32_t i = 0; m > FEW && i < m; i += ROWS)
            many_rows(t, x, t.y, i, m - i < ROWS ? m : i + ROWS, n);
    }
}
