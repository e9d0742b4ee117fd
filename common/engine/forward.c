/* DESIGN: one team_run a pass; every thread walks all layers and meets the others at barriers.
 *
 *   many rows   += norm | q k v, rope, write KV . attention | wo | += norm | gate up silu | down | ...
 *   few rows      norm    q k v, rope, write KV . attention | wo, +=   norm   gate up silu | down, += |
 *
 * Each "|" is a barrier: 6 a layer; 4 where rows are so few that every thread normalises all of them
 * for itself. At "." nobody meets: attention of a kv head waits for that head alone, whose columns of
 * q, k and v the threads that computed them count at its gate (lane_qkv). The others may still multiply
 * then: they write other columns of q, and read the normed rows, which attention leaves alone; and k
 * and v only who stores that head reads. It is the one step that needs a few columns of all the
 * others' work and not all of it, so no other barrier can go that way.
 *
 * += adds a matrix's output to the residual stream: by rows, with the norm, or by columns, with the
 * matrix. After norm, attention and silu the result is put in the form that the next matmul takes,
 * once for all matrices that read it; silu's and attention's by the columns that a thread has.
 * Matrices are split by panels, the same ranges in every pass, so a thread reads the weights it
 * packed; rows are split where a step works on whole rows. No step reduces across threads but
 * attention, whose segments are fixed, so their number changes no bit. In the last layer, once the KV
 * is written, only the rows that want logits go on, moved to the front: of q by the columns that a
 * thread has computed, of the residual stream by those of wo that it adds, which it alone writes. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "engine/lane.h"

void lane_matmul(struct lane *t, float *y, size_t y_stride, const struct panels *w, const struct act *x,
                 uint32_t m)
{
    uint32_t p0, p1;

    team_range(w->n_panels, t->tid, t->nt, &p0, &p1);
    if (p0 < p1)
        kernels_matmul(t->k, y, y_stride, w, x, m, p0, p1);
}

/* Whether every thread normalises all of n rows for itself. */
static bool pass_few(const struct pass *p, uint32_t n)
{
    return n <= FEW_ROWS && team_size(p->e->team) > 1 && !p->e->model.hp.n_expert;
}

/* Whether lane_residual adds, and not the norm after it. */
static bool lane_adds_columns(const struct lane *t) { return t->few || t->last; }

struct act lane_norm(struct lane *t, const float *weight, unsigned kinds, bool add)
{
    uint32_t lo = 0, hi = t->n, n = t->hp->n_embd;
    struct own *own = &t->s->own[t->tid];
    bool few = t->few, f32 = kinds & 1u << ACT_F32;
    struct act to = few ? lane_act(&own->act, own->xn, n) : lane_act(&t->s->act, t->s->xn, n);

    if (!few)
        team_range(t->n, t->tid, t->nt, &lo, &hi);
    for (uint32_t r = lo; r < hi; r++) {
        float *x = t->s->x + (size_t)r * n;
        float *y = few ? own->xn + (size_t)r * n : f32 ? t->s->xn + (size_t)r * n : own->row;

        if (add && !lane_adds_columns(t))
            t->k->add(x, t->s->tmp + r * t->s->tmp_stride, n);
        t->k->rms_norm(y, x, weight, n, t->hp->rms_eps);
        kernels_prepare(t->k, &to, kinds, r, y, n);
    }
    if (!few)
        lane_barrier(t);
    return to;
}

/* tmp = x W^T, my panels. Of few rows, and where `from` says which rows x and tmp's are of, my columns
 * are added to the residual stream at once; else lane_norm does it. */
static void lane_residual(struct lane *t, const struct panels *w, const struct act *x, const uint32_t *from)
{
    uint32_t p0, p1, n = t->hp->n_embd, c0, c1;

    lane_matmul(t, t->s->tmp, t->s->tmp_stride, w, x, t->n);
    if (!lane_adds_columns(t))
        return;
    team_range(w->n_panels, t->tid, t->nt, &p0, &p1);
    c0 = u32_min(p0 * PANEL_ROWS, n);
    c1 = u32_min(p1 * PANEL_ROWS, n);
    for (uint32_t r = 0; r < t->n; r++) {
        float *to = t->s->x + (size_t)r * n;

        if (from && from[r] != r)
            memcpy(to + c0, t->s->x + (size_t)from[r] * n + c0, (c1 - c0) * sizeof(float));
        t->k->add(to + c0, t->s->tmp + r * t->s->tmp_stride + c0, c1 - c0);
    }
}

