#include "base/str.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static void str_reserve(struct str *s, size_t extra)
{
    size_t need;

    ASSERT(size_add(&need, s->len, extra) && size_add(&need, need, 1));
    if (need <= s->cap)
        return;
    s->cap = size_max(need, size_max(64, s->cap * 2));
    s->data = mem_realloc(s->data, s->cap);
}

void str_fini(struct str *s)
{
    mem_free(s->data);
    *s = (struct str){0};
}

void str_clear(struct str *s)
{
    s->len = 0;
    if (s->data)
        s->data[0] = '\0';
}

void str_add(struct str *s, const void *bytes, size_t n)
{
    str_reserve(s, n);
    if (n)
        memcpy(s->data + s->len, bytes, n);
    s->len += n;
    s->data[s->len] = '\0';
}

void str_adds(struct str *s, const char *text) { str_add(s, text, strlen(text)); }

void str_addc(struct str *s, char c) { str_add(s, &c, 1); }

void str_addv(struct str *s, const char *fmt, va_list ap)
{
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    ASSERT(n >= 0);
    str_reserve(s, (size_t)n);
    vsnprintf(s->data + s->len, (size_t)n + 1, fmt, ap);
    s->len += (size_t)n;
}

void str_addf(struct str *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    str_addv(s, fmt, ap);
    va_end(ap);
}

void str_drop(struct str *s, size_t n)
{
    ASSERT(n <= s->len);
    if (!n)
        return;
    memmove(s->data, s->data + n, s->len - n);
    s->len -= n;
    s->data[s->len] = '\0';
}

const char *str_text(const struct str *s) { return s->data ? s->data : ""; }

char *str_steal(struct str *s)
{
    char *data = s->data ? s->data : mem_strdup("");

    *s = (struct str){0};
    return data;
}
