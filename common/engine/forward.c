/* DESIGN: one team_run a pass; every thread walks all layers and meets the others at barriers.
 *
 *   embed | norm+prep | q k v | rope, write KV | attention | prep | wo, += | norm+prep | gate up |
 *   silu+prep | down, += | ... next layer ... | norm+prep | output
 *
 * prep: the input is put in the form that the tier's matmul takes, once for all matrices that read it.
 * Each "|" is a barrier. Matrices are split by panels, the same ranges in every pass, so a thread
 * reads the weights it packed; rows are split where a step works on whole rows. No step reduces
 * across threads, so their number changes no bit. In the last layer, once the KV is written, only
 * the rows that want logits go on. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "engine/engine_impl.h"

struct pass {
    struct engine *e;
    const struct batch *b;
    uint32_t n;      /* rows still computed */
    uint32_t n_want; /* rows that want logits */
    _Atomic uint32_t drawn; /* jobs of the step at hand that threads have taken; any order will do */
};

/* One thread's view of the pass. */
struct lane {
    struct pass *p;
    struct engine *e;
    struct scratch *s;
    const struct kernels *k;
    const struct hparams *hp;
    uint32_t tid, nt;
};

/* The form of input that w asks for, as a bit. */
static unsigned lane_kind(const struct lane *t, const struct panels *w)
{
    return 1u << kernels_act_kind(t->k, w->type);
}

/* The buffers of prepared input, laid out for rows of n values. */
static struct act lane_act(const struct lane *t, const float *x, uint32_t n)
{
    struct act a = t->s->act;

    a.x = x;
    a.x_stride = n;
    a.q8.k_pad = a.bf16.k_pad = (uint32_t)size_round_up(n, QK);
    return a;
}

static void lane_prepare(struct lane *t, unsigned kinds, uint32_t row, const float *x, uint32_t n)
{
    struct act a = lane_act(t, NULL, n);

    kernels_prepare(t->k, &a, kinds, row, x, n);
}

static void lane_barrier(struct lane *t) { team_barrier(t->e->team, t->tid); }

/* My panels of y[m][n_out] = x[m][n_in] W^T, x prepared in the form that W asks for. */
static void lane_matmul(struct lane *t, float *y, const struct panels *w, const float *x, uint32_t m)
{
    struct act a = lane_act(t, x, w->n_in);
    uint32_t p0, p1;

    team_range(w->n_panels, t->tid, t->nt, &p0, &p1);
    if (p0 < p1)
        kernels_matmul(t->k, y, w->n_out, w, &a, m, p0, p1);
}

/* My rows of xn = norm(x), prepared in the forms of kinds. */
static void lane_norm(struct lane *t, const float *weight, unsigned kinds)
{
    uint32_t lo, hi, n = t->hp->n_embd;

    team_range(t->p->n, t->tid, t->nt, &lo, &hi);
    for (uint32_t r = lo; r < hi; r++) {
        float *y = t->s->xn + (size_t)r * n;

        t->k->rms_norm(y, t->s->x + (size_t)r * n, weight, n, t->hp->rms_eps);
        lane_prepare(t, kinds, r, y, n);
    }
}

/* x += what my panels of w gave in tmp. */
static void lane_residual(struct lane *t, const struct panels *w)
{
    uint32_t p0, p1, n = t->hp->n_embd, c0, c1;

    team_range(w->n_panels, t->tid, t->nt, &p0, &p1);
    c0 = u32_min(p0 * PANEL_ROWS, n);
    c1 = u32_min(p1 * PANEL_ROWS, n);
    for (uint32_t r = 0; r < t->p->n; r++)
        t->k->add(t->s->x + (size_t)r * n + c0, t->s->tmp + (size_t)r * n + c0, c1 - c0);
}

static void lane_embed(struct lane *t)
{
    uint32_t lo, hi;

    team_range(t->p->n, t->tid, t->nt, &lo, &hi);
    for (uint32_t r = lo; r < hi; r++) {
        const struct batch_row *row = &t->p->b->rows[r];

        panels_row(t->s->x + (size_t)r * t->hp->n_embd, &t->e->model.token_embd, row->token);
        rope_row(&t->e->model.rope, t->s->cs + (size_t)r * t->hp->n_rot, row->pos);
    }
}