static void lane_embed(struct lane *t)
{
    uint32_t lo, hi;

    team_range(t->n, t->tid, t->nt, &lo, &hi);
    for (uint32_t r = lo; r < hi; r++) {
        const struct batch_row *row = &t->p->b->rows[r];

        panels_row(t->s->x + (size_t)r * t->hp->n_embd, &t->e->model.token_embd, row->token);
        rope_row(&t->e->model.rope, t->s->cs + (size_t)r * t->hp->n_rot, row->pos);
    }
}

/* Columns c0 <= c < c1 of the heads of one row, each of head_dim values; c0 and c1 are even. */
static void lane_rope(const struct lane *t, float *row, const float *cs, uint32_t c0, uint32_t c1)
{
    uint32_t d = t->hp->head_dim, n_rot = t->hp->n_rot;

    for (uint32_t c = c0, end; c < c1; c = end) {
        uint32_t at = c % d;

        end = at == 0 && c1 - c >= d ? c + (c1 - c) / d * d : u32_min(c1, c + d - at);
        if (at == 0 && end - c >= d)
            t->k->rope(row + c, cs, (end - c) / d, d, n_rot);
        else if (at < n_rot)
            t->k->rope(row + c, cs + at, 1, end - c, u32_min(n_rot - at, end - c));
    }
}

/* Rotates k of kv heads h0 <= h < h1 of all rows and writes their KV. */
static void lane_store(struct lane *t, uint32_t layer, uint32_t h0, uint32_t h1)
{
    const struct hparams *hp = t->hp;
    uint32_t at = h0 * hp->head_dim;
    struct kv_layout some = t->e->layout; /* a layout that begins with head h0 */

    some.n_kv_head = h1 - h0;
    for (uint32_t r = 0; r < t->n; r++) {
        const struct batch_row *row = &t->p->b->rows[r];
        float *k = t->s->k + r * t->s->kv_stride;

        lane_rope(t, k, t->s->cs + (size_t)r * hp->n_rot, at, h1 * hp->head_dim);
        t->k->kv_store(row->pages[row->pos / KV_PAGE_TOKENS] + h0 * some.head_bytes, &some, layer,
                       row->pos, k + at, t->s->v + r * t->s->kv_stride + at);
    }
}

/* What a head's gate counts in a layer: columns of q, and one for its KV. */
static uint32_t head_full(const struct lane *t) { return t->hp->n_head / t->hp->n_head_kv * t->hp->head_dim + 1; }

void lane_await_head(struct lane *t, uint32_t layer, uint32_t h)
{
    team_gate_wait(t->e->team, &t->s->heads[h], (layer + 1) * head_full(t));
}

/* How much of a <= i < b is in c <= i < d. */
static uint32_t overlap(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    uint32_t lo = u32_max(a, c), hi = u32_min(b, d);

    return hi > lo ? hi - lo : 0;
}

/* Panels lo <= i < hi of k and v, which lie in pieces: those of k of a head, then those of v. Who ends
 * a piece writes its head's KV. A head that is not whole panels makes one piece of all. */
static void lane_kv(struct lane *t, uint32_t layer, const struct act *x, uint32_t lo, uint32_t hi)
{
    const struct model_layer *l = &t->e->model.layers[layer];
    uint32_t d = t->hp->head_dim, heads = d % PANEL_ROWS ? t->hp->n_head_kv : 1;
    uint32_t half = d % PANEL_ROWS ? l->wk.n_panels : d / PANEL_ROWS, piece = 2 * half;
    uint32_t k0 = lo / piece * half + u32_min(lo % piece, half), v0 = lo - k0;
    uint32_t k1 = hi / piece * half + u32_min(hi % piece, half), v1 = hi - k1;

    if (k0 < k1)
        kernels_matmul(t->k, t->s->k, t->s->kv_stride, &l->wk, x, t->n, k0, k1);
    if (v0 < v1)
        kernels_matmul(t->k, t->s->v, t->s->kv_stride, &l->wv, x, t->n, v0, v1);
    for (uint32_t i = lo / piece; i * piece < hi; i++) {
        uint32_t mine = overlap(lo, hi, i * piece, (i + 1) * piece), h = i * heads;

        /* acq_rel: who counts the last panel sees what the others wrote before they counted */
        if (atomic_fetch_add_explicit(&t->s->kv_done[i], mine, memory_order_acq_rel) + mine <
            (layer + 1) * piece)
            continue;
        lane_store(t, layer, h, h + heads);
        for (uint32_t end = h + heads; h < end; h++)
            team_gate_add(&t->s->heads[h], 1);
    }
}

