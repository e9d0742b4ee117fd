#include "kv/prefix.h"

#include <string.h>

#include "base/check.h"
#include "base/map.h"
#include "base/mem.h"

/* Blocks are in two lists. `used` is in order of use: a chain is always touched as a whole, its last
 * block first, so a parent is newer than all its children, and one walk from the oldest meets children
 * before parents. `untold` holds what prefix_changes has not yet told, parents first. */
struct block {
    uint64_t name;
    uint64_t salt;        /* of a first block */
    struct block *parent; /* NULL: a first block */
    struct block *older, *newer;
    struct block *before, *after; /* in untold */
    uint32_t tokens[KV_PAGE_TOKENS];
    uint32_t page;
    uint32_t n_children; /* known blocks that follow this one */
    bool told;
    bool held; /* scratch of prefix_evictable: a descendant is in use */
};

struct prefix {
    struct kv_pool *pool;
    struct block *blocks;     /* [limit], allocated once */
    struct block *free;       /* linked by newer */
    struct map known;         /* name -> block */
    struct map lost;          /* names that were told and then left, to be told */
    struct block *oldest, *newest;
    struct block *first_untold, *last_untold;
};

struct prefix *prefix_new(struct kv_pool *pool, uint32_t limit)
{
    struct prefix *p = mem_zalloc(sizeof(*p));

    limit = u32_min(limit, kv_pool_total(pool));
    p->pool = pool;
    p->blocks = mem_calloc(limit, sizeof(*p->blocks));
    for (uint32_t i = limit; i-- > 0;) {
        p->blocks[i].newer = p->free;
        p->free = &p->blocks[i];
    }
    return p;
}

static void used_unlink(struct prefix *p, struct block *b)
{
    *(b->older ? &b->older->newer : &p->oldest) = b->newer;
    *(b->newer ? &b->newer->older : &p->newest) = b->older;
}

static void used_append(struct prefix *p, struct block *b)
{
    b->older = p->newest;
    b->newer = NULL;
    *(p->newest ? &p->newest->newer : &p->oldest) = b;
    p->newest = b;
}

static void untold_unlink(struct prefix *p, struct block *b)
{
    *(b->before ? &b->before->after : &p->first_untold) = b->after;
    *(b->after ? &b->after->before : &p->last_untold) = b->before;
    b->told = true;
}

static void untold_append(struct prefix *p, struct block *b)
{
    b->told = false;
    b->before = p->last_untold;
    b->after = NULL;
    *(p->last_untold ? &p->last_untold->after : &p->first_untold) = b;
    p->last_untold = b;
}

/* Forgets a block that has no children, and gives its page back. */
static void block_drop(struct prefix *p, struct block *b)
{
    ASSERT(!b->n_children);
    map_del(&p->known, b->name);
    if (b->told)
        map_put(&p->lost, b->name, p);
    else
        untold_unlink(p, b);
    if (b->parent)
        b->parent->n_children--;
    used_unlink(p, b);
    kv_pool_unref(p->pool, b->page);
    b->newer = p->free;
    p->free = b;
}

void prefix_free(struct prefix **prefix)
{
    struct prefix *p = *prefix;

    if (!p)
        return;
    while (p->oldest)
        block_drop(p, p->oldest);
    map_fini(&p->known);
    map_fini(&p->lost);
    mem_free(p->blocks);
    mem_free(p);
    *prefix = NULL;
}

/* Evicts up to n blocks, oldest first. */
static void prefix_evict(struct prefix *p, uint32_t n)
{
    struct block *newer;

    for (struct block *b = p->oldest; b && n; b = newer) {
        newer = b->newer;
        if (b->n_children || kv_pool_refs(p->pool, b->page) > 1)
            continue;
        block_drop(p, b);
        n--;
    }
}

/* The known block of these tokens after parent (or after salt, if that is NULL). */
static struct block *block_find(const struct prefix *p, const struct block *parent, uint64_t salt,
                                const uint32_t *tokens)
{
    struct block *b = map_get(&p->known, prefix_name(parent ? parent->name : salt, tokens));

    if (!b || b->parent != parent || (!parent && b->salt != salt) ||
        memcmp(b->tokens, tokens, sizeof(b->tokens)) != 0)
        return NULL;
    return b;
}

