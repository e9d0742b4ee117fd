#include "bench/result.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void result_add(struct result *r, struct record *record, const char *why)
{
    struct failures *f = &r->failures[record->outcome];

    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 256;
        r->records = mem_realloc(r->records, r->cap * sizeof(*r->records));
    }
    r->records[r->n++] = *record;
    if (f->count++ == 0 && record->outcome != OUTCOME_OK)
        snprintf(f->first, sizeof(f->first), "request %u: %s", record->item, why);
}

void result_segment(struct result *r, int64_t start, int64_t end)
{
    r->segments = mem_realloc(r->segments, (r->n_segments + 1) * sizeof(*r->segments));
    r->segments[r->n_segments++] = (struct segment){start, end};
}

void result_fini(struct result *r)
{
    for (size_t i = 0; i < r->n; i++)
        record_fini(&r->records[i]);
    mem_free(r->records);
    mem_free(r->segments);
    series_fini(&r->loop_lag_ms);
    series_fini(&r->start_lag_ms);
    monitor_nodes_fini(&r->nodes);
    memset(r, 0, sizeof(*r));
}