/* Panels lo <= i < hi of q, rotated; in the last layer rows that want logits move to the front. */
static void lane_q(struct lane *t, uint32_t layer, const struct act *x, uint32_t lo, uint32_t hi)
{
    uint32_t width = head_full(t) - 1, c0 = lo * PANEL_ROWS;
    uint32_t c1 = u32_min(hi * PANEL_ROWS, t->hp->n_head * t->hp->head_dim);
    bool last = layer + 1 == t->hp->n_layer;

    kernels_matmul(t->k, t->s->q, t->s->q_stride, &t->e->model.layers[layer].wq, x, t->n, lo, hi);
    for (uint32_t i = 0; i < (last ? t->p->n_want : t->n); i++) {
        uint32_t r = last ? t->s->wanted[i] : i;
        float *q = t->s->q + i * t->s->q_stride;

        if (r != i)
            memcpy(q + c0, t->s->q + r * t->s->q_stride + c0, (c1 - c0) * sizeof(float));
        lane_rope(t, q, t->s->cs + (size_t)r * t->hp->n_rot, c0, c1);
    }
    for (uint32_t h = c0 / width; h * width < c1; h++)
        team_gate_add(&t->s->heads[h], overlap(c0, c1, h * width, (h + 1) * width));
}

/* My panels of q, k and v: one range over all three. k and v first, for which more threads wait. */
static void lane_qkv(struct lane *t, uint32_t layer, const struct act *x)
{
    const struct model_layer *l = &t->e->model.layers[layer];
    uint32_t q = l->wq.n_panels, lo, hi;

    team_range(q + l->wk.n_panels + l->wv.n_panels, t->tid, t->nt, &lo, &hi);
    if (hi > u32_max(lo, q))
        lane_kv(t, layer, x, u32_max(lo, q) - q, hi - q);
    if (lo < u32_min(hi, q))
        lane_q(t, layer, x, lo, u32_min(hi, q));
}

/* What goes on in the last layer: rows that want logits. */
static void lane_compact(struct lane *t)
{
    t->last = true;
    t->n = t->p->n_want;
    t->few = pass_few(t->p, t->n);
}

/* By thread 0, once the KV of a layer is written. */
static void lane_tell(struct lane *t, uint32_t layer)
{
    if (t->tid == 0 && t->p->b->layer_done)
        t->p->b->layer_done(t->p->b->ctx, layer);
}

static void lane_attention(struct lane *t, uint32_t layer)
{
    const struct model_layer *l = &t->e->model.layers[layer];
    uint32_t nq = t->hp->n_head * t->hp->head_dim, lo, hi;
    unsigned kind = lane_kind(t, &l->wo), kinds = lane_kind(t, &l->wq) | lane_kind(t, &l->wk) | lane_kind(t, &l->wv);
    struct act x = lane_norm(t, l->attn_norm, kinds, layer > 0 && !t->hp->n_expert);
    struct act att = lane_act(&t->s->later, t->s->att, nq);

    lane_qkv(t, layer, &x);
    if (layer + 1 == t->hp->n_layer)
        lane_compact(t);
    if (t->n) {
        lane_attend(t, layer, kind);
        lane_barrier(t);
    } else {
        for (uint32_t h = 0; h < t->hp->n_head_kv; h++)
            lane_await_head(t, layer, h);
    }
    lane_tell(t, layer);
    if (!t->n)
        return;
    if (t->tid == 0)
        atomic_store_explicit(&t->p->drawn, 0, memory_order_relaxed); /* barriers order it */
    if (!lane_prepares_heads(t, kind) && kind != 1u << ACT_F32) {
        team_range(t->n, t->tid, t->nt, &lo, &hi);
        for (uint32_t r = lo; r < hi; r++)
            kernels_prepare(t->k, &att, kind, r, t->s->att + (size_t)r * nq, nq);
        lane_barrier(t);
    }
    lane_residual(t, &l->wo, &att, t->last ? t->s->wanted : NULL);
    lane_barrier(t);
}

