/* prompt: what a request asks. Owned by whoever holds it. */
#ifndef TANDEM_BENCH_PROMPT_H
#define TANDEM_BENCH_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* Either texts (user, assistant, user, ...: an odd number; one if it is no chat) or token ids. A
 * zeroed struct is empty. */
struct prompt {
    struct str *texts;
    uint32_t n_texts;
    uint32_t *tokens;
    uint32_t n_tokens; /* with texts: as the tokenizer counts the only one; 0: unknown */
};

/* Appends a text, copied. */
void prompt_add(struct prompt *p, const char *text, size_t n);
/* Appends all texts, a line feed between two: the prompt of a server without chats. */
void prompt_join(const struct prompt *p, struct str *out);
void prompt_fini(struct prompt *p);

#endif
