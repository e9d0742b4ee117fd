/* jinja_expr: expressions, with Jinja's precedence:
 *
 *   if else < or < and < not < == != < > <= >= in < + - < ~ < * / // % < ** < unary < filter, is */
#include <stdio.h>
#include <string.h>

#include "model/jinja_parse.h"

struct jinja_node *jinja_node(struct jinja_parser *p, enum jinja_node_kind kind, uint32_t at)
{
    struct jinja_node *n = jinja_arena_alloc(&p->t->arena, sizeof(*n));

    n->kind = kind;
    n->at = at;
    return n;
}

struct jinja_arg *jinja_arg_add(struct jinja_parser *p, struct jinja_arg ***tail, const char *name,
                                struct jinja_node *value)
{
    struct jinja_arg *a = jinja_arena_alloc(&p->t->arena, sizeof(*a));

    a->name = name;
    a->value = value;
    **tail = a;
    *tail = &a->next;
    return a;
}

bool jinja_is_op(const struct jinja_parser *p, int op)
{
    return p->tok->kind == JINJA_T_OP && p->tok->op == op;
}

bool jinja_is_word(const struct jinja_parser *p, const char *word)
{
    return p->tok->kind == JINJA_T_NAME && p->tok->n == strlen(word) &&
           memcmp(p->tok->s, word, p->tok->n) == 0;
}

bool jinja_take_op(struct jinja_parser *p, int op)
{
    bool yes = jinja_is_op(p, op);

    p->tok += yes;
    return yes;
}

bool jinja_take_word(struct jinja_parser *p, const char *word)
{
    bool yes = jinja_is_word(p, word);

    p->tok += yes;
    return yes;
}

const char *jinja_token_text(const struct jinja_parser *p, char *buf, size_t size)
{
    static const char *const names[] = {
        [JINJA_T_DATA] = "text",    [JINJA_T_BLOCK] = "{%",       [JINJA_T_BLOCK_END] = "%}",
        [JINJA_T_PRINT] = "{{",     [JINJA_T_PRINT_END] = "}}",   [JINJA_T_STRING] = "a string",
        [JINJA_T_INT] = "a number", [JINJA_T_FLOAT] = "a number", [JINJA_T_EOF] = "the end",
    };
    const struct jinja_token *t = p->tok;

    if (t->kind == JINJA_T_NAME)
        snprintf(buf, size, "\"%.*s\"", (int)size_min(t->n, 40), t->s);
    else if (t->kind == JINJA_T_OP)
        snprintf(buf, size, "\"%c\"", p->ctx.source[t->at]);
    else
        snprintf(buf, size, "%s", names[t->kind]);
    return buf;
}

void jinja_expect_op(struct jinja_parser *p, int op)
{
    char buf[64];

    if (!jinja_take_op(p, op))
        jinja_parse_error(p, ERR_FORMAT, "\"%c\" is missing before %s", op,
                          jinja_token_text(p, buf, sizeof(buf)));
}