/* Columns c0 <= c < c0 + n of silu(gate) * up of rows r0 <= r < r1, whole blocks, in the form that down
 * asks for; gate and up are those columns, rows `stride` apart. */
static void lane_silu(struct lane *t, const struct panels *down, const float *gate, const float *up, size_t stride,
                      uint32_t r0, uint32_t r1, uint32_t c0, uint32_t n)
{
    unsigned kind = lane_kind(t, down);
    struct act to = lane_act(&t->s->later, t->s->gate, t->hp->n_ff);

    for (uint32_t r = r0; r < r1; r++, gate += stride, up += stride) {
        float *y = kind == 1u << ACT_F32 ? t->s->gate + (size_t)r * t->hp->n_ff + c0 : t->s->own[t->tid].row;

        t->k->silu_mul(y, gate, up, n);
        kernels_prepare_part(t->k, &to, kind, r, c0, y, n);
    }
}

/* Panels from p on. */
static struct panels panels_from(const struct panels *w, uint32_t p)
{
    struct panels from = *w;

    from.data += p * w->panel_bytes;
    from.n_panels -= p;
    from.n_out -= p * PANEL_ROWS;
    return from;
}

/* Panels p0 <= p < p1 of gate and up and their silu, of many rows: parts of x and of what comes of them
 * are in L2 as long as they are used. */
static void lane_gate_up(struct lane *t, const struct model_layer *l, const struct act *x, uint32_t p0, uint32_t p1)
{
    struct own *own = &t->s->own[t->tid];
    uint32_t most = u32_min(kernels_rows(t->k, t->hp->n_embd), FFN_ROWS);
    uint32_t panels = u32_max(kernels_act_block(lane_kind(t, l->down)) / PANEL_ROWS, FFN_PANELS);
    uint32_t stride = FFN_STRIDE(panels);

    for (uint32_t r0 = 0, r1; r0 < t->n; r0 = r1) {
        struct act part = kernels_act_from(x, r0);

        r1 = u32_min(r0 + most, t->n);
        for (uint32_t p = p0; p < p1; p += panels) {
            struct panels gate = panels_from(l->gate, p), up = panels_from(l->up, p);
            uint32_t n = u32_min(p1 - p, panels), c0 = p * PANEL_ROWS;

            kernels_matmul(t->k, own->gate, stride, &gate, &part, r1 - r0, 0, n);
            kernels_matmul(t->k, own->up, stride, &up, &part, r1 - r0, 0, n);
            lane_silu(t, l->down, own->gate, own->up, stride, r0, r1, c0,
                      u32_min(c0 + n * PANEL_ROWS, t->hp->n_ff) - c0);
        }
    }
}

/* gate and up, then silu, where down's blocks are so wide that whole ones are not shared evenly. */
static void lane_gate_up_apart(struct lane *t, const struct model_layer *l, const struct act *x)
{
    uint32_t width = t->hp->n_ff, rows = t->n, p0, p1, lo, hi;
    unsigned kind = lane_kind(t, l->down);
    uint32_t block = kernels_act_block(kind), per = (width + block - 1) / block;
    struct act to = lane_act(&t->s->later, t->s->gate, width);

    team_range(l->gate->n_panels, t->tid, t->nt, &p0, &p1);
    if (p0 < p1) {
        kernels_matmul(t->k, t->s->gate, width, l->gate, x, rows, p0, p1);
        kernels_matmul(t->k, t->s->up, width, l->up, x, rows, p0, p1);
    }
    lo = u32_min(p0 * PANEL_ROWS, width);
    hi = u32_min(p1 * PANEL_ROWS, width);
    for (uint32_t r = 0; r < rows; r++) {
        float *gate = t->s->gate + (size_t)r * width + lo;

        t->k->silu_mul(gate, gate, t->s->up + (size_t)r * width + lo, hi - lo);
    }
    lane_barrier(t);
    team_range(rows * per, t->tid, t->nt, &lo, &hi);
    for (uint32_t i = lo; i < hi; i++) {
        uint32_t c0 = i % per * block;

        kernels_prepare_part(t->k, &to, kind, i / per, c0,
                             t->s->gate + (size_t)(i / per) * width + c0, u32_min(block, width - c0));
    }
}

