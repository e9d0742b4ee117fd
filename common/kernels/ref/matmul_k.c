#include <math.h>
#include <string.h>

#include "kernels/panel_layout.h"
#include "kernels/tiers.h"

/* 32 weights of a row, as one block with a minimum or two of 16 (Q6_K). */
struct block {
    int8_t w[QK];
    float d[2], dmin; /* times their integer scales, exactly */
};

static float half_f32(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, 2);
    return dtype_f16_to_f32(h);
}

static void unpack_min(struct block *out, const uint8_t *panel, enum dtype type, size_t n, size_t b)
{
    const uint8_t *f16 = panel + panel_k_at(type, b) + 2 * n;
    const uint8_t *lines = panel + panel_k_lines_at(type, b) + 4 * n;

    out->d[0] = half_f32(f16);
    out->dmin = half_f32(f16 + 2 * PANEL_ROWS);
    if (type == DTYPE_Q4_K || type == DTYPE_Q5_K) {
        const uint8_t *sc = panel + panel_k_scales_at(type, b) + n;

        out->d[0] *= sc[0];
        out->dmin *= sc[PANEL_ROWS];
    }
    for (size_t k = 0; k < QK; k++) {
        int q = lines[k / 8 * PANEL_LINE + k % 4] >> (k & 4) & 15;

        if (panel_k_lines(type) == 5)
            q |= (lines[4 * PANEL_LINE + k % 4] >> k / 4 & 1) << 4;
        out->w[k] = (int8_t)q;
    }
}

static void unpack_q6_k(struct block *out, const uint8_t *panel, size_t n, size_t b)
{
    const uint8_t *sc = panel + panel_k_scales_at(DTYPE_Q6_K, b) + n;
    const uint8_t *lines = panel + panel_k_lines_at(DTYPE_Q6_K, b) + 4 * n;
    float d = half_f32(panel + panel_k_at(DTYPE_Q6_K, b) + 2 * n);

    out->d[0] = d * (int8_t)sc[0];
    out->d[1] = d * (int8_t)sc[PANEL_ROWS];
    for (size_t k = 0; k < QK; k++) {
        const uint8_t *at = lines + k / 16 * 3 * PANEL_LINE + k % 4;
        int low = at[k / 8 % 2 * PANEL_LINE] >> (k & 4) & 15;
        int high = at[2 * PANEL_LINE] >> k / 4 % 4 * 2 & 3;

        out->w[k] = (int8_t)((low | high << 4) - 32);
    }
}

static int32_t dot(const int8_t *w, const int8_t *q, size_t n)
{
    int32_t s = 0;

    for (size_t k = 0; k < n; k++)
        s += w[k] * q[k];
    return s;
}

static float add_min(float acc, const struct block *b, const int8_t *q, float dx,
                     const int16_t *sum)
{
    float t = b->d[0] * (float)dot(b->w, q, QK);

    t = fmaf(-b->dmin, (float)(sum[0] + sum[1]), t);
    return fmaf(t, dx, acc);
}

static float add_q6_k(float acc, const struct block *b, const int8_t *q, float dx)
{
    acc = fmaf((float)dot(b->w, q, 16), b->d[0] * dx, acc);
    return fmaf((float)dot(b->w + 16, q + 16, 16), b->d[1] * dx, acc);
}

void matmul_k_ref(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                  uint32_t m, uint32_t p0, uint32_t p1)
{
    size_t blocks = w->n_in / QK;
    uint32_t r1 = p1 * PANEL_ROWS < w->n_out ? p1 * PANEL_ROWS : w->n_out;
    struct block block;

    for (uint32_t r = p0 * PANEL_ROWS; r < r1; r++) {
        const uint8_t *panel = panel_at(w, r / PANEL_ROWS);

        for (size_t i = 0; i < m; i++)
            y[i * y_stride + r] = 0;
        for (size_t b = 0; b < blocks; b++) {
            if (w->type == DTYPE_Q6_K)
                unpack_q6_k(&block, panel, r % PANEL_ROWS, b);
            else
                unpack_min(&block, panel, w->type, r % PANEL_ROWS, b);
            for (size_t i = 0; i < m; i++) {
                const int8_t *q = x->q + i * x->k_pad + b * QK;
                float *out = y + i * y_stride + r, dx = x->d[i * blocks + b];

                *out = w->type == DTYPE_Q6_K
                           ? add_q6_k(*out, &block, q, dx)
                           : add_min(*out, &block, q, dx, x->sum + 2 * (i * blocks + b));
            }
        }
    }
}
