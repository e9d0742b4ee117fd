/* jinja_priv: a run, and what names in a template stand for. */
#ifndef TANDEM_MODEL_JINJA_PRIV_H
#define TANDEM_MODEL_JINJA_PRIV_H

#include "base/check.h"
#include "model/jinja_ast.h"
#include "model/jinja_string.h"

/* A filter, test, method or function. params: names in order, separated by spaces, `required` of
 * them without a default; argv[i] is JINJA_ABSENT where nothing was given. NULL: anything goes,
 * argv[0] is the list of what was given by position and argv[1] the dict of what was given by name.
 * A test returns a bool; a function has no self. */
struct jinja_builtin {
    const char *name;
    const char *params;
    unsigned required;
    struct jinja_value (*call)(struct jinja_run *r, struct jinja_value self,
                               const struct jinja_value *argv);
};

const struct jinja_builtin *jinja_filter(const char *name); /* NULL: unknown */
const struct jinja_builtin *jinja_test(const char *name);
const struct jinja_builtin *jinja_method(const char *name);
const struct jinja_builtin *jinja_function(const char *name);

/* Whether values of this kind have the method, in Python: x.items of a dict is never its key. */
bool jinja_has_method(enum jinja_kind kind, const char *name);

/* Checks what can be told about arguments before running. Returns NULL, or what is wrong (in buf).
 */
const char *jinja_check_args(const struct jinja_builtin *b, const struct jinja_arg *args, char *buf,
                             size_t size);

struct jinja_var {
    const char *name; /* interned */
    struct jinja_value value;
};
struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_var *vars;
    size_t n, cap;
    bool kept; /* a macro was defined here and may look into it later */
};

struct jinja_macro {
    const struct jinja_node *def;
    struct jinja_scope *scope;
};

struct jinja_loop {
    const struct jinja_list *items;
    size_t index0;
    struct jinja_value changed; /* argument of the last loop.changed() */
};

struct jinja_run {
    struct jinja_ctx ctx;
    struct jinja_arena arena;
    const struct jinja *t;
    int64_t now_s;
    struct jinja_scope globals; /* what jinja_set gave */
    struct jinja_scope *scope;
    struct jinja_buf *out;   /* where printed text goes */
    struct jinja_value hole; /* the text of the block being filtered */
    uint64_t steps;
    unsigned depth;
    bool running; /* limits are only kept, and failing is only possible, while rendering */
};

/* Arena memory within the run's limit. */
void *jinja_alloc(struct jinja_run *r, size_t n);

/* Counts work; fails past the limit. */
void jinja_step(struct jinja_run *r, size_t n);

/* Before a recursion, which ends with depth--: lists in lists and macros in macros are as deep as a
 * template makes them, and must end the rendering before the stack does. */
void jinja_deeper(struct jinja_run *r);

/* Fails with the place being run. */
#define jinja_error(r, ...) jinja_fail(&(r)->ctx, ERR_FORMAT, __VA_ARGS__)

struct jinja_value jinja_eval(struct jinja_run *r, const struct jinja_node *n);
struct jinja_value jinja_call_macro(struct jinja_run *r, const struct jinja_macro *m,
                                    const struct jinja_arg *args);

/* Runs a list of statements; says what cut it short. */
enum jinja_flow { JINJA_GO_ON, JINJA_DID_BREAK, JINJA_DID_CONTINUE };
enum jinja_flow jinja_exec(struct jinja_run *r, const struct jinja_node *body);

/* Variables of a scope; set replaces. */
void jinja_scope_set(struct jinja_run *r, struct jinja_scope *s, const char *name,
                     struct jinja_value v);
struct jinja_scope *jinja_scope_push(struct jinja_run *r);

/* Value of a dotted path of attributes and indices, as the filters take it ("a.b", "0"). */
struct jinja_value jinja_path(struct jinja_run *r, struct jinja_value v, struct jinja_value path);

/* A filter or test by name at run time (map, select...), with args argv[first...] of a list. */
struct jinja_value jinja_apply(struct jinja_run *r, const struct jinja_builtin *b,
                               struct jinja_value self, const struct jinja_list *args,
                               size_t first);

/* Outside of a rendering malformed text is undefined; inside it fails. */
struct jinja_value jinja_from_json(struct jinja_run *r, const char *s, size_t n, bool user);
void jinja_to_json(struct jinja_run *r, struct jinja_buf *out, struct jinja_value v,
                   struct jinja_value ensure_ascii, struct jinja_value indent,
                   struct jinja_value separators, struct jinja_value sort_keys);

#endif
