/* chunk: which tokens of which prompts the next forward pass computes. Pure.
 *
 * In the order of jobs.h, up to the budget; what a prompt leaves of it the next prompt takes, so short
 * ones share a pass. A prompt is cut at page boundaries only, so a chunk completes pages. Behind a job
 * for which no pages can be had nobody starts, but those that have theirs go on: it waits for them. */
#ifndef TANDEM_PREFILL_CHUNK_H
#define TANDEM_PREFILL_CHUNK_H

#include <stdbool.h>
#include <stdint.h>

#include "prefill-node/jobs.h"

/* Tokens first .. first + count of a job. */
struct span {
    uint32_t job; /* place in jobs.items */
    uint32_t first, count;
    bool last;    /* ends the prompt: its last row wants logits */
};

/* Fills spans[jobs.n] with at most budget tokens, a multiple of 32, and returns their number. Starts
 * queued jobs (takes their pages) and marks all of them as in the chunk. */
uint32_t chunk_plan(struct jobs *j, struct span *spans, uint32_t budget, int64_t now);

#endif
