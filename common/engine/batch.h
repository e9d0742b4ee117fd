/* batch: the rows of one forward pass. Plain data. */
#ifndef TANDEM_ENGINE_BATCH_H
#define TANDEM_ENGINE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

/* One token of one sequence. Its KV is written to slot pos % 32 of pages[pos / 32], and it attends
 * to positions 0 .. pos of the same pages. Rows of one sequence stand in ascending pos; what lies
 * before the first of them is in the pages already. */
struct batch_row {
    uint32_t token;        /* < n_vocab */
    uint32_t pos;          /* < ctx_max */
    uint8_t *const *pages; /* the sequence's block table: bytes of the pages of tokens 32i .. 32i + 31 */
    bool want_logits;
};

struct batch {
    const struct batch_row *rows;
    uint32_t n; /* 1 .. rows_max */
    /* Called on the compute thread when the KV of every row is in place for that layer, ascending;
     * the pages' bytes of that layer are final. NULL: not called. */
    void (*layer_done)(void *ctx, uint32_t layer);
    void *ctx;
};

#endif
