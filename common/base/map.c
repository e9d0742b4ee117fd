#include "base/map.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

/* Open addressing, linear probing. value NULL: empty, or a grave if dead is set. */
struct map_slot {
    uint64_t key;
    void *value;
    char dead;
};

/* Finaliser of splitmix64: ids are often consecutive. */
static size_t map_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (size_t)x;
}

static struct map_slot *map_find(const struct map *m, uint64_t key)
{
    size_t i;

    if (!m->cap)
        return NULL;
    for (i = map_mix(key) & (m->cap - 1); m->slots[i].value || m->slots[i].dead;
         i = (i + 1) & (m->cap - 1)) {
        if (m->slots[i].value && m->slots[i].key == key)
            return &m->slots[i];
    }
    return NULL;
}

static void map_grow(struct map *m)
{
    struct map old = *m;

    m->cap = old.cap && old.len * 4 < old.cap ? old.cap : size_max(16, old.cap * 2);
    m->slots = mem_calloc(m->cap, sizeof(*m->slots));
    m->len = m->used = 0;
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].value)
            map_put(m, old.slots[i].key, old.slots[i].value);
    }
    mem_free(old.slots);
}

void map_fini(struct map *m)
{
    mem_free(m->slots);
    *m = (struct map){0};
}

void *map_get(const struct map *m, uint64_t key)
{
    struct map_slot *s = map_find(m, key);

    return s ? s->value : NULL;
}

void map_put(struct map *m, uint64_t key, void *value)
{
    struct map_slot *s = map_find(m, key);
    size_t i;

    ASSERT(value);
    if (s) {
        s->value = value;
        return;
    }
    if ((m->used + 1) * 4 > m->cap * 3)
        map_grow(m);
    for (i = map_mix(key) & (m->cap - 1); m->slots[i].value; i = (i + 1) & (m->cap - 1))
        ;
    if (!m->slots[i].dead)
        m->used++;
    m->slots[i] = (struct map_slot){.key = key, .value = value};
    m->len++;
}

void *map_del(struct map *m, uint64_t key)
{
    struct map_slot *s = map_find(m, key);
    void *value;

    if (!s)
        return NULL;
    value = s->value;
    s->value = NULL;
    s->dead = 1;
    m->len--;
    return value;
}

void *map_next(const struct map *m, size_t *iter)
{
    while (*iter < m->cap) {
        void *value = m->slots[(*iter)++].value;

        if (value)
            return value;
    }
    return NULL;
}

uint64_t map_key(const struct map *m, size_t iter) { return m->slots[iter - 1].key; }
