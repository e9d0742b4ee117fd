/* map: hash table from a 64-bit id to a pointer it does not own. One thread. */
#ifndef TANDEM_BASE_MAP_H
#define TANDEM_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

/* A zeroed struct is an empty map. */
struct map {
    struct map_slot *slots;
    size_t cap;  /* a power of two, or 0 */
    size_t len;  /* keys present */
    size_t used; /* keys present and removed */
};

void map_fini(struct map *m);

/* The value, NULL if absent. */
void *map_get(const struct map *m, uint64_t key);

/* Sets or replaces; value is not NULL. */
void map_put(struct map *m, uint64_t key, void *value);

/* Removes and returns the value, NULL if absent. */
void *map_del(struct map *m, uint64_t key);

/* Walks all values in no order: start with *iter = 0, ends with NULL. The map may lose, not gain,
 * keys meanwhile. */
void *map_next(const struct map *m, size_t *iter);
/* The key of the value that map_next returned last. */
uint64_t map_key(const struct map *m, size_t iter);

#endif
