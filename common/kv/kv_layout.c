#include "kv/kv_layout.h"

#include "base/check.h"

const char *kv_type_name(enum kv_type type)
{
    static const char *const names[] = {"f16", "f32", "bf16", "q8"};

    return type < KV_TYPE_COUNT ? names[type] : "unknown";
}

void kv_layout_init(struct kv_layout *l, enum kv_type type, uint32_t n_layer, uint32_t n_kv_head,
                    uint32_t head_dim)
{
    size_t k_bytes, v_bytes, scales = type == KV_Q8 ? KV_PAGE_TOKENS * sizeof(float) : 0;

    ASSERT(type < KV_TYPE_COUNT && n_layer && n_kv_head && head_dim);
    *l = (struct kv_layout){
        .type = type,
        .n_layer = n_layer,
        .n_kv_head = n_kv_head,
        .head_dim = head_dim,
        .v_stride = (uint32_t)size_round_up(head_dim, 16),
        .element_bytes = type == KV_F32 ? 4 : type == KV_Q8 ? 1 : 2,
    };
    k_bytes = size_round_up(head_dim, type == KV_BF16 ? 2 : 1) * KV_PAGE_TOKENS * l->element_bytes;
    v_bytes = (size_t)l->v_stride * KV_PAGE_TOKENS * l->element_bytes;
    l->k_scales = k_bytes; /* 32 tokens of 2 bytes: a multiple of 64; of q8, of 32 */
    l->v_offset = size_round_up(k_bytes + scales, 64);
    l->v_scales = l->v_offset + v_bytes;
    l->head_bytes = l->v_scales + scales;
    l->layer_bytes = l->n_kv_head * l->head_bytes;
    l->page_bytes = l->n_layer * l->layer_bytes;
}
