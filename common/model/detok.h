/* detok: token ids to text, one id at a time, for a client that must only ever see whole
 * characters.
 *
 * Bytes of a character that is not complete yet are held back (at most 3); what can never become
 * one is given out as U+FFFD, one for each maximal subpart, as the Unicode standard recommends. One
 * thread at a time; borrows the vocabulary; needs no cleanup. */
#ifndef TANDEM_MODEL_DETOK_H
#define TANDEM_MODEL_DETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "model/vocab.h"

enum detok_flags {
    DETOK_SPECIAL = 1, /* control and unknown tokens as their names; otherwise they give nothing */
    /* The ids are a whole text that vocab_tokenize made: the space it put in front is taken off
     * again. Without it the text continues a prompt, and a leading space belongs to it. */
    DETOK_WHOLE = 2
};

struct detok {
    const struct vocab *vocab;
    unsigned flags;
    bool started; /* some text has come */
    uint8_t n_held;
    char held[4];
};

void detok_init(struct detok *d, const struct vocab *v, unsigned flags);

/* Appends what became complete with this token. Ids past the vocabulary give nothing: they come
 * from a client or a file. */
void detok_add(struct detok *d, uint32_t id, struct str *out);

/* The same for bytes that come from elsewhere. */
void detok_add_bytes(struct detok *d, const char *bytes, size_t n, struct str *out);

/* The end: an incomplete character becomes U+FFFD. Ready for another text afterwards. */
void detok_finish(struct detok *d, struct str *out);

#endif