/* Adds a block that block_find did not find. NULL: its name is another block's, or the cache is full of
 * blocks in use. */
static struct block *block_add(struct prefix *p, struct block *parent, uint64_t salt,
                               const uint32_t *tokens, uint32_t page)
{
    uint64_t name = prefix_name(parent ? parent->name : salt, tokens);
    struct block *b;

    if (map_get(&p->known, name))
        return NULL;
    if (parent)
        parent->n_children++; /* from here on nobody evicts it */
    if (!p->free)
        prefix_evict(p, 1);
    b = p->free;
    if (!b) {
        if (parent)
            parent->n_children--;
        return NULL;
    }
    p->free = b->newer;
    *b = (struct block){.name = name, .salt = salt, .parent = parent, .page = page, .told = true};
    memcpy(b->tokens, tokens, sizeof(b->tokens));
    kv_pool_ref(p->pool, page);
    map_put(&p->known, name, b);
    used_append(p, b);
    if (!map_del(&p->lost, name)) /* else it left and is back before anyone was told */
        untold_append(p, b);
    return b;
}

/* Marks a chain used, from its last block. */
static void chain_touch(struct prefix *p, struct block *last)
{
    for (struct block *b = last; b; b = b->parent) {
        used_unlink(p, b);
        used_append(p, b);
    }
}

uint32_t prefix_match(struct prefix *p, uint64_t salt, const uint32_t *tokens, uint32_t n,
                      uint32_t *ids)
{
    uint32_t most = n ? (n - 1) / KV_PAGE_TOKENS : 0, found = 0;
    struct block *last = NULL, *b;

    while (found < most &&
           (b = block_find(p, last, salt, tokens + (size_t)found * KV_PAGE_TOKENS))) {
        kv_pool_ref(p->pool, b->page);
        ids[found++] = b->page;
        last = b;
    }
    chain_touch(p, last);
    return found;
}

void prefix_insert(struct prefix *p, uint64_t salt, const uint32_t *tokens, uint32_t n,
                   const uint32_t *ids)
{
    struct block *last = NULL, *b;

    for (uint32_t i = 0; i < n / KV_PAGE_TOKENS; i++, last = b) {
        const uint32_t *block = tokens + (size_t)i * KV_PAGE_TOKENS;

        b = block_find(p, last, salt, block);
        if (!b)
            b = block_add(p, last, salt, block, ids[i]);
        if (!b)
            break;
    }
    chain_touch(p, last);
}

uint32_t prefix_evictable(const struct prefix *p)
{
    uint32_t n = 0;

    for (struct block *b = p->oldest; b; b = b->newer) {
        bool held = b->held || kv_pool_refs(p->pool, b->page) > 1;

        b->held = false;
        if (held && b->parent)
            b->parent->held = true;
        n += !held;
    }
    return n;
}

bool prefix_take(struct prefix *p, uint32_t *ids, uint32_t n)
{
    uint32_t there = kv_pool_free_count(p->pool);

    if (n > there && n - there > prefix_evictable(p))
        return false; /* nothing is evicted in vain */
    if (n > there)
        prefix_evict(p, n - there);
    return kv_pool_take(p->pool, ids, n);
}

void prefix_changes(struct prefix *p, uint32_t *added, uint32_t *n_added, uint32_t *removed,
                    uint32_t *n_removed, uint32_t max)
{
    size_t iter = 0;

    for (*n_added = 0; *n_added < max && p->first_untold;) {
        added[(*n_added)++] = (uint32_t)p->first_untold->name;
        untold_unlink(p, p->first_untold);
    }
    for (*n_removed = 0; *n_removed < max && map_next(&p->lost, &iter);) {
        uint64_t name = map_key(&p->lost, iter);

        removed[(*n_removed)++] = (uint32_t)name;
        map_del(&p->lost, name);
    }
}

void prefix_changes_reset(struct prefix *p)
{
    map_fini(&p->lost);
    p->first_untold = p->last_untold = NULL;
    for (struct block *b = p->newest; b; b = b->older)
        untold_append(p, b);
}
