/* jinja_value: what a template computes with. Python's types, as far as templates see them.
 *
 * Values are small and copied. Strings, lists and dicts lie in the run's arena and live as long as
 * the run; lists, dicts and namespaces are shared by reference, as in Python. Functions here may
 * fail by leaving the rendering (jinja_fail); outside of one they only build values and cannot
 * fail. */
#ifndef TANDEM_MODEL_JINJA_VALUE_H
#define TANDEM_MODEL_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/jinja.h"

enum jinja_kind {
    JINJA_ABSENT, /* an argument that was not given; never seen by a template */
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_NAMESPACE, /* a dict whose items can be set by attribute */
    JINJA_LOOP,      /* `loop` */
    JINJA_MACRO,
    JINJA_FUNCTION, /* a global */
    JINJA_METHOD    /* an attribute that can be called */
};

/* UTF-8 (ill-formed bytes pass through). marks: which bytes came from a user, ascending, disjoint
 * and not adjacent; relative to s. */
struct jinja_string {
    const char *s;
    size_t n;
    const struct text_range *marks;
    size_t n_marks;
};

struct jinja_value {
    enum jinja_kind kind;
    union {
        bool b;
        int64_t i;
        double f;
        const char *name; /* UNDEFINED: what was looked for; METHOD: its name */
        const struct jinja_string *s;
        struct jinja_list *list; /* LIST, TUPLE */
        struct jinja_dict *dict; /* DICT, NAMESPACE */
        struct jinja_loop *loop;
        const struct jinja_macro *macro;
        const struct jinja_builtin *function;
    } u;
};

struct jinja_list {
    struct jinja_value *items;
    size_t n, cap;
};

struct jinja_pair {
    struct jinja_value key, value;
};
struct jinja_dict { /* in order of insertion */
    struct jinja_pair *items;
    size_t n, cap;
};

struct jinja_value jinja_undefined(const char *name); /* name outlives the run */
struct jinja_value jinja_none(void);
struct jinja_value jinja_bool(bool b);
struct jinja_value jinja_int(int64_t i);
struct jinja_value jinja_float(double f);
struct jinja_value jinja_list(struct jinja_run *r, enum jinja_kind kind); /* LIST or TUPLE; empty */
struct jinja_value jinja_dict(struct jinja_run *r,
                              enum jinja_kind kind); /* DICT or NAMESPACE; empty */

/* Copies. user: every byte is marked. */
struct jinja_value jinja_text(struct jinja_run *r, const char *s, size_t n, bool user);
struct jinja_value jinja_string(struct jinja_run *r,
                                struct jinja_string s); /* borrows bytes and marks */

void jinja_list_add(struct jinja_run *r, struct jinja_list *l, struct jinja_value v);
/* A key that is known to be new. */
void jinja_dict_add(struct jinja_run *r, struct jinja_dict *d, struct jinja_value key,
                    struct jinja_value v);
void jinja_dict_set(struct jinja_run *r, struct jinja_dict *d, struct jinja_value key,
                    struct jinja_value v);
struct jinja_value *jinja_dict_get(struct jinja_run *r, const struct jinja_dict *d,
                                   struct jinja_value key); /* NULL: absent */

/* Fails for what can change: lists and dicts, also inside a tuple. */
void jinja_need_key(struct jinja_run *r, struct jinja_value key);

bool jinja_true(struct jinja_value v);
bool jinja_is_number(struct jinja_value v); /* bool, int or float */
double jinja_number(struct jinja_value v);  /* of a number */
bool jinja_equal(struct jinja_run *r, struct jinja_value a, struct jinja_value b);
int jinja_order(struct jinja_run *r, struct jinja_value a, struct jinja_value b); /* <0, 0, >0 */
bool jinja_contains(struct jinja_run *r, struct jinja_value item, struct jinja_value in);
size_t jinja_length(struct jinja_run *r, struct jinja_value v);
/* Items of a list or tuple, keys of a dict, characters of a string, nothing of undefined. */
struct jinja_list *jinja_iterate(struct jinja_run *r, struct jinja_value v);
/* v.name or v[key]; undefined if absent. */
struct jinja_value jinja_attribute(struct jinja_run *r, struct jinja_value v, const char *name);
struct jinja_value jinja_item(struct jinja_run *r, struct jinja_value v, struct jinja_value key);
const char *jinja_kind_name(struct jinja_value v); /* "a string" */

/* As Python's str(). */
struct jinja_string jinja_to_string(struct jinja_run *r, struct jinja_value v);

#endif
