/* jinja_parser: statements, and opening a template. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/jinja_parse.h"

void jinja_fail(struct jinja_ctx *c, int code, const char *fmt, ...)
{
    unsigned line = 1, column = 1;
    char text[400];
    va_list ap;

    for (uint32_t i = 0; i < c->at; i++) {
        column = c->source[i] == '\n' ? 1 : column + 1;
        line += c->source[i] == '\n';
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    c->code = err_set(c->err, code, "%s:%u:%u: %s", c->name, line, column, text);
    longjmp(c->jump, 1);
}

const char *jinja_intern(const struct jinja *ct, const char *s, size_t n, bool add)
{
    struct jinja *t = (struct jinja *)ct; /* written to only while it is being opened */
    size_t i = hash64(s, n, 0) & t->names_mask;
    char *copy;

    for (; t->names[i]; i = (i + 1) & t->names_mask)
        if (strncmp(t->names[i], s, n) == 0 && t->names[i][n] == '\0')
            return t->names[i];
    if (!add)
        return NULL;
    copy = jinja_arena_alloc(&t->arena, n + 2);
    memcpy(copy + 1, s, n);
    t->names[i] = copy + 1;
    return copy + 1;
}

static struct jinja_node *parse_body(struct jinja_parser *p, const char *const *ends);

static void expect_end(struct jinja_parser *p)
{
    char buf[64];

    if (p->tok->kind != JINJA_T_BLOCK_END)
        jinja_parse_error(p, ERR_FORMAT, "%%} must be here, not %s",
                          jinja_token_text(p, buf, sizeof(buf)));
    p->tok++;
}

/* {% endX %}, whose {% is taken. */
static void parse_end(struct jinja_parser *p, const char *word)
{
    jinja_take_word(p, word); /* parse_body stopped at it */
    expect_end(p);
}

static const char *assign_name(struct jinja_parser *p)
{
    const char *name = jinja_expect_name(p);

    *jinja_assigned(name) = 1;
    return name;
}

/* a | a.b | a, b | (a, b): names to assign to; attributes only where allowed. */
static void parse_targets(struct jinja_parser *p, struct jinja_node *n, bool attributes)
{
    struct jinja_arg **tail = &n->targets, *a;
    bool paren = jinja_take_op(p, '(');

    n->single = !paren;
    for (;;) {
        a = jinja_arg_add(p, &tail, assign_name(p), NULL);
        if (attributes && jinja_take_op(p, '.')) {
            a->value = jinja_node(p, JINJA_ATTR, p->tok->at);
            a->value->name = jinja_expect_name(p);
        }
        if (!jinja_take_op(p, ','))
            break;
        n->single = false;
        if (jinja_is_op(p, ')') || jinja_is_op(p, '=') || jinja_is_word(p, "in"))
            break;
    }
    if (paren)
        jinja_expect_op(p, ')');
}

/* A body whose text is captured: no break or continue reaches out of it. */
static struct jinja_node *parse_captured(struct jinja_parser *p, const char *const *ends)
{
    unsigned loops = p->loops;
    struct jinja_node *body;

    p->loops = 0;
    body = parse_body(p, ends);
    p->loops = loops;
    return body;
}

static struct jinja_node *parse_if(struct jinja_parser *p, uint32_t at)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct jinja_node *first = jinja_node(p, JINJA_IF, at), *n = first;

    for (;;) {
        n->a = jinja_parse_tuple(p, false);
        expect_end(p);
        n->body = parse_body(p, ends);
        if (!jinja_is_word(p, "elif"))
            break;
        n->other = jinja_node(p, JINJA_IF, p->tok++->at);
        n = n->other;
    }
    if (jinja_take_word(p, "else")) {
        expect_end(p);
        n->other = parse_body(p, ends + 2);
    }
    parse_end(p, "endif");
    return first;
}

static struct jinja_node *parse_for(struct jinja_parser *p, uint32_t at)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    struct jinja_node *n = jinja_node(p, JINJA_FOR, at);
    char buf[64];

    parse_targets(p, n, false);
    if (!jinja_take_word(p, "in"))
        jinja_parse_error(p, ERR_FORMAT, "\"in\" must be here, not %s",
                          jinja_token_text(p, buf, sizeof(buf)));
    n->a = jinja_parse_tuple(p, false);
    if (jinja_take_word(p, "if"))
        n->b = jinja_parse_expr(p);
    if (jinja_is_word(p, "recursive"))
        jinja_parse_error(p, ERR_UNSUPPORTED, "recursive loops are not supported");
    expect_end(p);
    p->loops++;
    n->body = parse_body(p, ends);
    p->loops--;
    if (jinja_take_word(p, "else")) {
        expect_end(p);
        n->other = parse_body(p, ends + 1);
    }
    parse_end(p, "endfor");
    return n;
}

