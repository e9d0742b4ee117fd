/* model: what the router needs of a GGUF file: vocabulary, chat template, identity and shape. No
 * weights are read. Constant after model_open; any thread. */
#ifndef TANDEM_ROUTER_MODEL_H
#define TANDEM_ROUTER_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/chat.h"
#include "model/hparams.h"
#include "model/vocab.h"
#include "net/msg.h"

struct model {
    struct vocab *vocab;
    struct chat *chat;
    struct hparams hparams;
    uint64_t hash;
    char name[256]; /* what clients call it: the file's name without .gguf */
    int64_t created; /* when the file was last changed, seconds since 1970 */
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[MSG_STOP_TOKENS_MAX];
};

/* chat_template: see chat_open. Errors name the file. On failure m is closed. */
int model_open(struct model *m, const char *path, const char *chat_template, struct err *e);
void model_close(struct model *m);

/* True if a client that says `name` means this model: its name, with or without .gguf. */
bool model_is(const struct model *m, const char *name);

#endif
