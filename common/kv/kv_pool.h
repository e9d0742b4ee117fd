/* kv_pool: the fixed pool of KV pages of one node, allocated once at start.
 *
 * The network thread owns the pool: it takes, shares and returns pages. The compute thread only
 * reads and writes the bytes of pages that a running batch names, and those are not returned before
 * the batch has ended. Page ids are 0 <= id < total. */
#ifndef TANDEM_KV_KV_POOL_H
#define TANDEM_KV_KV_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kv/kv_layout.h"

struct kv_pool;

/* Maps n_pages pages (cleared, not yet resident). ERR_MEMORY, ERR_LIMIT. Owned by the caller. */
int kv_pool_open(struct kv_pool **pool, const struct kv_layout *l, uint32_t n_pages, struct err *e);
/* As kv_pool_open, in memory that other processes can map (mem_map_open_shared). ERR_UNSUPPORTED too. */
int kv_pool_open_shared(struct kv_pool **pool, const struct kv_layout *l, uint32_t n_pages,
                        struct err *e);
void kv_pool_close(struct kv_pool **pool);

/* Takes n free pages, one reference each, into ids[n]. All or nothing; false: fewer are free. */
bool kv_pool_take(struct kv_pool *pool, uint32_t *ids, uint32_t n);

/* One more or one fewer reference; at zero the page is free. */
void kv_pool_ref(struct kv_pool *pool, uint32_t id);
void kv_pool_unref(struct kv_pool *pool, uint32_t id);
uint32_t kv_pool_refs(const struct kv_pool *pool, uint32_t id);

/* The page's bytes (kv_layout.page_bytes), 64-byte aligned; they live as long as the pool. */
uint8_t *kv_pool_page(const struct kv_pool *pool, uint32_t id);
/* Bytes from the begin of kv_pool_memory to the page. */
size_t kv_pool_offset(const struct kv_pool *pool, uint32_t id);
/* Sets all bytes of a page, which the caller has taken, to zero. */
void kv_pool_clear(struct kv_pool *pool, uint32_t id);

uint32_t kv_pool_free_count(const struct kv_pool *pool);
uint32_t kv_pool_total(const struct kv_pool *pool);
/* The whole mapping, to bind it to a NUMA domain before its first use. */
void *kv_pool_memory(const struct kv_pool *pool, size_t *bytes);
/* The file that other processes can map, the pool's; -1: it is not shared. */
int kv_pool_fd(const struct kv_pool *pool);

#endif
