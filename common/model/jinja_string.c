#include "model/jinja_string.h"

#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#include "model/jinja_priv.h"
#include "base/utf8.h"

static void *grow(struct jinja_run *r, void *old, size_t used, size_t *cap, size_t need,
                  size_t item)
{
    void *p;

    *cap = size_max(need, size_max(16, *cap * 2));
    p = jinja_alloc(r, *cap * item);
    if (used)
        memcpy(p, old, used * item);
    return p;
}

void jinja_buf_add(struct jinja_buf *b, const char *s, size_t n, bool user)
{
    if (n > JINJA_OUTPUT_BYTES_MAX - b->n && b->run->running)
        jinja_fail(&b->run->ctx, ERR_LIMIT, "a text of more than %zu bytes",
                   JINJA_OUTPUT_BYTES_MAX);
    if (n == 0)
        return;
    if (b->n + n > b->cap)
        b->s = grow(b->run, b->s, b->n, &b->cap, b->n + n, 1);
    memcpy(b->s + b->n, s, n);
    if (user && b->n_marks && b->marks[b->n_marks - 1].end == b->n) {
        b->marks[b->n_marks - 1].end += n;
    } else if (user) {
        if (b->n_marks == b->cap_marks)
            b->marks = grow(b->run, b->marks, b->n_marks, &b->cap_marks, b->n_marks + 1,
                            sizeof(*b->marks));
        b->marks[b->n_marks++] = (struct text_range){b->n, b->n + n};
    }
    b->n += n;
}

void jinja_buf_adds(struct jinja_buf *b, const char *s) { jinja_buf_add(b, s, strlen(s), false); }

void jinja_buf_string(struct jinja_buf *b, struct jinja_string s)
{
    size_t at = 0;

    for (size_t i = 0; i < s.n_marks; i++) {
        jinja_buf_add(b, s.s + at, s.marks[i].begin - at, false);
        jinja_buf_add(b, s.s + s.marks[i].begin, s.marks[i].end - s.marks[i].begin, true);
        at = s.marks[i].end;
    }
    if (s.n > at)
        jinja_buf_add(b, s.s + at, s.n - at, false);
}

struct jinja_string jinja_buf_done(const struct jinja_buf *b)
{
    return (struct jinja_string){b->s ? b->s : "", b->n, b->marks, b->n_marks};
}

struct jinja_string jinja_str(const char *s)
{
    return (struct jinja_string){.s = s, .n = strlen(s)};
}

struct jinja_string jinja_cut(struct jinja_run *r, struct jinja_string s, size_t from, size_t to)
{
    struct jinja_string out = {.s = s.s + from, .n = to - from};
    struct text_range *marks;
    size_t first = 0, last;

    while (first < s.n_marks && s.marks[first].end <= from)
        first++;
    for (last = first; last < s.n_marks && s.marks[last].begin < to; last++)
        ;
    if (first == last)
        return out;
    out.n_marks = last - first;
    out.marks = marks = jinja_alloc(r, out.n_marks * sizeof(*marks));
    for (size_t i = 0; i < out.n_marks; i++) {
        marks[i].begin = size_max(s.marks[first + i].begin, from) - from;
        marks[i].end = size_min(s.marks[first + i].end, to) - from;
    }
    return out;
}

bool jinja_marked(struct jinja_string s) { return s.n_marks > 0; }

bool jinja_same(struct jinja_string a, struct jinja_string b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.s, b.s, a.n) == 0);
}

