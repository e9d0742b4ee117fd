/* openai: what the router answers, as JSON text in the shapes of OpenAI's API. Pure: structs to
 * text.
 *
 * The rules of streaming that real clients break on: the role comes first and alone, finish_reason
 * is null (not absent, not "") until the last chunk, a chunk without choices is sent only to those
 * who asked for usage, and no event has a name. */
#ifndef TANDEM_ROUTER_OPENAI_H
#define TANDEM_ROUTER_OPENAI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "router/api.h"

/* What all chunks of a stream, or its one body, have in common. Strings borrowed. */
struct openai_head {
    enum api_kind kind;
    const char *id, *model;
    int64_t created; /* seconds since 1970 */
};

struct openai_usage {
    uint32_t prompt_tokens, completion_tokens, cached_tokens;
};

/* For those who send x-tandem-timings: 1, the member "tandem" of the last chunk or the body. Where the
 * time of the last attempt went, as router_stats has it. ttft_ms and tpot_ms are as the router's HTTP
 * saw them. local: decode_node computed the prompt. */
struct openai_timings {
    double ttft_ms, tpot_ms;
    double router_queue_ms, prefill_queue_ms, prefill_ms, handoff_ms, decode_queue_ms, decode_ms;
    uint64_t kv_bytes;
    uint32_t restarts, cached_tokens;
    bool local;
    const char *prefill_node, *decode_node;
};

/* Appends s[n], valid UTF-8, as a JSON string with its quotes. */
void openai_string(struct str *out, const char *s, size_t n);

/* Server-sent events, "data: ...\n\n". chat only: the first. */
void openai_chunk_role(struct str *out, const struct openai_head *h);
/* ids: token ids of this piece, for those who asked; n_ids 0 leaves the field out. */
void openai_chunk_text(struct str *out, const struct openai_head *h, const char *text, size_t n,
                       const uint32_t *ids, uint32_t n_ids);
/* reason: "stop" or "length". timings may be NULL. */
void openai_chunk_finish(struct str *out, const struct openai_head *h, const char *reason,
                         const struct openai_timings *timings);
void openai_chunk_usage(struct str *out, const struct openai_head *h, const struct openai_usage *u);
void openai_chunk_done(struct str *out);
/* An error after the headers were sent. */
void openai_chunk_error(struct str *out, const struct api_error *e);

/* The body of an answer that is not streamed. ids, n_ids and timings as above. */
void openai_body(struct str *out, const struct openai_head *h, const char *text, size_t n,
                 const uint32_t *ids, uint32_t n_ids, const char *reason,
                 const struct openai_usage *u, const struct openai_timings *timings);

/* {"error": {...}} */
void openai_error(struct str *out, const struct api_error *e);

/* The error type that goes with an HTTP status. */
const char *openai_error_type(int status);

#endif
