/* kv_wire: KV between a page's own layout and the form that travels.
 *
 * A unit is head_count heads of one layer and the first n_tokens tokens of one page, elements of the
 * wire type, little-endian. It travels in one of two forms, which both ends compute:
 *   whole  as it lies in a page of the wire type (kv_layout.h), head by head. For full pages of f16,
 *          bf16 and q8, which go only between pools of that type (kv_wire_exact), and have no padding
 *          where head_dim is a multiple of 16. It leaves from the page itself and arrives with a memcpy.
 *   rows   K [head][token][head_dim], then V [head][token][head_dim]; a row of q8 is its scale, f32,
 *          and head_dim int8 (kv_q8.h). For the end of a prompt, and for f32 between pools of any type.
 * Neither depends on the machine. Both have as many bytes. Pure functions on memory. */
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

/* Bytes of a unit. */
size_t kv_wire_bytes(const struct kv_layout *l, enum kv_type wire, uint32_t head_count,
                     uint32_t n_tokens);

/* Most heads of a full page that fit into limit bytes; 0 if not even one does. */
uint32_t kv_wire_heads(const struct kv_layout *l, enum kv_type wire, size_t limit);

/* Where a unit's kv_wire_bytes lie in the page just as they travel; NULL: they must be exported. */
const uint8_t *kv_wire_in_place(const struct kv_layout *l, enum kv_type wire, const uint8_t *page,
                                uint32_t layer, uint32_t head_first, uint32_t n_tokens);

/* out[kv_wire_bytes] from page, and back. Equal types are copied bit for bit; else values go by way of
 * f32 and are rounded to nearest even. The caller has checked layer, heads and n_tokens <= 32 against the layout. */
void kv_wire_export(void *out, enum kv_type wire, const struct kv_layout *l, const uint8_t *page,
                    uint32_t layer, uint32_t head_first, uint32_t head_count, uint32_t n_tokens);
void kv_wire_import(uint8_t *page, const struct kv_layout *l, const void *in, enum kv_type wire,
                    uint32_t layer, uint32_t head_first, uint32_t head_count, uint32_t n_tokens);

#endif
