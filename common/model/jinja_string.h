/* jinja_string: building strings piece by piece, with the marks of a user's bytes, and Python's
 * string operations on them. Everything lies in the run's arena. */
#ifndef TANDEM_MODEL_JINJA_STRING_H
#define TANDEM_MODEL_JINJA_STRING_H

#include "model/jinja_value.h"

/* A string in the making; zeroed but for run. Fails past JINJA_OUTPUT_BYTES_MAX. */
struct jinja_buf {
    struct jinja_run *run;
    char *s;
    size_t n, cap;
    struct text_range *marks;
    size_t n_marks, cap_marks;
};

void jinja_buf_add(struct jinja_buf *b, const char *s, size_t n, bool user);
void jinja_buf_adds(struct jinja_buf *b, const char *s); /* not a user's */
void jinja_buf_string(struct jinja_buf *b, struct jinja_string s);
/* What was built; shares the buffer, which must not grow any more. */
struct jinja_string jinja_buf_done(const struct jinja_buf *b);

struct jinja_string jinja_str(const char *s); /* of a literal */

/* Bytes [from, to) of s. */
struct jinja_string jinja_cut(struct jinja_run *r, struct jinja_string s, size_t from, size_t to);
bool jinja_marked(struct jinja_string s); /* any byte of it a user's */

bool jinja_same(struct jinja_string a, struct jinja_string b); /* the bytes */
int jinja_compare(struct jinja_string a, struct jinja_string b);
/* Offset of needle at or after from; SIZE_MAX: none. */
size_t jinja_find(struct jinja_run *r, struct jinja_string s, struct jinja_string needle,
                  size_t from);

/* Characters, not bytes. */
size_t jinja_chars(struct jinja_run *r, struct jinja_string s);
size_t jinja_char_bytes(struct jinja_string s, size_t at); /* of the one at byte `at` */
bool jinja_space(struct jinja_string s, size_t at);        /* is it str.isspace() */

enum { JINJA_LEFT = 1, JINJA_RIGHT = 2 };
/* Without the spaces, or the characters of `set` if it is not NULL, at the sides asked for. */
struct jinja_string jinja_strip(struct jinja_run *r, struct jinja_string s,
                                const struct jinja_string *set, unsigned sides);
/* At most max times (max < 0: all). */
struct jinja_string jinja_replace(struct jinja_run *r, struct jinja_string s,
                                  struct jinja_string old, struct jinja_string with, int64_t max);
/* sep NULL: at runs of spaces. */
struct jinja_value jinja_split(struct jinja_run *r, struct jinja_string s,
                               const struct jinja_string *sep, int64_t max);

enum jinja_case { JINJA_LOWER, JINJA_UPPER, JINJA_CAPITALIZE, JINJA_TITLE };
/* Simple case mapping: one character for one (Python's has a few that become two, as sharp s). */
struct jinja_string jinja_recase(struct jinja_run *r, struct jinja_string s, enum jinja_case how);

/* str.splitlines(). */
struct jinja_value jinja_lines(struct jinja_run *r, struct jinja_string s);
/* s + indent between and, with first, before lines; as the filter. */
struct jinja_string jinja_indent(struct jinja_run *r, struct jinja_string s, struct jinja_string by,
                                 bool first, bool blank);

/* Python's repr of a string or number. */
void jinja_repr_string(struct jinja_buf *b, struct jinja_string s);
void jinja_repr_float(struct jinja_buf *b, double f);

#endif