static bool is_keyword(const struct jinja_parser *p)
{
    static const char *const words[] = {"and", "else", "elif", "for", "if",
                                        "in",  "is",   "not",  "or"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (jinja_is_word(p, words[i]))
            return true;
    return false;
}

const char *jinja_expect_name(struct jinja_parser *p)
{
    char buf[64];

    if (p->tok->kind != JINJA_T_NAME || is_keyword(p))
        jinja_parse_error(p, ERR_FORMAT, "a name must be here, not %s",
                          jinja_token_text(p, buf, sizeof(buf)));
    p->tok++;
    return jinja_intern(p->t, p->tok[-1].s, p->tok[-1].n, true);
}

void jinja_enter(struct jinja_parser *p)
{
    if (++p->nesting > JINJA_NESTING_MAX)
        jinja_parse_error(p, ERR_LIMIT, "more than %d levels inside each other", JINJA_NESTING_MAX);
}

/* Arguments after '(', up to and past ')'. */
static struct jinja_arg *parse_args(struct jinja_parser *p)
{
    struct jinja_arg *args = NULL, **tail = &args;
    bool named = false;

    while (!jinja_take_op(p, ')')) {
        const char *name = NULL;

        if (args) {
            jinja_expect_op(p, ',');
            if (jinja_take_op(p, ')'))
                break;
        }
        if (jinja_is_op(p, '*') || jinja_is_op(p, JINJA_OP_POW))
            jinja_parse_error(p, ERR_UNSUPPORTED, "unpacked arguments are not supported");
        if (p->tok->kind == JINJA_T_NAME && p->tok[1].kind == JINJA_T_OP && p->tok[1].op == '=') {
            name = jinja_expect_name(p);
            p->tok++;
            named = true;
        } else if (named) {
            jinja_parse_error(p, ERR_FORMAT, "an argument by position after one by name");
        }
        jinja_arg_add(p, &tail, name, jinja_parse_expr(p));
    }
    return args;
}

/* Checks arguments against a known filter, test, method or function. */
static void check_args(struct jinja_parser *p, const struct jinja_node *n,
                       const struct jinja_builtin *b, const struct jinja_arg *args)
{
    char buf[160];
    const char *wrong = jinja_check_args(b, args, buf, sizeof(buf));

    if (wrong) {
        p->ctx.at = n->at;
        jinja_fail(&p->ctx, ERR_FORMAT, "%s", wrong);
    }
}

/* A call of something. What is an attribute is a method, except of a namespace, which could hold a
 * macro: no template was seen to do that, and a misspelt method is better told now. */
static struct jinja_node *parse_call(struct jinja_parser *p, struct jinja_node *callee)
{
    struct jinja_node *n = jinja_node(p, JINJA_CALL, callee->at);

    n->a = callee;
    n->args = parse_args(p);
    if (callee->kind == JINJA_ATTR) {
        n->builtin = jinja_method(callee->name);
        if (!n->builtin) {
            p->ctx.at = callee->at;
            jinja_fail(&p->ctx, ERR_UNSUPPORTED, "method \"%s\" is not supported", callee->name);
        }
        check_args(p, n, n->builtin, n->args);
    } else if (callee->kind == JINJA_NAME) {
        jinja_arg_add(p, &p->calls_end, NULL, n); /* looked at when all macros are known */
    } else {
        p->ctx.at = callee->at;
        jinja_fail(&p->ctx, ERR_UNSUPPORTED, "only names and methods can be called");
    }
    return n;
}

/* What is between [ and ], which is taken: an index or a slice. */
static struct jinja_node *parse_index(struct jinja_parser *p, struct jinja_node *of)
{
    struct jinja_node *n = jinja_node(p, JINJA_ITEM, of->at), **part[] = {&n->b, &n->c, &n->d};
    size_t i = 0;

    n->a = of;
    for (;;) {
        if (!jinja_is_op(p, ':') && !jinja_is_op(p, ']'))
            *part[i] = jinja_parse_expr(p);
        if (i == 2 || !jinja_take_op(p, ':'))
            break;
        n->kind = JINJA_SLICE;
        i++;
    }
    if (n->kind == JINJA_ITEM && !n->b)
        jinja_parse_error(p, ERR_FORMAT, "an index must be here");
    jinja_expect_op(p, ']');
    return n;
}

static struct jinja_node *parse_postfix(struct jinja_parser *p, struct jinja_node *n)
{
    for (;;) {
        if (jinja_take_op(p, '.')) {
            struct jinja_node *of = n;

            n = jinja_node(p, JINJA_ATTR, p->tok->at);
            n->a = of;
            if (p->tok->kind == JINJA_T_INT) {
                n->kind = JINJA_ITEM;
                n->b = jinja_node(p, JINJA_CONST, p->tok->at);
                n->b->value = jinja_int(p->tok++->i);
            } else if (p->tok->kind == JINJA_T_NAME) { /* keywords too: x.if */
                n->name = jinja_intern(p->t, p->tok->s, p->tok->n, true);
                p->tok++;
            } else {
                jinja_expect_name(p);
            }
        } else if (jinja_take_op(p, '[')) {
            n = parse_index(p, n);
        } else if (jinja_take_op(p, '(')) {
            n = parse_call(p, n);
        } else {
            return n;
        }
    }
}

/* map, select and the like name a filter or test in their first argument. */
static void check_named(struct jinja_parser *p, const struct jinja_node *n)
{
    const struct jinja_arg *a = n->args;
    bool attr = strstr(n->builtin->name, "attr") != NULL;
    bool filter = strcmp(n->builtin->name, "map") == 0;

    if (!filter && !strstr(n->builtin->name, "select") && !strstr(n->builtin->name, "reject"))
        return;
    if (attr && a)
        a = a->next;
    if (!a || a->name || a->value->kind != JINJA_CONST || a->value->value.kind != JINJA_STRING)
        return;
    if (!(filter ? jinja_filter : jinja_test)(a->value->value.u.s->s)) {
        p->ctx.at = a->value->at;
        jinja_fail(&p->ctx, ERR_UNSUPPORTED, "%s \"%.64s\" is not supported",
                   filter ? "filter" : "test", a->value->value.u.s->s);
    }
}

struct jinja_node *jinja_parse_filter(struct jinja_parser *p, struct jinja_node *of)
{
    struct jinja_node *n = jinja_node(p, JINJA_FILTER, p->tok->at);

    n->a = of;
    n->name = jinja_expect_name(p);
    n->builtin = jinja_filter(n->name);
    if (!n->builtin) {
        p->ctx.at = n->at;
        jinja_fail(&p->ctx, ERR_UNSUPPORTED, "filter \"%s\" is not supported", n->name);
    }
    if (jinja_take_op(p, '('))
        n->args = parse_args(p);
    check_args(p, n, n->builtin, n->args);
    check_named(p, n);
    return n;
}

static struct jinja_node *parse_primary(struct jinja_parser *p);

/* After `is`. */
static struct jinja_node *parse_test(struct jinja_parser *p, struct jinja_node *of)
{
    bool negated = jinja_take_word(p, "not");
    struct jinja_node *n = jinja_node(p, JINJA_TEST, p->tok->at), *not ;
    struct jinja_arg **tail = &n->args;

    n->a = of;
    if (p->tok->kind != JINJA_T_NAME)
        jinja_expect_name(p);
    n->name = jinja_intern(p->t, p->tok->s, p->tok->n, true); /* `in` is a test too */
    p->tok++;
    n->builtin = jinja_test(n->name);
    if (!n->builtin) {
        p->ctx.at = n->at;
        jinja_fail(&p->ctx, ERR_UNSUPPORTED, "test \"%s\" is not supported", n->name);
    }
    if (jinja_take_op(p, '('))
        n->args = parse_args(p);
    else if (p->tok->kind == JINJA_T_STRING || p->tok->kind == JINJA_T_INT ||
             p->tok->kind == JINJA_T_FLOAT || jinja_is_op(p, '[') || jinja_is_op(p, '{') ||
             (p->tok->kind == JINJA_T_NAME && !is_keyword(p)))
        jinja_arg_add(p, &tail, NULL, parse_postfix(p, parse_primary(p)));
    check_args(p, n, n->builtin, n->args);
    if (!negated)
        return n;
    not = jinja_node(p, JINJA_UNARY, n->at);
    not ->op = JINJA_OP_NOT;
    not ->a = n;
    return not ;
}

static struct jinja_node *parse_filters(struct jinja_parser *p, struct jinja_node *n)
{
    for (;;) {
        if (jinja_take_op(p, '|'))
            n = jinja_parse_filter(p, n);
        else if (jinja_take_word(p, "is"))
            n = parse_test(p, n);
        else if (jinja_take_op(p, '('))
            n = parse_call(p, n);
        else
            return n;
    }
}

static struct jinja_node *parse_list(struct jinja_parser *p, enum jinja_node_kind kind, int close)
{
    struct jinja_node *n = jinja_node(p, kind, p->tok[-1].at);
    struct jinja_arg **tail = &n->args;

    while (!jinja_take_op(p, close)) {
        if (n->args) {
            jinja_expect_op(p, ',');
            if (jinja_take_op(p, close))
                break;
        }
        jinja_arg_add(p, &tail, NULL, jinja_parse_expr(p));
        if (kind == JINJA_MAKE_DICT) {
            jinja_expect_op(p, ':');
            jinja_arg_add(p, &tail, NULL, jinja_parse_expr(p));
        }
    }
    return n;
}

/* Strings side by side are one. */
static struct jinja_node *parse_string(struct jinja_parser *p)
{
    struct jinja_node *n = jinja_node(p, JINJA_CONST, p->tok->at);
    struct jinja_string *s = jinja_arena_alloc(&p->t->arena, sizeof(*s));
    size_t bytes = 0;
    char *out;

    for (const struct jinja_token *t = p->tok; t->kind == JINJA_T_STRING; t++)
        bytes += t->n;
    s->s = out = jinja_arena_alloc(&p->t->arena, bytes + 1);
    for (; p->tok->kind == JINJA_T_STRING; p->tok++) {
        memcpy(out + s->n, p->tok->s, p->tok->n);
        s->n += p->tok->n;
    }
    n->value = (struct jinja_value){.kind = JINJA_STRING, .u.s = s};
    return n;
}

static struct jinja_node *parse_word(struct jinja_parser *p)
{
    struct jinja_node *n = jinja_node(p, JINJA_CONST, p->tok->at);

    if (jinja_take_word(p, "true") || jinja_take_word(p, "True")) {
        n->value = jinja_bool(true);
    } else if (jinja_take_word(p, "false") || jinja_take_word(p, "False")) {
        n->value = jinja_bool(false);
    } else if (jinja_take_word(p, "none") || jinja_take_word(p, "None")) {
        n->value = jinja_none();
    } else {
        n->kind = JINJA_NAME;
        n->name = jinja_expect_name(p);
    }
    return n;
}

static struct jinja_node *parse_primary(struct jinja_parser *p)
{
    uint32_t at = p->tok->at;
    struct jinja_node *n;
    char buf[64];

    switch (p->tok->kind) {
    case JINJA_T_NAME:
        return parse_word(p);
    case JINJA_T_STRING:
        return parse_string(p);
    case JINJA_T_INT:
        n = jinja_node(p, JINJA_CONST, at);
        n->value = jinja_int(p->tok++->i);
        return n;
    case JINJA_T_FLOAT:
        n = jinja_node(p, JINJA_CONST, at);
        n->value = jinja_float(p->tok++->f);
        return n;
    default:
        break;
    }
    if (jinja_take_op(p, '['))
        return parse_list(p, JINJA_MAKE_LIST, ']');
    if (jinja_take_op(p, '{'))
        return parse_list(p, JINJA_MAKE_DICT, '}');
    if (!jinja_take_op(p, '('))
        jinja_parse_error(p, ERR_FORMAT, "an expression must be here, not %s",
                          jinja_token_text(p, buf, sizeof(buf)));
    if (jinja_take_op(p, ')'))
        return jinja_node(p, JINJA_MAKE_TUPLE, at);
    n = jinja_parse_tuple(p, true);
    jinja_expect_op(p, ')');
    return n;
}

static struct jinja_node *parse_unary(struct jinja_parser *p, bool filters)
{
    struct jinja_node *n;
    int op = jinja_is_op(p, '-') ? '-' : jinja_is_op(p, '+') ? '+' : 0;

    if (op) {
        jinja_enter(p);
        n = jinja_node(p, JINJA_UNARY, p->tok++->at);
        n->op = op;
        n->a = parse_unary(p, false);
        p->nesting--;
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    if (filters)
        n = parse_filters(p, n);
    return n;
}

/* The binary operators of one precedence, loosest first; all group to the left. */
static const int binary_ops[][5] = {
    {'+', '-'}, {'~'}, {'*', '/', JINJA_OP_DIV, '%'}, {JINJA_OP_POW}};

static int binary_op(const struct jinja_parser *p, size_t level)
{
    for (size_t i = 0; binary_ops[level][i]; i++)
        if (jinja_is_op(p, binary_ops[level][i]))
            return binary_ops[level][i];
    return 0;
}

static struct jinja_node *parse_binary(struct jinja_parser *p, size_t level)
{
    struct jinja_node *n;
    int op;

    if (level == ARRAY_LEN(binary_ops))
        return parse_unary(p, true);
    n = parse_binary(p, level + 1);
    while ((op = binary_op(p, level))) {
        struct jinja_node *left = n;

        n = jinja_node(p, JINJA_BINARY, p->tok++->at);
        n->op = op;
        n->a = left;
        n->b = parse_binary(p, level + 1);
    }
    return n;
}

static int compare_op(struct jinja_parser *p)
{
    static const int ops[] = {JINJA_OP_EQ, JINJA_OP_NE, JINJA_OP_LE, JINJA_OP_GE, '<', '>'};

    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (jinja_take_op(p, ops[i]))
            return ops[i];
    if (jinja_take_word(p, "in"))
        return JINJA_OP_IN;
    if (jinja_is_word(p, "not") && p->tok[1].kind == JINJA_T_NAME && p->tok[1].n == 2 &&
        memcmp(p->tok[1].s, "in", 2) == 0) {
        p->tok += 2;
        return JINJA_OP_NOT_IN;
    }
    return 0;
}

static struct jinja_node *parse_compare(struct jinja_parser *p)
{
    uint32_t at = p->tok->at;
    struct jinja_node *first = parse_binary(p, 0), *n = NULL;
    struct jinja_arg **tail = NULL;
    int op;

    while ((op = compare_op(p))) {
        if (!n) {
            n = jinja_node(p, JINJA_COMPARE, at);
            n->a = first;
            tail = &n->args;
        }
        jinja_arg_add(p, &tail, NULL, parse_binary(p, 0))->op = op;
    }
    return n ? n : first;
}

static struct jinja_node *parse_not(struct jinja_parser *p)
{
    unsigned nots = 0;
    uint32_t at = p->tok->at;
    struct jinja_node *n;

    while (jinja_take_word(p, "not"))
        nots++;
    n = parse_compare(p);
    if (nots == 0)
        return n;
    for (nots = nots % 2 ? 1 : 2; nots > 0; nots--) { /* not not x is a bool, too */
        struct jinja_node *of = n;

        n = jinja_node(p, JINJA_UNARY, at);
        n->op = JINJA_OP_NOT;
        n->a = of;
    }
    return n;
}

static struct jinja_node *parse_logic(struct jinja_parser *p, int op)
{
    struct jinja_node *n = op == JINJA_OP_OR ? parse_logic(p, JINJA_OP_AND) : parse_not(p);

    while (jinja_is_word(p, op == JINJA_OP_OR ? "or" : "and")) {
        struct jinja_node *left = n;

        n = jinja_node(p, JINJA_BINARY, p->tok++->at);
        n->op = op;
        n->a = left;
        n->b = op == JINJA_OP_OR ? parse_logic(p, JINJA_OP_AND) : parse_not(p);
    }
    return n;
}

struct jinja_node *jinja_parse_or(struct jinja_parser *p) { return parse_logic(p, JINJA_OP_OR); }

struct jinja_node *jinja_parse_expr(struct jinja_parser *p)
{
    struct jinja_node *first = NULL, **end = &first;

    jinja_enter(p);
    for (;;) { /* a if b else c if d else e: the rest hangs in c */
        struct jinja_node *n = jinja_parse_or(p), *cond;

        *end = n;
        if (!jinja_is_word(p, "if"))
            break;
        cond = jinja_node(p, JINJA_COND, p->tok++->at);
        cond->a = n;
        cond->b = jinja_parse_or(p);
        *end = cond;
        end = &cond->c;
        if (!jinja_take_word(p, "else"))
            break;
    }
    p->nesting--;
    return first;
}

struct jinja_node *jinja_parse_tuple(struct jinja_parser *p, bool cond)
{
    struct jinja_node *first = cond ? jinja_parse_expr(p) : jinja_parse_or(p), *n;
    struct jinja_arg **tail;

    if (!jinja_is_op(p, ','))
        return first;
    n = jinja_node(p, JINJA_MAKE_TUPLE, first->at);
    tail = &n->args;
    jinja_arg_add(p, &tail, NULL, first);
    while (jinja_take_op(p, ',')) {
        if (jinja_is_op(p, ')') || p->tok->kind == JINJA_T_BLOCK_END ||
            p->tok->kind == JINJA_T_PRINT_END) /* (a,) */
            break;
        jinja_arg_add(p, &tail, NULL, cond ? jinja_parse_expr(p) : jinja_parse_or(p));
    }
    return n;
}
