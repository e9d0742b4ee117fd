#include "kv/kv_pool.h"

#include "base/check.h"
#include "base/mem.h"

struct kv_pool {
    struct mem_map map;
    size_t page_bytes;
    uint32_t total, n_free;
    uint32_t *free_ids; /* a stack: the page returned last is the warmest */
    uint32_t *refs;
};

int kv_pool_open(struct kv_pool **out, const struct kv_layout *l, uint32_t n_pages, struct err *e)
{
    struct kv_pool *p;
    size_t bytes;
    int rc;

    *out = NULL;
    if (!n_pages || !size_mul(&bytes, l->page_bytes, n_pages))
        return err_set(e, ERR_LIMIT, "a KV pool of %u pages of %zu bytes is not possible", n_pages,
                       l->page_bytes);
    p = mem_zalloc(sizeof(*p));
    rc = mem_map_open(&p->map, bytes, true, e);
    if (rc) {
        err_wrap(e, "KV pool of %u pages", n_pages);
        kv_pool_close(&p);
        return rc;
    }
    p->page_bytes = l->page_bytes;
    p->total = p->n_free = n_pages;
    p->free_ids = mem_calloc(n_pages, sizeof(*p->free_ids));
    p->refs = mem_calloc(n_pages, sizeof(*p->refs));
    for (uint32_t i = 0; i < n_pages; i++)
        p->free_ids[i] = n_pages - 1 - i;
    *out = p;
    return 0;
}

void kv_pool_close(struct kv_pool **pool)
{
    struct kv_pool *p = *pool;

    if (!p)
        return;
    mem_map_close(&p->map);
    mem_free(p->free_ids);
    mem_free(p->refs);
    mem_free(p);
    *pool = NULL;
}

bool kv_pool_take(struct kv_pool *p, uint32_t *ids, uint32_t n)
{
    if (n > p->n_free)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = p->free_ids[--p->n_free];
        p->refs[ids[i]] = 1;
    }
    return true;
}

void kv_pool_ref(struct kv_pool *p, uint32_t id)
{
    ASSERT(id < p->total && p->refs[id] > 0 && p->refs[id] < UINT32_MAX);
    p->refs[id]++;
}

void kv_pool_unref(struct kv_pool *p, uint32_t id)
{
    ASSERT(id < p->total && p->refs[id] > 0);
    if (--p->refs[id] == 0)
        p->free_ids[p->n_free++] = id;
}

uint32_t kv_pool_refs(const struct kv_pool *p, uint32_t id)
{
    ASSERT(id < p->total);
    return p->refs[id];
}

uint8_t *kv_pool_page(const struct kv_pool *p, uint32_t id)
{
    ASSERT(id < p->total);
    return (uint8_t *)p->map.data + id * p->page_bytes;
}

uint32_t kv_pool_free_count(const struct kv_pool *p) { return p->n_free; }

uint32_t kv_pool_total(const struct kv_pool *p) { return p->total; }

void *kv_pool_memory(const struct kv_pool *p, size_t *bytes)
{
    *bytes = p->map.size;
    return p->map.data;
}
