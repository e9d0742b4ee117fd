#include <string.h>

#include "kernels/arm/lanes_neon.h"
#include "kernels/heads.h"
#include "kernels/tiers.h"
#include "kernels/tile.h"
#include "kv/kv_q8.h"

#define TOKENS KV_PAGE_TOKENS
#define HEADS 2   /* query heads that pass over a page's K and V together */
#define VECTORS 8 /* of 4 lanes: the tokens of a page, or dimensions of V */

/* 4 elements of K or V; of q8 without their scales. */
TILE_INLINE float32x4_t elements(const uint8_t *base, enum kv_type type, size_t i)
{
    uint32_t four;

    if (type == KV_F16)
        return halves_neon(base + 2 * i);
    if (type == KV_F32)
        return vreinterpretq_f32_u8(vld1q_u8(base + 4 * i));
    memcpy(&four, base + i, 4);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))));
}

/* s[g][t] = the dot products of heads q[g] with the page's 32 keys, times their scales if it has any.
 * next: K of the page after. */
TILE_INLINE void scores(float (*s)[TOKENS], const float *const *q, const uint8_t *k,
                        const uint8_t *scales, const uint8_t *next, size_t dim, enum kv_type type,
                        size_t heads)
{
    const size_t row = TOKENS * (type == KV_F16 ? 2 : type == KV_Q8 ? 1 : 4);
    float32x4_t acc[HEADS][VECTORS];

    TILE_UNROLL for (size_t g = 0; g < heads; g++)
        TILE_UNROLL for (size_t j = 0; j < VECTORS; j++)
            acc[g][j] = vdupq_n_f32(0);
    for (size_t i = 0; i < dim; i++) {
        __builtin_prefetch(next + i * row);
        TILE_UNROLL for (size_t j = 0; j < VECTORS; j++) {
            float32x4_t kj = elements(k, type, i * TOKENS + j * 4);

            TILE_UNROLL for (size_t g = 0; g < heads; g++)
                acc[g][j] = vfmaq_n_f32(acc[g][j], kj, q[g][i]);
        }
    }
    TILE_UNROLL for (size_t j = 0; j < VECTORS; j++) {
        float32x4_t d = scales ? elements(scales, KV_F32, j * 4) : vdupq_n_f32(0);

        TILE_UNROLL for (size_t g = 0; g < heads; g++)
            vst1q_f32(s[g] + j * 4, scales ? vmulq_f32(acc[g][j], d) : acc[g][j]);
    }
}

/* p *= the scales of V. Those of slots without a token are anything and count for nothing. */
static inline void scale_weights(float *p, const uint8_t *scales)
{
    for (size_t j = 0; j < TOKENS; j += 4)
        vst1q_f32(p + j, vmulq_f32(vld1q_f32(p + j), elements(scales, KV_F32, j)));
}

/* Scores of c tokens become p in place; mx and sum move on. Returns corr. */
static inline float softmax(float *s, float *mx, float *sum, size_t c, float scale)
{
    const uint32x4_t first = {0, 1, 2, 3};
    float32x4_t p[VECTORS], most = vdupq_n_f32(-INFINITY);
    float top, corr;

    for (size_t j = 0; j < VECTORS; j++) {
        uint32x4_t t = vaddq_u32(first, vdupq_n_u32((uint32_t)(4 * j)));

        p[j] = vmulq_n_f32(vld1q_f32(s + j * 4), scale);
        p[j] = vbslq_f32(vcltq_u32(t, vdupq_n_u32((uint32_t)c)), p[j], vdupq_n_f32(-INFINITY));
        most = vmaxq_f32(most, p[j]);
    }
    top = vmaxvq_f32(most);
    top = (top > *mx ? top : *mx) + 0.0f;
    corr = kernels_exp(*mx - top);
    for (size_t j = 0; j < VECTORS; j++) {
        p[j] = exp_neon(vsubq_f32(p[j], vdupq_n_f32(top))); /* out of range: exp(-inf) = 0 */
        vst1q_f32(s + j * 4, p[j]);
    }
    for (size_t j = 0; j < VECTORS / 2; j++)
        p[j] = vaddq_f32(p[j], p[j + VECTORS / 2]);
    *mx = top;
    *sum = fmaf(*sum, corr, tree_sum_neon(p));
    return corr;
}

/* o[g] = o[g] * corr[g] + p[g] V over tokens t0 <= t < t1, for `vectors` times 4 dimensions from i
 * on. corr NULL: 1. */
