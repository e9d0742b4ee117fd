#include <string.h>

#include "kernels/ahead.h"
#include "kernels/heads.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx2.h"
#include "kernels/tile.h"
#include "kv/kv_q8.h"
#include "model/hparams.h"

#define TOKENS KV_PAGE_TOKENS
#define HEADS 2 /* query heads that pass over a page's K and V together */
#define VECTORS 4 /* of 8 lanes: the tokens of a page, or dimensions of V */

/* 8 elements of K or V; of q8 without their scales. */
TILE_INLINE __m256 elements(const uint8_t *base, enum kv_type type, size_t i)
{
    if (type == KV_Q8)
        return _mm256_cvtepi32_ps(
            _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(base + i))));
    if (type == KV_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(base + 2 * i)));
    return _mm256_loadu_ps((const float *)(const void *)(base + 4 * i));
}

/* s[g][t] = the dot products of heads q[g] with the page's 32 keys, times their scales if it has any. */
TILE_INLINE void scores(float (*s)[TOKENS], const float *const *q, const uint8_t *k,
                        const uint8_t *scales, size_t dim, enum kv_type type, int heads)
{
    __m256 acc[HEADS][VECTORS];

    TILE_UNROLL for (int g = 0; g < heads; g++)
        TILE_UNROLL for (int j = 0; j < VECTORS; j++)
            acc[g][j] = _mm256_setzero_ps();
    for (size_t i = 0; i < dim; i++) {
        __m256 x[HEADS];

        TILE_UNROLL for (int g = 0; g < heads; g++)
            x[g] = _mm256_broadcast_ss(q[g] + i);
        TILE_UNROLL for (int j = 0; j < VECTORS; j++) {
            __m256 kj = elements(k, type, i * TOKENS + j * 8);

            TILE_UNROLL for (int g = 0; g < heads; g++)
                acc[g][j] = _mm256_fmadd_ps(kj, x[g], acc[g][j]);
        }
    }
    TILE_UNROLL for (int j = 0; j < VECTORS; j++) {
        __m256 d = _mm256_setzero_ps();

        if (scales)
            d = elements(scales, KV_F32, (size_t)j * 8);
        TILE_UNROLL for (int g = 0; g < heads; g++)
            _mm256_storeu_ps(s[g] + j * 8, scales ? _mm256_mul_ps(acc[g][j], d) : acc[g][j]);
    }
}

/* p *= the scales of V. Those of slots without a token are anything and count for nothing. */
static inline void scale_weights(float *p, const uint8_t *scales)
{
    for (size_t j = 0; j < TOKENS; j += 8)
        _mm256_storeu_ps(p + j, _mm256_mul_ps(_mm256_loadu_ps(p + j), elements(scales, KV_F32, j)));
}

static inline float max_lane(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* Scores of c tokens become p in place; mx and sum move on. Returns corr. */
static inline float softmax(float *s, float *mx, float *sum, size_t c, float scale)
{
    __m256 p[VECTORS], most = _mm256_set1_ps(-INFINITY);
    float top, corr;

    for (size_t j = 0; j < VECTORS; j++) {
        __m256 in_range = _mm256_castsi256_ps(lanes_avx2(c, j * 8));

        p[j] = _mm256_mul_ps(_mm256_loadu_ps(s + j * 8), _mm256_set1_ps(scale));
        p[j] = _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), p[j], in_range);
        most = _mm256_max_ps(most, p[j]);
    }
    top = max_lane(most);
    top = (top > *mx ? top : *mx) + 0.0f;
    corr = kernels_exp(*mx - top);
    for (size_t j = 0; j < VECTORS; j++) {
        p[j] = exp_avx2(_mm256_sub_ps(p[j], _mm256_set1_ps(top))); /* out of range: exp(-inf) = 0 */
        _mm256_storeu_ps(s + j * 8, p[j]);
    }
    *mx = top;
    *sum = fmaf(*sum, corr, tree_sum_avx2(_mm256_add_ps(p[0], p[2]), _mm256_add_ps(p[1], p[3])));
    return corr;
}

/* o[g] = o[g] * corr[g] + p[g] V over tokens t0 <= t < t1, for `vectors` times 8 dimensions from i
 * on. corr NULL: 1. */
