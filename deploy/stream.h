/* stream: one streamed completion of a running cluster: what comes, and the figures at its end. The
 * text goes to a function as it arrives. One thread. */
#ifndef TANDEM_DEPLOY_STREAM_H
#define TANDEM_DEPLOY_STREAM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* What a stream cost. Taken from the router's timings where it gives them, else from our clock. */
struct stream_figures {
    double ttft_ms, tpot_ms; /* time to first token; per token after it */
    double prefill_queue_ms, prefill_ms;
    uint64_t prompt_tokens, output_tokens, kv_bytes; /* tokens: 0 if it was ended before they came */
    uint64_t pieces;                                 /* of text, that came */
    char prefill_node[64], decode_node[64]; /* "" if unknown */
    char finish[32];                        /* "stop", "length"; "" if it broke off */
};

/* Posts request to path (/v1/completions or /v1/chat/completions) and calls text for each piece; text
 * returning false ends the stream; so does SIGINT if it is interruptible. The request needs "stream":
 * true. Blocks until the end. ERR_PEER: the router refused, in its own words. */
int stream_run(struct stream_figures *f, const char *url, const char *path, const json_t *request,
               bool (*text)(void *ctx, const char *piece, size_t n), void *ctx, bool interruptible,
               struct err *e);

/* Appends two lines for people. */
void stream_report(const struct stream_figures *f, struct str *out);

#endif
