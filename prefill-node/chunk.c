#include "prefill-node/chunk.h"

#include "base/check.h"
#include "kv/kv_layout.h"

/* How much of a job's rest fits: all, or whole pages. */
static uint32_t chunk_count(uint32_t left, uint32_t budget)
{
    return left <= budget ? left : budget - budget % KV_PAGE_TOKENS;
}

uint32_t chunk_plan(struct jobs *j, struct span *spans, uint32_t budget, int64_t now)
{
    bool full = false;
    uint32_t n = 0;

    ASSERT(budget && budget % KV_PAGE_TOKENS == 0);
    for (uint32_t i = 0; i < j->n_order && budget; i++) {
        struct job *job = &j->items[j->order[i]];
        uint32_t left, count;

        if (job->state != JOB_QUEUED && job->state != JOB_COMPUTING)
            continue;
        if (!chunk_count(job->n_tokens - job->done, budget))
            break;
        if (job->state == JOB_QUEUED && (full || !jobs_start(j, job, now))) {
            full = true;
            continue;
        }
        left = job->n_tokens - job->done;
        count = chunk_count(left, budget);
        job->in_chunk = true;
        job->chunk_end = job->done + count;
        job->chunk_layers = 0;
        budget -= count;
        spans[n++] = (struct span){j->order[i], job->done, count, count == left};
    }
    return n;
}