TILE_INLINE void values(float *const *o, float (*p)[TOKENS], const float *corr, const uint8_t *v,
                        const struct kv_layout *l, uint32_t t0, uint32_t t1, size_t i,
                        enum kv_type type, int vectors, int heads)
{
    __m256 acc[HEADS][VECTORS];

    TILE_UNROLL for (int g = 0; g < heads; g++)
        TILE_UNROLL for (int j = 0; j < vectors; j++) {
            acc[g][j] = load_avx2(o[g], l->head_dim, i + j * 8);
            if (corr)
                acc[g][j] = _mm256_mul_ps(acc[g][j], _mm256_set1_ps(corr[g]));
        }
    for (size_t t = t0; t < t1; t++) {
        __m256 w[HEADS];

        TILE_UNROLL for (int g = 0; g < heads; g++)
            w[g] = _mm256_broadcast_ss(p[g] + t);
        TILE_UNROLL for (int j = 0; j < vectors; j++) {
            __m256 x = elements(v, type, t * l->v_stride + i + j * 8);

            TILE_UNROLL for (int g = 0; g < heads; g++)
                acc[g][j] = _mm256_fmadd_ps(w[g], x, acc[g][j]);
        }
    }
    TILE_UNROLL for (int g = 0; g < heads; g++)
        TILE_UNROLL for (int j = 0; j < vectors; j++)
            store_avx2(o[g], l->head_dim, i + j * 8, acc[g][j]);
}

/* All dimensions of V. */
TILE_INLINE void all_values(float *const *o, float (*p)[TOKENS], const float *corr,
                            const uint8_t *v, const struct kv_layout *l, uint32_t t0, uint32_t t1,
                            enum kv_type type, int heads)
{
    size_t i = 0;

    for (; i + 32 <= l->head_dim; i += 32)
        values(o, p, corr, v, l, t0, t1, i, type, 4, heads);
    for (; i < l->head_dim; i += 8)
        values(o, p, corr, v, l, t0, t1, i, type, 1, heads);
}

/* Scores and weights of `heads` heads from h on. */
TILE_INLINE void tile_weights(struct heads *hs, uint32_t h, const struct page *x, float scale,
                              enum kv_type type, int heads)
{
    scores(hs->p + h, hs->q + h, x->k, x->k_scales, x->l->head_dim, type, heads);
    for (uint32_t g = h; g < h + (uint32_t)heads; g++) {
        hs->corr[g] = softmax(hs->p[g], hs->mx + g, hs->sum + g, heads_tokens(hs, g, x->t), scale);
        if (x->v_scales)
            scale_weights(hs->p[g], x->v_scales);
    }
}

/* Their values: the tokens that all of them see together, the rest head by head. */
TILE_INLINE void tile_values(struct heads *hs, uint32_t h, const struct page *x, enum kv_type type,
                             int heads)
{
    uint32_t c = heads_tokens(hs, h, x->t);

    all_values(hs->o + h, hs->p + h, hs->corr + h, x->v, x->l, 0, c, type, heads);
    for (uint32_t g = h + 1; g < h + (uint32_t)heads; g++)
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
    for (size_t i = 0; i < n; i += 8)
        _mm256_storeu_ps(to + i, elements(from, type, i));
    return (const uint8_t *)to;
}

/* One page, of which t is the first token, for the heads from lo on; k is the kv head's K in it. What is
 * not f32 is converted once if several tiles will read it. */
static void attend(struct heads *hs, uint32_t lo, uint32_t t, const uint8_t *k, struct ahead *ahead,
                   const struct kv_layout *l, float scale)
{
    struct page x = page_at(l, t, k);
    bool widens = l->type != KV_F32 && hs->count - lo > HEADS && l->head_dim <= HEADS_DIM;
    uint32_t part = 0, parts = 2 * ((hs->count - lo + HEADS - 1) / HEADS);

    if (widens) {
        x.k = widen(hs->page, k, (size_t)l->head_dim * TOKENS, l->type);
        x.type = KV_F32;
    }
    for (uint32_t h = lo; h < hs->count; h += HEADS) {
        ahead_ask_part(ahead, ++part, parts);
        weights(hs, h, &x, scale);
    }
    if (widens)
        x.v = widen(hs->page, x.v, (size_t)l->v_stride * TOKENS, l->type);
    for (uint32_t h = lo; h < hs->count; h += HEADS) {
        ahead_ask_part(ahead, ++part, parts);
        weighted(hs, h, &x);
    }
}

