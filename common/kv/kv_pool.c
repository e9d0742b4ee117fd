#include "kv/kv_pool.h"

#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

struct kv_pool {
    struct mem_map map;
    int fd; /* of the mapping; -1: it is anonymous */
    size_t page_bytes;
    uint32_t total, n_free;
    uint32_t *free_ids; /* a stack: the page returned last is the warmest */
    uint32_t *refs;
};

static int kv_pool_map(struct kv_pool **out, const struct kv_layout *l, uint32_t n_pages, bool shared,
                       struct err *e)
{
    struct kv_pool *p;
    size_t bytes;
    int rc;

    *out = NULL;
    if (!n_pages || !size_mul(&bytes, l->page_bytes, n_pages))
        return err_set(e, ERR_LIMIT, "a KV pool of %u pages of %zu bytes is not possible", n_pages,
                       l->page_bytes);
    p = mem_zalloc(sizeof(*p));
    p->fd = -1;
    rc = shared ? mem_map_open_shared(&p->map, &p->fd, bytes, true, e)
                : mem_map_open(&p->map, bytes, true, e);
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

int kv_pool_open(struct kv_pool **out, const struct kv_layout *l, uint32_t n_pages, struct err *e)
{
    return kv_pool_map(out, l, n_pages, false, e);
}

int kv_pool_open_shared(struct kv_pool **out, const struct kv_layout *l, uint32_t n_pages,
                        struct err *e)
{
    return kv_pool_map(out, l, n_pages, true, e);
}

void kv_pool_close(struct kv_pool **pool)
{
    struct kv_pool *p = *pool;

    if (!p)
        return;
    mem_map_close(&p->map);
    if (p->fd >= 0)
        close(p->fd);
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

size_t kv_pool_offset(const struct kv_pool *p, uint32_t id)
{
    ASSERT(id < p->total);
    return id * p->page_bytes;
}

uint8_t *kv_pool_page(const struct kv_pool *p, uint32_t id)
{
    return (uint8_t *)p->map.data + kv_pool_offset(p, id);
}

void kv_pool_clear(struct kv_pool *p, uint32_t id)
{
    ASSERT(kv_pool_refs(p, id) == 1);
    memset(kv_pool_page(p, id), 0, p->page_bytes);
}

uint32_t kv_pool_free_count(const struct kv_pool *p) { return p->n_free; }

uint32_t kv_pool_total(const struct kv_pool *p) { return p->total; }

void *kv_pool_memory(const struct kv_pool *p, size_t *bytes)
{
    *bytes = p->map.size;
    return p->map.data;
}

int kv_pool_fd(const struct kv_pool *p) { return p->fd; }
