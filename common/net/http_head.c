#include "net/http_head.h"

#include <string.h>
#include <strings.h>

#include "base/check.h"

#define HTTP_CHUNK_LINE_MAX 18 /* 16 hex digits, CR LF */

static bool http_is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool http_is_tokens(struct http_text t)
{
    for (size_t i = 0; i < t.n; i++) {
        if (!http_is_token(t.s[i]))
            return false;
    }
    return t.n > 0;
}

bool http_text_is(struct http_text t, const char *s)
{
    return t.n == strlen(s) && !memcmp(t.s, s, t.n);
}

bool http_text_is_nocase(struct http_text t, const char *s)
{
    return t.n == strlen(s) && !strncasecmp(t.s, s, t.n);
}

struct http_text http_head_get(const struct http_head *h, const char *name)
{
    for (size_t i = 0; i < h->n_fields; i++) {
        if (http_text_is_nocase(h->fields[i].name, name))
            return h->fields[i].value;
    }
    return (struct http_text){0};
}

size_t http_head_length(const char *data, size_t n, bool *over)
{
    const char *end = memmem(data, size_min(n, HTTP_HEAD_MAX), "\r\n\r\n", 4);

    *over = !end && n >= HTTP_HEAD_MAX;
    return end ? (size_t)(end - data) + 4 : 0;
}

/* "GET /path?query HTTP/1.1" */
static int http_parse_request_line(struct http_head *h, const char *s, size_t n, const char **why)
{
    const char *sp1 = memchr(s, ' ', n);
    const char *sp2 = sp1 ? memchr(sp1 + 1, ' ', n - (size_t)(sp1 + 1 - s)) : NULL;
    const char *mark;
    struct http_text target, version;

    *why = "malformed request line";
    if (!sp2)
        return 400;
    h->method = (struct http_text){s, (size_t)(sp1 - s)};
    target = (struct http_text){sp1 + 1, (size_t)(sp2 - sp1 - 1)};
    version = (struct http_text){sp2 + 1, n - (size_t)(sp2 + 1 - s)};
    if (!http_is_tokens(h->method) || !target.n)
        return 400;
    if (version.n != 8 || memcmp(version.s, "HTTP/", 5) != 0)
        return 400;
    if (!http_text_is(version, "HTTP/1.1") && !http_text_is(version, "HTTP/1.0")) {
        *why = "only HTTP/1.0 and HTTP/1.1 are spoken here";
        return 505;
    }
    h->minor = version.s[7] == '1';
    if (target.n > HTTP_TARGET_MAX) {
        *why = "the request target is longer than 8192 bytes";
        return 414;
    }
    for (size_t i = 0; i < target.n; i++) {
        if (target.s[i] <= ' ' || target.s[i] == 0x7f)
            return 400;
    }
    mark = memchr(target.s, '?', target.n);
    h->path = (struct http_text){target.s, mark ? (size_t)(mark - target.s) : target.n};
    if (mark)
        h->query = (struct http_text){mark + 1, target.n - h->path.n - 1};
    return 0;
}

static int http_parse_field(struct http_head *h, const char *s, size_t n, const char **why)
{
    const char *colon = memchr(s, ':', n);
    struct http_field *f = &h->fields[h->n_fields];

    if (h->n_fields == HTTP_FIELDS_MAX) {
        *why = "more than 100 header fields";
        return 431;
    }
    *why = "malformed header field";
    if (!colon)
        return 400;
    f->name = (struct http_text){s, (size_t)(colon - s)};
    f->value = (struct http_text){colon + 1, n - f->name.n - 1};
    if (!http_is_tokens(f->name)) /* also a folded line, and blanks before the colon */
        return 400;
    while (f->value.n && (*f->value.s == ' ' || *f->value.s == '\t'))
        f->value.s++, f->value.n--;
    while (f->value.n && strchr(" \t", f->value.s[f->value.n - 1]))
        f->value.n--;
    for (size_t i = 0; i < f->value.n; i++) {
        unsigned char c = (unsigned char)f->value.s[i];

        if ((c < ' ' && c != '\t') || c == 0x7f)
            return 400;
    }
    h->n_fields++;
    return 0;
}

static bool http_parse_length(uint64_t *out, struct http_text t)
{
    *out = 0;
    for (size_t i = 0; i < t.n; i++) {
        if (t.s[i] < '0' || t.s[i] > '9' || __builtin_mul_overflow(*out, 10, out) ||
            __builtin_add_overflow(*out, (uint64_t)(t.s[i] - '0'), out))
            return false;
    }
    return t.n > 0;
}