/* Rotates q and k of my rows and writes their KV. */
static void lane_store(struct lane *t, uint32_t layer)
{
    const struct hparams *hp = t->hp;
    uint32_t lo, hi, nq = hp->n_head * hp->head_dim, nk = hp->n_head_kv * hp->head_dim;

    team_range(t->p->n, t->tid, t->nt, &lo, &hi);
    for (uint32_t r = lo; r < hi; r++) {
        const struct batch_row *row = &t->p->b->rows[r];
        const float *cs = t->s->cs + (size_t)r * hp->n_rot;
        float *k = t->s->k + (size_t)r * nk;

        t->k->rope(t->s->q + (size_t)r * nq, cs, hp->n_head, hp->head_dim, hp->n_rot);
        t->k->rope(k, cs, hp->n_head_kv, hp->head_dim, hp->n_rot);
        t->k->kv_store(row->pages[row->pos / KV_PAGE_TOKENS], &t->e->layout, layer, row->pos, k,
                       t->s->v + (size_t)r * nk);
    }
}

/* The next job of the step that no thread has drawn. */
static uint32_t lane_draw(struct lane *t)
{
    return atomic_fetch_add_explicit(&t->p->drawn, 1, memory_order_relaxed);
}

/* Rows r0 <= r < r1 of one sequence, which attention takes together. */
struct block {
    uint32_t r0, r1;
};

/* The block that ends before row r1: of at most so many rows that every thread gets some blocks.
 * Where blocks begin changes no bit. */
static struct block lane_block(const struct lane *t, uint32_t r1)
{
    const struct batch_row *rows = t->p->b->rows;
    const uint32_t *active = t->s->active;
    uint32_t share = (uint32_t)((uint64_t)t->p->n * t->hp->n_head_kv / (4 * t->nt));
    uint32_t most = u32_max(1, u32_min(share, t->s->block_rows)), r0 = r1 - 1;

    while (r0 > 0 && r1 - r0 < most && rows[active[r0 - 1]].pages == rows[active[r0]].pages)
        r0--;
    return (struct block){r0, r1};
}

/* Attention of a block's query heads that share kv head h: segments in ascending order. */
static void lane_attend(struct lane *t, uint32_t layer, struct block b, uint32_t h)
{
    const struct batch_row *rows = t->p->b->rows;
    const uint32_t *active = t->s->active;
    uint32_t group = t->hp->n_head / t->hp->n_head_kv, d = t->hp->head_dim, n[ATTENTION_HEADS];
    uint32_t end = rows[active[b.r1 - 1]].pos + 1, heads = t->s->block_rows * group;
    size_t width = (size_t)t->hp->n_head * d, at = (size_t)h * group * d;
    float *seg = t->s->seg + (size_t)t->tid * t->s->seg_width, *mx = seg + (size_t)heads * d;
    float *sum = mx + heads, *mx2 = sum + heads, *sum2 = mx2 + heads;
    struct attention a = {.q_stride = width, .pages = rows[active[b.r0]].pages,
                          .layout = &t->e->layout, .layer = layer, .head = h, .group = group,
                          .n = n, .scale = 1.0f / sqrtf((float)d)};

    for (uint32_t r = b.r0; a.first < end; a.first += ATTENTION_SEGMENT) {
        while (rows[active[r]].pos < a.first)
            r++; /* ends before this segment */
        a.q = t->s->q + r * width + at;
        a.rows = b.r1 - r;
        for (uint32_t i = 0; i < a.rows; i++)
            n[i] = u32_min(ATTENTION_SEGMENT, rows[active[r + i]].pos + 1 - a.first);
        if (!a.first) {
            t->k->attention(t->s->att + r * width + at, width, mx, sum, &a);
            continue;
        }
        t->k->attention(seg, (size_t)group * d, mx2, sum2, &a);
        for (uint32_t i = 0; i < a.rows * group; i++) {
            uint32_t to = (r - b.r0) * group + i;

            t->k->attention_merge(t->s->att + (r + i / group) * width + at + i % group * d, &mx[to],
                                  &sum[to], seg + (size_t)i * d, mx2[i], sum2[i], d);
        }
    }
    for (uint32_t i = 0; i < (b.r1 - b.r0) * group; i++) {
        float *o = t->s->att + (b.r0 + i / group) * width + at + i % group * d;

        for (uint32_t j = 0; j < d; j++)
            o[j] /= sum[i];
    }
}

/* Each thread walks all jobs, a block for a kv head, and does those that it draws. Later rows cost
 * more and go first, so that the threads end together. */
