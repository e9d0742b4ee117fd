/* http_parser: an HTTP/1.1 response, read incrementally from whatever pieces the network gives.
 *
 * Pure: no socket, no clock. Handles bodies by Content-Length, chunked, and until close; skips 1xx.
 * Not a browser: no compression, no trailers' content, no header beyond those that frame the body. */
#ifndef TANDEM_NET_HTTP_PARSER_H
#define TANDEM_NET_HTTP_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define HTTP_LINE_MAX 8192     /* bytes of a status, header or chunk-size line, as in Apache, nginx */
#define HTTP_HEADERS_MAX 65536 /* bytes of all of them, and of the trailers */

enum http_parser_state {
    HTTP_STATUS_LINE,
    HTTP_HEADERS,
    HTTP_BODY_LENGTH,    /* `left` bytes follow */
    HTTP_BODY_CLOSE,     /* until the connection closes */
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_DATA,     /* `left` bytes of the chunk follow */
    HTTP_CHUNK_END,      /* the line end after it */
    HTTP_TRAILERS,
    HTTP_DONE,
};

/* A zeroed struct is ready to read. The fields are the parser's, but for the three named public. */
struct http_parser {
    int status;        /* public: 200, 404, ...; 0 until the status line was read */
    bool headers_done; /* public: the final response's headers were read */
    enum http_parser_state state; /* public: HTTP_DONE when the response is complete */
    bool chunked, has_length;
    uint64_t left;
    size_t header_bytes;
    size_t line_bytes;
    char line[HTTP_LINE_MAX];
};

/* Receives body bytes, borrowed. Returning false stops http_parser_feed. */
typedef bool http_body_fn(void *ctx, const void *bytes, size_t n);

/* Takes the next n bytes; what follows a complete response is ignored. Stops after the headers once,
 * so that the caller can look at the status first: *used says how many bytes were taken, and the
 * caller feeds the others again. ERR_FORMAT, ERR_LIMIT: the response cannot be read on. */
int http_parser_feed(struct http_parser *p, const void *bytes, size_t n, size_t *used,
                     http_body_fn *body, void *ctx, struct err *e);

/* The peer closed the connection: ERR_OK if the response is complete by that, else ERR_NET. */
int http_parser_close(struct http_parser *p, struct err *e);

#endif