/* One item of a comma-separated list, e.g. of Connection. */
static bool http_list_has(struct http_text list, const char *item)
{
    while (list.n) {
        const char *comma = memchr(list.s, ',', list.n);
        struct http_text t = {list.s, comma ? (size_t)(comma - list.s) : list.n};
        size_t step = comma ? t.n + 1 : t.n;

        list.s += step, list.n -= step;
        while (t.n && (*t.s == ' ' || *t.s == '\t'))
            t.s++, t.n--;
        while (t.n && strchr(" \t", t.s[t.n - 1]))
            t.n--;
        if (http_text_is_nocase(t, item))
            return true;
    }
    return false;
}

/* The fields that say how the message is framed, each at most once. */
static int http_parse_framing(struct http_head *h, const char **why)
{
    size_t lengths = 0, codings = 0, hosts = 0;

    h->keep_alive = h->minor == 1;
    for (size_t i = 0; i < h->n_fields; i++) {
        const struct http_field *f = &h->fields[i];

        if (http_text_is_nocase(f->name, "content-length")) {
            *why = "malformed Content-Length";
            if (lengths++ || !http_parse_length(&h->length, f->value))
                return 400;
            h->has_length = true;
        } else if (http_text_is_nocase(f->name, "transfer-encoding")) {
            *why = "the only transfer coding taken is chunked";
            if (codings++ || !http_text_is_nocase(f->value, "chunked"))
                return 501;
            h->chunked = true;
        } else if (http_text_is_nocase(f->name, "host")) {
            hosts++;
        } else if (http_text_is_nocase(f->name, "connection")) {
            if (http_list_has(f->value, "close"))
                h->keep_alive = false;
            else if (h->minor == 0 && http_list_has(f->value, "keep-alive"))
                h->keep_alive = true;
        } else if (http_text_is_nocase(f->name, "expect")) {
            *why = "the only expectation met is 100-continue";
            if (!http_text_is_nocase(f->value, "100-continue"))
                return 417;
            h->expect_continue = h->minor == 1;
        }
    }
    *why = "Content-Length beside Transfer-Encoding";
    if (lengths && codings)
        return 400;
    *why = "Transfer-Encoding in HTTP/1.0";
    if (codings && h->minor == 0)
        return 400;
    *why = "an HTTP/1.1 request has exactly one Host";
    if (hosts > 1 || (!hosts && h->minor == 1))
        return 400;
    return 0;
}

int http_head_parse(struct http_head *h, const char *data, size_t n, const char **why)
{
    const char *p = data, *end = data + n - 2; /* before the empty line */
    int status = 0;

    *h = (struct http_head){0};
    for (bool first = true; p < end && !status; first = false) {
        const char *eol = memmem(p, (size_t)(end - p), "\r\n", 2);
        size_t len = (size_t)(eol - p);

        *why = "a bare CR, LF or NUL in the head";
        if (memchr(p, '\n', len) || memchr(p, '\r', len) || memchr(p, '\0', len))
            return 400;
        status = first ? http_parse_request_line(h, p, len, why) : http_parse_field(h, p, len, why);
        p = eol + 2;
    }
    return status ? status : http_parse_framing(h, why);
}

/* 1: a line that ends in CR LF, *len bytes before them; 0: more bytes are needed; -1: too long. */
static int http_line(const char *data, size_t n, size_t *len)
{
    const char *lf = memchr(data, '\n', size_min(n, HTTP_CHUNK_LINE_MAX));

    if (!lf)
        return n >= HTTP_CHUNK_LINE_MAX ? -1 : 0;
    if (lf == data || lf[-1] != '\r')
        return -1;
    *len = (size_t)(lf - data) - 1;
    return 1;
}

static bool http_chunk_size(uint64_t *out, const char *s, size_t n)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;

        if (digit < 0)
            return false;
        *out = *out << 4 | (uint64_t)digit;
    }
    return n > 0 && n <= 16;
}

bool http_chunked_next(struct http_chunked *c, const char *data, size_t n, size_t *framing,
                       size_t *used)
{
    size_t len;
    int line;

    *framing = *used = 0;
    if (c->state == CHUNK_DATA) {
        *used = c->left < n ? (size_t)c->left : n;
        c->left -= *used;
        if (!c->left)
            c->state = CHUNK_DATA_END;
        return true;
    }
    if (c->state == CHUNK_DONE || !n)
        return true;
    line = http_line(data, n, &len);
    if (line <= 0)
        return line == 0;
    *framing = *used = len + 2;
    if (c->state == CHUNK_SIZE) {
        if (!http_chunk_size(&c->left, data, len))
            return false;
        c->state = c->left ? CHUNK_DATA : CHUNK_TRAILER;
    } else {
        if (len) /* bytes behind a chunk's data, or a trailer field */
            return false;
        c->state = c->state == CHUNK_DATA_END ? CHUNK_SIZE : CHUNK_DONE;
    }
    return true;
}