static struct jinja_node *parse_filters(struct jinja_parser *p)
{
    struct jinja_node *n = jinja_node(p, JINJA_HOLE, p->tok->at);

    do {
        n = jinja_parse_filter(p, n);
    } while (jinja_take_op(p, '|'));
    return n;
}

static struct jinja_node *parse_set(struct jinja_parser *p, uint32_t at)
{
    static const char *const ends[] = {"endset", NULL};
    struct jinja_node *n = jinja_node(p, JINJA_SET, at);

    parse_targets(p, n, true);
    if (jinja_take_op(p, '=')) {
        n->a = jinja_parse_tuple(p, true);
        expect_end(p);
        return n;
    }
    n->kind = JINJA_SET_BLOCK;
    if (!n->single)
        jinja_parse_error(p, ERR_FORMAT, "a block is assigned to one name");
    if (jinja_take_op(p, '|'))
        n->b = parse_filters(p);
    expect_end(p);
    n->body = parse_captured(p, ends);
    parse_end(p, "endset");
    return n;
}

static struct jinja_node *parse_filter_block(struct jinja_parser *p, uint32_t at)
{
    static const char *const ends[] = {"endfilter", NULL};
    struct jinja_node *n = jinja_node(p, JINJA_FILTER_BLOCK, at);

    n->b = parse_filters(p);
    expect_end(p);
    n->body = parse_captured(p, ends);
    parse_end(p, "endfilter");
    return n;
}

static struct jinja_node *parse_macro(struct jinja_parser *p, uint32_t at)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct jinja_node *n = jinja_node(p, JINJA_MACRO_DEF, at);
    struct jinja_arg **tail = &n->args;

    n->name = assign_name(p);
    jinja_expect_op(p, '(');
    while (!jinja_take_op(p, ')')) {
        const char *name;

        if (n->args)
            jinja_expect_op(p, ',');
        name = assign_name(p);
        jinja_arg_add(p, &tail, name, jinja_take_op(p, '=') ? jinja_parse_expr(p) : NULL);
    }
    expect_end(p);
    n->body = parse_captured(p, ends);
    parse_end(p, "endmacro");
    return n;
}

/* {% generation %} marks what a model wrote, for training; here it only has its own variables. */
static struct jinja_node *parse_generation(struct jinja_parser *p, uint32_t at)
{
    static const char *const ends[] = {"endgeneration", NULL};
    struct jinja_node *n = jinja_node(p, JINJA_SCOPE, at);

    expect_end(p);
    n->body = parse_captured(p, ends);
    parse_end(p, "endgeneration");
    return n;
}

static struct jinja_node *parse_jump(struct jinja_parser *p, enum jinja_node_kind kind, uint32_t at)
{
    if (p->loops == 0)
        jinja_parse_error(p, ERR_FORMAT, "outside of a loop");
    expect_end(p);
    return jinja_node(p, kind, at);
}

/* The statement after {%. */
static struct jinja_node *parse_statement(struct jinja_parser *p)
{
    uint32_t at = p->tok->at;
    char buf[64];

    if (jinja_take_word(p, "if"))
        return parse_if(p, at);
    if (jinja_take_word(p, "for"))
        return parse_for(p, at);
    if (jinja_take_word(p, "set"))
        return parse_set(p, at);
    if (jinja_take_word(p, "macro"))
        return parse_macro(p, at);
    if (jinja_take_word(p, "filter"))
        return parse_filter_block(p, at);
    if (jinja_take_word(p, "generation"))
        return parse_generation(p, at);
    if (jinja_take_word(p, "break"))
        return parse_jump(p, JINJA_BREAK, at);
    if (jinja_take_word(p, "continue"))
        return parse_jump(p, JINJA_CONTINUE, at);
    jinja_parse_error(p, ERR_UNSUPPORTED, "statement %s is not supported here",
                      jinja_token_text(p, buf, sizeof(buf)));
}

static bool at_end(const struct jinja_parser *p, const char *const *ends)
{
    for (; *ends; ends++)
        if (jinja_is_word(p, *ends))
            return true;
    return false;
}

/* Statements up to {% and one of the words, which is the current token then. No words: to the end.
 */
