/* vocab_priv: the inside of struct vocab, for vocab.c and spm.c only. */
#ifndef TANDEM_MODEL_VOCAB_PRIV_H
#define TANDEM_MODEL_VOCAB_PRIV_H

#include "model/vocab.h"

#define VOCAB_NONE UINT32_MAX

/* Texts have U+2581 written as one space already, but in control and byte tokens, whose texts are
 * names. So the merges work on plain text, and a piece is a copy. */
struct vocab {
    uint32_t n;
    char *text;      /* all texts, one after another */
    uint32_t *start; /* [n + 1] offsets into text */
    float *score;    /* [n], no NaN */
    uint8_t *type;   /* [n] enum token_type */
    uint8_t *eog;    /* [n] */
    int32_t bos, eos, unk;
    bool add_bos, add_eos, add_space_prefix;
    uint32_t bytes[256];  /* token of a byte, VOCAB_NONE: unk stands in */
    uint32_t token_bytes; /* longest text that merging can make */
    uint32_t *slots;      /* text -> id of tokens that merging can make; open addressing */
    size_t slot_mask;     /* slots - 1, slots a power of two */
    uint64_t *pairs;      /* filter: may these two characters be neighbours inside a token? */
    size_t pair_mask;     /* bits - 1, bits a power of two */
    uint32_t *special;    /* control, user-defined, unknown tokens by text */
    uint32_t n_special;
    uint32_t special_at[257]; /* those that start with byte b: special_at[b] to special_at[b + 1] */
};

/* Work done by one call, to show that it is linear where time would be a weak witness. */
struct spm_work {
    uint64_t lookups; /* texts looked up in the vocabulary */
    uint64_t pops;    /* candidates taken from the heap */
    uint64_t chunks;  /* stretches merged on their own */
};

static inline const char *vocab_text(const struct vocab *v, uint32_t id, size_t *n)
{
    *n = v->start[id + 1] - v->start[id];
    return v->text + v->start[id];
}

/* A character for the merges: a code point, or 0x110000 + byte where the text is ill-formed.
 * Returns its bytes. */
size_t vocab_symbol(const char *s, size_t n, uint32_t *sym);

/* The mergeable token with this text, or VOCAB_NONE. */
uint32_t vocab_find(const struct vocab *v, const char *s, size_t n);

/* Bit of the filter for the neighbours a, b. False positives only cost time. */
static inline size_t vocab_pair_bit(const struct vocab *v, uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9E3779B97F4A7C15u; /* Fibonacci hashing */

    return (size_t)(h >> 32 ^ h >> 17) & v->pair_mask;
}

/* vocab_tokenize_mixed, counting into work if it is not NULL. parse_special false: no control token
 * anywhere. */
int spm_tokenize(const struct vocab *v, struct token_list *out, const char *text, size_t n,
                 const struct text_range *literal, size_t n_literal, bool add_special,
                 bool parse_special, struct spm_work *work, struct err *e);

#endif
