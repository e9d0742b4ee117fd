/* chat: messages to a prompt, by the template that the model was trained with.
 *
 * A template is a Jinja text: the file's own (tokenizer.chat_template), one of the families' below,
 * or one from a file. It is parsed once, at open, and a construct that jinja.h does not know is
 * refused there. What comes from a message stays marked through the whole template, and no control
 * token is ever found in it: a user cannot forge a turn. Immutable after open; any thread. */
#ifndef TANDEM_MODEL_CHAT_H
#define TANDEM_MODEL_CHAT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "model/vocab.h"

struct gguf;
struct chat;

struct chat_message {
    const char *role; /* "system", "user", "assistant", "tool"; others count as a user's text */
    const char *content;
    size_t content_bytes;
};

/* choice: "auto" (the file's template, "plain" if it has none), a family's name, or the path of a
 * file with a template. g: NULL if there is no file to look into; only used during the call. v is
 * borrowed until chat_free. Errors of a template start with its name, line and column. */
int chat_open(struct chat **out, const struct vocab *v, const struct gguf *g, const char *choice,
              struct err *e);
void chat_free(struct chat **c);

/* "model" for the file's own, the family's name, or the path. */
const char *chat_name(const struct chat *c);

/* Appends the ids of the prompt. add_generation_prompt: with the marker that opens the assistant's
 * turn. BOS is put in front if the vocabulary asks for it and the template has not written it.
 * ERR_ARG: the template refuses the messages (raise_exception), with its words; ERR_LIMIT: too
 * long. On failure nothing is appended. */
int chat_tokenize(const struct chat *c, struct token_list *out, const struct chat_message *messages,
                  size_t n, bool add_generation_prompt, struct err *e);

/* Appends the prompt as text, to look at. */
int chat_render(const struct chat *c, struct str *out, const struct chat_message *messages,
                size_t n, bool add_generation_prompt, struct err *e);

/* Names of the built-in families, NULL-terminated; the template of one, NULL for another name. */
const char *const *chat_families(void);
const char *chat_family_text(const char *name);

#endif
