#include <math.h>
#include <string.h>

#include "kernels/panel_layout.h"
#include "kernels/tiers.h"

static float half_f32(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, 2);
    return dtype_f16_to_f32(h);
}

static int32_t dot(const int8_t *w, const int8_t *q, size_t n)
{
    int32_t s = 0;

    for (size_t k = 0; k < n; k++)
        s += w[k] * q[k];
    return s;
}

/* One block of 256 k of one row of W. */
struct block {
    int8_t w[QK_K];
    float d[16], dmin[8]; /* of its blocks of 32 (Q4_K) or 16 (Q6_K), times their integer scales */
};

static void unpack_q4_k(struct block *b, const uint8_t *at, size_t n)
{
    for (size_t j = 0; j < 8; j++) {
        const uint8_t *sc = at + PANEL_K_SCALES + j * 2 * PANEL_ROWS + n;

        b->d[j] = half_f32(at + 2 * n) * sc[0];
        b->dmin[j] = half_f32(at + 2 * (PANEL_ROWS + n)) * sc[PANEL_ROWS];
    }
    for (size_t k = 0; k < QK_K; k++) {
        uint8_t byte = at[PANEL_K_LINES + k / 8 * PANEL_LINE + 4 * n + k % 4];

        b->w[k] = (int8_t)(byte >> (k & 4) & 15);
    }
}

static void unpack_q6_k(struct block *b, const uint8_t *at, size_t n)
{
    for (size_t j = 0; j < 16; j++)
        b->d[j] = half_f32(at + 2 * n) * (int8_t)at[PANEL_K_SCALES + j * PANEL_ROWS + n];
    for (size_t k = 0; k < QK_K; k++) {
        const uint8_t *lines = at + PANEL_K_LINES + k / 16 * 3 * PANEL_LINE + 4 * n + k % 4;
        int low = lines[k / 8 % 2 * PANEL_LINE] >> (k & 4) & 15;
        int high = lines[2 * PANEL_LINE] >> k / 4 % 4 * 2 & 3;

        b->w[k] = (int8_t)((low | high << 4) - 32);
    }
}

static float add_q4_k(float acc, const struct block *b, const int8_t *q, const float *d,
                      const int16_t *sum)
{
    for (size_t j = 0; j < 8; j++) {
        float t = b->d[j] * (float)dot(b->w + 32 * j, q + 32 * j, 32);

        t = fmaf(-b->dmin[j], (float)(sum[2 * j] + sum[2 * j + 1]), t);
        acc = fmaf(t, d[j], acc);
    }
    return acc;
}

static float add_q6_k(float acc, const struct block *b, const int8_t *q, const float *d)
{
    for (size_t j = 0; j < 16; j++)
        acc = fmaf((float)dot(b->w + 16 * j, q + 16 * j, 16), b->d[j] * d[j / 2], acc);
    return acc;
}

void matmul_k_ref(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                  uint32_t m, uint32_t p0, uint32_t p1)
{
    size_t blocks = w->n_in / QK;
    uint32_t r1 = p1 * PANEL_ROWS < w->n_out ? p1 * PANEL_ROWS : w->n_out;
    struct block block;

    for (uint32_t r = p0 * PANEL_ROWS; r < r1; r++) {
        const uint8_t *at = panel_at(w, r / PANEL_ROWS);

        for (size_t i = 0; i < m; i++)
            y[i * y_stride + r] = 0;
        for (size_t b = 0; b < w->n_in / QK_K; b++, at += panel_k_bytes(w->type)) {
            if (w->type == DTYPE_Q4_K)
                unpack_q4_k(&block, at, r % PANEL_ROWS);
            else
                unpack_q6_k(&block, at, r % PANEL_ROWS);
            for (size_t i = 0; i < m; i++) {
                const int8_t *q = x->q + i * x->k_pad + b * QK_K;
                const float *d = x->d + i * blocks + b * 8;
                float *out = y + i * y_stride + r;

                *out = w->type == DTYPE_Q4_K
                           ? add_q4_k(*out, &block, q, d, x->sum + 2 * i * blocks + b * 16)
                           : add_q6_k(*out, &block, q, d);
            }
        }
    }
}
