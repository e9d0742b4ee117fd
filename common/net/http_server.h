/* http_server: an HTTP/1.1 server on libevent's bufferevents: that of the router, and of the nodes for
 * probes and metrics.
 *
 * Not evhttp: that stops reading while a request is answered, so it does not see a client go, and
 * it repairs heads that http_head refuses. Here a connection is read at all times, so that its end
 * is known within one turn of the loop in every state. One request at a time on a connection; what
 * a client pipelines waits, bounded. A half-closed connection counts as gone. Everything has a
 * bound: head, body, all bodies together, connections, unsent bytes, the time of each phase.
 *
 *   HEAD --head complete--> BODY --complete--> BUSY --http_reply------------------> HEAD or CLOSING
 *    |  \__________________________________________/ \--http_stream_open--> STREAM --close--> same
 *    | timeout, EOF, error: freed (BUSY and STREAM: service.gone first)
 *   CLOSING --all sent--> LINGER (write side shut, input thrown away) --EOF or 2 s--> freed
 *
 * One thread, that of the event base. No call here frees a connection at once, so the service need
 * not fear for the pointer inside a call; http_conn is valid until gone, reply or stream_close. */
#ifndef TANDEM_NET_HTTP_SERVER_H
#define TANDEM_NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "net/http_head.h"

#define HTTP_BODY_MAX (16u << 20)    /* a prompt of MSG_PROMPT_MAX bytes with room for escapes */
#define HTTP_BODIES_MAX (256u << 20) /* all bodies that are being read or answered */
#define HTTP_CONNS_MAX 16384
#define HTTP_UNSENT_MAX (64u << 10)  /* of a stream to a slow client; it is cut off beyond */
#define HTTP_PIPELINED_MAX (64u << 10)

struct event_base;
struct http_server;
struct http_conn;

/* What the server asks of its owner. */
struct http_service {
    void *ctx;
    /* A complete request: answer it with http_reply or http_stream_open, now or later. */
    void (*request)(void *ctx, struct http_conn *c);
    /* The client went away before the answer was complete. c is not to be used afterwards. */
    void (*gone)(void *ctx, struct http_conn *c);
    /* A request that never got so far was refused with this status; write the body of the answer
     * (JSON) to out. */
    void (*refused)(void *ctx, int status, const char *why, struct str *out);
};

/* address: host:port, IPv6 in brackets. ERR_NET "cannot listen on ADDRESS: reason". */
int http_server_open(struct http_server **s, struct event_base *base, const char *address,
                     const struct http_service *service, struct err *e);
/* Accepts no more; idle connections end now, the others when their request is answered. */
void http_server_drain(struct http_server *s);
/* Cuts every connection; gone is not called. */
void http_server_close(struct http_server **s);
uint32_t http_server_conns(const struct http_server *s);
/* The port it listens on (for port 0). */
uint16_t http_server_port(const struct http_server *s);

/* The request; borrowed while the connection is the service's. */
const struct http_head *http_conn_head(const struct http_conn *c);
const char *http_conn_body(const struct http_conn *c, size_t *n);
void http_conn_set_user(struct http_conn *c, void *user);
void *http_conn_user(const struct http_conn *c);

/* The whole answer. fields: further header lines, each ended by CR LF, or NULL. */
void http_reply(struct http_conn *c, int status, const char *type, const char *fields,
                const char *body, size_t n);

/* An answer that comes piece by piece: chunked, or until the end of an HTTP/1.0 connection. A
 * client that lets HTTP_UNSENT_MAX bytes pile up is cut off: gone is called soon. */
void http_stream_open(struct http_conn *c, int status, const char *type, const char *fields);
void http_stream_write(struct http_conn *c, const char *data, size_t n);
void http_stream_close(struct http_conn *c);

const char *http_status_text(int status);

#endif
