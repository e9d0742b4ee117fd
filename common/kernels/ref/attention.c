#include <math.h>
#include <string.h>

#include "kernels/tiers.h"
#include "kv/kv_q8.h"

#define TOKENS KV_PAGE_TOKENS

/* Element i of K or V; of q8 without its scale. */
static float element(const uint8_t *base, const struct kv_layout *l, size_t i)
{
    uint16_t h;
    float f;

    if (l->type == KV_Q8)
        return (int8_t)base[i];
    if (l->type == KV_F16) {
        memcpy(&h, base + 2 * i, 2);
        return dtype_f16_to_f32(h);
    }
    memcpy(&f, base + 4 * i, 4);
    return f;
}

static void element_set(uint8_t *base, const struct kv_layout *l, size_t i, float f)
{
    uint16_t h = dtype_f32_to_f16(f);

    if (l->type == KV_F16)
        memcpy(base + 2 * i, &h, 2);
    else
        memcpy(base + 4 * i, &f, 4);
}

void kv_store_ref(uint8_t *page, const struct kv_layout *l, uint32_t layer, uint32_t pos,
                  const float *k, const float *v)
{
    size_t slot = pos % TOKENS;

    for (uint32_t h = 0; h < l->n_kv_head; h++, k += l->head_dim, v += l->head_dim) {
        uint8_t *kp = page + kv_layout_k(l, layer, h), *vp = kp + l->v_offset;

        if (l->type == KV_Q8) {
            int8_t *vq = (int8_t *)vp + slot * l->v_stride;
            float dk = kv_q8_row((int8_t *)kp + slot, TOKENS, k, l->head_dim);
            float dv = kv_q8_row(vq, 1, v, l->head_dim);

            memcpy(kp + l->k_scales + 4 * slot, &dk, 4);
            memcpy(kp + l->v_scales + 4 * slot, &dv, 4);
            continue;
        }
        for (size_t i = 0; i < l->head_dim; i++) {
            element_set(kp, l, i * TOKENS + slot, k[i]);
            element_set(vp, l, slot * l->v_stride + i, v[i]);
        }
    }
}

/* The scale of token t among those at scales; 1 for what is not q8. */
static float scale_of(const uint8_t *scales, const struct kv_layout *l, size_t t)
{
    float d = 1;

    if (l->type == KV_Q8)
        memcpy(&d, scales + 4 * t, 4);
    return d;
}

/* u[0] = the sum of p[32] by the tree of kernels.h. */
static float tree_sum(const float *p)
{
    float u[TOKENS];

    memcpy(u, p, sizeof(u));
    for (size_t step = TOKENS / 2; step; step /= 2)
        for (size_t j = 0; j < step; j++)
            u[j] += u[j + step];
    return u[0];
}

/* One page of one query head: c tokens, K at kp. */
static void attend_page(float *o, float *mx, float *sum, const float *q, const uint8_t *kp,
                        const struct kv_layout *l, size_t c, float scale)
{
    float s[TOKENS], p[TOKENS] = {0}, top = *mx, corr;

    for (size_t t = 0; t < c; t++) {
        s[t] = 0;
        for (size_t i = 0; i < l->head_dim; i++)
            s[t] = fmaf(element(kp, l, i * TOKENS + t), q[i], s[t]);
        s[t] = s[t] * scale_of(kp + l->k_scales, l, t) * scale;
        top = s[t] > top ? s[t] : top;
    }
    top += 0.0f; /* -0 becomes +0, so that the order of comparing shows nowhere */
    corr = kernels_exp(*mx - top);
    for (size_t t = 0; t < c; t++)
        p[t] = kernels_exp(s[t] - top);
    *mx = top;
    *sum = fmaf(*sum, corr, tree_sum(p));
    for (size_t t = 0; t < c; t++)
        p[t] *= scale_of(kp + l->v_scales, l, t);
    for (size_t i = 0; i < l->head_dim; i++) {
        o[i] *= corr;
        for (size_t t = 0; t < c; t++)
            o[i] = fmaf(p[t], element(kp + l->v_offset, l, t * l->v_stride + i), o[i]);
    }
}

void attention_ref(float *o, size_t o_stride, float *mx, float *sum, const struct attention *a)
{
    const struct kv_layout *l = a->layout;
    size_t at = kv_layout_k(l, a->layer, a->head);

    for (uint32_t h = 0; h < a->rows * a->group; h++) {
        uint32_t row = h / a->group, g = h % a->group, n = a->n[row];
        const float *q = a->q + row * a->q_stride + (size_t)g * l->head_dim;
        float *to = o + row * o_stride + (size_t)g * l->head_dim;

        memset(to, 0, l->head_dim * sizeof(*to));
        mx[h] = -INFINITY;
        sum[h] = 0;
        for (uint32_t t = 0; t < n; t += TOKENS)
            attend_page(to, mx + h, sum + h, q, a->pages[(a->first + t) / TOKENS] + at, l,
                        n - t < TOKENS ? n - t : TOKENS, a->scale);
    }
}

void attention_merge_ref(float *oa, float *ma, float *sa, const float *ob, float mb, float sb,
                         uint32_t head_dim)
{
    float top = *ma > mb ? *ma : mb;
    float ca = kernels_exp(*ma - top), cb = kernels_exp(mb - top);

    *sa = fmaf(sb, cb, *sa * ca);
    *ma = top;
    for (uint32_t i = 0; i < head_dim; i++)
        oa[i] = fmaf(ob[i], cb, oa[i] * ca);
}
