/* prefix_index: which blocks of KV a node's prefix cache holds, as it last reported (PREFIX_REPORT):
 * a set of the low halves of block names (kv/prefix.h). Approximate: a report is late, and two names
 * may share a half; a wrong guess costs a slower start, never a wrong token.
 *
 * Memory: at most PREFIX_INDEX_MAX blocks a node (8.4 M tokens, 2 MiB) and PREFIX_INDEX_TOTAL in all
 * nodes together; what is reported beyond is not known. Tables are never less than an eighth full but
 * for the smallest: 64 MiB at most, 16 MiB when all have just grown to that many. */
#ifndef TANDEM_ROUTER_PREFIX_INDEX_H
#define TANDEM_ROUTER_PREFIX_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define PREFIX_INDEX_MAX (1u << 18)
#define PREFIX_INDEX_TOTAL (1u << 21)

struct prefix_index { /* zeroed: empty */
    uint32_t *slots;  /* 0: free */
    uint32_t cap;     /* a power of two, half of it taken at most, an eighth at least */
    uint32_t n;
};

void prefix_index_fini(struct prefix_index *x); /* leaves it empty */

/* *total: blocks in all indices together; counted up and down here. */
void prefix_index_add(struct prefix_index *x, uint32_t name, uint32_t *total);
void prefix_index_remove(struct prefix_index *x, uint32_t name, uint32_t *total);
void prefix_index_reset(struct prefix_index *x, uint32_t *total);

/* How many of names[n], from the first on, are all there. */
uint32_t prefix_index_run(const struct prefix_index *x, const uint32_t *names, uint32_t n);

/* The low halves of the names of the full blocks of tokens[n], from block `first` on, whose parent's
 * name is `parent` (the salt for block 0), to names[first ...]. Returns the last name, the parent of
 * what may follow. */
uint64_t prefix_index_names(uint32_t *names, uint32_t first, uint64_t parent,
                            const uint32_t *tokens, uint32_t n);

#endif
