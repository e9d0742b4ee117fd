/* jinja_lexer: source to tokens, with Jinja's rules for the space around tags:
 *
 *   {%- {{- {#-   all space before the tag goes          -%} -}} -#}   all space after it goes
 *   {%  {#        space goes that alone stands between the line's start and the tag (lstrip_blocks)
 *   %}  #}        one newline after the tag goes (trim_blocks)
 *   {%+ +%}       neither */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "model/jinja_ast.h"
#include "model/jinja_string.h"
#include "base/utf8.h"

struct lexer {
    struct jinja_ctx *c;
    struct jinja_arena *arena;
    const char *s;
    size_t n, pos;
    struct jinja_token *tokens;
    size_t n_tokens, cap;
    bool line_starting;           /* what came last ended with a newline */
    char open[JINJA_NESTING_MAX]; /* brackets */
    size_t n_open;
};

static struct jinja_token *add(struct lexer *l, enum jinja_token_kind kind, size_t at)
{
    struct jinja_token *t;

    if (l->n_tokens == l->cap) {
        size_t cap = size_max(256, l->cap * 2);

        t = jinja_arena_alloc(l->arena, cap * sizeof(*t));
        if (l->n_tokens)
            memcpy(t, l->tokens, l->n_tokens * sizeof(*t));
        l->tokens = t;
        l->cap = cap;
    }
    t = &l->tokens[l->n_tokens++];
    t->kind = kind;
    t->at = (uint32_t)at;
    l->c->at = t->at;
    return t;
}

__attribute__((noreturn)) static void fail_at(struct lexer *l, size_t at, const char *what)
{
    l->c->at = (uint32_t)at;
    jinja_fail(l->c, ERR_FORMAT, "%s", what);
}

static struct jinja_string rest(const struct lexer *l)
{
    return (struct jinja_string){.s = l->s, .n = l->n};
}

static size_t skip_space(const struct lexer *l, size_t at)
{
    while (at < l->n && jinja_space(rest(l), at))
        at += jinja_char_bytes(rest(l), at);
    return at;
}

static bool space_only(const struct lexer *l, size_t at, size_t end)
{
    return skip_space(l, at) >= end;
}

/* End of the text [from, at) before a tag, with what the tag takes of it off. */
static size_t text_end(const struct lexer *l, size_t from, size_t at, char sign, bool print)
{
    struct jinja_string text = {.s = l->s + from, .n = at - from};
    size_t line = text.n;

    if (sign == '-')
        return from + jinja_strip(NULL, text, NULL, JINJA_RIGHT).n;
    if (sign == '+' || print)
        return at;
    while (line > 0 && text.s[line - 1] != '\n')
        line--;
    if ((line > 0 || l->line_starting) && line < text.n && space_only(l, from + line, at))
        return from + line;
    return at;
}

/* Past a tag's end at `at`, which has `sign` before its two characters; trim: of a block or
 * comment. */
static void tag_end(struct lexer *l, size_t at, char sign, bool trim)
{
    at += 2 + (sign != 0);
    if (sign == '-')
        at = skip_space(l, at);
    else if (sign == 0 && trim && at < l->n && l->s[at] == '\n')
        at++;
    l->pos = at;
    l->line_starting = l->s[at - 1] == '\n';
}

