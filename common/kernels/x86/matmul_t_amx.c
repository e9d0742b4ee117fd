/* DESIGN: y = x W^T of int8 and ternary weights on the matrix unit. Products are summed exactly within
 * a block of QK_K and blocks are added in avx512vnni's order, so the bits are its bits; few rows go to
 * it, which reads weights faster.
 *
 * A slab of 2 panels by SLAB_BLOCKS blocks is unpacked to L1 as tiles of the second operand, w / d in
 * -1..2, each block beside the products of the one before. All rows pass over it 32 at a time, and a block of these is a step: 4 x 4 tile products, between
 * which the step before is folded: its integers, which went to memory, become floats, are scaled and
 * added. Sums of 32 rows stay in L1 while they pass over the slab, and wait in y between slabs:
 *
 *     panel --unpack--> w;  step: C = 0; C += A w, four times; C --store--> c[step % 2]
 *                           beside it: sums += d dx c[step - 1] */
#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/tile_config_amx.h"

#define INLINE static inline __attribute__((always_inline))
#define TILE_BYTES 1024
#define SLAB_BLOCKS 4 /* 32 KiB of tiles */
#define X_BYTES (1 << 20) /* of x that stay in L2 */

struct job {
    float *y;
    size_t y_stride;
    const struct panels *w;
    const struct act_q8k *x;
    size_t blocks;
};

/* Blocks b0 <= b < b1 of panels p and p + 1. */
struct slab {
    int8_t w[SLAB_BLOCKS][2][4][TILE_BYTES];
    float d[SLAB_BLOCKS][2][PANEL_ROWS];
    float sums[32][2 * PANEL_ROWS];
    int32_t c[2][4][PANEL_ROWS][16]; /* of two steps: tiles of rows 0-15, then of rows 16-31 */
    size_t b0, b1;
    const uint8_t *panel[2];
    __mmask16 cols[2];
} __attribute__((aligned(64)));

/* What is left to do of a step: sums to = from + c scaled. */
struct fold {
    const int32_t (*c)[PANEL_ROWS][16];
    const float (*d)[PANEL_ROWS], *dx;
    const float *from;
    float *to;
    size_t dx_stride, from_stride, to_stride;
    uint32_t rows;
    __mmask16 cols[2], keep; /* keep: of what is there before */
    bool whole; /* all columns, or of sums */
};

/* Tiles 0-3 are sums, 4 and 5 rows of x, 6 and 7 weights; those of the upper and the lower half of the
 * rows have so many of them. */
static void configure(uint32_t upper, uint32_t lower)
{
    struct tile_config c = {.palette = 1};

    for (uint32_t i = 0; i < 8; i++) {
        c.bytes[i] = PANEL_LINE;
        c.rows[i] = (uint8_t)(i >= 6 ? 16 : i == 5 || i == 2 || i == 3 ? lower : upper);
    }
    tile_config_load(&c);
}

/* Line l of a block: 4 of a tile's lines. */
INLINE void unpack_line(int8_t *to, const uint8_t *block, uint32_t l)
{
    const __m512i two = _mm512_set1_epi8(3), one = _mm512_set1_epi8(1);
    const uint8_t *from = block + (1 + l) * PANEL_LINE;
    __m512i w = _mm512_load_si512(from);

    _mm_prefetch(from + 2 * PANEL_T_BYTES, _MM_HINT_T0);
    to += l * 4 * PANEL_LINE;
    for (unsigned f = 0; f < 4; f++) {
        __m512i u = _mm512_and_si512(_mm512_srli_epi16(w, 2 * f), two);

        _mm512_store_si512(to + f * PANEL_LINE, _mm512_sub_epi8(u, one));
    }
}

