#include <math.h>
#include <string.h>

#include "kernels/panel_layout.h"
#include "kernels/tiers.h"

/* Weights are unpacked a slice of k at a time and used for all rows of x; between slices a row's
 * sums wait in y, where they lose nothing. */
#define SLICE 128

static float half_f32(const uint8_t *p, enum dtype type)
{
    uint16_t h;

    memcpy(&h, p, 2);
    return type == DTYPE_F16 ? dtype_f16_to_f32(h) : dtype_bf16_to_f32(h);
}

/* w[16] = the weights of the panel's rows at k */
static void unpack_f(float *w, const uint8_t *panel, enum dtype type, size_t k)
{
    const uint8_t *line = panel + k / 2 * PANEL_LINE;

    if (type == DTYPE_F32)
        memcpy(w, panel + k * PANEL_LINE, PANEL_LINE);
    else
        for (size_t n = 0; n < PANEL_ROWS; n++)
            w[n] = half_f32(line + (type == DTYPE_F16 ? k % 2 * 32 + 2 * n : 4 * n + k % 2 * 2),
                            type);
}

/* w[16][QK] = block b of the panel's rows */
static void unpack_q(int8_t (*w)[QK], const uint8_t *panel, enum dtype type, size_t b)
{
    const uint8_t *line = panel + panel_lines_at(type, b);

    for (size_t n = 0; n < PANEL_ROWS; n++)
        for (size_t k = 0; k < QK; k++) {
            if (type == DTYPE_Q8_0)
                w[n][k] = (int8_t)(line[k / 4 * PANEL_LINE + 4 * n + k % 4] ^ PANEL_Q8_FLIP);
            else
                w[n][k] = (int8_t)((line[k / 8 * PANEL_LINE + 4 * n + k % 4] >> (k & 4) & 15) - 8);
        }
}

static size_t panel_rows(const struct panels *w, uint32_t p)
{
    uint32_t left = w->n_out - p * PANEL_ROWS;

    return left < PANEL_ROWS ? left : PANEL_ROWS;
}

void matmul_f_ref(float *y, size_t y_stride, const struct panels *w, const float *x,
                  size_t x_stride, uint32_t m, uint32_t p0, uint32_t p1)
{
    float ws[SLICE][PANEL_ROWS];

    for (uint32_t p = p0; p < p1; p++) {
        size_t rows = panel_rows(w, p);

        for (size_t i = 0; i < m; i++)
            memset(y + i * y_stride + p * PANEL_ROWS, 0, rows * sizeof(*y));
        for (size_t k0 = 0; k0 < w->n_in; k0 += SLICE) {
            size_t n_k = w->n_in - k0 < SLICE ? w->n_in - k0 : SLICE;

            for (size_t k = 0; k < n_k; k++)
                unpack_f(ws[k], panel_at(w, p), w->type, k0 + k);
            for (size_t i = 0; i < m; i++) {
                float *out = y + i * y_stride + p * PANEL_ROWS;

                for (size_t k = 0; k < n_k; k++)
                    for (size_t n = 0; n < rows; n++)
                        out[n] = fmaf(ws[k][n], x[i * x_stride + k0 + k], out[n]);
            }
        }
    }
}

void matmul_q_ref(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                  uint32_t m, uint32_t p0, uint32_t p1)
{
    size_t blocks = w->n_in / QK;
    int8_t wb[PANEL_ROWS][QK];

    if (panel_is_k(w->type)) {
        matmul_k_ref(y, y_stride, w, x, m, p0, p1);
        return;
    }
    for (uint32_t p = p0; p < p1; p++) {
        size_t rows = panel_rows(w, p);

        for (size_t i = 0; i < m; i++)
            memset(y + i * y_stride + p * PANEL_ROWS, 0, rows * sizeof(*y));
        for (size_t b = 0; b < blocks; b++) {
            const uint8_t *scales = panel_at(w, p) + panel_scales_at(w->type, b);

            unpack_q(wb, panel_at(w, p), w->type, b);
            for (size_t i = 0; i < m; i++) {
                const int8_t *q = x->q + i * x->k_pad + b * QK;
                float *out = y + i * y_stride + p * PANEL_ROWS;

                for (size_t n = 0; n < rows; n++) {
                    float dw = half_f32(scales + 2 * n, DTYPE_F16);
                    int32_t s = 0;

                    for (size_t k = 0; k < QK; k++)
                        s += wb[n][k] * q[k];
                    out[n] = fmaf((float)s, dw * x->d[i * blocks + b], out[n]);
                }
            }
        }
    }
}
