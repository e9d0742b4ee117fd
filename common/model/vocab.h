/* vocab: the vocabulary of a model: text to token ids and ids to bytes.
 *
 * Made once from a GGUF file (or from plain arrays) and immutable afterwards, so any thread may use
 * it. It copies what it needs: the file may be closed. Tokenizer models: SentencePiece ("llama").
 * Ids to text for a client, a character at a time: detok.h. Messages to a prompt: chat.h. */
#ifndef TANDEM_MODEL_VOCAB_H
#define TANDEM_MODEL_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define VOCAB_TOKENS_MAX      (1u << 21) /* an array's limit in a GGUF file */
#define VOCAB_TOKEN_BYTES_MAX 4096       /* longest token text; real ones end near 256 */
#define VOCAB_TEXT_BYTES_MAX  (1u << 30) /* of one call to tokenize */
#define VOCAB_EOG_MAX         16         /* end-of-generation tokens listed */

struct gguf;
struct vocab;

/* Values of tokenizer.ggml.token_type. */
enum token_type {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER_DEFINED,
    TOKEN_UNUSED,
    TOKEN_BYTE
};

/* What a vocabulary is made of. Texts are as in the file: U+2581 stands for a space. */
struct vocab_entry {
    const char *text;
    size_t n;
    float score;
    uint32_t type; /* enum token_type */
};
struct vocab_spec {
    const struct vocab_entry *entries;
    uint32_t n;
    int32_t bos, eos, eot, unk; /* -1: none */
    bool add_bos, add_eos;      /* with add_special */
    bool add_space_prefix;      /* a space before text at the start and after a special token */
};

/* A growable list of ids; a zeroed struct is empty. */
struct token_list {
    uint32_t *ids;
    size_t n, cap;
};
void token_list_add(struct token_list *t, uint32_t id);
void token_list_fini(struct token_list *t);

/* Half-open range of bytes. */
struct text_range {
    size_t begin, end;
};

/* Reads tokenizer.ggml.*. ERR_UNSUPPORTED names a tokenizer model we lack; ERR_FORMAT says which
 * counts, ids or scores do not fit. vocab_new is the same from arrays (borrowed for the call). */
int vocab_load(struct vocab **out, const struct gguf *g, struct err *e);
int vocab_new(struct vocab **out, const struct vocab_spec *spec, struct err *e);
void vocab_free(struct vocab **v); /* of NULL too */

uint32_t vocab_size(const struct vocab *v);
int32_t vocab_bos(const struct vocab *v); /* -1: none */
int32_t vocab_eos(const struct vocab *v); /* -1: none */
bool vocab_add_bos(const struct vocab *v);
bool vocab_add_space_prefix(const struct vocab *v);
enum token_type vocab_type(const struct vocab *v, uint32_t id); /* id < size */

/* End of generation: eos, eot, and control tokens that by their name end a turn or a text. Ids past
 * the vocabulary are not. vocab_eog_list: up to VOCAB_EOG_MAX of them, ascending; returns how many.
 */
bool vocab_is_eog(const struct vocab *v, uint32_t id);
uint32_t vocab_eog_list(const struct vocab *v, uint32_t out[VOCAB_EOG_MAX]);

/* Appends a token's bytes: a byte token's byte, a control token's name, otherwise text with its
 * spaces as spaces. Maybe part of a character. id < size. */
void vocab_piece(const struct vocab *v, uint32_t id, struct str *out);

/* Appends the ids of text[n] (any bytes; ill-formed UTF-8 goes through as byte tokens).
 * add_special: BOS and EOS as the vocabulary asks. parse_special: names of control tokens in the
 * text become those tokens; without it they are spelled out, so text from outside cannot forge one.
 * Tokens that the vocabulary's author marked "user defined" are always found, longest first.
 * Time and memory n log n at worst. ERR_LIMIT for text over VOCAB_TEXT_BYTES_MAX: nothing added. */
int vocab_tokenize(const struct vocab *v, struct token_list *out, const char *text, size_t n,
                   bool add_special, bool parse_special, struct err *e);

/* The same with parse_special, except that no control token touches a byte of the literal ranges
 * (ascending, disjoint, inside the text): a prompt of which some parts came from a user. */
int vocab_tokenize_mixed(const struct vocab *v, struct token_list *out, const char *text, size_t n,
                         const struct text_range *literal, size_t n_literal, bool add_special,
                         struct err *e);

#endif
