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

/* Copies n elements, changing type on the way; strides in elements. The wire side comes from a frame
 * and has no alignment, so elements are moved byte by byte as far as C is concerned. */
static void kv_copy(void *out, enum kv_type ot, size_t os, const void *in, enum kv_type it,
                    size_t is, size_t n)
{
    size_t ob = kv_type_bytes(ot), ib = kv_type_bytes(it);
    const uint8_t *from = in;
    uint8_t *to = out;
    uint16_t h;
    float f;

    os *= ob;
    is *= ib;
    if (ot == it && ob == 2) {
        for (size_t i = 0; i < n; i++)
            memcpy(to + i * os, from + i * is, 2);
    } else if (ot == it) {
        for (size_t i = 0; i < n; i++)
            memcpy(to + i * os, from + i * is, 4);
    } else if (ot == KV_F16) {
        for (size_t i = 0; i < n; i++) {
            memcpy(&f, from + i * is, 4);
            h = dtype_f32_to_f16(f);
            memcpy(to + i * os, &h, 2);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            memcpy(&h, from + i * is, 2);
            f = dtype_f16_to_f32(h);
            memcpy(to + i * os, &f, 4);
        }
    }
}

/* One head, K or V: the page side has strides (token, element), the wire side is packed. */
struct kv_side {
    size_t token, element;
};

static struct kv_side kv_side_k(void) { return (struct kv_side){1, KV_PAGE_TOKENS}; }

static struct kv_side kv_side_v(const struct kv_layout *l)
{
    return (struct kv_side){l->v_stride, 1};
}

void kv_wire_export(void *out, enum kv_type wire, const struct kv_layout *l, const uint8_t *page,
                    uint32_t layer, uint32_t head_first, uint32_t head_count, uint32_t n_tokens)
{
    uint8_t *to = out;
    size_t row = l->head_dim * kv_type_bytes(wire);

    ASSERT(layer < l->n_layer && head_first + head_count <= l->n_kv_head && n_tokens <= KV_PAGE_TOKENS);
    for (int v = 0; v < 2; v++) {
        struct kv_side s = v ? kv_side_v(l) : kv_side_k();

        for (uint32_t h = head_first; h < head_first + head_count; h++) {
            const uint8_t *from = page + kv_layout_k(l, layer, h) + (v ? l->v_offset : 0);

            for (uint32_t t = 0; t < n_tokens; t++, to += row)
                kv_copy(to, wire, 1, from + t * s.token * l->element_bytes, l->type, s.element,
                        l->head_dim);
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
        struct kv_side s = v ? kv_side_v(l) : kv_side_k();

        for (uint32_t h = head_first; h < head_first + head_count; h++) {
            uint8_t *to = page + kv_layout_k(l, layer, h) + (v ? l->v_offset : 0);

            for (uint32_t t = 0; t < n_tokens; t++, from += row)
                kv_copy(to + t * s.token * l->element_bytes, l->type, s.element, from, wire, 1,
                        l->head_dim);
        }
    }
}
