#include "net/http_parser.h"

#include <string.h>
#include <strings.h>

#include "base/check.h"

/* Collects a line into p->line. True when it is complete: NUL-terminated, without its line end. */
static int line_take(struct http_parser *p, const char *bytes, size_t n, size_t *used, bool *complete,
                     struct err *e)
{
    const char *end = memchr(bytes, '\n', n);
    size_t take = end ? (size_t)(end - bytes) + 1 : n;

    *complete = false;
    if (take >= sizeof(p->line) - p->line_bytes)
        return err_set(e, ERR_LIMIT, "http: a line of the response is over the limit of %zu bytes",
                       sizeof(p->line) - 1);
    p->header_bytes += take;
    if (p->header_bytes > HTTP_HEADERS_MAX)
        return err_set(e, ERR_LIMIT, "http: the response's headers are over the limit of %d bytes",
                       HTTP_HEADERS_MAX);
    memcpy(p->line + p->line_bytes, bytes, take);
    p->line_bytes += take;
    *used += take;
    if (!end)
        return ERR_OK;
    p->line_bytes--;
    if (p->line_bytes > 0 && p->line[p->line_bytes - 1] == '\r')
        p->line_bytes--;
    p->line[p->line_bytes] = '\0';
    p->line_bytes = 0;
    *complete = true;
    return ERR_OK;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int status_line(struct http_parser *p, struct err *e)
{
    const char *s = p->line;

    /* "HTTP/1.x NNN", then the end or a space and a reason */
    if (strncmp(s, "HTTP/1.", 7) != 0 || !is_digit(s[7]) || s[8] != ' ' || !is_digit(s[9]) ||
        !is_digit(s[10]) || !is_digit(s[11]) || (s[12] != ' ' && s[12] != '\0'))
        return err_set(e, ERR_FORMAT, "http: not an HTTP/1 response: \"%.60s\"", s);
    p->status = (s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0');
    p->chunked = p->has_length = false;
    p->left = 0;
    p->state = HTTP_HEADERS;
    return ERR_OK;
}

static int content_length(struct http_parser *p, const char *value, struct err *e)
{
    uint64_t n = 0;
    const char *s = value;

    do {
        if (!is_digit(*s) || n > (UINT64_MAX - 9) / 10)
            return err_set(e, ERR_FORMAT, "http: Content-Length is \"%.40s\"", value);
        n = n * 10 + (uint64_t)(*s++ - '0');
    } while (*s && *s != ' ' && *s != '\t');
    if (p->has_length && p->left != n)
        return err_set(e, ERR_FORMAT, "http: two Content-Lengths that differ");
    p->has_length = true;
    p->left = n;
    return ERR_OK;
}

static int header(struct http_parser *p, struct err *e)
{
    char *colon = strchr(p->line, ':');
    const char *value;

    if (!colon || colon == p->line)
        return err_set(e, ERR_FORMAT, "http: not a header: \"%.60s\"", p->line);
    *colon = '\0';
    value = colon + 1 + strspn(colon + 1, " \t");
    if (strcasecmp(p->line, "content-length") == 0)
        return content_length(p, value, e);
    if (strcasecmp(p->line, "transfer-encoding") == 0) {
        if (strcasecmp(value, "chunked") != 0)
            return err_set(e, ERR_UNSUPPORTED, "http: Transfer-Encoding is \"%.60s\"", value);
        p->chunked = true;
    }
    return ERR_OK;
}

/* What follows the empty line after the headers. */
static void headers_end(struct http_parser *p)
{
    if (p->status >= 100 && p->status < 200) {
        p->state = HTTP_STATUS_LINE;
        p->status = 0;
        return;
    }
    p->headers_done = true;
    p->header_bytes = 0;
    if (p->status == 204 || p->status == 304)
        p->state = HTTP_DONE;
    else if (p->chunked) /* wins over a Content-Length: RFC 9112, 6.3 */
        p->state = HTTP_CHUNK_SIZE;
    else if (p->has_length)
        p->state = p->left > 0 ? HTTP_BODY_LENGTH : HTTP_DONE;
    else
        p->state = HTTP_BODY_CLOSE;
}

static int chunk_size(struct http_parser *p, struct err *e)
{
    const char *s = p->line;
    uint64_t n = 0;
    int digits = 0;

    for (;; s++, digits++) {
        int v = is_digit(*s)               ? *s - '0'
                : *s >= 'a' && *s <= 'f' ? *s - 'a' + 10
                : *s >= 'A' && *s <= 'F' ? *s - 'A' + 10
                                           : -1;

        if (v < 0)
            break;
        n = n << 4 | (uint64_t)v;
    }
    /* 15 digits cannot overflow; extensions after ';' are ignored */
    if (digits == 0 || digits > 15 || (*s && *s != ';' && *s != ' ' && *s != '\t'))
        return err_set(e, ERR_FORMAT, "http: chunk size is \"%.40s\"", p->line);
    p->left = n;
    p->header_bytes = 0;
    p->state = n > 0 ? HTTP_CHUNK_DATA : HTTP_TRAILERS;
    return ERR_OK;
}

static int line_parse(struct http_parser *p, struct err *e)
{
    switch (p->state) {
    case HTTP_STATUS_LINE:
        return status_line(p, e);
    case HTTP_HEADERS:
        if (p->line[0])
            return header(p, e);
        headers_end(p);
        return ERR_OK;
    case HTTP_CHUNK_SIZE:
        return chunk_size(p, e);
    case HTTP_CHUNK_END:
        if (p->line[0])
            return err_set(e, ERR_FORMAT, "http: a chunk is longer than it says");
        p->state = HTTP_CHUNK_SIZE;
        return ERR_OK;
    case HTTP_TRAILERS:
        if (!p->line[0])
            p->state = HTTP_DONE;
        return ERR_OK;
    default:
        UNREACHABLE();
    }
}

static bool in_body(const struct http_parser *p)
{
    return p->state == HTTP_BODY_LENGTH || p->state == HTTP_BODY_CLOSE ||
           p->state == HTTP_CHUNK_DATA;
}

/* Hands out body bytes; returns how many it took. */
static size_t body_take(struct http_parser *p, const char *bytes, size_t n, bool *more,
                        http_body_fn *body, void *ctx)
{
    if (p->state != HTTP_BODY_CLOSE) {
        n = n < p->left ? n : (size_t)p->left;
        p->left -= n;
        if (p->left == 0)
            p->state = p->state == HTTP_CHUNK_DATA ? HTTP_CHUNK_END : HTTP_DONE;
    }
    *more = body(ctx, bytes, n);
    return n;
}

int http_parser_feed(struct http_parser *p, const void *bytes, size_t n, size_t *used,
                     http_body_fn *body, void *ctx, struct err *e)
{
    const char *in = bytes;
    bool more = true;

    *used = 0;
    while (*used < n && more && p->state != HTTP_DONE) {
        bool complete, had_headers = p->headers_done;
        int rc;

        if (in_body(p)) {
            *used += body_take(p, in + *used, n - *used, &more, body, ctx);
            continue;
        }
        rc = line_take(p, in + *used, n - *used, used, &complete, e);
        if (rc == ERR_OK && complete)
            rc = line_parse(p, e);
        if (rc != ERR_OK)
            return rc;
        if (p->headers_done && !had_headers)
            return ERR_OK;
    }
    if (p->state == HTTP_DONE && more)
        *used = n;
    return ERR_OK;
}

int http_parser_close(struct http_parser *p, struct err *e)
{
    if (p->state == HTTP_BODY_CLOSE)
        p->state = HTTP_DONE;
    if (p->state == HTTP_DONE)
        return ERR_OK;
    if (!p->headers_done)
        return err_set(e, ERR_NET, "http: connection closed before a response");
    return err_set(e, ERR_NET, "http: connection closed in the middle of a response");
}