static void comment(struct lexer *l, size_t at)
{
    const char *end = memmem(l->s + l->pos, l->n - l->pos, "#}", 2);
    size_t k;
    char sign = 0;

    if (!end)
        fail_at(l, at, "comment without #}");
    k = (size_t)(end - l->s);
    if (k > l->pos && (l->s[k - 1] == '-' || l->s[k - 1] == '+'))
        sign = l->s[--k];
    tag_end(l, k, sign, true);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

static size_t digits(const struct lexer *l, size_t at)
{
    while (at < l->n &&
           (is_digit(l->s[at]) || (l->s[at] == '_' && at + 1 < l->n && is_digit(l->s[at + 1]))))
        at++;
    return at;
}

static void number(struct lexer *l)
{
    size_t at = l->pos, end = digits(l, at), frac = end, k = 0;
    bool real = false;
    struct jinja_token *t;
    char buf[64];

    /* after a dot it is an index: a.0.b */
    if (at == 0 || l->s[at - 1] != '.') {
        if (end + 1 < l->n && l->s[end] == '.' && is_digit(l->s[end + 1])) {
            end = frac = digits(l, end + 1);
            real = true;
        }
        if (frac + 1 < l->n && (l->s[frac] == 'e' || l->s[frac] == 'E')) {
            size_t e = frac + 1 + (l->s[frac + 1] == '-' || l->s[frac + 1] == '+');

            if (e < l->n && is_digit(l->s[e])) {
                end = digits(l, e);
                real = true;
            }
        }
    }
    if (end < l->n && is_name(l->s[end]))
        fail_at(l, at, "a number of a form that is not known here");
    for (size_t i = at; i < end && k + 1 < sizeof(buf); i++)
        if (l->s[i] != '_')
            buf[k++] = l->s[i];
    buf[k] = '\0';
    t = add(l, real ? JINJA_T_FLOAT : JINJA_T_INT, at);
    if (k + 1 == sizeof(buf) || (!real && k > 18))
        fail_at(l, at, "a number with too many digits");
    if (real)
        t->f = strtod(buf, NULL);
    else
        t->i = strtoll(buf, NULL, 10);
    l->pos = end;
}

/* Value of n digits of the base at s, or -1. */
static int32_t code(const char *s, size_t n, size_t left, unsigned base)
{
    int32_t v = 0;

    if (left < n)
        return -1;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        unsigned d = is_digit(c)            ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                            : 99;

        if (d >= base || v > 0x10FFFF)
            return -1;
        v = v * (int32_t)base + (int32_t)d;
    }
    return v;
}

