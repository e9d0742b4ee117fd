#include "net/sse.h"

#include <string.h>

void sse_fini(struct sse *s)
{
    str_fini(&s->line);
    str_fini(&s->data);
    str_fini(&s->event);
}

static bool dispatch(struct sse *s, sse_fn *fn, void *ctx)
{
    bool more = true;

    if (s->has_data) /* an event without data is none */
        more = fn(ctx, str_text(&s->event), str_text(&s->data), s->data.len);
    str_clear(&s->data);
    str_clear(&s->event);
    s->has_data = false;
    return more;
}

static void field(struct sse *s, const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n);
    size_t name = colon ? (size_t)(colon - line) : n;
    const char *value = colon ? colon + 1 : line + n;
    size_t bytes = (size_t)(line + n - value);

    if (bytes > 0 && value[0] == ' ') {
        value++;
        bytes--;
    }
    if (name == 4 && memcmp(line, "data", 4) == 0) {
        if (s->has_data)
            str_addc(&s->data, '\n');
        str_add(&s->data, value, bytes);
        s->has_data = true;
    } else if (name == 5 && memcmp(line, "event", 5) == 0) {
        str_clear(&s->event);
        str_add(&s->event, value, bytes);
    }
}

static bool line_end(struct sse *s, sse_fn *fn, void *ctx)
{
    const char *line = str_text(&s->line);
    size_t n = s->line.len;
    bool more = true;

    if (!s->after_first && n >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) { /* byte order mark */
        line += 3;
        n -= 3;
    }
    s->after_first = true;
    if (n == 0)
        more = dispatch(s, fn, ctx);
    else
        field(s, line, n);
    str_clear(&s->line);
    return more;
}

/* A line ends with LF, CR, or both. */
int sse_feed(struct sse *s, const void *bytes, size_t n, sse_fn *fn, void *ctx, struct err *e)
{
    const char *in = bytes, *end = in + n;

    while (in < end) {
        size_t run = 0, left = (size_t)(end - in);

        if (s->after_cr && *in == '\n') {
            s->after_cr = false;
            in++;
            continue;
        }
        s->after_cr = false;
        while (run < left && in[run] != '\n' && in[run] != '\r')
            run++;
        if (s->line.len + s->data.len + run > SSE_EVENT_MAX)
            return err_set(e, ERR_LIMIT, "sse: an event is over the limit of %zu bytes",
                           SSE_EVENT_MAX);
        str_add(&s->line, in, run);
        in += run;
        if (in == end)
            break;
        s->after_cr = *in++ == '\r';
        if (!line_end(s, fn, ctx))
            break;
    }
    return ERR_OK;
}
