#include <string.h>

#include "kernels/tiers.h"
#include "kernels/x86/heads.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/softmax_avx512.h"
#include "kernels/x86/tile.h"

#define TOKENS KV_PAGE_TOKENS
/* Query heads of a tile: with 2 vectors each, 16 sums cover the latency of two FMA units, and 10
 * loads a step leave them room. */
#define HEADS SOFTMAX_HEADS

/* 16 elements of K or V. */
TILE_INLINE __m512 elements(const uint8_t *base, enum kv_type type, size_t i)
{
    if (type == KV_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(base + 2 * i)));
    return _mm512_loadu_ps(base + 4 * i);
}

/* s[g][t] = the dot products of heads q[g] with the page's 32 keys. next: K of the page after. */
TILE_INLINE void scores(float (*s)[TOKENS], const float *const *q, const uint8_t *k,
                        const uint8_t *next, size_t dim, enum kv_type type, int heads)
{
    const size_t row = type == KV_F16 ? 2 * TOKENS : 4 * TOKENS;
    const float *x[HEADS];
    __m512 acc[HEADS][2];

    TILE_UNROLL for (int g = 0; g < heads; g++) {
        x[g] = q[g];
        acc[g][0] = acc[g][1] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < dim; i++) {
        __m512 k0 = elements(k, type, i * TOKENS), k1 = elements(k, type, i * TOKENS + 16);

        _mm_prefetch(next + i * row, _MM_HINT_T0);
        TILE_UNROLL for (int g = 0; g < heads; g++) {
            __m512 xi = _mm512_set1_ps(x[g][i]);

            acc[g][0] = _mm512_fmadd_ps(k0, xi, acc[g][0]);
            acc[g][1] = _mm512_fmadd_ps(k1, xi, acc[g][1]);
        }
    }
    TILE_UNROLL for (int g = 0; g < heads; g++) {
        _mm512_storeu_ps(s[g], acc[g][0]);
        _mm512_storeu_ps(s[g] + 16, acc[g][1]);
    }
}

/* o[g] = o[g] * corr[g] + p[g] V over tokens t0 <= t < t1, for `vectors` times 16 dimensions from i
 * on; of the last 16 only `lanes` exist. corr NULL: 1. */
TILE_INLINE void values(float *const *o, float (*p)[TOKENS], const float *corr, const uint8_t *v,
                        size_t stride, uint32_t t0, uint32_t t1, size_t i, __mmask16 lanes,
                        enum kv_type type, int vectors, int heads)
{
    __m512 acc[HEADS][4];

    TILE_UNROLL for (int g = 0; g < heads; g++)
        TILE_UNROLL for (int j = 0; j < vectors; j++) {
            acc[g][j] = _mm512_maskz_loadu_ps(j == vectors - 1 ? lanes : 0xffff, o[g] + i + j * 16);
            if (corr)
                acc[g][j] = _mm512_mul_ps(acc[g][j], _mm512_set1_ps(corr[g]));
        }
    for (size_t t = t0; t < t1; t++) {
        __m512 x[4];

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
                            enum kv_type type, int heads)
{
    const int vectors = heads > 4 ? 2 : 4;
    size_t i = 0;

