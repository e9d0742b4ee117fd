/* str: a growable byte string. Always NUL-terminated when data is not NULL; may hold NULs inside.
 * A zeroed struct is a valid empty string. One thread. */
#ifndef TANDEM_BASE_STR_H
#define TANDEM_BASE_STR_H

#include <stdarg.h>
#include <stddef.h>

struct str {
    char *data; /* NULL while nothing was added */
    size_t len;
    size_t cap;
};

void str_fini(struct str *s);  /* frees; leaves an empty string */
void str_clear(struct str *s); /* keeps the memory */
void str_add(struct str *s, const void *bytes, size_t n);
void str_adds(struct str *s, const char *text);
void str_addc(struct str *s, char c);
void str_addf(struct str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void str_addv(struct str *s, const char *fmt, va_list ap);
/* Removes the first n bytes; n <= len. */
void str_drop(struct str *s, size_t n);
/* The text, "" if empty. Borrowed until the next change. */
const char *str_text(const struct str *s);
/* Returns the bytes, owned by the caller (mem_free), and leaves an empty string. */
char *str_steal(struct str *s);

#endif
