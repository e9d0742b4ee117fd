#include "base/ring.h"

#include <stdatomic.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

/* head and tail count items ever pushed and popped; each on its own cache line, so that the two
 * threads do not write the same one. */
// The padding is the point. NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding)
struct ring {
    size_t item_bytes, mask;
    char *items;
    _Alignas(64) atomic_size_t head; /* written by the producer */
    _Alignas(64) atomic_size_t tail; /* written by the consumer */
};

struct ring *ring_new(size_t item_bytes, size_t capacity)
{
    struct ring *r = mem_aligned(sizeof(*r), 64);
    size_t n = 1;

    ASSERT(item_bytes > 0 && capacity > 0 && capacity <= (size_t)1 << 30);
    while (n < capacity)
        n *= 2;
    r->item_bytes = item_bytes;
    r->mask = n - 1;
    r->items = mem_calloc(n, item_bytes);
    atomic_init(&r->head, 0);
    atomic_init(&r->tail, 0);
    return r;
}

void ring_free(struct ring **r)
{
    if (*r)
        mem_free((*r)->items);
    mem_free(*r);
    *r = NULL;
}

bool ring_push(struct ring *r, const void *item)
{
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    /* acquire: matches the release in ring_pop, the slot's old item has been copied out */
    size_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);

    if (head - tail > r->mask)
        return false;
    memcpy(r->items + (head & r->mask) * r->item_bytes, item, r->item_bytes);
    /* release: matches the acquire in ring_pop, the item is visible before the count */
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
    return true;
}

bool ring_pop(struct ring *r, void *item)
{
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    /* acquire: matches the release in ring_push */
    size_t head = atomic_load_explicit(&r->head, memory_order_acquire);

    if (head == tail)
        return false;
    memcpy(item, r->items + (tail & r->mask) * r->item_bytes, r->item_bytes);
    /* release: matches the acquire in ring_push */
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
    return true;
}