/* One escape, s[0] being what follows the backslash. Returns bytes read, writes *k bytes to out. */
static size_t escape(struct lexer *l, const char *s, size_t left, char *out, size_t *k)
{
    static const char from[] = "\n\\'\"abfnrtv", to[] = "\0\\'\"\a\b\f\n\r\t\v";
    const char *p = memchr(from, s[0], sizeof(from) - 1);
    size_t n = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0, octal = 0;
    int32_t cp;

    if (p) {
        out[0] = to[p - from];
        *k = s[0] != '\n'; /* a line that goes on */
        return 1;
    }
    while (octal < 3 && octal < left && s[octal] >= '0' && s[octal] < '8')
        octal++;
    if (!n && !octal) {
        if (s[0] == 'N')
            fail_at(l, (size_t)(s - l->s), "characters by name (\\N) are not supported");
        out[0] = '\\'; /* Python leaves an unknown escape as it is */
        *k = 1;
        return 0;
    }
    cp = n ? code(s + 1, n, left - 1, 16) : code(s, octal, left, 8);
    if (cp < 0 || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
        fail_at(l, (size_t)(s - l->s), "an escape that is no character");
    *k = utf8_put(out, (uint32_t)cp);
    return n ? n + 1 : octal;
}

static void string(struct lexer *l)
{
    size_t at = l->pos, end = at + 1, k = 0;
    struct jinja_token *t;
    char *out;

    while (end < l->n && l->s[end] != l->s[at])
        end += 1 + (l->s[end] == '\\');
    if (end >= l->n)
        fail_at(l, at, "string without its closing quote");
    t = add(l, JINJA_T_STRING, at);
    out = jinja_arena_alloc(l->arena, end - at + 4); /* no escape grows */
    for (size_t i = at + 1; i < end;) {
        size_t wrote;

        if (l->s[i] != '\\') {
            out[k++] = l->s[i++];
            continue;
        }
        i += 1 + escape(l, l->s + i + 1, end - i - 1, out + k, &wrote);
        k += wrote;
    }
    t->s = out;
    t->n = k;
    l->pos = end + 1;
}

static void bracket(struct lexer *l, char c)
{
    if (c == '(' || c == '[' || c == '{') {
        if (l->n_open == sizeof(l->open)) {
            l->c->at = (uint32_t)l->pos;
            jinja_fail(l->c, ERR_LIMIT, "more than %d brackets inside each other",
                       JINJA_NESTING_MAX);
        }
        l->open[l->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (l->n_open == 0 || l->open[l->n_open - 1] != c)
            fail_at(l, l->pos, "a closing bracket that none opens");
        l->n_open--;
    }
}

static void operator(struct lexer *l)
{
    static const struct {
        char s[3];
        int op;
    } pairs[] = {{"==", JINJA_OP_EQ}, {"!=", JINJA_OP_NE},  {"<=", JINJA_OP_LE},
                 {">=", JINJA_OP_GE}, {"//", JINJA_OP_DIV}, {"**", JINJA_OP_POW}};
    const char *s = l->s + l->pos;
    int op = *s && strchr("+-*/%~[](){}<>=.:|,;", *s) ? *s : 0;
    size_t n = 1;

    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        if (l->n - l->pos >= 2 && memcmp(s, pairs[i].s, 2) == 0) {
            op = pairs[i].op;
            n = 2;
        }
    if (!op)
        fail_at(l, l->pos, "a character that means nothing here");
    bracket(l, *s);
    add(l, JINJA_T_OP, l->pos)->op = op;
    l->pos += n;
}

/* At the end of the tag? Then past it. The characters for it do not count inside brackets. */
static bool at_end(struct lexer *l, const char *end, bool print)
{
    const char *s = l->s + l->pos;
    size_t left = l->n - l->pos;
    char sign = left > 2 && (*s == '-' || (*s == '+' && !print)) ? *s : 0;

    if (l->n_open || left < 2 || memcmp(s + (sign != 0), end, 2) != 0)
        return false;
    add(l, print ? JINJA_T_PRINT_END : JINJA_T_BLOCK_END, l->pos);
    tag_end(l, l->pos, sign, !print);
    return true;
}

static void tag(struct lexer *l, size_t at, bool print)
{
    add(l, print ? JINJA_T_PRINT : JINJA_T_BLOCK, at);
    l->n_open = 0;
    for (;;) {
        l->pos = skip_space(l, l->pos);
        if (l->pos == l->n)
            fail_at(l, at, print ? "{{ without }}" : "{% without %}");
        if (at_end(l, print ? "}}" : "%}", print))
            return;
        if (is_digit(l->s[l->pos])) {
            number(l);
        } else if (is_name(l->s[l->pos])) {
            struct jinja_token *t = add(l, JINJA_T_NAME, l->pos);

            t->s = l->s + l->pos;
            while (l->pos < l->n && is_name(l->s[l->pos]))
                l->pos++;
            t->n = (size_t)(l->s + l->pos - t->s);
        } else if (l->s[l->pos] == '"' || l->s[l->pos] == '\'') {
            string(l);
        } else {
            operator(l);
        }
    }
}

/* Offset of the next "{{", "{%" or "{#"; n: none. */
static size_t next_tag(const struct lexer *l)
{
    for (size_t i = l->pos; i + 1 < l->n; i++)
        if (l->s[i] == '{' && (l->s[i + 1] == '{' || l->s[i + 1] == '%' || l->s[i + 1] == '#'))
            return i;
    return l->n;
}

struct jinja_token *jinja_lex(struct jinja_ctx *c, struct jinja_arena *a, const char *s, size_t n)
{
    struct lexer l = {.c = c, .arena = a, .s = s, .n = n, .line_starting = true};

    while (l.pos < n) {
        size_t at = next_tag(&l), end = n;
        char kind = 0, sign = 0;

        if (at < n) {
            kind = s[at + 1];
            sign = at + 2 < n && (s[at + 2] == '-' || s[at + 2] == '+') ? s[at + 2] : 0;
            end = text_end(&l, l.pos, at, sign, kind == '{');
        }
        if (end > l.pos) {
            struct jinja_token *t = add(&l, JINJA_T_DATA, l.pos);

            t->s = s + l.pos;
            t->n = end - l.pos;
        }
        l.pos = at < n ? at + 2 + (sign != 0) : n;
        if (kind == '#')
            comment(&l, at);
        else if (kind)
            tag(&l, at, kind == '{');
    }
    add(&l, JINJA_T_EOF, n);
    return l.tokens;
}
