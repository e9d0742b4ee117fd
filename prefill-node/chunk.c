#include "prefill-node/chunk.h"

#include "base/check.h"
#include "kv/kv_layout.h"

uint32_t chunk_plan(struct jobs *j, struct span *spans, uint32_t budget, int64_t now)
{
    uint32_t n = 0;

    ASSERT(budget && budget % KV_PAGE_TOKENS == 0);
    for (uint32_t i = 0; i < j->n_order && budget; i++) {
        struct job *job = &j->items[j->order[i]];
        uint32_t left = job->n_tokens - job->done, count = u32_min(left, budget);

        if (job->state != JOB_QUEUED && job->state != JOB_COMPUTING)
            continue;
        if (count < left)
            count -= count % KV_PAGE_TOKENS;
        if (!count || (job->state == JOB_QUEUED && !jobs_start(j, job, now)))
            break;
        job->in_chunk = true;
        job->chunk_end = job->done + count;
        job->chunk_layers = 0;
        budget -= count;
        spans[n++] = (struct span){j->order[i], job->done, count, count == left};
    }
    return n;
}
