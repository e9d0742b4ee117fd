/* jinja_arena: memory that is freed all at once. One thread. */
#ifndef TANDEM_MODEL_JINJA_ARENA_H
#define TANDEM_MODEL_JINJA_ARENA_H

#include <stddef.h>

/* A zeroed struct is an empty arena. */
struct jinja_arena {
    struct jinja_chunk *chunk; /* the one being filled */
    size_t bytes;              /* handed out so far */
};

/* Zeroed, aligned for anything; never NULL. */
void *jinja_arena_alloc(struct jinja_arena *a, size_t n);
void jinja_arena_fini(struct jinja_arena *a);

#endif
