/* jinja_ast: a parsed template, and how the parts of the engine fail.
 *
 *   jinja_lexer.c    source -> tokens          jinja_value.c, jinja_string.c, jinja_json.c   values
 *   jinja_expr.c     tokens -> expressions     jinja_filters.c, _tests.c, _methods.c         names
 *   jinja_parser.c   tokens -> statements      jinja_eval.c, jinja_exec.c running
 *
 * Failing is a longjmp to jinja_open or jinja_render, as in other interpreters in C: everything an
 * unwound function could own lies in an arena. Code that holds anything else must not fail. */
#ifndef TANDEM_MODEL_JINJA_AST_H
#define TANDEM_MODEL_JINJA_AST_H

#include <setjmp.h>

#include "model/jinja_arena.h"
#include "model/jinja_value.h"

#define JINJA_ARGS_MAX 4 /* parameters of a filter, test, method or function */

/* Where an error happened, and where to go then. First member of the parser and of a run. */
struct jinja_ctx {
    const char *name, *source; /* of the template */
    uint32_t at;               /* byte of the source being parsed or run */
    struct err *err;
    int code;
    jmp_buf jump;
};

/* "name:line:column: " and the sentence. Does not return. */
void jinja_fail(struct jinja_ctx *c, int code, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

enum jinja_token_kind {
    JINJA_T_DATA,
    JINJA_T_BLOCK, /* {% */
    JINJA_T_BLOCK_END,
    JINJA_T_PRINT, /* {{ */
    JINJA_T_PRINT_END,
    JINJA_T_NAME,
    JINJA_T_STRING, /* s: unescaped */
    JINJA_T_INT,
    JINJA_T_FLOAT,
    JINJA_T_OP,
    JINJA_T_EOF
};

/* Operators of one character are that character. */
enum jinja_op {
    JINJA_OP_EQ = 256, /* == */
    JINJA_OP_NE,
    JINJA_OP_LE,
    JINJA_OP_GE,
    JINJA_OP_DIV, /* // */
    JINJA_OP_POW,
    JINJA_OP_AND,
    JINJA_OP_OR,
    JINJA_OP_NOT,
    JINJA_OP_IN,
    JINJA_OP_NOT_IN
};

struct jinja_token {
    enum jinja_token_kind kind;
    uint32_t at;
    int op; /* OP; NAME: 0 */
    const char *s;
    size_t n;
    int64_t i;
    double f;
};

enum jinja_node_kind {                  /* a, b, c: operands; args: list; body, other: statements */
                       JINJA_CONST,     /* value */
                       JINJA_NAME,      /* name */
                       JINJA_MAKE_LIST, /* args */
                       JINJA_MAKE_TUPLE, /* args */
                       JINJA_MAKE_DICT,  /* args: key, value, key, value ... */
                       JINJA_ATTR,       /* a.name */
                       JINJA_ITEM,       /* a[b] */
                       JINJA_SLICE,      /* a[b:c:d] */
                       JINJA_CALL,       /* a(args) */
                       JINJA_FILTER,     /* a|builtin(args) */
                       JINJA_TEST,       /* a is builtin(args) */
                       JINJA_UNARY,      /* op a */
                       JINJA_BINARY,     /* a op b */
                       JINJA_COMPARE,    /* a op args[0] op args[1] ... */
                       JINJA_COND,       /* a if b else c; c NULL: undefined */
                       JINJA_DATA,       /* value, printed */
                       JINJA_PRINT,      /* a */
                       JINJA_IF,         /* a: body, else other (an elif is an IF alone in other) */
                       JINJA_FOR,        /* targets in a, if b: body; never ran: other */
                       JINJA_SET,        /* targets = a */
                       JINJA_SET_BLOCK,  /* targets = body, filtered: b is a chain of FILTERs over a
                                            HOLE */
                       JINJA_FILTER_BLOCK, /* the same, printed */
                       JINJA_HOLE,         /* the text of the block */
                       JINJA_MACRO_DEF,    /* name, args: parameters with defaults; body */
                       JINJA_BREAK,
                       JINJA_CONTINUE,
                       JINJA_SCOPE /* body (generation) */
};

/* An argument, a list's item, a parameter, a target (name, or value: an ATTR of a namespace). */
struct jinja_arg {
    const char *name; /* NULL: positional */
    struct jinja_node *value;
    int op; /* of COMPARE */
    struct jinja_arg *next;
};

struct jinja_node {
    enum jinja_node_kind kind;
    int op;
    uint32_t at;
    struct jinja_node *a, *b, *c, *d;
    struct jinja_arg *args, *targets;
    struct jinja_node *body, *other;
    struct jinja_node *next; /* statement after this */
    const char *name;        /* interned: names are equal if their pointers are */
    const struct jinja_builtin *builtin;
    struct jinja_value value;
    bool single; /* one target that is not unpacked */
};

struct jinja {
    struct jinja_arena arena; /* all of the below */
    char *name, *source;
    size_t source_bytes;
    struct jinja_node *body;
    const char **names; /* interned, open addressing */
    size_t names_mask, n_names;
};

/* The template's copy of a name; NULL if it has none and add is false. The byte before it tells
 * whether the template assigns to the name (jinja_assigned). */
const char *jinja_intern(const struct jinja *t, const char *s, size_t n, bool add);
static inline char *jinja_assigned(const char *interned) { return (char *)interned - 1; }

/* All tokens, ended by EOF. In the arena; fails through c. */
struct jinja_token *jinja_lex(struct jinja_ctx *c, struct jinja_arena *a, const char *s, size_t n);

#endif