int jinja_compare(struct jinja_string a, struct jinja_string b)
{
    size_t n = size_min(a.n, b.n);
    int c = n ? memcmp(a.s, b.s, n) : 0; /* the order of UTF-8 is that of code points */

    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

size_t jinja_find(struct jinja_run *r, struct jinja_string s, struct jinja_string needle,
                  size_t from)
{
    const char *p;

    jinja_step(r, 1 + (s.n - from) / 256); /* a scan is far cheaper than a step */
    if (needle.n == 0)
        return from;
    p = s.n ? memmem(s.s + from, s.n - from, needle.s, needle.n) : NULL;
    return p ? (size_t)(p - s.s) : SIZE_MAX;
}

size_t jinja_char_bytes(struct jinja_string s, size_t at)
{
    size_t len;
    uint32_t cp;

    utf8_step(s.s + at, s.n - at, &len, &cp);
    return len;
}

size_t jinja_chars(struct jinja_run *r, struct jinja_string s)
{
    size_t chars = 0;

    jinja_step(r, 1 + s.n / 256);
    for (size_t i = 0; i < s.n; chars++)
        i += jinja_char_bytes(s, i);
    return chars;
}

bool jinja_space(struct jinja_string s, size_t at)
{
    size_t len;
    uint32_t c;

    if (utf8_step(s.s + at, s.n - at, &len, &c) != UTF8_OK)
        return false;
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

static bool strips(struct jinja_string s, size_t at, const struct jinja_string *set)
{
    size_t n = jinja_char_bytes(s, at);

    if (!set)
        return jinja_space(s, at);
    for (size_t i = 0; i < set->n; i += jinja_char_bytes(*set, i))
        if (jinja_char_bytes(*set, i) == n && memcmp(set->s + i, s.s + at, n) == 0)
            return true;
    return false;
}

struct jinja_string jinja_strip(struct jinja_run *r, struct jinja_string s,
                                const struct jinja_string *set, unsigned sides)
{
    size_t from = 0, to = s.n;

    while ((sides & JINJA_LEFT) && from < to && strips(s, from, set))
        from += jinja_char_bytes(s, from);
    while ((sides & JINJA_RIGHT) && to > from) {
        size_t at = to - 1;

        while (at > from && to - at < 4 && ((uint8_t)s.s[at] & 0xC0) == 0x80)
            at--;
        if (!strips(s, at, set))
            break;
        to = at;
    }
    return jinja_cut(r, s, from, to);
}

struct jinja_string jinja_replace(struct jinja_run *r, struct jinja_string s,
                                  struct jinja_string old, struct jinja_string with, int64_t max)
{
    struct jinja_buf b = {.run = r};
    size_t at = 0;

    for (; max != 0; max--) {
        size_t hit = jinja_find(r, s, old, at), past;

        if (hit == SIZE_MAX)
            break;
        jinja_buf_string(&b, jinja_cut(r, s, at, hit));
        jinja_buf_string(&b, with);
        past = hit + old.n;
        at = past;
        if (old.n == 0) { /* between all characters, and at the ends */
            if (hit == s.n)
                break;
            at = hit + jinja_char_bytes(s, hit);
            jinja_buf_string(&b, jinja_cut(r, s, hit, at));
        }
    }
    jinja_buf_string(&b, jinja_cut(r, s, at, s.n));
    return jinja_buf_done(&b);
}

struct jinja_value jinja_split(struct jinja_run *r, struct jinja_string s,
                               const struct jinja_string *sep, int64_t max)
{
    struct jinja_value out = jinja_list(r, JINJA_LIST);
    size_t at = 0;

    if (sep) {
        size_t hit;

        for (; max != 0 && (hit = jinja_find(r, s, *sep, at)) != SIZE_MAX; max--) {
            jinja_list_add(r, out.u.list, jinja_string(r, jinja_cut(r, s, at, hit)));
            at = hit + sep->n;
        }
        jinja_list_add(r, out.u.list, jinja_string(r, jinja_cut(r, s, at, s.n)));
        return out;
    }
    jinja_step(r, 1 + s.n / 64);
    for (;; max--) {
        size_t end;

        while (at < s.n && jinja_space(s, at))
            at += jinja_char_bytes(s, at);
        if (at == s.n)
            return out;
        for (end = at; end < s.n && (max == 0 || !jinja_space(s, end));)
            end += jinja_char_bytes(s, end);
        jinja_list_add(r, out.u.list, jinja_string(r, jinja_cut(r, s, at, end)));
        at = end;
    }
}

/* Characters beyond ASCII have their case from the C library's Unicode tables. */
static locale_t unicode;
static void unicode_init(void) { unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0); }

static void need_unicode(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, unicode_init);
}

static uint32_t recase(uint32_t cp, bool upper)
{
    if (cp < 0x80 || !unicode) {
        bool change = upper ? cp >= 'a' && cp <= 'z' : cp >= 'A' && cp <= 'Z';

        return change ? cp ^ 0x20 : cp;
    }
    return (uint32_t)(upper ? towupper_l((wint_t)cp, unicode) : towlower_l((wint_t)cp, unicode));
}

struct jinja_string jinja_recase(struct jinja_run *r, struct jinja_string s, enum jinja_case how)
{
    struct jinja_buf b = {.run = r};
    bool start = true;
    size_t k = 0, len;
    uint32_t cp;

    need_unicode();
    jinja_step(r, 1 + s.n / 64);
    for (size_t i = 0; i < s.n; i += len) {
        enum utf8_status st = utf8_step(s.s + i, s.n - i, &len, &cp);
        bool word = jinja_space(s, i) || (cp < 0x80 && strchr("-({[<", (int)cp)), user;
        char out[4];

        while (k < s.n_marks && s.marks[k].end <= i)
            k++;
        user = k < s.n_marks && s.marks[k].begin <= i;
        if (st != UTF8_OK) {
            jinja_buf_add(&b, s.s + i, len, user);
            continue;
        }
        cp = recase(cp, how == JINJA_UPPER || (how >= JINJA_CAPITALIZE && start));
        jinja_buf_add(&b, out, utf8_put(out, cp), user);
        start = how == JINJA_TITLE && word;
    }
    return jinja_buf_done(&b);
}

