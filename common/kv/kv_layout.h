/* kv_layout: where things are in a KV page.
 *
 * A page holds 32 consecutive tokens of one sequence, all layers and kv heads:
 *   page = [layer][kv head]{ K [head_dim][32 tokens] | V [32 tokens][v_stride] }
 * K is transposed so that a SIMD lane is a token; V's rows are padded to 16 values (v_stride), so
 * that a lane is a dimension. Elements are f16, f32 or int8 (element_bytes). bf16, which the matrix
 * unit multiplies in pairs, is kept in pairs of dimensions of K and of tokens of V:
 *   K [head_dim / 2, rounded up][32 tokens][2] | V [32 / 2][v_stride][2]
 * q8 is int8 with an f32 scale for each token of K and of V, which lie behind them (kv_q8.h):
 *   K [head_dim][32 tokens] | scales of K [32] | V [32 tokens][v_stride] | scales of V [32]
 * The layout depends on the type and the model alone, never on the machine: full pages travel as they
 * lie (kv_wire.h). Plain data, no state. */
#ifndef TANDEM_KV_KV_LAYOUT_H
#define TANDEM_KV_KV_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define KV_PAGE_TOKENS 32

/* KV_AUTO is no type but a wish, for the options: the best of what the tier can do. */
enum kv_type { KV_F16, KV_F32, KV_BF16, KV_Q8, KV_TYPE_COUNT, KV_AUTO = KV_TYPE_COUNT };

struct kv_layout {
    enum kv_type type;
    uint32_t n_layer, n_kv_head, head_dim;
    uint32_t v_stride;      /* head_dim rounded up to 16, elements */
    uint32_t element_bytes; /* 1, 2 or 4 */
    size_t k_scales;        /* bytes from a head's K to its scales; q8 only */
    size_t v_offset;        /* bytes from a head's K to its V */
    size_t v_scales;        /* bytes from a head's K to the scales of its V; q8 only */
    size_t head_bytes;      /* K and V of one head, a multiple of 64 */
    size_t layer_bytes;     /* n_kv_head * head_bytes */
    size_t page_bytes;      /* n_layer * layer_bytes */
};

/* "f16" and so on. */
const char *kv_type_name(enum kv_type type);

void kv_layout_init(struct kv_layout *l, enum kv_type type, uint32_t n_layer, uint32_t n_kv_head,
                    uint32_t head_dim);

/* Byte offset in a page of the K of (layer, head); its V is v_offset further. */
static inline size_t kv_layout_k(const struct kv_layout *l, uint32_t layer, uint32_t head)
{
    return layer * l->layer_bytes + head * l->head_bytes;
}

/* Which element of a head's K, or of its V, holds (token, dim). */
static inline size_t kv_layout_k_at(const struct kv_layout *l, size_t token, size_t dim)
{
    if (l->type == KV_BF16)
        return (dim / 2 * KV_PAGE_TOKENS + token) * 2 + dim % 2;
    return dim * KV_PAGE_TOKENS + token;
}
static inline size_t kv_layout_v_at(const struct kv_layout *l, size_t token, size_t dim)
{
    if (l->type == KV_BF16)
        return (token / 2 * l->v_stride + dim) * 2 + token % 2;
    return token * l->v_stride + dim;
}

/* Bytes that one token has in one layer, K and V of all kv heads, without padding. */
static inline size_t kv_layout_token_bytes(const struct kv_layout *l)
{
    size_t row = (size_t)l->head_dim * l->element_bytes + (l->type == KV_Q8 ? sizeof(float) : 0);

    return 2 * l->n_kv_head * row;
}

/* Pages that n tokens need. */
static inline uint32_t kv_layout_pages(uint32_t tokens)
{
    return (uint32_t)(((uint64_t)tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS);
}

#endif
