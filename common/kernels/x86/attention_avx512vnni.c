#include <string.h>

#include "kernels/ahead.h"
#include "kernels/heads.h"
#include "kernels/tiers.h"
#include "kernels/x86/fold_avx512.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/tile.h"
#include "kv/kv_q8.h"
#include "model/hparams.h"

#define TOKENS KV_PAGE_TOKENS
/* Query heads of a tile: with 2 vectors each, 16 sums cover the latency of two FMA units, and 10
 * loads a step leave them room. */
#define HEADS FOLD_HEADS

/* 16 elements of K or V; of q8 without their scales. */
TILE_INLINE __m512 elements(const uint8_t *base, enum kv_type type, size_t i)
{
    if (type == KV_Q8)
        return _mm512_cvtepi32_ps(
            _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(base + i))));
    if (type == KV_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(base + 2 * i)));
    return _mm512_loadu_ps(base + 4 * i);
}

/* After so many bytes of K or V, pages ahead are asked for. */
#define ASK_BYTES 512

/* s[g][t] = the dot products of heads q[g] with the page's 32 keys, times their scales if it has any. */
TILE_INLINE void scores(float (*s)[TOKENS], const float *const *q, const uint8_t *k,
                        const uint8_t *scales, struct ahead *ahead, size_t dim, enum kv_type type,
                        int heads)
{
    const size_t row = TOKENS * (type == KV_F16 ? 2 : type == KV_Q8 ? 1 : 4);
    const float *x[HEADS];
    __m512 acc[HEADS][2];

    TILE_UNROLL for (int g = 0; g < heads; g++) {
        x[g] = q[g];
        acc[g][0] = acc[g][1] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < dim; i++) {
        __m512 k0 = elements(k, type, i * TOKENS), k1 = elements(k, type, i * TOKENS + 16);

        if (i * row % ASK_BYTES == 0)
            ahead_ask(ahead);
        TILE_UNROLL for (int g = 0; g < heads; g++) {
            __m512 xi = _mm512_set1_ps(x[g][i]);

            acc[g][0] = _mm512_fmadd_ps(k0, xi, acc[g][0]);
            acc[g][1] = _mm512_fmadd_ps(k1, xi, acc[g][1]);
        }
    }
    if (scales) {
        __m512 d0 = _mm512_loadu_ps(scales), d1 = _mm512_loadu_ps(scales + 64);

        TILE_UNROLL for (int g = 0; g < heads; g++) {
            acc[g][0] = _mm512_mul_ps(acc[g][0], d0);
            acc[g][1] = _mm512_mul_ps(acc[g][1], d1);
        }
    }
    TILE_UNROLL for (int g = 0; g < heads; g++) {
        _mm512_storeu_ps(s[g], acc[g][0]);
        _mm512_storeu_ps(s[g] + 16, acc[g][1]);
    }
}

/* Scores of c[g] tokens become p in place; mx and sum move on. Each step is done for all heads
 * before the next, so that their latencies overlap. */
