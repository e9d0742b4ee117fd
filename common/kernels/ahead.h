/* ahead: asks memory for the pages that attention comes to, four pages before it does.
 *
 * A kv head's part of a page is too short for the hardware's prefetcher, and the next page's is far
 * away. What a core can ask for itself is some 16 lines at a time, half of what memory can give; the
 * rest must come from the prefetcher, which is the further ahead the slower it is followed, but must
 * learn each 4 KiB by some dozen lines first. So K and V of four pages are walked side by side, a few
 * lines at a time, each page behind the one before, lest all be learnt at once and then none. Who works
 * on pages turns to each (ahead_turn), and asks as evenly as it can (ahead_ask) so often a page that
 * every page has been walked when its turn comes. */
#ifndef TANDEM_KERNELS_AHEAD_H
#define TANDEM_KERNELS_AHEAD_H

#include "kernels/kernels.h"
#include "kernels/tile.h"

#define AHEAD_PAGES 4
#define AHEAD_LINE 64

struct ahead {
    const struct attention *a;
    size_t at, next, v; /* bytes from a page's start to K, in the segment and in a->next; from K to V */
    uint32_t pages;     /* of the segment */
    uint32_t turn;      /* of these, turned to */
    uint32_t asked, room; /* times since ahead_room, and at most; 0: all is in cache */
    const uint8_t *k[AHEAD_PAGES]; /* the lines to ask for now */
};

/* The i-th page of the segment; past its end those that the caller will read next, and past these one
 * that is there anyway. */
static inline const uint8_t *ahead_page(const struct ahead *x, uint32_t i)
{
    uint8_t *const *first = x->a->pages + x->a->first / KV_PAGE_TOKENS;

    if (i < x->pages)
        return first[i] + x->at;
    if (i - x->pages < x->a->next_count)
        return x->a->next[i - x->pages] + x->next;
    return first[0] + x->at;
}

/* The start of a segment of n tokens, where the one before ended: all of page j has been asked for but the
 * last j * behind lines. */
static inline void ahead_init(struct ahead *x, const struct attention *a, uint32_t n, uint32_t behind)
{
    *x = (struct ahead){.v = a->layout->v_offset,
                        .pages = kv_layout_pages(n),
                        .at = kv_layout_k(a->layout, a->layer, a->head),
                        .next = kv_layout_k(a->layout, a->layer, a->next_head),
                        .a = a};
    for (uint32_t j = 0; j < AHEAD_PAGES; j++)
        x->k[j] = ahead_page(x, j) + x->v - (size_t)j * behind * AHEAD_LINE;
}

/* Before work on the next page: what lay with it is for the page four on. */
static inline void ahead_turn(struct ahead *x)
{
    x->k[x->turn % AHEAD_PAGES] = ahead_page(x, x->turn + AHEAD_PAGES);
    x->turn++;
}

/* Lines of each of the four that go with one page; even, as ahead_ask takes two. */
static inline uint32_t ahead_lines(const struct kv_layout *l)
{
    return (uint32_t)(l->v_offset / AHEAD_LINE + 2 * AHEAD_PAGES - 1) / (2 * AHEAD_PAGES) * 2;
}

/* Before work on so many pages: the lines that go with them. */
static inline void ahead_room(struct ahead *x, uint32_t pages)
{
    x->asked = 0;
    x->room = ahead_lines(x->a->layout) * pages;
}

/* Two lines of K and of V of every other page, if there is room: into L2, as L1 is full of what is at
 * work. */
TILE_INLINE void ahead_ask(struct ahead *x)
{
    if (x->asked >= x->room)
        return;
    x->asked++;
    for (uint32_t j = x->asked % 2; j < AHEAD_PAGES; j += 2) {
        __builtin_prefetch(x->k[j], 0, 2);
        __builtin_prefetch(x->k[j] + AHEAD_LINE, 0, 2);
        __builtin_prefetch(x->k[j] + x->v, 0, 2);
        __builtin_prefetch(x->k[j] + x->v + AHEAD_LINE, 0, 2);
        x->k[j] += 2 * AHEAD_LINE;
    }
}

/* So much that part / parts of the room have been asked for. */
static inline void ahead_ask_part(struct ahead *x, uint32_t part, uint32_t parts)
{
    for (uint32_t n = x->room * part / parts; x->asked < n;)
        ahead_ask(x);
}

/* The rest of the room. */
static inline void ahead_ask_rest(struct ahead *x)
{
    ahead_ask_part(x, 1, 1);
}

#endif
