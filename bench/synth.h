/* synth: random prompts of an exact number of tokens. With a tokenizer they are words of its
 * vocabulary, as many as give exactly the tokens asked for, BOS included; without, random ids.
 * Immutable after open; the same seed and parts give the same prompt. */
#ifndef TANDEM_BENCH_SYNTH_H
#define TANDEM_BENCH_SYNTH_H

#include <stdint.h>

#include "base/err.h"
#include "bench/prompt.h"
#include "model/vocab.h"

/* A zeroed struct is closed. */
struct synth {
    struct vocab *vocab; /* NULL: ids below n_ids */
    struct token_list words;
    uint32_t n_ids;
    uint64_t seed;
};

/* Tokens that two prompts share if they have a part of the same stream at the same place. */
struct synth_part {
    uint64_t stream; /* below 2^40 */
    uint32_t tokens; /* below 2^24 */
};

/* gguf: path, "" for ids below n_ids (> 0). ERR_UNSUPPORTED: no words to make text of is only found
 * by synth_prompt, as other text needs none. */
int synth_open(struct synth *s, const char *gguf, uint32_t n_ids, uint64_t seed, struct err *e);
void synth_close(struct synth *s);

/* Into an empty prompt: the parts one after the other; the last is cut or drawn longer where the text
 * needs other words for the sum of tokens. ERR_UNSUPPORTED: no such text was found. */
int synth_prompt(struct prompt *out, const struct synth *s, const struct synth_part *parts,
                 uint32_t n_parts, struct err *e);

/* How many tokens a text is for a server that adds BOS and EOS; 0 without a vocabulary. */
uint32_t synth_count(const struct synth *s, const char *text, size_t n);

#endif
