/* heads: the query heads of an attention call as one list, cut into pieces that a kernel takes through
 * all pages together. */
#ifndef TANDEM_KERNELS_HEADS_H
#define TANDEM_KERNELS_HEADS_H

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

/* Room for K or V of one page in f32, for heads of up to so many values; longer ones are converted
 * by each tile that reads them. */
#define HEADS_DIM 256

struct heads {
    float p[ATTENTION_HEADS][KV_PAGE_TOKENS]; /* a page's scores, then weights */
    float page[HEADS_DIM * KV_PAGE_TOKENS];
    float corr[ATTENTION_HEADS];
    float *mx, *sum;
    const float *q[ATTENTION_HEADS];
    float *o[ATTENTION_HEADS];
    uint32_t n[ATTENTION_HEADS]; /* tokens of the segment that the head attends to, not descending */
    uint32_t count;              /* <= ATTENTION_HEADS */
} __attribute__((aligned(64)));

/* Fills hs with the heads of a from h0 on, as many as there is room for; their o is 0 now. */
static inline void heads_take(struct heads *hs, float *o, size_t o_stride, float *mx, float *sum,
                              const struct attention *a, uint32_t h0)
{
    uint32_t all = a->rows * a->group, dim = a->layout->head_dim;

    hs->count = all - h0 < ATTENTION_HEADS ? all - h0 : ATTENTION_HEADS;
    hs->mx = mx + h0;
    hs->sum = sum + h0;
    for (uint32_t i = 0; i < hs->count; i++) {
        uint32_t row = (h0 + i) / a->group, g = (h0 + i) % a->group;

        hs->q[i] = a->q + row * a->q_stride + (size_t)g * dim;
        hs->o[i] = o + row * o_stride + (size_t)g * dim;
        hs->n[i] = a->n[row];
        hs->mx[i] = -INFINITY;
        hs->sum[i] = 0;
        memset(hs->o[i], 0, dim * sizeof(float));
    }
}

/* A kv head in one page, as the tiles read it. */
struct page {
    const struct kv_layout *l;
    uint32_t t;        /* its first token */
    enum kv_type type; /* of k and v: the layout's, or f32 that they were converted to */
    const uint8_t *k, *v;
    const uint8_t *k_scales, *v_scales;  /* [32] f32 of q8; else NULL */
    const uint8_t *next; /* what a tier asks for: k of the page after, */
    struct ahead *ahead; /* or pages further on */
};

static inline struct page page_at(const struct kv_layout *l, uint32_t t, const uint8_t *k)
{
    struct page x = {.l = l, .t = t, .type = l->type, .k = k, .v = k + l->v_offset};

    if (l->type == KV_Q8) {
        x.k_scales = k + l->k_scales;
        x.v_scales = k + l->v_scales;
    }
    return x;
}

/* Those tokens of the page from t on that head h attends to. */
static inline uint32_t heads_tokens(const struct heads *hs, uint32_t h, uint32_t t)
{
    return hs->n[h] - t < KV_PAGE_TOKENS ? hs->n[h] - t : KV_PAGE_TOKENS;
}

#endif