TILE_INLINE void softmax(float (*s)[TOKENS], float *corr, float *mx, float *sum,
                         const uint32_t *c, float scale, int heads)
{
    const __m512 low = _mm512_set1_ps(-INFINITY), by = _mm512_set1_ps(scale);
    const __mmask8 some = (__mmask8)((1u << heads) - 1);
    __m256 old = _mm256_maskz_loadu_ps(some, mx), now;
    __mmask16 in[HEADS][2];
    __m512 v[HEADS], factor;
    float top[HEADS];

    TILE_UNROLL for (int g = 0; g < HEADS; g++) {
        if (g >= heads) {
            v[g] = _mm512_setzero_ps();
            continue;
        }
        in[g][0] = lanes_avx512(c[g]);
        in[g][1] = lanes_avx512(c[g] < 16 ? 0 : c[g] - 16);
        for (int j = 0; j < 2; j++) {
            __m512 x = _mm512_mul_ps(_mm512_loadu_ps(s[g] + 16 * j), by);

            x = _mm512_mask_mov_ps(low, in[g][j], x);
            _mm512_storeu_ps(s[g] + 16 * j, x);
            v[g] = j ? _mm512_max_ps(v[g], x) : x;
        }
    }
    now = _mm256_add_ps(_mm256_max_ps(fold(v, true), old), _mm256_setzero_ps());
    _mm256_storeu_ps(top, now);
    factor = exp_down_avx512(_mm512_zextps256_ps512(_mm256_sub_ps(old, now)), 0xff);
    TILE_UNROLL for (int g = 0; g < heads; g++) {
        __m512 p0 = _mm512_sub_ps(_mm512_loadu_ps(s[g]), _mm512_set1_ps(top[g]));
        __m512 p1 = _mm512_sub_ps(_mm512_loadu_ps(s[g] + 16), _mm512_set1_ps(top[g]));

        p0 = exp_down_avx512(p0, in[g][0]);
        p1 = exp_down_avx512(p1, in[g][1]);
        _mm512_storeu_ps(s[g], p0);
        _mm512_storeu_ps(s[g] + 16, p1);
        v[g] = _mm512_add_ps(p0, p1);
    }
    _mm256_mask_storeu_ps(mx, some, now);
    now = _mm512_castps512_ps256(factor);
    _mm256_mask_storeu_ps(corr, some, now);
    now = _mm256_fmadd_ps(_mm256_maskz_loadu_ps(some, sum), now, fold(v, false));
    _mm256_mask_storeu_ps(sum, some, now);
}

/* p *= the scales of V, for `heads` heads. Those of slots without a
 * token are anything and count for nothing. */
TILE_INLINE void scale_weights(float (*p)[TOKENS], const uint8_t *scales, int heads)
{
    __m512 d0 = _mm512_loadu_ps(scales), d1 = _mm512_loadu_ps(scales + 64);

    TILE_UNROLL for (int g = 0; g < heads; g++) {
        _mm512_storeu_ps(p[g], _mm512_mul_ps(_mm512_loadu_ps(p[g]), d0));
        _mm512_storeu_ps(p[g] + 16, _mm512_mul_ps(_mm512_loadu_ps(p[g] + 16), d1));
    }
}

/* o[g] = o[g] * corr[g] + p[g] V over tokens t0 <= t < t1, for `vectors` times 16 dimensions from i
 * on; of the last 16 only `lanes` exist. corr NULL: 1. */
TILE_INLINE void values(float *const *o, float (*p)[TOKENS], const float *corr, const uint8_t *v,
                        size_t stride, uint32_t t0, uint32_t t1, size_t i, __mmask16 lanes,
                        enum kv_type type, int vectors, int heads, struct ahead *ahead)
{
    const size_t row = 16 * (size_t)vectors * (type == KV_F16 ? 2 : type == KV_Q8 ? 1 : 4);
    __m512 acc[HEADS][4];

    TILE_UNROLL for (int g = 0; g < heads; g++)
        TILE_UNROLL for (int j = 0; j < vectors; j++) {
            acc[g][j] = _mm512_maskz_loadu_ps(j == vectors - 1 ? lanes : 0xffff, o[g] + i + j * 16);
            if (corr)
                acc[g][j] = _mm512_mul_ps(acc[g][j], _mm512_set1_ps(corr[g]));
        }
    for (size_t t = t0; t < t1; t++) {
        __m512 x[4];

        if (t * row % ASK_BYTES == 0)
            ahead_ask(ahead);
        TILE_UNROLL for (int j = 0; j < vectors; j++)
            x[j] = elements(v, type, t * stride + i + j * 16);
        TILE_UNROLL for (int g = 0; g < heads; g++) {
            __m512 w = _mm512_set1_ps(p[g][t]);

            TILE_UNROLL for (int j = 0; j < vectors; j++)
                acc[g][j] = _mm512_fmadd_ps(w, x[j], acc[g][j]);
        }
    }
    TILE_UNROLL for (int g = 0; g < heads; g++)
        TILE_UNROLL for (int j = 0; j < vectors; j++)
            _mm512_mask_storeu_ps(o[g] + i + j * 16, j == vectors - 1 ? lanes : 0xffff, acc[g][j]);
}

