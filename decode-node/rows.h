/* rows: what the next step computes, and what its tokens mean to each sequence.
 *
 * Continuous batching: every sequence that generates has one row in every step; it joins and leaves
 * between steps. Prompts that are computed here ride along behind those rows, in pieces: `mixed`
 * rows a step while anybody generates, so that a step stays short, `alone` while nobody does. A
 * row's result depends on its own sequence only, so it does not matter to anybody's tokens how a
 * prompt is cut. Pure functions over the slots. */
#ifndef TANDEM_DECODE_ROWS_H
#define TANDEM_DECODE_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "decode-node/slots.h"
#include "net/msg.h"

struct decode_row {
    uint32_t slot;
    uint32_t token, pos;    /* the token to feed and its position */
    bool sample;            /* the last known token of its sequence: it gives the next */
    uint32_t index;         /* of the token that the row will give */
    uint8_t *const *pages;  /* the slot's; constant while the step runs */
    struct sampling sampling;
};

/* Rows of prompts in a step; both at least 1. */
struct rows_budget {
    uint32_t mixed; /* while some sequence generates */
    uint32_t alone; /* while none does */
};

/* The most rows that a step of n slots has. */
uint32_t rows_max(uint32_t slots, const struct rows_budget *b);

/* Fills rows[rows_max] and marks their slots as in the step: rank by rank, prompts last; the rows of a
 * sequence stand together, in ascending pos. Returns their number. */
uint32_t rows_next(struct slots *s, const struct rows_budget *b, struct decode_row *rows);

/* The stream takes `token` at its index: fills out with what the router hears, moves the slot on.
 * A stop token ends the stream and is not part of it (no token, FINISH_STOP); the last token that
 * was asked for ends it with FINISH_LENGTH. The caller drops a slot that has finished. */
void rows_take_token(struct slot *slot, uint32_t token, struct msg_tokens *out);

#endif