void attention_avx2(float *o, size_t o_stride, float *mx, float *sum, const struct attention *a)
{
    size_t at = kv_layout_k(a->layout, a->layer, a->head);
    struct heads hs;

    for (uint32_t h = 0; h < a->rows * a->group; h += hs.count) {
        uint8_t *const *page = a->pages + a->first / TOKENS;
        struct ahead ahead;

        heads_take(&hs, o, o_stride, mx, sum, a, h);
        ahead_init(&ahead, a, hs.n[hs.count - 1], ahead_lines(a->layout));
        for (uint32_t t = 0, lo = 0, n = hs.n[hs.count - 1]; t < n; t += TOKENS, page++) {
            while (hs.n[lo] <= t)
                lo++;
            ahead_turn(&ahead);
            if (!h)
                ahead_room(&ahead, 1);
            attend(&hs, lo, t, page[0] + at, &ahead, a->layout, a->scale);
        }
    }
}

void attention_merge_avx2(float *oa, float *ma, float *sa, const float *ob, float mb, float sb,
                          uint32_t head_dim)
{
    float top = *ma > mb ? *ma : mb;
    float ca = kernels_exp(*ma - top), cb = kernels_exp(mb - top);
    __m256 va = _mm256_set1_ps(ca), vb = _mm256_set1_ps(cb);

    *sa = fmaf(sb, cb, *sa * ca);
    *ma = top;
    for (size_t i = 0; i < head_dim; i += 8) {
        __m256 a = _mm256_mul_ps(load_avx2(oa, head_dim, i), va);

        store_avx2(oa, head_dim, i, _mm256_fmadd_ps(load_avx2(ob, head_dim, i), vb, a));
    }
}

/* to[i * stride] = f16 of x[i], i < n <= 8; stride in halves */
static inline void store_halves(uint8_t *to, size_t stride, const float *x, size_t n)
{
    __m256 v = _mm256_maskload_ps(x, lanes_avx2(n, 0));
    uint16_t half[8];

    _mm_storeu_si128((__m128i *)half,
                     _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    for (size_t i = 0; i < n; i++)
        memcpy(to + 2 * i * stride, half + i, 2);
}

/* q[n] of x[n], and its scale d: kv_q8_row. */
static inline void store_q8(int8_t *q, uint8_t *d, const float *x, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i top = _mm256_setzero_si256();
    uint32_t lanes[8], bits = 0;
    float amax, by;

    for (size_t i = 0; i < n; i += 8)
        top = _mm256_max_epu32(top, _mm256_and_si256(_mm256_castps_si256(load_avx2(x, n, i)), magnitude));
    _mm256_storeu_si256((__m256i *)lanes, top);
    for (int i = 0; i < 8; i++)
        bits = lanes[i] > bits ? lanes[i] : bits;
    memcpy(&amax, &bits, 4);
    by = kv_q8_factor(amax);
    for (size_t i = 0; i < n; i += 8) {
        __m256i r = _mm256_cvtps_epi32(_mm256_mul_ps(load_avx2(x, n, i), _mm256_set1_ps(by)));
        __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
        int8_t eight[16];

        _mm_storeu_si128((__m128i *)eight, _mm_packs_epi16(half, half));
        if (by > 0)
            memcpy(q + i, eight, n - i < 8 ? n - i : 8);
        else
            memset(q + i, 0, n - i < 8 ? n - i : 8);
    }
    amax /= 127;
    memcpy(d, &amax, 4);
}

void kv_store_avx2(uint8_t *page, const struct kv_layout *l, uint32_t layer, uint32_t pos,
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
            int8_t q[HPARAMS_HEAD_DIM_MAX];

            store_q8((int8_t *)vp, head + l->v_scales + 4 * slot, v, l->head_dim);
            store_q8(q, head + l->k_scales + 4 * slot, k, l->head_dim);
            for (size_t i = 0; i < l->head_dim; i++)
                kp[i * TOKENS] = (uint8_t)q[i];
            continue;
        }
        for (size_t i = 0; i < l->head_dim; i += 8) {
            size_t n = l->head_dim - i < 8 ? l->head_dim - i : 8;

            store_halves(kp + 2 * i * TOKENS, TOKENS, k + i, n);
            store_halves(vp + 2 * i, 1, v + i, n);
        }
    }
}