static void lane_attend_all(struct lane *t, uint32_t layer)
{
    uint32_t job = 0, mine = lane_draw(t);
    struct block b;

    for (uint32_t r = t->p->n; r > 0; r = b.r0) {
        b = lane_block(t, r);
        for (uint32_t h = 0; h < t->hp->n_head_kv; h++)
            if (job++ == mine) {
                lane_attend(t, layer, b, h);
                mine = lane_draw(t);
            }
    }
}

/* In the last layer only rows that want logits go on: moves them to the front. */
static void pass_compact(struct pass *p)
{
    struct scratch *s = &p->e->s;
    const struct hparams *hp = &p->e->model.hp;
    size_t nx = hp->n_embd, nq = (size_t)hp->n_head * hp->head_dim;
    uint32_t to = 0;

    for (uint32_t r = 0; r < p->n; r++) {
        if (!p->b->rows[r].want_logits)
            continue;
        if (r != to) {
            memcpy(s->x + to * nx, s->x + r * nx, nx * sizeof(float));
            memcpy(s->q + to * nq, s->q + r * nq, nq * sizeof(float));
        }
        s->active[to++] = r;
    }
    p->n = to;
}

static void lane_attention(struct lane *t, uint32_t layer)
{
    const struct model_layer *l = &t->e->model.layers[layer];
    uint32_t nq = t->hp->n_head * t->hp->head_dim, lo, hi;
    unsigned kind = lane_kind(t, &l->wo);

    lane_norm(t, l->attn_norm, lane_kind(t, &l->wq) | lane_kind(t, &l->wk) | lane_kind(t, &l->wv));
    lane_barrier(t);
    lane_matmul(t, t->s->q, &l->wq, t->s->xn, t->p->n);
    lane_matmul(t, t->s->k, &l->wk, t->s->xn, t->p->n);
    lane_matmul(t, t->s->v, &l->wv, t->s->xn, t->p->n);
    lane_barrier(t);
    if (t->tid == 0)
        atomic_store_explicit(&t->p->drawn, 0, memory_order_relaxed); /* barriers order it */
    lane_store(t, layer);
    lane_barrier(t);
    if (t->tid == 0) {
        if (t->p->b->layer_done)
            t->p->b->layer_done(t->p->b->ctx, layer);
        if (layer + 1 == t->hp->n_layer)
            pass_compact(t->p);
    }
    if (layer + 1 == t->hp->n_layer) {
        lane_barrier(t);
        if (!t->p->n)
            return;
    }
    lane_attend_all(t, layer);
    lane_barrier(t);
    if (kind != 1u << ACT_F32) {
        team_range(t->p->n, t->tid, t->nt, &lo, &hi);
        for (uint32_t r = lo; r < hi; r++)
            lane_prepare(t, kind, r, t->s->att + (size_t)r * nq, nq);
        lane_barrier(t);
    }
    lane_matmul(t, t->s->tmp, &l->wo, t->s->att, t->p->n);
    lane_residual(t, &l->wo);
    lane_barrier(t);
}

/* gate = silu(gate) * up for my rows of m, prepared as down asks. */
static void lane_silu(struct lane *t, const struct panels *down, uint32_t m)
{
    uint32_t lo, hi, n = t->hp->n_ff;

    team_range(m, t->tid, t->nt, &lo, &hi);
    for (uint32_t r = lo; r < hi; r++) {
        float *g = t->s->gate + (size_t)r * n;

        t->k->silu_mul(g, g, t->s->up + (size_t)r * n, n);
        lane_prepare(t, lane_kind(t, down), r, g, n);
    }
}

static void lane_ffn(struct lane *t, const struct model_layer *l)
{
    lane_norm(t, l->ffn_norm, lane_kind(t, l->gate) | lane_kind(t, l->up));
    lane_barrier(t);
    lane_matmul(t, t->s->gate, l->gate, t->s->xn, t->p->n);
    lane_matmul(t, t->s->up, l->up, t->s->xn, t->p->n);
    lane_barrier(t);
    lane_silu(t, l->down, t->p->n);
    lane_barrier(t);
    lane_matmul(t, t->s->tmp, l->down, t->s->gate, t->p->n);
    lane_residual(t, l->down);
    lane_barrier(t);
}

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

/* One expert for the rows that chose it; its output is added into x with the row's weight. Experts go
 * in ascending order, so a row's sum does not depend on who else is in the batch. */
