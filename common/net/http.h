/* http: a small HTTP/1.1 client on an event_base, for `tandem run`, `status` and the bench.
 *
 * A client is one server's address; any number of requests may be open, each on a connection of its
 * own that is closed after the response. Everything runs on the thread that runs the base. No TLS,
 * no redirects, no cookies. */
#ifndef TANDEM_NET_HTTP_H
#define TANDEM_NET_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct event_base;
struct http_client;
struct http_request;

#define HTTP_REPLY_MAX ((size_t)64 << 20) /* body bytes that http_fetch takes */

/* url: http://HOST[:PORT][/PREFIX]; the prefix is put before every request's path. HOST is resolved
 * here, once (blocking). silence_ms: a request fails when its connection is silent so long, while
 * connecting as well; 0: it waits for ever. The base is borrowed until http_client_close. */
int http_client_open(struct http_client **c, struct event_base *base, const char *url,
                     uint32_t silence_ms, struct err *e);

/* Cancels what is open, without calling anybody. Not from a handler. */
void http_client_close(struct http_client **c);

/* Adds a header to every later request. Bug: a control character in name or value. */
void http_client_header(struct http_client *c, const char *name, const char *value);

/* Adds `Authorization: Bearer $TANDEM_API_KEY` if the environment has that, for command-line tools.
 * ERR_CONFIG: it is no key. */
int http_client_authorize(struct http_client *c, struct err *e);

/* What a request tells its owner. Each may be NULL but on_done. */
struct http_handlers {
    void (*on_status)(void *ctx, int status);
    void (*on_body)(void *ctx, const void *bytes, size_t n); /* borrowed */
    /* Last and once: the response is complete (error NULL, whatever its status), or has failed:
     * ERR_NET, ERR_TIMEOUT, ERR_FORMAT, ERR_LIMIT. The request no longer exists. */
    void (*on_done)(void *ctx, const struct err *error);
};

/* Sends `method path` with a JSON body (NULL: none); handlers and strings are copied or used before
 * it returns. *r is valid until on_done, and no handler is called before http_start has returned. */
int http_start(struct http_request **r, struct http_client *c, const char *method, const char *path,
               const void *body, size_t body_bytes, const struct http_handlers *handlers, void *ctx,
               struct err *e);

/* Closes the connection; no handler is called any more. From on_status and on_body too. */
void http_cancel(struct http_request **r);

/* One request, waited for, on an event base of its own; for command-line tools. body NULL: no body.
 * timeout_ms: for all of it, 0 waits for ever. Sends TANDEM_API_KEY. An HTTP error status is not an error here. The reply's
 * bytes are appended to *reply. */
int http_fetch(int *status, struct str *reply, const char *method, const char *url, const char *path,
               const char *body, uint32_t timeout_ms, struct err *e);

#endif
