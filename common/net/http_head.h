/* http_head: the head of an HTTP/1.1 request, from bytes to a struct. Pure and strict: whatever two
 * implementations could read differently (RFC 9112, section 11.2) is refused, never repaired. Bare
 * LF, folded lines, blanks before the colon, Content-Length beside Transfer-Encoding, two lengths
 * and transfer codings other than "chunked" are errors that close the connection. */
#ifndef TANDEM_NET_HTTP_HEAD_H
#define TANDEM_NET_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX 16384 /* bytes, all lines together */
#define HTTP_TARGET_MAX 8192
#define HTTP_FIELDS_MAX 100

struct http_text { /* a piece of the parsed bytes */
    const char *s;
    size_t n;
};
struct http_field {
    struct http_text name, value; /* value without blanks around it */
};

struct http_head {
    struct http_text method, path, query; /* path: up to '?'; query: behind it, may be empty */
    unsigned minor;                       /* HTTP/1.minor */
    struct http_field fields[HTTP_FIELDS_MAX];
    size_t n_fields;
    bool has_length, chunked; /* how the body is framed; neither: there is none */
    uint64_t length;
    bool keep_alive, expect_continue;
};

/* Length of the head in data[n], its empty line included; 0: not complete yet. *over is set when it
 * is longer than HTTP_HEAD_MAX already. */
size_t http_head_length(const char *data, size_t n, bool *over);

/* Parses data[n], a complete head; the result points into it. 0, or the HTTP status to refuse it
 * with, *why then being a phrase. */
int http_head_parse(struct http_head *h, const char *data, size_t n, const char **why);

/* The value of the first field of that name (any case); s is NULL if absent. */
struct http_text http_head_get(const struct http_head *h, const char *name);

bool http_text_is(struct http_text t, const char *s);      /* exactly */
bool http_text_is_nocase(struct http_text t, const char *s); /* ASCII case aside */

/* A chunked body, as it comes. A zeroed struct starts one. */
struct http_chunked {
    enum {
        CHUNK_SIZE,
        CHUNK_DATA,
        CHUNK_DATA_END,
        CHUNK_TRAILER,
        CHUNK_DONE
    } state;
    uint64_t left; /* of the current chunk */
};

/* Looks at data[n]: *used bytes are dealt with, the first *framing of them framing to throw away,
 * the rest body. Call again with what follows until *used is 0 (more bytes are needed) or the
 * state is CHUNK_DONE. False: malformed. Chunk extensions and trailer fields are refused. */
bool http_chunked_next(struct http_chunked *c, const char *data, size_t n, size_t *framing,
                       size_t *used);

#endif