    for (; i + 16 * vectors <= l->head_dim; i += 16 * vectors)
        values(o, p, corr, v, l->v_stride, t0, t1, i, 0xffff, type, vectors, heads);
    for (; i < l->head_dim; i += 16)
        values(o, p, corr, v, l->v_stride, t0, t1, i, lanes_avx512(l->head_dim - i), type, 1,
               heads);
}

/* Scores and weights of `heads` heads from h on; t: the page's first token. */
TILE_INLINE void tile_weights(struct heads *hs, uint32_t h, uint32_t t, const uint8_t *k,
                              const uint8_t *next, size_t dim, float scale, enum kv_type type,
                              int heads)
{
    uint32_t c[HEADS];

    for (int g = 0; g < heads; g++)
        c[g] = heads_tokens(hs, h + (uint32_t)g, t);
    scores(hs->p + h, hs->q + h, k, next, dim, type, heads);
    softmax(hs->p + h, hs->corr + h, hs->mx + h, hs->sum + h, c, scale, heads);
}

/* Their values: the tokens that all of them see together, the rest head by head. */
TILE_INLINE void tile_values(struct heads *hs, uint32_t h, uint32_t t, const uint8_t *v,
                             const struct kv_layout *l, enum kv_type type, int heads)
{
    uint32_t c = heads_tokens(hs, h, t);

    all_values(hs->o + h, hs->p + h, hs->corr + h, v, l, 0, c, type, heads);
    for (uint32_t g = h + 1; g < h + (uint32_t)heads; g++)
        if (heads_tokens(hs, g, t) > c)
            all_values(hs->o + g, hs->p + g, NULL, v, l, c, heads_tokens(hs, g, t), type, 1);
}

#define TILE(type, heads) tile_weights(hs, h, t, k, next, dim, scale, type, heads)
static void weights(struct heads *hs, uint32_t h, uint32_t t, const uint8_t *k, const uint8_t *next,
                    size_t dim, float scale, enum kv_type type)
{
    if (type == KV_F16)
        TILE_ROWS_8(KV_F16, hs->count - h)
    else
        TILE_ROWS_8(KV_F32, hs->count - h)
}
#undef TILE

#define TILE(type, heads) tile_values(hs, h, t, v, l, type, heads)
static void weighted(struct heads *hs, uint32_t h, uint32_t t, const uint8_t *v,
                     const struct kv_layout *l, enum kv_type type)
{
    if (type == KV_F16)
        TILE_ROWS_8(KV_F16, hs->count - h)
    else
        TILE_ROWS_8(KV_F32, hs->count - h)
}
#undef TILE

/* n f16 of a page become f32, if several tiles will read them. next: the same of the page after. */
static const uint8_t *widen(float *to, const uint8_t *from, const uint8_t *next, size_t n)
{
    for (size_t i = 0; i < n; i += 32) {
        _mm_prefetch(next + 2 * i, _MM_HINT_T1);
        _mm512_storeu_ps(to + i, elements(from, KV_F16, i));
        _mm512_storeu_ps(to + i + 16, elements(from, KV_F16, i + 16));
    }
    return (const uint8_t *)to;
}

/* One page, of which t is the first token, for the heads from lo on; k and next are the kv head's K
 * in this page and the one after. */
static void attend(struct heads *hs, uint32_t lo, uint32_t t, const uint8_t *k, const uint8_t *next,
                   const struct kv_layout *l, float scale)
{
    const uint8_t *v = k + l->v_offset, *next_v = next + l->v_offset;
    bool widens = l->type == KV_F16 && hs->count - lo > HEADS && l->head_dim <= HEADS_DIM;
    enum kv_type type = widens ? KV_F32 : l->type;

    if (widens)
        k = next = widen(hs->page, k, next, (size_t)l->head_dim * TOKENS);
    for (uint32_t h = lo; h < hs->count; h += HEADS)
        weights(hs, h, t, k, next, l->head_dim, scale, type);
    if (widens)
        v = widen(hs->page, v, next_v, (size_t)l->v_stride * TOKENS);
    else
        for (size_t line = 0; line < l->head_bytes - l->v_offset; line += 64)
            _mm_prefetch(next_v + line, _MM_HINT_T1);
    for (uint32_t h = lo; h < hs->count; h += HEADS)
        weighted(hs, h, t, v, l, type);
}

void attention_avx512vnni(float *o, size_t o_stride, float *mx, float *sum,
                          const struct attention *a)
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

void attention_merge_avx512vnni(float *oa, float *ma, float *sa, const float *ob, float mb,
                                float sb, uint32_t head_dim)
{
    float top = *ma > mb ? *ma : mb;
    float ca = kernels_exp(*ma - top), cb = kernels_exp(mb - top);
    __m512 va = _mm512_set1_ps(ca), vb = _mm512_set1_ps(cb);

    *sa = fmaf(sb, cb, *sa * ca);
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
        for (size_t i = 0; i < l->head_dim; i += 16) {
            size_t n = l->head_dim - i < 16 ? l->head_dim - i : 16;

            store_halves(kp + 2 * i * TOKENS, TOKENS, k + i, n);
            store_halves(vp + 2 * i, 1, v + i, n);
        }
    }
}