TILE_INLINE void values(float *const *o, float (*p)[TOKENS], const float *corr, const uint8_t *v,
                        const struct kv_layout *l, uint32_t t0, uint32_t t1, size_t i,
                        enum kv_type type, size_t vectors, size_t heads)
{
    float32x4_t acc[HEADS][VECTORS];

    TILE_UNROLL for (size_t g = 0; g < heads; g++)
        TILE_UNROLL for (size_t j = 0; j < vectors; j++) {
            acc[g][j] = load_neon(o[g], l->head_dim, i + j * 4);
            if (corr)
                acc[g][j] = vmulq_n_f32(acc[g][j], corr[g]);
        }
    for (size_t t = t0; t < t1; t++)
        TILE_UNROLL for (size_t j = 0; j < vectors; j++) {
            float32x4_t x = elements(v, type, t * l->v_stride + i + j * 4);

            TILE_UNROLL for (size_t g = 0; g < heads; g++)
                acc[g][j] = vfmaq_n_f32(acc[g][j], x, p[g][t]);
        }
    TILE_UNROLL for (size_t g = 0; g < heads; g++)
        TILE_UNROLL for (size_t j = 0; j < vectors; j++)
            store_neon(o[g], l->head_dim, i + j * 4, acc[g][j]);
}

/* All dimensions of V. */
TILE_INLINE void all_values(float *const *o, float (*p)[TOKENS], const float *corr,
                            const uint8_t *v, const struct kv_layout *l, uint32_t t0, uint32_t t1,
                            enum kv_type type, size_t heads)
{
    size_t i = 0;

    for (; i + 32 <= l->head_dim; i += 32)
        values(o, p, corr, v, l, t0, t1, i, type, 8, heads);
    for (; i < l->head_dim; i += 4)
        values(o, p, corr, v, l, t0, t1, i, type, 1, heads);
}

/* Scores and weights of `heads` heads from h on. */
TILE_INLINE void tile_weights(struct heads *hs, uint32_t h, const struct page *x, float scale,
                              enum kv_type type, uint32_t heads)
{
    scores(hs->p + h, hs->q + h, x->k, x->k_scales, x->next, x->l->head_dim, type, heads);
    for (uint32_t g = h; g < h + heads; g++) {
        hs->corr[g] = softmax(hs->p[g], hs->mx + g, hs->sum + g, heads_tokens(hs, g, x->t), scale);
        if (x->v_scales)
            scale_weights(hs->p[g], x->v_scales);
    }
}

/* Their values: the tokens that all of them see together, the rest head by head. */
TILE_INLINE void tile_values(struct heads *hs, uint32_t h, const struct page *x, enum kv_type type,
                             uint32_t heads)
{
    uint32_t c = heads_tokens(hs, h, x->t);

    all_values(hs->o + h, hs->p + h, hs->corr + h, x->v, x->l, 0, c, type, heads);
    for (uint32_t g = h + 1; g < h + heads; g++)
        if (heads_tokens(hs, g, x->t) > c)
            all_values(hs->o + g, hs->p + g, NULL, x->v, x->l, c, heads_tokens(hs, g, x->t), type, 1);
}

#define TILE(type)                                                                                 \
    do {                                                                                           \
        if (hs->count - h < HEADS)                                                                 \
            STEP(type, 1);                                                                         \
        else                                                                                       \
            STEP(type, HEADS);                                                                     \
    } while (0)

#define STEP(type, heads) tile_weights(hs, h, x, scale, type, heads)
static void weights(struct heads *hs, uint32_t h, const struct page *x, float scale)
{
    if (x->type == KV_F16)
        TILE(KV_F16);
    else if (x->type == KV_Q8)
        TILE(KV_Q8);
    else
        TILE(KV_F32);
}
#undef STEP

#define STEP(type, heads) tile_values(hs, h, x, type, heads)
static void weighted(struct heads *hs, uint32_t h, const struct page *x)
{
    if (x->type == KV_F16)
        TILE(KV_F16);
    else if (x->type == KV_Q8)
        TILE(KV_Q8);
    else
        TILE(KV_F32);
}
#undef STEP

/* n elements of a page become f32. */
static const uint8_t *widen(float *to, const uint8_t *from, size_t n, enum kv_type type)
{
    for (size_t i = 0; i < n; i += 4)
        vst1q_f32(to + i, elements(from, type, i));
    return (const uint8_t *)to;
}

