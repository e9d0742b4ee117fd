/* api: the JSON that clients send, to plain structs. Pure: text in, struct or one error out; it
 * knows no vocabulary, no node, no socket.
 *
 * The rule for every field: it is used, or it is known to change nothing, or the request is refused
 * with the field's name. Nothing is ignored silently; null means absent. Which is which is the
 * table in api.c. Bounds on nesting and number of values are checked before the JSON is parsed, so
 * that a small body cannot ask for much memory. */
#ifndef TANDEM_ROUTER_API_H
#define TANDEM_ROUTER_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/msg.h"

#define API_DEPTH_MAX 32                        /* nesting of the JSON */
#define API_VALUES_MAX (MSG_TOKENS_MAX + 65536) /* values in it: a prompt as ids, and the rest */
#define API_MESSAGES_MAX 4096
/* max_tokens of /v1/completions if absent, as OpenAI and vLLM; less if the context has less room */
#define API_COMPLETION_TOKENS 16

enum api_kind { API_COMPLETION, API_CHAT };

struct api_message {
    char *role, *content; /* content parts are joined by newlines */
    size_t content_bytes;
};

struct api_request {
    enum api_kind kind;
    char *model; /* NULL: whatever is served */
    struct api_message *messages; /* chat */
    size_t n_messages;
    char *prompt; /* completion; NULL: tokens holds it */
    size_t prompt_bytes;
    uint32_t *tokens;
    uint32_t n_tokens;
    bool has_max_tokens;
    uint32_t max_tokens; /* >= 1 */
    struct sampling sampling;
    bool has_seed;
    uint32_t priority; /* 0 first */
    char *user;        /* NULL: not said */
    size_t user_bytes;
    uint32_t n_stops;
    char stops[MSG_STOPS_MAX][MSG_STOP_BYTES_MAX];
    bool stream, include_usage, ignore_eos, return_token_ids;
};

/* An error in OpenAI's shape. */
struct api_error {
    int status;       /* of HTTP */
    const char *type; /* "invalid_request_error", static */
    const char *code; /* NULL: none; static */
    char param[64];   /* the field; "" if none */
    char text[MSG_TEXT_MAX];
};

/* Sets e to status 400, invalid_request_error. param may be NULL. Returns ERR_ARG. */
int api_refuse(struct api_error *e, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Parses the body of a POST to (chat/)completions. 0, or ERR_ARG with e set; out is to be given to
 * api_request_fini either way. */
int api_parse(struct api_request *out, enum api_kind kind, const char *body, size_t n,
              struct api_error *e);
void api_request_fini(struct api_request *r);

/* POST /tokenize: {"content": text} as in llama-server, or {"prompt": text} as in vLLM. Special
 * tokens are added to a prompt unless add_special_tokens is false, to content only if add_special
 * is true. */
struct api_tokenize {
    char *text;
    size_t text_bytes;
    bool add_special, parse_special;
};
int api_parse_tokenize(struct api_tokenize *out, const char *body, size_t n, struct api_error *e);
void api_tokenize_fini(struct api_tokenize *t);

/* POST /detokenize: {"tokens": [ids]}. *tokens is the caller's (mem_free). */
int api_parse_detokenize(uint32_t **tokens, uint32_t *n_tokens, const char *body, size_t n,
                         struct api_error *e);

#endif
