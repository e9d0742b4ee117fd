/* ring: bounded queue between exactly one producer thread and one consumer thread; the only way the
 * network thread and a compute thread meet. Items are copied by value. */
#ifndef TANDEM_BASE_RING_H
#define TANDEM_BASE_RING_H

#include <stdbool.h>
#include <stddef.h>

struct ring;

/* capacity: items, rounded up to a power of two. Owned by the caller. */
struct ring *ring_new(size_t item_bytes, size_t capacity);
void ring_free(struct ring **r);

/* Producer only. Copies the item in; false if full. */
bool ring_push(struct ring *r, const void *item);

/* Consumer only. Copies the oldest item out; false if empty. */
bool ring_pop(struct ring *r, void *item);

#endif
