/* jinja_parse: the state of parsing, shared by statements (jinja_parser.c) and expressions
 * (jinja_expr.c). Recursive descent; `nesting` bounds the recursion by JINJA_NESTING_MAX. */
#ifndef TANDEM_MODEL_JINJA_PARSE_H
#define TANDEM_MODEL_JINJA_PARSE_H

#include "model/jinja_priv.h"

struct jinja_parser {
    struct jinja_ctx ctx;
    struct jinja *t;
    const struct jinja_token *tok; /* the current one */
    unsigned nesting;
    unsigned loops; /* inside how many, in this macro */
    struct jinja_arena tokens;
    struct jinja_arg *calls, **calls_end; /* calls of names, to check at the end */
};

/* Fails at the current token. */
#define jinja_parse_error(p, code, ...)           \
    do {                                          \
        (p)->ctx.at = (p)->tok->at;               \
        jinja_fail(&(p)->ctx, code, __VA_ARGS__); \
    } while (0)

struct jinja_node *jinja_node(struct jinja_parser *p, enum jinja_node_kind kind, uint32_t at);
struct jinja_arg *jinja_arg_add(struct jinja_parser *p, struct jinja_arg ***tail, const char *name,
                                struct jinja_node *value);

/* Is the current token this operator, or this word? take: goes on if so. expect: fails if not. */
bool jinja_is_op(const struct jinja_parser *p, int op);
bool jinja_is_word(const struct jinja_parser *p, const char *word);
bool jinja_take_op(struct jinja_parser *p, int op);
bool jinja_take_word(struct jinja_parser *p, const char *word);
void jinja_expect_op(struct jinja_parser *p, int op);
const char *jinja_expect_name(struct jinja_parser *p); /* interned; no keyword */
void jinja_enter(struct jinja_parser *p);              /* one level deeper; fails past the limit */

/* What the token is, to say what was found instead. */
const char *jinja_token_text(const struct jinja_parser *p, char *buf, size_t size);

/* a if b else c. */
struct jinja_node *jinja_parse_expr(struct jinja_parser *p);
/* Without the `if`. */
struct jinja_node *jinja_parse_or(struct jinja_parser *p);
/* Expressions with commas between are a tuple. cond: jinja_parse_expr, otherwise jinja_parse_or. */
struct jinja_node *jinja_parse_tuple(struct jinja_parser *p, bool cond);
/* The filters after a '|' that was taken, on n. */
struct jinja_node *jinja_parse_filter(struct jinja_parser *p, struct jinja_node *n);

#endif