/* Panels p and p + 1 or, if there is but one, p twice; their scales, and the first block of weights. */
static void slab_open(struct slab *s, const struct job *j, uint32_t p, uint32_t panels)
{
    for (uint32_t i = 0; i < 2; i++) {
        s->panel[i] = panel_at(j->w, i < panels ? p + i : p);
        for (size_t b = s->b0; b < s->b1; b++)
            _mm512_store_ps(s->d[b - s->b0][i], _mm512_load_ps(s->panel[i] + b * PANEL_T_BYTES));
        for (uint32_t l = 0; l < 16; l++)
            unpack_line(s->w[0][i][0], s->panel[i] + s->b0 * PANEL_T_BYTES, l);
        s->cols[i] = i < panels ? lanes_avx512(j->w->n_out - (p + i) * PANEL_ROWS) : 0;
    }
}

/* Line l of the slab's block b. */
INLINE void slab_unpack(struct slab *s, size_t b, uint32_t l)
{
    for (uint32_t i = 0; i < 2; i++)
        unpack_line(s->w[b - s->b0][i][0], s->panel[i] + b * PANEL_T_BYTES, l);
}

/* Row r of a step. (Masks on every store cost a third of all: what is loaded again too soon waits.) */
INLINE void fold_row(const struct fold *f, uint32_t r)
{
    __m512 dx = _mm512_set1_ps(f->dx[r * f->dx_stride]);
    const float *from = f->from + r * f->from_stride;
    float *to = f->to + r * f->to_stride;

    for (uint32_t i = 0; i < 2; i++, from += PANEL_ROWS, to += PANEL_ROWS) {
        __m512 v = _mm512_cvtepi32_ps(_mm512_load_si512(f->c[r / 16 * 2 + i][r % 16]));
        __m512 sum = _mm512_maskz_loadu_ps(f->cols[i] & f->keep, from);

        sum = _mm512_fmadd_ps(v, _mm512_mul_ps(_mm512_load_ps(f->d[i]), dx), sum);
        if (f->whole)
            _mm512_storeu_ps(to, sum);
        else
            _mm512_mask_storeu_ps(to, f->cols[i], sum);
    }
}

/* Two rows, the n-th of 16 pairs. */
INLINE void fold_pair(const struct fold *f, uint32_t n)
{
    if (2 * n < f->rows)
        fold_row(f, 2 * n);
    if (2 * n + 1 < f->rows)
        fold_row(f, 2 * n + 1);
}

INLINE void beside(struct slab *s, size_t b, const struct fold *f, uint32_t n, bool unpacks)
{
    fold_pair(f, n);
    if (unpacks)
        slab_unpack(s, b, n);
}

/* c = x at a, rows 16 and more of it `lower` bytes on, by block b of the slab. Beside it, f; and the next
 * block is unpacked if `unpacks`, a constant, says so. */
INLINE void step(struct slab *s, int32_t (*c)[PANEL_ROWS][16], const int8_t *a, size_t stride,
                 size_t lower, size_t b, const struct fold *before, bool unpacks)
{
    const int8_t(*w)[4][TILE_BYTES] = s->w[b - s->b0];
    const struct fold copy = *before, *f = &copy; /* which no store changes: it stays in registers */

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; i++, a += PANEL_LINE) {
        _tile_stream_loadd(4, a, stride);
        _tile_loadd(6, w[0][i], PANEL_LINE);
        _tile_dpbssd(0, 4, 6);
        beside(s, b + 1, f, 4 * i, unpacks);
        _tile_loadd(7, w[1][i], PANEL_LINE);
        _tile_dpbssd(1, 4, 7);
        beside(s, b + 1, f, 4 * i + 1, unpacks);
        _tile_stream_loadd(5, a + lower, stride);
        _tile_dpbssd(2, 5, 6);
        beside(s, b + 1, f, 4 * i + 2, unpacks);
        _tile_dpbssd(3, 5, 7);
        beside(s, b + 1, f, 4 * i + 3, unpacks);
    }
    _tile_stored(0, c[0], PANEL_LINE);
    _tile_stored(1, c[1], PANEL_LINE);
    _tile_stored(2, c[2], PANEL_LINE);
    _tile_stored(3, c[3], PANEL_LINE);
}

