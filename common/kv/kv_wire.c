#include "kv/kv_wire.h"

#include <string.h>

#include "base/check.h"
#include "kv/kv_q8.h"
#include "model/dtype.h"
#include "model/hparams.h"

static size_t kv_type_bytes(enum kv_type type)
{
    return type == KV_F32 ? 4 : type == KV_Q8 ? 1 : 2;
}

/* Bytes of a row: q8 has its scale in front. */
static size_t kv_row_bytes(const struct kv_layout *l, enum kv_type wire)
{
    return l->head_dim * kv_type_bytes(wire) + (wire == KV_Q8 ? sizeof(float) : 0);
}

bool kv_wire_exact(enum kv_type wire, enum kv_type pool)
{
    return wire == pool || (wire == KV_F32 && pool != KV_Q8); /* of q8, not every scale */
}

bool kv_wire_whole(const struct kv_layout *l, enum kv_type wire)
{
    return l->type == wire && wire != KV_F32 && l->head_dim == l->v_stride;
}

size_t kv_wire_bytes(const struct kv_layout *l, enum kv_type wire, uint32_t head_count,
                     uint32_t n_tokens)
{
    if (kv_wire_whole(l, wire))
        return head_count * l->head_bytes;
    return (size_t)2 * head_count * n_tokens * kv_row_bytes(l, wire);
}

uint32_t kv_wire_heads(const struct kv_layout *l, enum kv_type wire, size_t limit)
{
    return u32_min(l->n_kv_head, (uint32_t)(limit / kv_wire_bytes(l, wire, 1, KV_PAGE_TOKENS)));
}

/* One token's K or V of one head as it lies in a page: elements n times `stride` apart; those of
 * bf16's K in pairs, so that the second of each pair is `pair` from the first. */
struct kv_row {
    uint8_t *data, *scale; /* scale: of q8 */
    size_t stride, pair;   /* bytes */
};

static struct kv_row kv_row(const struct kv_layout *l, const uint8_t *head, bool v, size_t token)
{
    size_t (*at)(const struct kv_layout *, size_t, size_t) = v ? kv_layout_v_at : kv_layout_k_at;
    size_t first = at(l, token, 0), bytes = l->element_bytes;
    uint8_t *base = (uint8_t *)head + (v ? l->v_offset : 0);

    return (struct kv_row){
        .data = base + first * bytes,
        .scale = (uint8_t *)head + (v ? l->v_scales : l->k_scales) + token * sizeof(float),
        .stride = (at(l, token, 2) - first) * bytes,
        .pair = (at(l, token, 1) - first) * bytes,
    };
}

static uint8_t *kv_row_at(const struct kv_row *r, size_t dim)
{
    return r->data + dim / 2 * r->stride + dim % 2 * r->pair;
}

/* n elements of one type, so many bytes apart. The wire side comes from a frame and has no alignment;
 * a memcpy of constant length is a single move. */
static void kv_copy(uint8_t *to, size_t os, const uint8_t *from, size_t is, size_t bytes, size_t n)
{
    if (os == bytes && is == bytes) /* V of most types: a row on both sides */
        memcpy(to, from, n * bytes);
    else if (bytes == 2)
        for (size_t i = 0; i < n; i++)
            memcpy(to + i * os, from + i * is, 2);
    else if (bytes == 1)
        for (size_t i = 0; i < n; i++)
            to[i * os] = from[i * is];
    else
        for (size_t i = 0; i < n; i++)
            memcpy(to + i * os, from + i * is, 4);
}

static void kv_row_copy(const struct kv_row *to, const struct kv_row *from, size_t bytes, size_t n)
{
    if (to->stride == 2 * to->pair && from->stride == 2 * from->pair) {
        kv_copy(to->data, to->pair, from->data, from->pair, bytes, n);
        return;
    }
    kv_copy(to->data, to->stride, from->data, from->stride, bytes, (n + 1) / 2);
    kv_copy(to->data + to->pair, to->stride, from->data + from->pair, from->stride, bytes, n / 2);
}

