/* lane: one thread's view of a forward pass; what forward.c, moe.c and attend.c share, and nobody else
 * includes. */
#ifndef TANDEM_ENGINE_LANE_H
#define TANDEM_ENGINE_LANE_H

#include <stdatomic.h>

#include "engine/engine_impl.h"

struct pass {
    struct engine *e;
    const struct batch *b;
    uint32_t n_want; /* rows that want logits */
    _Atomic uint32_t drawn; /* jobs of the attention at hand that threads have taken */
};

struct lane {
    struct pass *p;
    struct engine *e;
    struct scratch *s;
    const struct kernels *k;
    const struct hparams *hp;
    uint32_t tid, nt;
    /* The same in every thread at the same step. */
    uint32_t n; /* rows still computed */
    bool few;   /* rows: each thread normalises all of them for itself, which saves barriers */
    bool last;  /* layer, past its KV: row r is the batch's wanted[r] */
};

/* The form of input that w asks for, as a bit. */
static inline unsigned lane_kind(const struct lane *t, const struct panels *w)
{
    return 1u << kernels_act_kind(t->k, w->type);
}

/* Buffers of prepared input, laid out for rows of n values; x is the same in f32. */
static inline struct act lane_act(const struct act *buffers, const float *x, uint32_t n)
{
    struct act a = *buffers;

    a.x = x;
    a.x_stride = n;
    a.q8.k_pad = a.bf16.k_pad = (uint32_t)size_round_up(n, QK);
    a.q8k.k_pad = (uint32_t)size_round_up(n, QK_K);
    return a;
}

static inline void lane_barrier(struct lane *t)
{
    if (t->tid == 0)
        t->e->meetings++;
    team_barrier(t->e->team, t->tid);
}


/* My panels of y[m][n_out] = x[m][n_in] W^T, rows of y y_stride floats apart; x prepared in the form that
 * W asks for. */
void lane_matmul(struct lane *t, float *y, size_t y_stride, const struct panels *w, const struct act *x,
                 uint32_t m);

/* xn = norm(x), prepared in the forms of kinds; add: x += tmp first, if that is still to be done.
 * Returns what the next matmul reads, on which all threads agree then. */
struct act lane_norm(struct lane *t, const float *weight, unsigned kinds, bool add);

/* The feed-forward of a mixture of experts; ends with a barrier. */
void lane_moe(struct lane *t, const struct model_layer *l);

/* Returns when q of kv head h, of all rows that attend, and its KV are written. */
void lane_await_head(struct lane *t, uint32_t layer, uint32_t h);

/* Attention of all rows: att, normalised, and in `later` in the form that wo asks for, if columns can
 * be prepared by kv head (lane_prepares_heads). It waits for each head that
 * it takes; the threads have met neither before it nor at its end. */
void lane_attend(struct lane *t, uint32_t layer, unsigned kind);
bool lane_prepares_heads(const struct lane *t, unsigned kind);

#endif
