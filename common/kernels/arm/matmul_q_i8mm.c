/* SMMLA multiplies two rows of W by two rows of x, 8 k of each: its four sums are
 *   | row 0 of W, row 0 of x | row 0, row 1 | row 1, row 0 | row 1, row 1 |
 * and stay so, as floats too, until a tile ends. A vector of four rows of W is two such operands,
 * two lines of dwords zipped. Rows of x are paired once a slice, for all of a panel. */
#include <string.h>

#include "kernels/arm/weights_q.h"
#include "kernels/tiers.h"

#define PAIRS 4         /* pairs of rows of x that a tile takes */
#define SLICE_BLOCKS 32 /* at most, of 32 k */

/* Up to PAIRS pairs of rows of x over a slice, in the order of use. */
struct pairs {
    int8_t q[SLICE_BLOCKS][2][PAIRS][2][16]; /* [block][half][pair][8 k] */
    float d[SLICE_BLOCKS][PAIRS][2];
    int32_t offset[SLICE_BLOCKS][2][PAIRS][2]; /* [block][half]: where its sums start */
    float sum[SLICE_BLOCKS][PAIRS][2];         /* of q of a block */
} __attribute__((aligned(64)));

/* What one tile works on: pairs of rows of x, one panel. */
struct tile {
    float *y;
    const struct pairs *x;
    const uint8_t *panel;
    size_t y_stride;
    size_t b0, b1; /* of 32 k */
    size_t ahead;
    size_t n;    /* the panel's rows that are rows of W */
    size_t rows; /* of x */
};

/* Row m of the pairs from row i of x, blocks b0 .. b1 - 1. */
static void pair_row(struct pairs *to, size_t m, const struct act_q8 *x, size_t i, size_t b0,
                     size_t b1, enum dtype type)
{
    size_t blocks = x->k_pad / QK, p = m / 2, e = m % 2;

    for (size_t b = b0; b < b1; b++) {
        const int8_t *q = x->q + i * x->k_pad + b * QK;
        const int16_t *sum = x->sum + 2 * (i * blocks + b);
        size_t j = b - b0;

        for (size_t k = 0; k < 4; k++)
            memcpy(to->q[j][k / 2][p][k % 2] + 8 * e, q + 8 * k, 8);
        to->d[j][p][e] = x->d[i * blocks + b];
        to->sum[j][p][e] = (float)(sum[0] + sum[1]);
        for (size_t h = 0; h < 2; h++)
            to->offset[j][h][p][e] = -offset_of(type) *
                                     (has_halves(type) ? sum[h] : sum[0] + sum[1]);
    }
}

/* Two dwords, twice. */
TILE_INLINE float32x4_t twice_f(const float *v)
{
    float32x2_t d = vld1_f32(v);

    return vcombine_f32(d, d);
}
TILE_INLINE int32x4_t twice_i(const int32_t *v)
{
    int32x2_t d = vld1_s32(v);

    return vcombine_s32(d, d);
}

/* to[0], to[1] = rows 0 and 1, rows 2 and 3 of what two vectors of four rows hold. */
TILE_INLINE void zip_f(float32x4_t *to, float32x4_t a, float32x4_t b)
{
    to[0] = vzip1q_f32(a, b);
    to[1] = vzip2q_f32(a, b);
}

/* s[p][r] += the products of half a block: rows 2 r and 2 r + 1 of the vector. */
TILE_INLINE void dots(int32x4_t (*s)[2], const int8x16_t *w, const int8_t (*x)[2][16],
                      size_t n_pairs)
{
    TILE_UNROLL for (size_t i = 0; i < 2; i++) {
        int32x4_t a = vreinterpretq_s32_s8(w[2 * i]), b = vreinterpretq_s32_s8(w[2 * i + 1]);
        int8x16_t w0 = vreinterpretq_s8_s32(vzip1q_s32(a, b));
        int8x16_t w1 = vreinterpretq_s8_s32(vzip2q_s32(a, b));

        TILE_UNROLL for (size_t p = 0; p < n_pairs; p++) {
            int8x16_t xp = vld1q_s8(x[p][i]);

            s[p][0] = vmmlaq_s32(s[p][0], w0, xp);
            s[p][1] = vmmlaq_s32(s[p][1], w1, xp);
        }
    }
}

/* acc[p][r] += s[p][r], exact products of block b or half of it. */
TILE_INLINE void fold(float32x4_t (*acc)[2], int32x4_t (*s)[2], const struct tile *t,
                      enum dtype type, size_t b, size_t half, size_t v, size_t n_pairs)
{
    float32x4_t scales = scale(t->panel, type, b, half, v), d[2], dmin[2];
    size_t j = b - t->b0;

    zip_f(d, scales, scales);
    if (has_min(type)) {
        scales = minimum(t->panel, type, b, v);
        zip_f(dmin, scales, scales);
    }
    TILE_UNROLL for (size_t p = 0; p < n_pairs; p++) {
        float32x4_t dx = twice_f(t->x->d[j][p]);

        TILE_UNROLL for (size_t r = 0; r < 2; r++) {
            float32x4_t f = vcvtq_f32_s32(s[p][r]);

            if (has_min(type)) {
                f = vfmsq_f32(vmulq_f32(d[r], f), dmin[r], twice_f(t->x->sum[j][p]));
                acc[p][r] = vfmaq_f32(acc[p][r], f, dx);
            } else {
                acc[p][r] = vfmaq_f32(acc[p][r], f, vmulq_f32(d[r], dx));
            }
        }
    }
}