static struct jinja_node *parse_body(struct jinja_parser *p, const char *const *ends)
{
    struct jinja_node *first = NULL, **tail = &first, *n;
    char buf[64];

    jinja_enter(p);
    for (;; tail = &n->next) {
        const struct jinja_token *t = p->tok++;

        if (t->kind == JINJA_T_EOF) {
            p->tok--;
            if (!ends)
                break;
            jinja_parse_error(p, ERR_FORMAT, "{%% %s %%} is missing", ends[0]);
        }
        if (t->kind == JINJA_T_BLOCK) {
            if (ends && at_end(p, ends))
                break;
            n = parse_statement(p);
        } else {
            n = jinja_node(p, t->kind == JINJA_T_DATA ? JINJA_DATA : JINJA_PRINT, t->at);
            if (t->kind == JINJA_T_DATA) {
                struct jinja_string *s = jinja_arena_alloc(&p->t->arena, sizeof(*s));

                *s = (struct jinja_string){.s = t->s, .n = t->n};
                n->value = (struct jinja_value){.kind = JINJA_STRING, .u.s = s};
            } else {
                n->a = jinja_parse_tuple(p, true);
                if (p->tok->kind != JINJA_T_PRINT_END)
                    jinja_parse_error(p, ERR_FORMAT, "}} must be here, not %s",
                                      jinja_token_text(p, buf, sizeof(buf)));
                p->tok++;
            }
        }
        *tail = n;
    }
    p->nesting--;
    return first;
}

/* A called name is a function of ours, or one that the template makes. */
static void check_calls(struct jinja_parser *p)
{
    for (const struct jinja_arg *c = p->calls; c; c = c->next) {
        const char *name = c->value->a->name, *wrong = NULL;
        const struct jinja_builtin *f = jinja_function(name);
        char buf[160];

        if (*jinja_assigned(name))
            continue;
        p->ctx.at = c->value->at;
        if (!f)
            jinja_fail(&p->ctx, ERR_UNSUPPORTED, "function \"%s\" is not supported", name);
        wrong = jinja_check_args(f, c->value->args, buf, sizeof(buf));
        if (wrong)
            jinja_fail(&p->ctx, ERR_FORMAT, "%s", wrong);
    }
}

/* Newlines as \n, and without the last one, as Jinja reads a file. */
static void copy_source(struct jinja *t, const char *s, size_t n)
{
    size_t k = 0;

    t->source = jinja_arena_alloc(&t->arena, n + 1);
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\r' && i + 1 < n && s[i + 1] == '\n')
            continue;
        t->source[k++] = s[i] == '\r' ? '\n' : s[i];
    }
    if (k > 0 && t->source[k - 1] == '\n')
        k--;
    t->source[k] = '\0';
    t->source_bytes = k;
}

int jinja_open(struct jinja **out, const char *name, const char *text, size_t n, struct err *e)
{
    struct jinja_parser *p;
    struct jinja *t;
    int rc;

    *out = NULL;
    if (n > JINJA_TEMPLATE_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "%s: the template has %zu bytes, the limit is %zu", name, n,
                       JINJA_TEMPLATE_BYTES_MAX);
    t = mem_zalloc(sizeof(*t));
    t->name = mem_strdup(name);
    copy_source(t, text, n);
    /* Names and what must stand between them: they never fill more than half. */
    for (t->names_mask = 256; t->names_mask < t->source_bytes; t->names_mask *= 2)
        ;
    t->names = jinja_arena_alloc(&t->arena, t->names_mask * sizeof(*t->names));
    t->names_mask--;
    p = mem_zalloc(sizeof(*p)); /* not on the stack, which setjmp does not keep */
    p->t = t;
    p->ctx.err = e;
    p->ctx.name = t->name;
    p->ctx.source = t->source;
    p->calls_end = &p->calls;
    if (setjmp(p->ctx.jump) == 0) {
        p->tok = jinja_lex(&p->ctx, &p->tokens, t->source, t->source_bytes);
        t->body = parse_body(p, NULL);
        check_calls(p);
    }
    rc = p->ctx.code;
    jinja_arena_fini(&p->tokens);
    mem_free(p);
    if (rc)
        jinja_free(&t);
    *out = t;
    return rc;
}

void jinja_free(struct jinja **t)
{
    if (!*t)
        return;
    jinja_arena_fini(&(*t)->arena);
    mem_free((*t)->name);
    mem_free(*t);
    *t = NULL;
}
