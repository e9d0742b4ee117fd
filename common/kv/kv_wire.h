/* kv_wire: KV between a page's own layout and the form that travels.
 *
 * A unit is head_count heads of one layer and the first n_tokens tokens of one page, elements of the
 * wire type, little-endian. It travels in one of two forms, which both ends compute:
 *   whole  as it lies in a page of the wire type (kv_layout.h), head by head, all 32 tokens: behind the
 *          first n_tokens stand zeros, the sender's to see to. For f16, bf16 and q8, which go only
 *          between pools of that type (kv_wire_exact), where head_dim is a multiple of 16, so that there
 *          is no padding. It leaves from the page itself and arrives with a memcpy.
 *   rows   K [head][token][head_dim], then V [head][token][head_dim]; a row of q8 is its scale, f32,
 *          and head_dim int8 (kv_q8.h). For f32 between pools of any type, and for odd heads.
 * Neither depends on the machine. Pure functions on memory. */
#ifndef TANDEM_KV_KV_WIRE_H
#define TANDEM_KV_KV_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/kv_layout.h"

/* Whether KV of a pool of this type comes through the wire, and into another such pool, bit for bit. If
 * it did not, decode would read other KV of a prompt than a node that computes the same tokens
 * itself, and a stream that starts again elsewhere would not go on with the same tokens. */
bool kv_wire_exact(enum kv_type wire, enum kv_type pool);

/* Whether units travel as they lie, or as rows. */
bool kv_wire_whole(const struct kv_layout *l, enum kv_type wire);

/* Bytes of a unit. */
size_t kv_wire_bytes(const struct kv_layout *l, enum kv_type wire, uint32_t head_count,
                     uint32_t n_tokens);

/* Most heads of a full page that fit into limit bytes; 0 if not even one does. */
uint32_t kv_wire_heads(const struct kv_layout *l, enum kv_type wire, size_t limit);

/* out[kv_wire_bytes] from page, and back; of what travels whole, the bytes at kv_layout_k of layer and
 * head_first. Equal types are copied bit for bit; else values go by way of f32 and are rounded to nearest even. The caller has checked layer, heads and n_tokens <= 32 against the layout. */
void kv_wire_export(void *out, enum kv_type wire, const struct kv_layout *l, const uint8_t *page,
                    uint32_t layer, uint32_t head_first, uint32_t head_count, uint32_t n_tokens);
void kv_wire_import(uint8_t *page, const struct kv_layout *l, const void *in, enum kv_type wire,
                    uint32_t layer, uint32_t head_first, uint32_t head_count, uint32_t n_tokens);

#endif
