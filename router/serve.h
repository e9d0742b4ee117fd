/* serve: the endpoints of the router's HTTP: which path and method do what, the small ones, and
 * what all answers have in common (x-request-id, CORS, errors in OpenAI's shape). */
#ifndef TANDEM_ROUTER_SERVE_H
#define TANDEM_ROUTER_SERVE_H

#include "net/http_server.h"
#include "router/api.h"
#include "router/openai.h"
#include "router/router.h"

#define SERVE_NONCE_KEY 0x6e6f6e6365 /* so that nothing of ids and seeds is told */
#define SERVE_ID_MAX 129 /* bytes of an x-request-id, NUL included; a longer one is replaced */

struct http_service serve_service(struct router *r);

/* The header lines of every answer: x-request-id (echoed, or `id`; NULL: one is made), and CORS for
 * pages that this machine itself serves. */
void serve_fields(struct router *r, const struct http_conn *c, const char *id, struct str *out);

/* The API key that the client gave; NULL: none that is known, or there is no file of them. Not kept. */
const struct api_key *serve_key(const struct router *r, const struct http_conn *c);

/* A JSON body under a status; fields as serve_fields made them. */
void serve_json(struct http_conn *c, int status, const struct str *fields, const struct str *body);

/* The error as the whole answer. retry_after_ms 0: none. */
void serve_error(struct http_conn *c, const struct str *fields, const struct api_error *e,
                 uint32_t retry_after_ms);

#endif