static void kv_row_get(float *to, const struct kv_row *from, enum kv_type type, size_t n)
{
    float d = 0;

    if (type == KV_Q8)
        memcpy(&d, from->scale, 4);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *in = kv_row_at(from, i);
        uint16_t h;

        if (type == KV_F32) {
            memcpy(to + i, in, 4);
        } else if (type == KV_Q8) {
            to[i] = d * (float)(int8_t)*in;
        } else {
            memcpy(&h, in, 2);
            to[i] = type == KV_F16 ? dtype_f16_to_f32(h) : dtype_bf16_to_f32(h);
        }
    }
}

static void kv_row_set(const struct kv_row *to, enum kv_type type, const float *from, size_t n)
{
    int8_t q[HPARAMS_HEAD_DIM_MAX];
    float d;

    if (type == KV_Q8) {
        d = kv_q8_row(q, 1, from, n);
        memcpy(to->scale, &d, 4);
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t *out = kv_row_at(to, i);
        uint16_t h;

        if (type == KV_F32) {
            memcpy(out, from + i, 4);
        } else if (type == KV_Q8) {
            *out = (uint8_t)q[i];
        } else {
            h = type == KV_F16 ? dtype_f32_to_f16(from[i]) : dtype_f32_to_bf16(from[i]);
            memcpy(out, &h, 2);
        }
    }
}

static void kv_row_move(const struct kv_row *to, enum kv_type ot, const struct kv_row *from,
                        enum kv_type it, size_t n)
{
    float x[HPARAMS_HEAD_DIM_MAX];

    ASSERT(n <= ARRAY_LEN(x));
    if (ot != it) {
        kv_row_get(x, from, it, n);
        kv_row_set(to, ot, x, n);
        return;
    }
    if (ot == KV_Q8)
        memcpy(to->scale, from->scale, sizeof(float));
    kv_row_copy(to, from, kv_type_bytes(ot), n);
}

/* The row that travels at p. */
static struct kv_row kv_wire_row(const uint8_t *p, enum kv_type wire)
{
    size_t bytes = kv_type_bytes(wire);

    return (struct kv_row){.data = (uint8_t *)p + (wire == KV_Q8 ? sizeof(float) : 0),
                           .scale = (uint8_t *)p, .stride = 2 * bytes, .pair = bytes};
}

/* All rows, into the page or out of it: of the two sides, only the one written to is changed. */
static void kv_wire_walk(bool import, const uint8_t *row, enum kv_type wire,
                         const struct kv_layout *l, const uint8_t *page, uint32_t layer,
                         uint32_t head_first, uint32_t head_count, uint32_t n_tokens)
{
    for (int v = 0; v < 2; v++)
        for (uint32_t h = head_first; h < head_first + head_count; h++)
            for (uint32_t t = 0; t < n_tokens; t++, row += kv_row_bytes(l, wire)) {
                struct kv_row in_page = kv_row(l, page + kv_layout_k(l, layer, h), v, t);
                struct kv_row on_wire = kv_wire_row(row, wire);

                if (import)
                    kv_row_move(&in_page, l->type, &on_wire, wire, l->head_dim);
                else
                    kv_row_move(&on_wire, wire, &in_page, l->type, l->head_dim);
            }
}

void kv_wire_export(void *out, enum kv_type wire, const struct kv_layout *l, const uint8_t *page,
                    uint32_t layer, uint32_t head_first, uint32_t head_count, uint32_t n_tokens)
{
    ASSERT(layer < l->n_layer && head_first + head_count <= l->n_kv_head && n_tokens <= KV_PAGE_TOKENS);
    if (kv_wire_whole(l, wire))
        memcpy(out, page + kv_layout_k(l, layer, head_first), head_count * l->head_bytes);
    else
        kv_wire_walk(false, out, wire, l, page, layer, head_first, head_count, n_tokens);
}

void kv_wire_import(uint8_t *page, const struct kv_layout *l, const void *in, enum kv_type wire,
                    uint32_t layer, uint32_t head_first, uint32_t head_count, uint32_t n_tokens)
{
    ASSERT(layer < l->n_layer && head_first + head_count <= l->n_kv_head && n_tokens <= KV_PAGE_TOKENS);
    if (kv_wire_whole(l, wire))
        memcpy(page + kv_layout_k(l, layer, head_first), in, head_count * l->head_bytes);
    else
        kv_wire_walk(true, in, wire, l, page, layer, head_first, head_count, n_tokens);
}