static void lane_expert(struct lane *t, const struct model_layer *l, uint32_t x)
{
    const struct scratch *s = t->s;
    uint32_t n = t->hp->n_embd, ne = t->hp->n_expert, m = 0, p0, p1, c0, c1;
    unsigned kinds = lane_kind(t, &l->gate[x]) | lane_kind(t, &l->up[x]);

    for (uint32_t r = 0; r < t->p->n; r++) {
        if (s->route[(size_t)r * ne + x] == 0)
            continue;
        if (m % t->nt == t->tid) { /* att is free here: the gathered rows */
            memcpy(s->att + (size_t)m * n, s->xn + (size_t)r * n, n * sizeof(float));
            lane_prepare(t, kinds, m, s->xn + (size_t)r * n, n);
        }
        m++;
    }
    if (!m)
        return; /* every thread counts the same rows */
    lane_barrier(t);
    lane_matmul(t, s->gate, &l->gate[x], s->att, m);
    lane_matmul(t, s->up, &l->up[x], s->att, m);
    lane_barrier(t);
    lane_silu(t, &l->down[x], m);
    lane_barrier(t);
    lane_matmul(t, s->tmp, &l->down[x], s->gate, m);
    team_range(l->down[x].n_panels, t->tid, t->nt, &p0, &p1);
    c0 = u32_min(p0 * PANEL_ROWS, n);
    c1 = u32_min(p1 * PANEL_ROWS, n);
    m = 0;
    for (uint32_t r = 0; r < t->p->n; r++) {
        float w = s->route[(size_t)r * ne + x];

        if (w != 0)
            t->k->axpy(s->x + (size_t)r * n + c0, w, s->tmp + (size_t)m++ * n + c0, c1 - c0);
    }
    lane_barrier(t);
}

static void lane_moe(struct lane *t, const struct model_layer *l)
{
    uint32_t lo, hi, ne = t->hp->n_expert;

    lane_norm(t, l->ffn_norm, lane_kind(t, &l->router));
    lane_barrier(t);
    lane_matmul(t, t->s->route, &l->router, t->s->xn, t->p->n);
    lane_barrier(t);
    team_range(t->p->n, t->tid, t->nt, &lo, &hi);
    for (uint32_t r = lo; r < hi; r++)
        route_row(t->s->route + (size_t)r * ne, ne, t->hp->n_expert_used);
    lane_barrier(t);
    for (uint32_t x = 0; x < ne; x++)
        lane_expert(t, l, x);
}

static void pass_part(void *ctx, uint32_t tid, uint32_t nt)
{
    struct pass *p = ctx;
    struct engine *e = p->e;
    struct lane t = {p, e, &e->s, e->kern, &e->model.hp, tid, nt};

    lane_embed(&t);
    lane_barrier(&t);
    for (uint32_t i = 0; i < t.hp->n_layer; i++) {
        lane_attention(&t, i);
        if (!p->n)
            return; /* last layer, and nobody wants logits */
        if (t.hp->n_expert)
            lane_moe(&t, &e->model.layers[i]);
        else
            lane_ffn(&t, &e->model.layers[i]);
    }
    lane_norm(&t, e->model.output_norm, lane_kind(&t, &e->model.output));
    lane_barrier(&t);
    lane_matmul(&t, t.s->logits, &e->model.output, t.s->xn, p->n);
}

/* Room for the logits of n rows. Grows to what was asked for: eval wants all rows, a node few. */
static void logits_reserve(struct scratch *s, uint32_t n, uint32_t n_vocab)
{
    if (n <= s->logits_rows)
        return;
    mem_free(s->logits);
    s->logits = mem_aligned((size_t)n * n_vocab * sizeof(float), 64);
    s->logits_rows = n;
}

const float *engine_forward(struct engine *e, const struct batch *b)
{
    struct pass p = {.e = e, .b = b, .n = b->n};

    ASSERT(b->n > 0 && b->n <= e->rows_max);
    for (uint32_t r = 0; r < b->n; r++) {
        ASSERT(b->rows[r].token < e->model.hp.n_vocab && b->rows[r].pos < e->ctx_max);
        e->s.active[r] = r;
        p.n_want += b->rows[r].want_logits;
    }
    logits_reserve(&e->s, p.n_want, e->model.hp.n_vocab);
    team_run(e->team, pass_part, &p);
    return p.n_want ? e->s.logits : NULL;
}