/* acc += block b of the rows of vector v. */
TILE_INLINE void block(float32x4_t (*acc)[2], const struct tile *t, enum dtype type, size_t b,
                       size_t v, size_t n_pairs)
{
    int32x4_t s[PAIRS][2];
    size_t j = b - t->b0;

    TILE_UNROLL for (size_t half = 0; half < 2; half++) {
        int8x16_t w[4];

        unpack(w, t->panel, type, b, half, v);
        if (half == 0 || has_halves(type))
            TILE_UNROLL for (size_t p = 0; p < n_pairs; p++)
                s[p][0] = s[p][1] = offset_of(type) ? twice_i(t->x->offset[j][half][p])
                                                    : vdupq_n_s32(0);
        dots(s, w, t->x->q[j][half], n_pairs);
        if (half == 1 || has_halves(type))
            fold(acc, s, t, type, b, half, v, n_pairs);
    }
}

/* Rows m and m + 1 of y, of the vector's rows of W, as sums are kept; and back. */
TILE_INLINE void sums_load(float32x4_t *acc, const struct tile *t, size_t m, size_t v)
{
    float32x4_t a = load_neon(t->y + m * t->y_stride, t->n, 4 * v), b = a;

    if (m + 1 < t->rows)
        b = load_neon(t->y + (m + 1) * t->y_stride, t->n, 4 * v);
    zip_f(acc, a, b);
}
TILE_INLINE void sums_store(const float32x4_t *acc, const struct tile *t, size_t m, size_t v)
{
    store_neon(t->y + m * t->y_stride, t->n, 4 * v, vuzp1q_f32(acc[0], acc[1]));
    if (m + 1 < t->rows)
        store_neon(t->y + (m + 1) * t->y_stride, t->n, 4 * v, vuzp2q_f32(acc[0], acc[1]));
}

/* `vectors` vectors of the panel from v0 on. */
TILE_INLINE void tile(const struct tile *t, enum dtype type, size_t v0, size_t vectors,
                      size_t n_pairs)
{
    float32x4_t acc[VECTORS][PAIRS][2];

    TILE_UNROLL for (size_t v = 0; v < vectors; v++)
        TILE_UNROLL for (size_t p = 0; p < n_pairs; p++) {
        acc[v][p][0] = acc[v][p][1] = vdupq_n_f32(0);
        if (t->b0 > 0)
            sums_load(acc[v][p], t, 2 * p, v0 + v);
    }
    for (size_t b = t->b0; b < t->b1; b++) {
        if (v0 == 0)
            fetch(t->panel, type, b, t->ahead);
        TILE_UNROLL for (size_t v = 0; v < vectors; v++) block(acc[v], t, type, b, v0 + v, n_pairs);
    }
    TILE_UNROLL for (size_t v = 0; v < vectors; v++)
        TILE_UNROLL for (size_t p = 0; p < n_pairs; p++) sums_store(acc[v][p], t, 2 * p, v0 + v);
}

/* One or two pairs go over the panel at once, more over four of its rows after the other. */
TILE_INLINE void tile_pairs(const struct tile *t, enum dtype type, size_t n_pairs)
{
    switch (n_pairs) {
    case 1:
        tile(t, type, 0, VECTORS, 1);
        return;
    case 2:
        tile(t, type, 0, VECTORS, 2);
        return;
    case 3:
        for (size_t v = 0; v < VECTORS; v++)
            tile(t, type, v, 1, 3);
        return;
    default:
        for (size_t v = 0; v < VECTORS; v++)
            tile(t, type, v, 1, PAIRS);
    }
}

#define RUN(type) tile_pairs(t, type, (t->rows + 1) / 2)
static void run(const struct tile *t, enum dtype type) { WITH_TYPE(type, RUN) }

void matmul_q_i8mm(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                   uint32_t m, uint32_t p0, uint32_t p1)
{
    size_t blocks = w->n_in / QK, slice = TILE_SLICE_BYTES / block_bytes(w->type);
    struct tile t = {.y_stride = y_stride};
    struct pairs pairs;

    if (m == 1) { /* half of each product would be of nothing */
        matmul_q_dotprod(y, y_stride, w, x, m, p0, p1);
        return;
    }
    if (slice > SLICE_BLOCKS)
        slice = SLICE_BLOCKS;
    t.x = &pairs;
    for (uint32_t p = p0; p < p1; p++) {
        t.panel = panel_at(w, p);
        t.n = w->n_out - p * PANEL_ROWS < PANEL_ROWS ? w->n_out - p * PANEL_ROWS : PANEL_ROWS;
        for (t.b0 = 0; t.b0 < blocks; t.b0 = t.b1) {
            t.b1 = blocks - t.b0 < slice ? blocks : t.b0 + slice;
            t.ahead = TILE_AHEAD;
            for (size_t i = 0; i < m; i += t.rows) {
                t.rows = m - i < 2 * PAIRS ? m - i : 2 * PAIRS;
                t.y = y + i * y_stride + p * PANEL_ROWS;
                for (size_t r = 0; r < t.rows + t.rows % 2; r++) /* an odd last row twice */
                    pair_row(&pairs, r, x, i + (r < t.rows ? r : r - 1), t.b0, t.b1, w->type);
                run(&t, w->type);
                t.ahead = 0;
            }
        }
    }
}