/* One page, of which t is the first token, for the heads from lo on; k and next are the kv head's K
 * in this page and the one after. What is not f32 is converted once if several tiles will read it. */
static void attend(struct heads *hs, uint32_t lo, uint32_t t, const uint8_t *k, const uint8_t *next,
                   const struct kv_layout *l, float scale)
{
    struct page x = page_at(l, t, k);
    bool widens = l->type != KV_F32 && hs->count - lo > HEADS && l->head_dim <= HEADS_DIM;

    x.next = next;
    if (widens) {
        x.k = x.next = widen(hs->page, k, (size_t)l->head_dim * TOKENS, l->type);
        x.type = KV_F32;
    }
    for (uint32_t h = lo; h < hs->count; h += HEADS)
        weights(hs, h, &x, scale);
    if (widens)
        x.v = widen(hs->page, x.v, (size_t)l->v_stride * TOKENS, l->type);
    for (uint32_t h = lo; h < hs->count; h += HEADS)
        weighted(hs, h, &x);
}

void attention_neon(float *o, size_t o_stride, float *mx, float *sum, const struct attention *a)
{
    size_t at = kv_layout_k(a->layout, a->layer, a->head);
    struct heads hs;

    for (uint32_t h = 0; h < a->rows * a->group; h += hs.count) {
        uint8_t *const *page = a->pages + a->first / TOKENS;

        heads_take(&hs, o, o_stride, mx, sum, a, h);
        for (uint32_t t = 0, lo = 0, n = hs.n[hs.count - 1]; t < n; t += TOKENS, page++) {
            while (hs.n[lo] <= t)
                lo++;
            attend(&hs, lo, t, page[0] + at, page[t + TOKENS < n] + at, a->layout, a->scale);
        }
    }
}

void attention_merge_neon(float *oa, float *ma, float *sa, const float *ob, float mb, float sb,
                          uint32_t head_dim)
{
    float top = *ma > mb ? *ma : mb;
    float ca = kernels_exp(*ma - top), cb = kernels_exp(mb - top);
    float32x4_t vb = vdupq_n_f32(cb);

    *sa = fmaf(sb, cb, *sa * ca);
    *ma = top;
    for (size_t i = 0; i < head_dim; i += 4) {
        float32x4_t a = vmulq_n_f32(load_neon(oa, head_dim, i), ca);

        store_neon(oa, head_dim, i, vfmaq_f32(a, load_neon(ob, head_dim, i), vb));
    }
}

/* to[i * stride] = f16 of x[i], i < n <= 4; stride in halves */
static inline void store_halves(uint8_t *to, size_t stride, const float *x, size_t n)
{
    uint16_t half[4];

    vst1_u16(half, vreinterpret_u16_f16(vcvt_f16_f32(load_neon(x, n, 0))));
    for (size_t i = 0; i < n; i++)
        memcpy(to + 2 * i * stride, half + i, 2);
}

void kv_store_neon(uint8_t *page, const struct kv_layout *l, uint32_t layer, uint32_t pos,
                   const float *k, const float *v)
{
    size_t slot = pos % TOKENS;

    for (uint32_t h = 0; h < l->n_kv_head; h++, k += l->head_dim, v += l->head_dim) {
        uint8_t *kp = page + kv_layout_k(l, layer, h) + slot * l->element_bytes;
        uint8_t *vp = page + kv_layout_k(l, layer, h) + l->v_offset +
                      slot * l->v_stride * l->element_bytes;

        if (l->type == KV_F32) {
            for (size_t i = 0; i < l->head_dim; i++)
                memcpy(kp + 4 * i * TOKENS, k + i, 4);
            memcpy(vp, v, 4 * l->head_dim);
            continue;
        }
        if (l->type == KV_Q8) {
            uint8_t *head = page + kv_layout_k(l, layer, h);
            float dk = kv_q8_row((int8_t *)kp, TOKENS, k, l->head_dim);
            float dv = kv_q8_row((int8_t *)vp, 1, v, l->head_dim);

            memcpy(head + l->k_scales + 4 * slot, &dk, 4);
            memcpy(head + l->v_scales + 4 * slot, &dv, 4);
            continue;
        }
        for (size_t i = 0; i < l->head_dim; i += 4) {
            size_t n = l->head_dim - i < 4 ? l->head_dim - i : 4;

            store_halves(kp + 2 * i * TOKENS, TOKENS, k + i, n);
            store_halves(vp + 2 * i, 1, v + i, n);
        }
    }
}
