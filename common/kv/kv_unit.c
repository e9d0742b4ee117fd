#include "kv/kv_unit.h"

#include "base/check.h"
#include "kv/kv_wire.h"

bool kv_cut_init(struct kv_cut *c, const struct kv_layout *l, enum kv_type wire, size_t limit)
{
    uint32_t heads = kv_wire_heads(l, wire, limit);

    if (!heads)
        return false;
    *c = (struct kv_cut){
        .n_layer = l->n_layer,
        .n_kv_head = l->n_kv_head,
        .heads = heads,
        .parts = (uint32_t)size_div_up(l->n_kv_head, heads),
    };
    return true;
}

size_t kv_cut_count(const struct kv_cut *c, uint32_t n_tokens)
{
    return (size_t)kv_layout_pages(n_tokens) * c->n_layer * c->parts;
}

struct kv_unit kv_cut_unit(const struct kv_cut *c, size_t index, uint32_t n_tokens)
{
    size_t layers = index / c->parts;
    uint32_t head = (uint32_t)(index % c->parts) * c->heads;
    uint32_t page = (uint32_t)(layers / c->n_layer);

    ASSERT(index < kv_cut_count(c, n_tokens));
    return (struct kv_unit){
        .layer = (uint32_t)(layers % c->n_layer),
        .page = page,
        .head_first = head,
        .head_count = u32_min(c->heads, c->n_kv_head - head),
        .n_tokens = u32_min(KV_PAGE_TOKENS, n_tokens - page * KV_PAGE_TOKENS),
    };
}

bool kv_cut_index(const struct kv_cut *c, size_t *index, const struct kv_unit *u,
                  uint32_t n_tokens)
{
    struct kv_unit own;

    if (u->page >= kv_layout_pages(n_tokens) || u->layer >= c->n_layer ||
        u->head_first >= c->n_kv_head)
        return false;
    *index = ((size_t)u->page * c->n_layer + u->layer) * c->parts + u->head_first / c->heads;
    own = kv_cut_unit(c, *index, n_tokens);
    return own.head_first == u->head_first && own.head_count == u->head_count &&
           own.n_tokens == u->n_tokens;
}
