/* moe: the feed-forward of a mixture of experts: a router picks experts for each row, and their outputs
 * are added with the router's weights. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/lane.h"

/* Scores of one row -> weights: the n_expert_used best (lower number on a tie), softmax over those;
 * the others 0. */
static void route_row(float *w, uint32_t n, uint32_t used)
{
    float top = -INFINITY, sum = 0, picked[256];

    ASSERT(n <= ARRAY_LEN(picked));
    memset(picked, 0, n * sizeof(*picked));
    for (uint32_t u = 0; u < used; u++) {
        uint32_t best = n;

        for (uint32_t i = 0; i < n; i++) {
            if (picked[i] == 0 && (best == n || w[i] > w[best]))
                best = i;
        }
        if (u == 0)
            top = w[best];
        picked[best] = kernels_exp(w[best] - top);
        if (picked[best] == 0)
            picked[best] = 0x1p-126f; /* chosen, with next to no weight */
        sum += picked[best];
    }
    for (uint32_t i = 0; i < n; i++)
        w[i] = picked[i] / sum;
}

/* gate = silu(gate) * up for my rows of m, prepared as down asks. */
static void lane_silu(struct lane *t, const struct panels *down, struct act *to, uint32_t m)
{
    uint32_t lo, hi, n = t->hp->n_ff;

    team_range(m, t->tid, t->nt, &lo, &hi);
    for (uint32_t r = lo; r < hi; r++) {
        float *g = t->s->gate + (size_t)r * n;

        t->k->silu_mul(g, g, t->s->up + (size_t)r * n, n);
        kernels_prepare(t->k, to, lane_kind(t, down), r, g, n);
    }
}

/* One expert for the rows that chose it; its output is added into x with the row's weight. Experts go
 * in ascending order, so a row's sum does not depend on who else is in the batch. */
static void lane_expert(struct lane *t, const struct model_layer *l, uint32_t x)
{
    const struct scratch *s = t->s;
    uint32_t n = t->hp->n_embd, ne = t->hp->n_expert, m = 0, p0, p1, c0, c1;
    unsigned kinds = lane_kind(t, &l->gate[x]) | lane_kind(t, &l->up[x]);
    struct act in = lane_act(&s->act, s->att, n), later = lane_act(&s->later, s->gate, t->hp->n_ff);

    for (uint32_t r = 0; r < t->n; r++) {
        if (s->route[(size_t)r * ne + x] == 0)
            continue;
        if (m % t->nt == t->tid) { /* att is free here: the gathered rows */
            memcpy(s->att + (size_t)m * n, s->xn + (size_t)r * n, n * sizeof(float));
            kernels_prepare(t->k, &in, kinds, m, s->xn + (size_t)r * n, n);
        }
        m++;
    }
    if (!m)
        return; /* every thread counts the same rows */
    lane_barrier(t);
    lane_matmul(t, s->gate, t->hp->n_ff, &l->gate[x], &in, m);
    lane_matmul(t, s->up, t->hp->n_ff, &l->up[x], &in, m);
    lane_barrier(t);
    lane_silu(t, &l->down[x], &later, m);
    lane_barrier(t);
    lane_matmul(t, s->tmp, s->tmp_stride, &l->down[x], &later, m);
    team_range(l->down[x].n_panels, t->tid, t->nt, &p0, &p1);
    c0 = u32_min(p0 * PANEL_ROWS, n);
    c1 = u32_min(p1 * PANEL_ROWS, n);
    m = 0;
    for (uint32_t r = 0; r < t->n; r++) {
        float w = s->route[(size_t)r * ne + x];

        if (w != 0)
            t->k->axpy(s->x + (size_t)r * n + c0, w, s->tmp + m++ * s->tmp_stride + c0, c1 - c0);
    }
    lane_barrier(t);
}

void lane_moe(struct lane *t, const struct model_layer *l)
{
    uint32_t lo, hi, ne = t->hp->n_expert;
    /* ACT_F32: experts gather their rows from xn */
    struct act in = lane_norm(t, l->ffn_norm, lane_kind(t, &l->router) | 1u << ACT_F32, true);

    lane_matmul(t, t->s->route, t->hp->n_expert, &l->router, &in, t->n);
    lane_barrier(t);
    team_range(t->n, t->tid, t->nt, &lo, &hi);
    for (uint32_t r = lo; r < hi; r++)
        route_row(t->s->route + (size_t)r * ne, ne, t->hp->n_expert_used);
    lane_barrier(t);
    for (uint32_t x = 0; x < ne; x++)
        lane_expert(t, l, x);
}
