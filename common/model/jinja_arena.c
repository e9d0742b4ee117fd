#include "model/jinja_arena.h"

#include <stdalign.h>

#include "base/check.h"
#include "base/mem.h"

#define CHUNK_BYTES ((size_t)64 << 10)

struct jinja_chunk {
    struct jinja_chunk *older;
    size_t used, cap;
    alignas(max_align_t) char data[];
};

void *jinja_arena_alloc(struct jinja_arena *a, size_t n)
{
    struct jinja_chunk *c = a->chunk;
    void *p;

    ASSERT(n < SIZE_MAX / 2);
    n = size_round_up(n, alignof(max_align_t));
    if (!c || c->cap - c->used < n) {
        size_t cap = size_max(CHUNK_BYTES, n);

        c = mem_zalloc(sizeof(*c) + cap);
        c->cap = cap;
        c->older = a->chunk;
        a->chunk = c;
    }
    p = c->data + c->used;
    c->used += n;
    a->bytes += n;
    return p;
}

void jinja_arena_fini(struct jinja_arena *a)
{
    for (struct jinja_chunk *c = a->chunk, *older; c; c = older) {
        older = c->older;
        mem_free(c);
    }
    *a = (struct jinja_arena){0};
}
