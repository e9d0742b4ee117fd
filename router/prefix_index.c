#include "router/prefix_index.h"

#include "base/mem.h"
#include "kv/prefix.h"

#define PREFIX_INDEX_MIN 64 /* slots */

void prefix_index_fini(struct prefix_index *x)
{
    mem_free(x->slots);
    *x = (struct prefix_index){0};
}

/* 0 marks a free slot: that name is another's. */
static uint32_t index_key(uint32_t name) { return name ? name : 1; }

/* Where the name is, or the free slot where it would be. Names are hashes: they need no other. */
static uint32_t index_slot(const struct prefix_index *x, uint32_t key)
{
    uint32_t i = key & (x->cap - 1);

    while (x->slots[i] && x->slots[i] != key)
        i = (i + 1) & (x->cap - 1);
    return i;
}

static void index_resize(struct prefix_index *x, uint32_t cap)
{
    struct prefix_index old = *x;

    x->cap = cap;
    x->slots = mem_calloc(x->cap, sizeof(*x->slots));
    for (uint32_t i = 0; i < old.cap; i++) {
        if (old.slots[i])
            x->slots[index_slot(x, old.slots[i])] = old.slots[i];
    }
    mem_free(old.slots);
}

void prefix_index_add(struct prefix_index *x, uint32_t name, uint32_t *total)
{
    uint32_t key = index_key(name), i;

    if (x->n >= PREFIX_INDEX_MAX || *total >= PREFIX_INDEX_TOTAL)
        return;
    if (x->n >= x->cap / 2)
        index_resize(x, x->cap ? x->cap * 2 : PREFIX_INDEX_MIN);
    i = index_slot(x, key);
    if (x->slots[i])
        return;
    x->slots[i] = key;
    x->n++;
    ++*total;
}

void prefix_index_remove(struct prefix_index *x, uint32_t name, uint32_t *total)
{
    uint32_t mask = x->cap - 1, i, j;

    if (!x->n)
        return;
    i = index_slot(x, index_key(name));
    if (!x->slots[i])
        return;
    /* closes the gap: whoever behind it was pushed over this slot moves up */
    for (j = (i + 1) & mask; x->slots[j]; j = (j + 1) & mask) {
        uint32_t home = x->slots[j] & mask;

        if (((j - home) & mask) >= ((j - i) & mask)) {
            x->slots[i] = x->slots[j];
            i = j;
        }
    }
    x->slots[i] = 0;
    x->n--;
    --*total;
    if (x->cap > PREFIX_INDEX_MIN && x->n < x->cap / 8)
        index_resize(x, x->cap / 2);
}

void prefix_index_reset(struct prefix_index *x, uint32_t *total)
{
    *total -= x->n;
    prefix_index_fini(x);
}

uint32_t prefix_index_run(const struct prefix_index *x, const uint32_t *names, uint32_t n)
{
    uint32_t i = 0;

    while (x->n && i < n && x->slots[index_slot(x, index_key(names[i]))])
        i++;
    return i;
}

uint64_t prefix_index_names(uint32_t *names, uint32_t first, uint64_t parent,
                            const uint32_t *tokens, uint32_t n)
{
    for (uint32_t b = first; b < n / KV_PAGE_TOKENS; b++) {
        parent = prefix_name(parent, tokens + (size_t)b * KV_PAGE_TOKENS);
        names[b] = (uint32_t)parent;
    }
    return parent;
}
