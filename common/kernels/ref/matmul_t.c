#include <math.h>
#include <string.h>

#include "kernels/panel_layout.h"
#include "kernels/tiers.h"

/* u[QK_K] of row n of a block; returns its scale. */
static float unpack(int8_t *u, const uint8_t *block, size_t n)
{
    float d;

    memcpy(&d, block + 4 * n, 4);
    for (size_t k = 0; k < QK_K; k++) {
        uint8_t byte = block[(1 + k / 16) * PANEL_LINE + 4 * n + k % 4];

        u[k] = (int8_t)((byte >> k % 16 / 4 * 2 & 3) - 1);
    }
    return d;
}

void matmul_t_ref(float *y, size_t y_stride, const struct panels *w, const struct act_q8k *x,
                  uint32_t m, uint32_t p0, uint32_t p1)
{
    size_t blocks = x->k_pad / QK_K;
    uint32_t r1 = p1 * PANEL_ROWS < w->n_out ? p1 * PANEL_ROWS : w->n_out;
    int8_t u[QK_K];

    for (uint32_t r = p0 * PANEL_ROWS; r < r1; r++) {
        for (size_t i = 0; i < m; i++)
            y[i * y_stride + r] = 0;
        for (size_t b = 0; b < blocks; b++) {
            const uint8_t *block = panel_at(w, r / PANEL_ROWS) + b * PANEL_T_BYTES;
            float d = unpack(u, block, r % PANEL_ROWS);

            for (size_t i = 0; i < m; i++) {
                const int8_t *q = x->q + i * ACT_Q8K_STRIDE(x->k_pad) + b * QK_K;
                float *out = y + i * y_stride + r;
                int32_t s = 0;

                for (size_t k = 0; k < QK_K; k++)
                    s += u[k] * q[k];
                *out = fmaf((float)s, d * x->d[i * blocks + b], *out);
            }
        }
    }
}
