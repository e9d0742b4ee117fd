#include "kv/kv_wire.h"

#include <string.h>

#include "base/check.h"
#include "model/dtype.h"

static size_t kv_type_bytes(enum kv_type type) { return type == KV_F32 ? 4 : 2; }

size_t kv_wire_bytes(const struct kv_layout *l, enum kv_type wire, uint32_t head_count,
                     uint32_t n_tokens)
{
    return (size_t)2 * head_count * n_tokens * l->head_dim * kv_type_bytes(wire);
}

uint32_t kv_wire_heads(const struct kv_layout *l, enum kv_type wire, size_t limit)
{
    return u32_min(l->n_kv_head, (uint32_t)(limit / kv_wire_bytes(l, wire, 1, KV_PAGE_TOKENS)));
}

static float kv_element(const uint8_t *p, enum kv_type type)
{
    uint16_t h;
    float f;

    memcpy(&h, p, 2);
    if (type == KV_F16)
        return dtype_f16_to_f32(h);
    if (type == KV_BF16)
        return dtype_bf16_to_f32(h);
    memcpy(&f, p, 4);
    return f;
}

static void kv_element_set(uint8_t *p, enum kv_type type, float f)
{
    uint16_t h = type == KV_F16 ? dtype_f32_to_f16(f) : dtype_f32_to_bf16(f);

    if (type == KV_F32)
        memcpy(p, &f, 4);
    else
        memcpy(p, &h, 2);
}

/* Copies n elements, changing type on the way; strides in elements. The wire side comes from a frame
 * and has no alignment, so elements are moved byte by byte as far as C is concerned. */
static void kv_copy(uint8_t *to, enum kv_type ot, size_t os, const uint8_t *from, enum kv_type it,
                    size_t is, size_t n)
{
    size_t ob = kv_type_bytes(ot), ib = kv_type_bytes(it);

    os *= ob;
    is *= ib;
    if (ot == it && ob == 2) {
        for (size_t i = 0; i < n; i++)
            memcpy(to + i * os, from + i * is, 2);
    } else if (ot == it) {
        for (size_t i = 0; i < n; i++)
            memcpy(to + i * os, from + i * is, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            kv_element_set(to + i * os, ot, kv_element(from + i * is, it));
    }
}

/* Every `step`th element of one token's K or V, from dimension `first` on: as they lie in a page. */
struct kv_lane {
    size_t at, stride, n; /* elements */
};

static struct kv_lane kv_lane(const struct kv_layout *l, bool v, size_t token, size_t first,
                              size_t step)
{
    size_t (*at)(const struct kv_layout *, size_t, size_t) = v ? kv_layout_v_at : kv_layout_k_at;

    return (struct kv_lane){at(l, token, first), at(l, token, first + step) - at(l, token, first),
                            (l->head_dim - first + step - 1) / step};
}

/* Steps in which the elements of one token lie evenly: K of bf16 is in pairs. */
static size_t kv_steps(const struct kv_layout *l, bool v) { return l->type == KV_BF16 && !v ? 2 : 1; }

void kv_wire_export(void *out, enum kv_type wire, const struct kv_layout *l, const uint8_t *page,
                    uint32_t layer, uint32_t head_first, uint32_t head_count, uint32_t n_tokens)
{
    uint8_t *to = out;
    size_t row = l->head_dim * kv_type_bytes(wire);

    ASSERT(layer < l->n_layer && head_first + head_count <= l->n_kv_head && n_tokens <= KV_PAGE_TOKENS);
    for (int v = 0; v < 2; v++) {
        size_t steps = kv_steps(l, v);

        for (uint32_t h = head_first; h < head_first + head_count; h++) {
            const uint8_t *from = page + kv_layout_k(l, layer, h) + (v ? l->v_offset : 0);

            for (uint32_t t = 0; t < n_tokens; t++, to += row)
                for (size_t i = 0; i < steps; i++) {
                    struct kv_lane s = kv_lane(l, v, t, i, steps);

                    kv_copy(to + i * kv_type_bytes(wire), wire, steps,
                            from + s.at * l->element_bytes, l->type, s.stride, s.n);
                }
        }
    }
}

void kv_wire_import(uint8_t *page, const struct kv_layout *l, const void *in, enum kv_type wire,
                    uint32_t layer, uint32_t head_first, uint32_t head_count, uint32_t n_tokens)
{
    const uint8_t *from = in;
    size_t row = l->head_dim * kv_type_bytes(wire);

    ASSERT(layer < l->n_layer && head_first + head_count <= l->n_kv_head && n_tokens <= KV_PAGE_TOKENS);
    for (int v = 0; v < 2; v++) {
        size_t steps = kv_steps(l, v);

        for (uint32_t h = head_first; h < head_first + head_count; h++) {
            uint8_t *to = page + kv_layout_k(l, layer, h) + (v ? l->v_offset : 0);

            for (uint32_t t = 0; t < n_tokens; t++, from += row)
                for (size_t i = 0; i < steps; i++) {
                    struct kv_lane s = kv_lane(l, v, t, i, steps);

                    kv_copy(to + s.at * l->element_bytes, l->type, s.stride,
                            from + i * kv_type_bytes(wire), wire, steps, s.n);
                }
        }
    }
}
