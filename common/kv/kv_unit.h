/* kv_unit: how the KV of a sequence is cut into messages.
 *
 * A unit is some kv heads of one layer of one page: as many heads as fit into one bulk frame, the
 * rest in the next unit. Sender and receiver compute the same cut from their own model, so a
 * receiver only compares what a peer says with what it must be. Units are numbered
 *   index = (page * n_layer + layer) * parts + part
 * Plain data, pure functions. */
#ifndef TANDEM_KV_KV_UNIT_H
#define TANDEM_KV_KV_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/kv_layout.h"

struct kv_cut {
    uint32_t n_layer, n_kv_head;
    uint32_t heads; /* of a unit; the last part of a layer may have fewer */
    uint32_t parts; /* units of one layer of one page */
};

struct kv_unit {
    uint32_t layer, page, head_first, head_count;
    uint32_t n_tokens; /* 32, or less in the last page */
};

/* limit: bytes of a bulk frame. False: not even one head fits. */
bool kv_cut_init(struct kv_cut *c, const struct kv_layout *l, enum kv_type wire, size_t limit);

/* Units of a sequence of n_tokens. */
size_t kv_cut_count(const struct kv_cut *c, uint32_t n_tokens);

/* Unit `index` < count of a sequence of n_tokens. */
struct kv_unit kv_cut_unit(const struct kv_cut *c, size_t index, uint32_t n_tokens);

/* The index of a unit that a peer named; false if it is not exactly one of the cut. Any values. */
bool kv_cut_index(const struct kv_cut *c, size_t *index, const struct kv_unit *u,
                  uint32_t n_tokens);

#endif
