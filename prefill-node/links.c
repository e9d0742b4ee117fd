#include "prefill-node/links.h"

#include <string.h>

uint32_t links_find(const struct links *l, const char *endpoint)
{
    for (uint32_t i = 0; i < PREFILL_LINKS_MAX; i++)
        if (l->items[i].phase != LINK_FREE && strcmp(l->items[i].endpoint, endpoint) == 0)
            return i;
    return UINT32_MAX;
}

uint32_t links_place(const struct links *l)
{
    uint32_t oldest = UINT32_MAX;

    for (uint32_t i = 0; i < PREFILL_LINKS_MAX; i++) {
        const struct decode_link *k = &l->items[i];

        if (k->phase == LINK_FREE)
            return i;
        if (!k->n_jobs && (oldest == UINT32_MAX || k->used < l->items[oldest].used))
            oldest = i;
    }
    return oldest;
}