/* All dimensions of V. */
TILE_INLINE void all_values(float *const *o, float (*p)[TOKENS], const float *corr,
                            const uint8_t *v, const struct kv_layout *l, uint32_t t0, uint32_t t1,
                            enum kv_type type, int heads, struct ahead *ahead)
{
    const int vectors = heads > 4 ? 2 : 4;
    size_t i = 0;

    for (; i + 16 * vectors <= l->head_dim; i += 16 * vectors)
        values(o, p, corr, v, l->v_stride, t0, t1, i, 0xffff, type, vectors, heads, ahead);
    for (; i < l->head_dim; i += 16)
        values(o, p, corr, v, l->v_stride, t0, t1, i, lanes_avx512(l->head_dim - i), type, 1,
               heads, ahead);
}

/* Scores and weights of `heads` heads from h on. */
TILE_INLINE void tile_weights(struct heads *hs, uint32_t h, const struct page *x, float scale,
                              enum kv_type type, int heads)
{
    uint32_t c[HEADS];

    for (int g = 0; g < heads; g++)
        c[g] = heads_tokens(hs, h + (uint32_t)g, x->t);
    scores(hs->p + h, hs->q + h, x->k, x->k_scales, x->ahead, x->l->head_dim, type, heads);
    softmax(hs->p + h, hs->corr + h, hs->mx + h, hs->sum + h, c, scale, heads);
    if (x->v_scales)
        scale_weights(hs->p + h, x->v_scales, heads);
}

/* Their values: the tokens that all of them see together, the rest head by head. */
TILE_INLINE void tile_values(struct heads *hs, uint32_t h, const struct page *x, enum kv_type type,
                             int heads)
{
    uint32_t c = heads_tokens(hs, h, x->t);

    all_values(hs->o + h, hs->p + h, hs->corr + h, x->v, x->l, 0, c, type, heads, x->ahead);
    for (uint32_t g = h + 1; g < h + (uint32_t)heads; g++)
        if (heads_tokens(hs, g, x->t) > c)
            all_values(hs->o + g, hs->p + g, NULL, x->v, x->l, c, heads_tokens(hs, g, x->t), type, 1,
                       x->ahead);
}

#define TILE(type, heads) tile_weights(hs, h, x, scale, type, heads)
static void weights(struct heads *hs, uint32_t h, const struct page *x, float scale)
{
    if (x->type == KV_F16)
        TILE_ROWS_8(KV_F16, hs->count - h)
    else if (x->type == KV_Q8)
        TILE_ROWS_8(KV_Q8, hs->count - h)
    else
        TILE_ROWS_8(KV_F32, hs->count - h)
}
#undef TILE

#define TILE(type, heads) tile_values(hs, h, x, type, heads)
static void weighted(struct heads *hs, uint32_t h, const struct page *x)
{
    if (x->type == KV_F16)
        TILE_ROWS_8(KV_F16, hs->count - h)
    else if (x->type == KV_Q8)
        TILE_ROWS_8(KV_Q8, hs->count - h)
    else
        TILE_ROWS_8(KV_F32, hs->count - h)
}
#undef TILE

/* n elements of a page become f32, if several tiles will read them. */
TILE_INLINE void widen(float *to, const uint8_t *from, struct ahead *ahead, size_t n, enum kv_type type)
{
    const size_t bytes = type == KV_F16 ? 2 : 1;

    for (size_t i = 0; i < n; i += 32) {
        if (i * bytes % ASK_BYTES == 0)
            ahead_ask(ahead);
        _mm512_storeu_ps(to + i, elements(from, type, i));
        _mm512_storeu_ps(to + i + 16, elements(from, type, i + 16));
    }
}

static const uint8_t *widened(struct heads *hs, const uint8_t *from, struct ahead *ahead, size_t n,
                              enum kv_type type)
{
    if (type == KV_F16)
        widen(hs->page, from, ahead, n, KV_F16);
    else
        widen(hs->page, from, ahead, n, KV_Q8);
    return (const uint8_t *)hs->page;
}

