#include "kv/kv_layout.h"

#include "base/check.h"

void kv_layout_init(struct kv_layout *l, enum kv_type type, uint32_t n_layer, uint32_t n_kv_head,
                    uint32_t head_dim)
{
    size_t k_bytes, v_bytes;

    ASSERT(type < KV_TYPE_COUNT && n_layer && n_kv_head && head_dim);
    *l = (struct kv_layout){
        .type = type,
        .n_layer = n_layer,
        .n_kv_head = n_kv_head,
        .head_dim = head_dim,
        .v_stride = (uint32_t)size_round_up(head_dim, 16),
        .element_bytes = type == KV_F32 ? 4 : 2,
    };
    k_bytes = size_round_up(head_dim, type == KV_BF16 ? 2 : 1) * KV_PAGE_TOKENS * l->element_bytes;
    v_bytes = (size_t)l->v_stride * KV_PAGE_TOKENS * l->element_bytes;
    l->v_offset = k_bytes; /* 32 tokens of 2 bytes: a multiple of 64 */
    l->head_bytes = k_bytes + v_bytes;
    l->layer_bytes = l->n_kv_head * l->head_bytes;
    l->page_bytes = l->n_layer * l->layer_bytes;
}
