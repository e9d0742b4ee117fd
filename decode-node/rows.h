/* rows: which sequences the next decode step serves, and what its tokens mean to each.
 * Continuous batching: every running sequence has one row in every step; it joins and leaves
 * between steps. Pure functions over the slots. */
#ifndef TANDEM_DECODE_ROWS_H
#define TANDEM_DECODE_ROWS_H

#include <stdint.h>

#include "decode-node/slots.h"
#include "net/msg.h"

struct decode_row {
    uint32_t slot;
    uint32_t token, pos;    /* the token to feed and its position */
    uint32_t index;         /* of the token that the row will give */
    uint8_t *const *pages;  /* the slot's; constant while the step runs */
    struct sampling sampling;
};

/* Fills rows[slots.n] with one row for each running slot and marks those as in the step. Returns
 * their number. */
uint32_t rows_next(struct slots *s, struct decode_row *rows);

/* The stream takes `token` at its index: fills out with what the router hears, moves the slot on.
 * A stop token ends the stream and is not part of it (no token, FINISH_STOP); the last token that
 * was asked for ends it with FINISH_LENGTH. The caller drops a slot that has finished. */
void rows_take_token(struct slot *slot, uint32_t token, struct msg_tokens *out);

#endif