/* Rows m0 <= row < m1, in tiles of 16, or the last of them fewer than 32. */
static void slab_rows(const struct job *j, struct slab *s, struct fold *f, uint32_t p, uint32_t m0,
                      uint32_t m1, bool unpacks)
{
    size_t stride = ACT_Q8K_STRIDE(j->x->k_pad), turn = 0;
    /* past the end: any rows will do */
    size_t lower = m1 - m0 > 16 ? 16 * stride : 0;

    for (uint32_t m = m0; m < m1; m += 32) {
        float *y = j->y + m * j->y_stride + p * PANEL_ROWS;

        for (size_t b = s->b0; b < s->b1; b++, turn++) {
            bool first = b == s->b0, last = b + 1 == s->b1;

            const int8_t *a = j->x->q + m * stride + b * QK_K;

            if (unpacks && m == m0 && !last)
                step(s, s->c[turn % 2], a, stride, lower, b, f, true);
            else
                step(s, s->c[turn % 2], a, stride, lower, b, f, false);
            *f = (struct fold){.c = s->c[turn % 2], .d = s->d[b - s->b0],
                               .dx = j->x->d + m * j->blocks + b, .dx_stride = j->blocks,
                               .from = first ? y : s->sums[0], .to = last ? y : s->sums[0],
                               .from_stride = first ? j->y_stride : 2 * PANEL_ROWS,
                               .to_stride = last ? j->y_stride : 2 * PANEL_ROWS,
                               .rows = m1 - m < 32 ? m1 - m : 32,
                               .cols = {s->cols[0], s->cols[1]}, .keep = b == 0 ? 0 : 0xffff,
                               .whole = !last || (s->cols[0] & s->cols[1]) == 0xffff};
        }
    }
}

static void slab_multiply(const struct job *j, struct slab *s, uint32_t p, uint32_t m0, uint32_t m1)
{
    uint32_t whole = m0 + (m1 - m0) / 32 * 32, rest = m1 - whole;
    struct fold f = {.rows = 0};

    if (whole > m0) {
        configure(16, 16);
        slab_rows(j, s, &f, p, m0, whole, true);
    }
    if (rest) {
        uint32_t upper = rest < 16 ? rest : 16;

        configure(upper, rest > 16 ? rest - 16 : upper);
        slab_rows(j, s, &f, p, whole, m1, whole == m0);
    }
    for (uint32_t n = 0; n < 16; n++)
        fold_pair(&f, n);
}

void matmul_t_amx(float *y, size_t y_stride, const struct panels *w, const struct act_q8k *x,
                  uint32_t m, uint32_t p0, uint32_t p1)
{
    struct job j = {y, y_stride, w, x, x->k_pad / QK_K};
    uint32_t most = X_BYTES / x->k_pad / 32 * 32, parts, rows;
    struct slab s;

    if (m <= (w->few ? w->few : MATMUL_FEW_T)) {
        matmul_t_avx512vnni(y, y_stride, w, x, m, p0, p1);
        return;
    }
    most = most < 32 ? 32 : most;
    parts = (m + most - 1) / most;
    rows = ((m + parts - 1) / parts + 31) / 32 * 32;
    for (uint32_t m0 = 0; m0 < m; m0 += rows)
        for (uint32_t p = p0; p < p1; p += 2)
            for (s.b0 = 0; s.b0 < j.blocks; s.b0 = s.b1) {
                s.b1 = j.blocks - s.b0 < SLAB_BLOCKS ? j.blocks : s.b0 + SLAB_BLOCKS;
                slab_open(&s, &j, p, p1 - p < 2 ? 1 : 2);
                slab_multiply(&j, &s, p, m0, m - m0 < rows ? m : m0 + rows);
            }
    _tile_release();
}
