/* prefix: which full pages of KV are known by the tokens that made them, so that a later sequence
 * with the same beginning shares them.
 *
 * A block is the KV_PAGE_TOKENS tokens of one page. Its name is a chain hash: of its own tokens and,
 * through its parent's name, of all tokens before it; the first block's parent is the tenant's salt,
 * so tenants never share. Only full blocks are cached; a sequence writes only into pages of its own
 * (copy on write never copies: the page in which it goes on is never shared).
 *
 * The cache holds one reference of each page it knows. A page that nobody else holds is evictable:
 * it leaves, least recently used first and children before parents, when the pool runs out. Names
 * are 64 bits of XXH3, and the tokens themselves are compared before a page is shared: a collision
 * costs a miss, never a wrong token. Network thread only. */
#ifndef TANDEM_KV_PREFIX_H
#define TANDEM_KV_PREFIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "kv/kv_pool.h"

/* The name of the block tokens[KV_PAGE_TOKENS] after `parent` (the salt for the first block). The
 * router's index knows blocks by the low 32 bits. */
static inline uint64_t prefix_name(uint64_t parent, const uint32_t *tokens)
{
    return hash64(tokens, KV_PAGE_TOKENS * sizeof(*tokens), parent);
}

struct prefix;

/* A cache over pool (borrowed). limit: blocks that it may know, at most; a full cache evicts for a new
 * one. 0: the cache is off and knows nothing. Owned by the caller. prefix_free gives all references
 * back. */
struct prefix *prefix_new(struct kv_pool *pool, uint32_t limit);
void prefix_free(struct prefix **p);

/* How many leading blocks of tokens[n] are known; never the whole prompt: at least one token is left
 * to compute. Writes their page ids to ids[n / KV_PAGE_TOKENS], takes a reference of each for the
 * caller, and marks them used. */
uint32_t prefix_match(struct prefix *p, uint64_t salt, const uint32_t *tokens, uint32_t n,
                      uint32_t *ids);

/* The full blocks of tokens[n] have their KV, complete and final, in ids[n / KV_PAGE_TOKENS]. Those
 * that are not known yet become known and are referenced. */
void prefix_insert(struct prefix *p, uint64_t salt, const uint32_t *tokens, uint32_t n,
                   const uint32_t *ids);

/* kv_pool_take, evicting what only the cache holds if needed. */
bool prefix_take(struct prefix *p, uint32_t *ids, uint32_t n);

/* Pages that could be had by eviction now. */
uint32_t prefix_evictable(const struct prefix *p);

/* What was gained and lost since the last call, as low halves of names, at most `max` of each; more
 * stays for the next call. A block that came and went in between is in neither list. */
void prefix_changes(struct prefix *p, uint32_t *added, uint32_t *n_added, uint32_t *removed,
                    uint32_t *n_removed, uint32_t max);
/* From now on prefix_changes starts from nothing: tells everything that is known anew. */
void prefix_changes_reset(struct prefix *p);

#endif
