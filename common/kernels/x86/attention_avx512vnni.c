#include <string.h>

#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/tile.h"

#define TOKENS KV_PAGE_TOKENS
#define HEADS 4 /* query heads that pass over a page's K and V together */

/* 16 elements of K or V. */
TILE_INLINE __m512 elements(const uint8_t *base, enum kv_type type, size_t i)
{
    if (type == KV_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(base + 2 * i)));
    return _mm512_loadu_ps(base + 4 * i);
}

/* s[g][t] = the dot products of heads q[g] with the page's 32 keys. next: K of the page after. */
TILE_INLINE void scores(float (*s)[TOKENS], const float *q, const uint8_t *k, const uint8_t *next,
                        size_t dim, enum kv_type type, int heads)
{
    const size_t row = type == KV_F16 ? 2 * TOKENS : 4 * TOKENS;
    __m512 acc[HEADS][2];

    TILE_UNROLL for (int g = 0; g < heads; g++)
        acc[g][0] = acc[g][1] = _mm512_setzero_ps();
    for (size_t i = 0; i < dim; i++) {
        __m512 k0 = elements(k, type, i * TOKENS), k1 = elements(k, type, i * TOKENS + 16);

        _mm_prefetch(next + i * row, _MM_HINT_T0);
        TILE_UNROLL for (int g = 0; g < heads; g++) {
            __m512 x = _mm512_set1_ps(q[g * dim + i]);

            acc[g][0] = _mm512_fmadd_ps(k0, x, acc[g][0]);
            acc[g][1] = _mm512_fmadd_ps(k1, x, acc[g][1]);
        }
    }
    TILE_UNROLL for (int g = 0; g < heads; g++) {
        _mm512_storeu_ps(s[g], acc[g][0]);
        _mm512_storeu_ps(s[g] + 16, acc[g][1]);
    }
}

/* Scores of c tokens become p in place; mx and sum move on. Returns corr. */
static inline float softmax(float *s, float *mx, float *sum, size_t c, float scale)
{
    const __m512 low = _mm512_set1_ps(-INFINITY);
    __mmask16 m0 = lanes_avx512(c), m1 = lanes_avx512(c < 16 ? 0 : c - 16);
    __m512 s0 = _mm512_mul_ps(_mm512_loadu_ps(s), _mm512_set1_ps(scale));
    __m512 s1 = _mm512_mul_ps(_mm512_loadu_ps(s + 16), _mm512_set1_ps(scale));
    float top = _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_mask_mov_ps(low, m0, s0), _mm512_mask_mov_ps(low, m1, s1)));
    float corr;

    top = (top > *mx ? top : *mx) + 0.0f;
    corr = kernels_exp(*mx - top);
    s0 = _mm512_maskz_mov_ps(m0, exp_avx512(_mm512_sub_ps(s0, _mm512_set1_ps(top))));
    s1 = _mm512_maskz_mov_ps(m1, exp_avx512(_mm512_sub_ps(s1, _mm512_set1_ps(top))));
    _mm512_storeu_ps(s, s0);
    _mm512_storeu_ps(s + 16, s1);
    *mx = top;
    *sum = fmaf(*sum, corr, tree_sum_avx512(_mm512_add_ps(s0, s1)));
    return corr;
}

/* o[g] = o[g] * corr[g] + p[g] V for `vectors` times 16 dimensions from i on; of the last 16 only
 * `lanes` exist. */
TILE_INLINE void values(float *o, const float (*p)[TOKENS], const float *corr, const uint8_t *v,
                        const struct kv_layout *l, size_t c, size_t i, __mmask16 lanes,
                        enum kv_type type, int vectors, int heads)
{
    __m512 acc[HEADS][4];

    TILE_UNROLL for (int g = 0; g < heads; g++)
        TILE_UNROLL for (int j = 0; j < vectors; j++)
            acc[g][j] = _mm512_mul_ps(_mm512_maskz_loadu_ps(j == vectors - 1 ? lanes : 0xffff,
                                                            o + g * l->head_dim + i + j * 16),
                                      _mm512_set1_ps(corr[g]));
    for (size_t t = 0; t < c; t++) {
        __m512 x[4];

        TILE_UNROLL for (int j = 0; j < vectors; j++)
            x[j] = elements(v, type, t * l->v_stride + i + j * 16);
        TILE_UNROLL for (int g = 0; g < heads; g++) {
            __m512 w = _mm512_set1_ps(p[g][t]);

            TILE_UNROLL for (int j = 0; j < vectors; j++)
                acc[g][j] = _mm512_fmadd_ps(w, x[j], acc[g][j]);
        }
    }
    TILE_UNROLL for (int g = 0; g < heads; g++)
        TILE_UNROLL for (int j = 0; j < vectors; j++)
            _mm512_mask_storeu_ps(o + g * l->head_dim + i + j * 16,
                                  j == vectors - 1 ? lanes : 0xffff, acc[g][j]);
}

/* One page for `heads` query heads; k and next are the head's K in this page and the one after. */
TILE_INLINE void attend(float *o, float *mx, float *sum, const float *q, const uint8_t *k,
                        const uint8_t *next, const struct kv_layout *l, size_t c, float scale,
                        enum kv_type type, int heads)
{
    float p[HEADS][TOKENS], corr[HEADS];
    const uint8_t *v = k + l->v_offset;
    size_t i = 0;

    scores(p, q, k, next, l->head_dim, type, heads);
    for (int g = 0; g < heads; g++)
        corr[g] = softmax(p[g], mx + g, sum + g, c, scale);
    for (size_t line = l->v_offset; line < l->head_bytes; line += 64)
        _mm_prefetch(next + line, _MM_HINT_T1);
    for (; i + 64 <= l->head_dim; i += 64)
        values(o, p, corr, v, l, c, i, 0xffff, type, 4, heads);
    for (; i < l->head_dim; i += 16)
        values(o, p, corr, v, l, c, i, lanes_avx512(l->head_dim - i), type, 1, heads);
}

#define ATTEND(type, heads)                                                                        \
    attend(o + g * l->head_dim, mx + g, sum + g, q + g * l->head_dim, k, next, l, c, scale, type,  \
           heads)

void attention_avx512vnni(float *o, float *mx, float *sum, const float *q, uint8_t *const *pages,
                          const struct kv_layout *l, uint32_t layer, uint32_t head, uint32_t group,
                          uint32_t first, uint32_t n, float scale)
{
    size_t at = kv_layout_k(l, layer, head);

    memset(o, 0, (size_t)group * l->head_dim * sizeof(*o));
    for (uint32_t g = 0; g < group; g++) {
        mx[g] = -INFINITY;
        sum[g] = 0;
    }
    for (uint32_t t = 0; t < n; t += TOKENS) {
        size_t page = (first + t) / TOKENS, c = n - t < TOKENS ? n - t : TOKENS;
        const uint8_t *k = pages[page] + at;
        const uint8_t *next = t + TOKENS < n ? pages[page + 1] + at : k;

        for (uint32_t g = 0; g < group; g += HEADS)
            switch ((group - g < HEADS ? group - g : HEADS) * 2 + (l->type == KV_F32)) {
            case 2: ATTEND(KV_F16, 1); break;
            case 3: ATTEND(KV_F32, 1); break;
            case 4: ATTEND(KV_F16, 2); break;
            case 5: ATTEND(KV_F32, 2); break;
            case 6: ATTEND(KV_F16, 3); break;
            case 7: ATTEND(KV_F32, 3); break;
            case 8: ATTEND(KV_F16, 4); break;
            default: ATTEND(KV_F32, 4);
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