static void lane_ffn(struct lane *t, const struct model_layer *l)
{
    struct act x = lane_norm(t, l->ffn_norm, lane_kind(t, l->gate) | lane_kind(t, l->up), true);
    struct act silu = lane_act(&t->s->later, t->s->gate, t->hp->n_ff);
    uint32_t per = kernels_act_block(lane_kind(t, l->down)) / PANEL_ROWS; /* panels of a block of down's input */
    uint32_t units = (l->gate->n_panels + per - 1) / per, p0, p1, n = t->n;

    team_range(units, t->tid, t->nt, &p0, &p1);
    p0 *= per;
    p1 = u32_min(p1 * per, l->gate->n_panels);
    if (per > QK / PANEL_ROWS && units < FFN_UNITS * t->nt) {
        lane_gate_up_apart(t, l, &x);
    } else if (p0 < p1 && n > FFN_MANY) {
        lane_gate_up(t, l, &x, p0, p1);
    } else if (p0 < p1) {
        uint32_t c0 = p0 * PANEL_ROWS, c1 = u32_min(p1 * PANEL_ROWS, t->hp->n_ff);

        kernels_matmul(t->k, t->s->gate, l->gate->n_out, l->gate, &x, n, p0, p1);
        kernels_matmul(t->k, t->s->up, l->up->n_out, l->up, &x, n, p0, p1);
        lane_silu(t, l->down, t->s->gate + c0, t->s->up + c0, t->hp->n_ff, 0, n, c0, c1 - c0);
    }
    lane_barrier(t);
    lane_residual(t, l->down, &silu, NULL);
    lane_barrier(t);
}

static void pass_part(void *ctx, uint32_t tid, uint32_t nt)
{
    struct pass *p = ctx;
    struct engine *e = p->e;
    const struct batch *b = p->b;
    struct lane t = {p, e, &e->s, e->kern, &e->model.hp, tid, nt, b->n, pass_few(p, b->n), false};
    struct act in;

    lane_embed(&t);
    lane_barrier(&t);
    for (uint32_t i = 0; i < t.hp->n_layer; i++) {
        lane_attention(&t, i);
        if (!t.n)
            return; /* last layer, and nobody wants logits */
        if (t.hp->n_expert)
            lane_moe(&t, &e->model.layers[i]);
        else
            lane_ffn(&t, &e->model.layers[i]);
    }
    in = lane_norm(&t, e->model.output_norm, lane_kind(&t, &e->model.output), !t.hp->n_expert);
    lane_matmul(&t, t.s->logits, e->model.output.n_out, &e->model.output, &in, t.n);
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
    const struct hparams *hp = &e->model.hp;
    struct pass p = {.e = e, .b = b};

    ASSERT(b->n > 0 && b->n <= e->rows_max);
    for (uint32_t r = 0; r < b->n; r++) {
        ASSERT(b->rows[r].token < hp->n_vocab && b->rows[r].pos < e->ctx_max);
        if (b->rows[r].want_logits)
            e->s.wanted[p.n_want++] = r;
    }
    for (uint32_t h = 0; h < hp->n_head_kv; h++) { /* nobody computes: team_run publishes it */
        team_gate_reset(&e->s.heads[h]);
        atomic_store_explicit(&e->s.kv_done[h], 0, memory_order_relaxed);
    }
    e->meetings = 0;
    logits_reserve(&e->s, p.n_want, hp->n_vocab);
    team_run(e->team, pass_part, &p);
    return p.n_want ? e->s.logits : NULL;
}
