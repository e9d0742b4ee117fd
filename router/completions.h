/* completions: POST /v1/completions and /v1/chat/completions, streamed or whole.
 *
 * Without max_tokens a completion gets 16, as from OpenAI and vLLM, and a chat what the context has
 * left. A stream's head is sent with its first token (or the first comment), so that a request that
 * fails before has a status of its own; later it ends in an error event. */
#ifndef TANDEM_ROUTER_COMPLETIONS_H
#define TANDEM_ROUTER_COMPLETIONS_H

#include "net/http_server.h"
#include "router/api.h"
#include "router/router.h"

#define COMPLETIONS_PING_MS 5000 /* a stream is never silent for longer: proxies and clients wait */

/* Takes the request on c over: answers it, now or later. */
void completions_request(struct router *r, struct http_conn *c, enum api_kind kind);

/* The client of a request that was taken over has gone; user: http_conn_user of its connection. */
void completions_gone(struct router *r, void *user);

/* Called each second for every generation: a comment into a stream that has been silent. */
void completion_ping(struct generation *g, int64_t now);

#endif
