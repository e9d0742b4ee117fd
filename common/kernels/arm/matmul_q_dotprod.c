/* A dword lane of SDOT is a row of W: it adds four products of its four bytes of W and the same
 * four bytes of x. */
#include "kernels/arm/weights_q.h"
#include "kernels/tiers.h"

/* Up to 4 rows of x go over a whole panel at once, so that a few rows stream the weights by once; 8
 * over 4 of its rows, so that what is unpacked serves twice as many. */
#define TILE_FEW 4
#define TILE_ROWS 8

/* What one tile works on: rows of x and y from the tile's first, one panel. */
struct tile {
    float *y;
    const int8_t *q;
    const float *d;
    const int16_t *sum;
    const uint8_t *panel;
    size_t y_stride, k_pad, blocks;
    size_t b0, b1; /* of 32 k */
    size_t ahead;
    size_t n; /* the panel's rows that are rows of W */
};

TILE_INLINE int32x4_t dot16(int32x4_t s, const int8x16_t *w, int8x16_t x)
{
    s = vdotq_laneq_s32(s, w[0], x, 0);
    s = vdotq_laneq_s32(s, w[1], x, 1);
    s = vdotq_laneq_s32(s, w[2], x, 2);
    return vdotq_laneq_s32(s, w[3], x, 3);
}

/* acc[m] += s[m], exact products of block b or half of it. */
TILE_INLINE void fold(float32x4_t (*acc)[VECTORS], const int32x4_t *s, const struct tile *t,
                      enum dtype type, size_t b, size_t half, size_t v, size_t at, size_t rows)
{
    float32x4_t d = scale(t->panel, type, b, half, v), dmin = d;

    if (has_min(type))
        dmin = minimum(t->panel, type, b, v);
    TILE_UNROLL for (size_t m = 0; m < rows; m++) {
        const int16_t *sum = t->sum + 2 * (m * t->blocks + b);
        float dx = t->d[m * t->blocks + b];
        float32x4_t f = vcvtq_f32_s32(s[m]);

        if (has_min(type)) {
            f = vmulq_f32(d, f);
            f = vfmsq_n_f32(f, dmin, (float)(sum[0] + sum[1]));
            acc[m][at] = vfmaq_n_f32(acc[m][at], f, dx);
        } else {
            acc[m][at] = vfmaq_f32(acc[m][at], f, vmulq_n_f32(d, dx));
        }
    }
}

/* acc[m][at] += block b of the rows of vector v. */
TILE_INLINE void block(float32x4_t (*acc)[VECTORS], const struct tile *t, enum dtype type, size_t b,
                       size_t v, size_t at, size_t rows)
{
    int32x4_t s[TILE_ROWS];

    TILE_UNROLL for (size_t half = 0; half < 2; half++) {
        int8x16_t w[4];

        unpack(w, t->panel, type, b, half, v);
        TILE_UNROLL for (size_t m = 0; m < rows; m++) {
            const int16_t *sum = t->sum + 2 * (m * t->blocks + b);

            if (has_halves(type))
                s[m] = vdupq_n_s32(-offset_of(type) * sum[half]);
            else if (half == 0)
                s[m] = vdupq_n_s32(-offset_of(type) * (sum[0] + sum[1]));
            s[m] = dot16(s[m], w, vld1q_s8(t->q + m * t->k_pad + b * QK + 16 * half));
        }
        if (half == 1 || has_halves(type))
            fold(acc, s, t, type, b, half, v, at, rows);
    }
}

/* Vectors v0 .. v0 + vectors - 1 of the panel. */
TILE_INLINE void tile(const struct tile *t, enum dtype type, size_t v0, size_t vectors, size_t rows)
{
    float32x4_t acc[TILE_ROWS][VECTORS];

    TILE_UNROLL for (size_t m = 0; m < rows; m++)
        TILE_UNROLL for (size_t v = 0; v < vectors; v++)
            acc[m][v] = t->b0 == 0 ? vdupq_n_f32(0)
                                   : load_neon(t->y + m * t->y_stride, t->n, 4 * (v0 + v));
    for (size_t b = t->b0; b < t->b1; b++) {
        if (v0 == 0)
            fetch(t->panel, type, b, t->ahead);
        TILE_UNROLL for (size_t v = 0; v < vectors; v++) block(acc, t, type, b, v0 + v, v, rows);
    }
    TILE_UNROLL for (size_t m = 0; m < rows; m++)
        TILE_UNROLL for (size_t v = 0; v < vectors; v++)
            store_neon(t->y + m * t->y_stride, t->n, 4 * (v0 + v), acc[m][v]);
}

TILE_INLINE void tile_rows(const struct tile *t, enum dtype type, size_t rows)
{
    switch (rows) {
    case 1:
        tile(t, type, 0, VECTORS, 1);
        return;
    case 2:
        tile(t, type, 0, VECTORS, 2);
        return;
    case 3:
        tile(t, type, 0, VECTORS, 3);
        return;
    case 4:
        tile(t, type, 0, VECTORS, 4);
        return;
    default:
        for (size_t v = 0; v < VECTORS; v++)
            tile(t, type, v, 1, TILE_ROWS);
    }
}

#define RUN(type) tile_rows(t, type, rows)
static void run(const struct tile *t, enum dtype type, size_t rows) { WITH_TYPE(type, RUN) }

void matmul_q_dotprod(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                      uint32_t m, uint32_t p0, uint32_t p1)
{
    size_t blocks = w->n_in / QK, slice = TILE_SLICE_BYTES / block_bytes(w->type);
    struct tile t = {.y_stride = y_stride, .k_pad = x->k_pad, .blocks = blocks};

    if (m <= TILE_FEW)
        slice = blocks;
    for (uint32_t p = p0; p < p1; p++) {
        t.panel = panel_at(w, p);
        t.n = w->n_out - p * PANEL_ROWS < PANEL_ROWS ? w->n_out - p * PANEL_ROWS : PANEL_ROWS;
        for (t.b0 = 0; t.b0 < blocks; t.b0 = t.b1) {
            t.b1 = blocks - t.b0 < slice ? blocks : t.b0 + slice;
            t.ahead = TILE_AHEAD;
            for (size_t i = 0, n; i < m; i += n) {
                n = m - i >= TILE_ROWS ? TILE_ROWS : m - i < TILE_FEW ? m - i : TILE_FEW;
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.q = x->q + i * x->k_pad;
                t.d = x->d + i * blocks;
                t.sum = x->sum + 2 * i * blocks;
                run(&t, w->type, n);
                t.ahead = 0;
            }
        }
    }
}