/* One page, of which t is the first token, for the heads from lo on; k is the kv head's K in it. */
static void attend(struct heads *hs, uint32_t lo, uint32_t t, const uint8_t *k, struct ahead *ahead,
                   const struct kv_layout *l, float scale)
{
    struct page x = page_at(l, t, k);
    bool widens = l->type != KV_F32 && hs->count - lo > HEADS && l->head_dim <= HEADS_DIM;

    x.ahead = ahead;
    if (widens) {
        x.k = widened(hs, k, ahead, (size_t)l->head_dim * TOKENS, l->type);
        x.type = KV_F32;
    }
    for (uint32_t h = lo; h < hs->count; h += HEADS)
        weights(hs, h, &x, scale);
    if (widens)
        x.v = widened(hs, x.v, ahead, (size_t)l->v_stride * TOKENS, l->type);
    for (uint32_t h = lo; h < hs->count; h += HEADS)
        weighted(hs, h, &x);
    ahead_ask_rest(ahead);
}

void attention_avx512vnni(float *o, size_t o_stride, float *mx, float *sum,
                          const struct attention *a)
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

void attention_merge_avx512vnni(float *oa, float *ma, float *sa, const float *ob, float mb,
                                float sb, uint32_t head_dim)
{
    float top = *ma > mb ? *ma : mb;
    __m512 x = _mm512_mask_mov_ps(_mm512_set1_ps(*ma - top), 2, _mm512_set1_ps(mb - top));
    __m128 c = _mm512_castps512_ps128(exp_down_avx512(x, 3)), d = _mm_movehdup_ps(c);
    __m512 va = _mm512_broadcastss_ps(c), vb = _mm512_broadcastss_ps(d);

    *sa = fmaf(sb, _mm_cvtss_f32(d), *sa * _mm_cvtss_f32(c));
    *ma = top;
    for (size_t i = 0; i < head_dim; i += 16) {
        __mmask16 lanes = lanes_avx512(head_dim - i);
        __m512 a = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, oa + i), va);

        a = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, ob + i), vb, a);
        _mm512_mask_storeu_ps(oa + i, lanes, a);
    }
}

/* to[i * stride] = f16 of x[i], i < n <= 16; stride in halves */
static inline void store_halves(uint8_t *to, size_t stride, const float *x, size_t n)
{
    __m512 v = _mm512_maskz_loadu_ps(lanes_avx512(n), x);
    uint16_t half[16];

    _mm256_storeu_si256((__m256i *)half,
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    for (size_t i = 0; i < n; i++)
        memcpy(to + 2 * i * stride, half + i, 2);
}

/* q[n] of x[n], and its scale d: kv_q8_row. */
static inline void store_q8(int8_t *q, uint8_t *d, const float *x, size_t n)
{
    __m512i top = _mm512_setzero_si512();
    uint32_t bits;
    float amax, by;

    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(lanes_avx512(n - i), x + i);

        top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_castps_si512(v),
                                                     _mm512_set1_epi32(0x7fffffff)));
    }
    bits = _mm512_reduce_max_epu32(top);
    memcpy(&amax, &bits, 4);
    by = kv_q8_factor(amax);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 in = lanes_avx512(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(in, x + i), _mm512_set1_ps(by));
        __m512i r = by > 0 ? _mm512_cvtps_epi32(v) : _mm512_setzero_si512();

        _mm512_mask_cvtepi32_storeu_epi8(q + i, in, r);
    }
    amax /= 127;
    memcpy(d, &amax, 4);
}

void kv_store_avx512vnni(uint8_t *page, const struct kv_layout *l, uint32_t layer, uint32_t pos,
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
        for (size_t i = 0; i < l->head_dim; i += 16) {
            size_t n = l->head_dim - i < 16 ? l->head_dim - i : 16;

            store_halves(kp + 2 * i * TOKENS, TOKENS, k + i, n);
            store_halves(vp + 2 * i, 1, v + i, n);
        }
    }
}