/* Bytes of the line break at byte `at`, 0: none. */
static size_t line_break(struct jinja_string s, size_t at)
{
    uint32_t c;
    size_t len;

    if (utf8_step(s.s + at, s.n - at, &len, &c) != UTF8_OK)
        return 0;
    if (c == '\r' && at + 1 < s.n && s.s[at + 1] == '\n')
        return 2;
    return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029
               ? len
               : 0;
}

struct jinja_value jinja_lines(struct jinja_run *r, struct jinja_string s)
{
    struct jinja_value out = jinja_list(r, JINJA_LIST);
    size_t from = 0, n;

    jinja_step(r, 1 + s.n / 64);
    for (size_t i = 0; i < s.n; i += n ? n : jinja_char_bytes(s, i)) {
        n = line_break(s, i);
        if (n) {
            jinja_list_add(r, out.u.list, jinja_string(r, jinja_cut(r, s, from, i)));
            from = i + n;
        }
    }
    if (from < s.n)
        jinja_list_add(r, out.u.list, jinja_string(r, jinja_cut(r, s, from, s.n)));
    return out;
}

struct jinja_string jinja_indent(struct jinja_run *r, struct jinja_string s, struct jinja_string by,
                                 bool first, bool blank)
{
    struct jinja_buf with = {.run = r}, b = {.run = r};
    struct jinja_list *lines;

    /* As in Jinja: one newline more, so that a last empty line counts. */
    jinja_buf_string(&with, s);
    jinja_buf_adds(&with, "\n");
    lines = jinja_lines(r, jinja_buf_done(&with)).u.list;
    for (size_t i = 0; i < lines->n; i++) {
        struct jinja_string line = *lines->items[i].u.s;

        if (i > 0)
            jinja_buf_adds(&b, "\n");
        if (i == 0 ? first : blank || line.n)
            jinja_buf_string(&b, by);
        jinja_buf_string(&b, line);
    }
    return jinja_buf_done(&b);
}

/* Printable as Python's repr has it, but for characters that are not assigned. */
static bool printable(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= ' ' && cp != 0x7F;
    return cp > 0xA0 && cp != 0xAD && !(cp >= 0x2028 && cp <= 0x202E) &&
           (!unicode || (iswprint_l((wint_t)cp, unicode) && !iswspace_l((wint_t)cp, unicode)));
}

void jinja_repr_string(struct jinja_buf *b, struct jinja_string s)
{
    char quote = memchr(s.s, '\'', s.n) && !memchr(s.s, '"', s.n) ? '"' : '\'', buf[16];
    bool user = jinja_marked(s);
    size_t len;
    uint32_t cp;

    need_unicode();
    jinja_step(b->run, 1 + s.n / 64);
    jinja_buf_add(b, &quote, 1, user);
    for (size_t i = 0; i < s.n; i += len) {
        bool good = utf8_step(s.s + i, s.n - i, &len, &cp) == UTF8_OK;
        const char *esc = cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : cp == '\t' ? "\\t" : NULL;

        if (cp == '\\' || cp == (uint32_t)quote)
            jinja_buf_add(b, "\\", 1, user);
        if (!good || (!esc && !printable(cp))) {
            snprintf(buf, sizeof(buf),
                     cp < 0x100     ? "\\x%02x"
                     : cp < 0x10000 ? "\\u%04x"
                                    : "\\U%08x",
                     cp);
            esc = buf;
        }
        jinja_buf_add(b, esc ? esc : s.s + i, esc ? strlen(esc) : len, user);
    }
    jinja_buf_add(b, &quote, 1, user);
}

/* The shortest digits that give f back; as Python, exponents from 16 digits and below 1e-4. */
void jinja_repr_float(struct jinja_buf *b, double f)
{
    char e[40], *x, out[64];
    int digits = 0, exp;

    if (f != f || f - f != 0) {
        jinja_buf_adds(b, f != f ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    for (int p = 0; p < 17; p++) {
        snprintf(e, sizeof(e), "%.*e", p, f);
        if (strtod(e, NULL) == f)
            break;
    }
    x = strchr(e, 'e');
    exp = atoi(x + 1);
    for (const char *c = e; c < x; c++)
        digits += *c >= '0' && *c <= '9';
    if (exp >= -4 && exp < 16) {
        int decimals = digits - 1 - exp;

        snprintf(out, sizeof(out), "%.*f", decimals > 0 ? decimals : 1, f);
    } else {
        *x = '\0';
        snprintf(out, sizeof(out), "%se%c%02d", e, exp < 0 ? '-' : '+', abs(exp));
    }
    jinja_buf_adds(b, out);
}
