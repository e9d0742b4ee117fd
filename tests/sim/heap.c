#include "tests/sim/heap.h"

#include "base/mem.h"

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

void heap_push(struct heap *h, struct event e)
{
    size_t i = h->n++;

    if (h->n > h->cap) {
        h->cap = h->cap ? 2 * h->cap : 256;
        h->items = mem_realloc(h->items, h->cap * sizeof(*h->items));
    }
    if (!e.seq)
        e.seq = ++h->next_seq;
    while (i > 0 && before(&e, &h->items[(i - 1) / 2])) {
        h->items[i] = h->items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->items[i] = e;
}

bool heap_pop(struct heap *h, struct event *out)
{
    struct event last;
    size_t i = 0;

    if (!h->n)
        return false;
    *out = h->items[0];
    last = h->items[--h->n];
    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= h->n)
            break;
        if (child + 1 < h->n && before(&h->items[child + 1], &h->items[child]))
            child++;
        if (!before(&h->items[child], &last))
            break;
        h->items[i] = h->items[child];
        i = child;
    }
    h->items[i] = last;
    return true;
}

void heap_fini(struct heap *h)
{
    mem_free(h->items);
    *h = (struct heap){0};
}
