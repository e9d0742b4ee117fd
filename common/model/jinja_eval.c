/* jinja_eval: expressions. Recursion follows the tree; jinja_deeper bounds it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/jinja_priv.h"

/* Position of a name in the list of parameters; -1: none. n: how many there are. */
static int param_index(const char *params, const char *name, unsigned *n)
{
    int found = -1;

    *n = 0;
    for (const char *p = params; *p;) {
        size_t len = strcspn(p, " ");

        if (name && strlen(name) == len && strncmp(p, name, len) == 0)
            found = (int)*n;
        ++*n;
        p += len + (p[len] == ' ');
    }
    return found;
}

const char *jinja_check_args(const struct jinja_builtin *b, const struct jinja_arg *args, char *buf,
                             size_t size)
{
    unsigned n, given = 0, needed = b->required;

    if (!b->params)
        return NULL;
    param_index(b->params, NULL, &n);
    for (const struct jinja_arg *a = args; a; a = a->next, given++) {
        int at = a->name ? param_index(b->params, a->name, &n) : (int)given;

        if (at < 0) {
            snprintf(buf, size, "\"%s\" has no argument \"%.64s\"", b->name, a->name);
            return buf;
        }
        if (given >= n) {
            snprintf(buf, size, "\"%s\" takes at most %u arguments", b->name, n);
            return buf;
        }
        needed -= (unsigned)at < b->required && needed > 0;
    }
    if (needed == 0)
        return NULL;
    snprintf(buf, size, "\"%s\" takes at least %u arguments", b->name, b->required);
    return buf;
}

/* Evaluates arguments into the builtin's order. */
static void bind(struct jinja_run *r, const struct jinja_builtin *b, const struct jinja_arg *args,
                 struct jinja_value argv[JINJA_ARGS_MAX])
{
    size_t given = 0;
    unsigned n;

    memset(argv, 0, JINJA_ARGS_MAX * sizeof(*argv)); /* JINJA_ABSENT is 0 */
    if (!b->params) {
        argv[0] = jinja_list(r, JINJA_LIST);
        argv[1] = jinja_dict(r, JINJA_DICT);
    }
    for (; args; args = args->next) {
        struct jinja_value v = jinja_eval(r, args->value);

        if (b->params)
            argv[args->name ? (size_t)param_index(b->params, args->name, &n) : given++] = v;
        else if (args->name)
            jinja_dict_set(r, argv[1].u.dict, jinja_text(r, args->name, strlen(args->name), false),
                           v);
        else
            jinja_list_add(r, argv[0].u.list, v);
    }
}

static struct jinja_value call_builtin(struct jinja_run *r, const struct jinja_node *n,
                                       const struct jinja_builtin *b, struct jinja_value self)
{
    struct jinja_value argv[JINJA_ARGS_MAX];

    bind(r, b, n->args, argv);
    r->ctx.at = n->at; /* arguments moved it */
    return b->call(r, self, argv);
}

static struct jinja_value eval_name(struct jinja_run *r, const struct jinja_node *n)
{
    const struct jinja_builtin *f;

    for (const struct jinja_scope *s = r->scope; s; s = s->parent) {
        jinja_step(r, s->n / 16);
        for (size_t i = 0; i < s->n; i++)
            if (s->vars[i].name == n->name)
                return s->vars[i].value;
    }
    f = jinja_function(n->name);
    return f ? (struct jinja_value){.kind = JINJA_FUNCTION, .u.function = f}
             : jinja_undefined(n->name);
}

static struct jinja_value eval_call(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value f;
    char buf[160];

    if (n->a->kind == JINJA_ATTR) {
        struct jinja_value self = jinja_eval(r, n->a->a);

        r->ctx.at = n->at;
        if (self.kind == JINJA_UNDEFINED)
            jinja_error(r, "\"%.64s\" is undefined, it has no \"%s\"", self.u.name, n->a->name);
        if (!jinja_has_method(self.kind, n->a->name))
            jinja_error(r, "%s has no method \"%s\"", jinja_kind_name(self), n->a->name);
        return call_builtin(r, n, n->builtin, self);
    }
    f = jinja_eval(r, n->a);
    r->ctx.at = n->at;
    if (f.kind == JINJA_MACRO)
        return jinja_call_macro(r, f.u.macro, n->args);
    if (f.kind != JINJA_FUNCTION)
        jinja_error(r, "\"%s\" is %s and cannot be called", n->a->name, jinja_kind_name(f));
    if (jinja_check_args(f.u.function, n->args, buf, sizeof(buf))) /* the name was set to it */
        jinja_error(r, "%s", buf);
    return call_builtin(r, n, f.u.function, jinja_none());
}

_Noreturn static void no_operator(struct jinja_run *r, const struct jinja_node *n,
                                  struct jinja_value a, struct jinja_value b)
{
    const char *s = r->ctx.source + n->at;

    jinja_error(r, "%s %.*s %s: not possible", jinja_kind_name(a),
                n->op == JINJA_OP_DIV || n->op == JINJA_OP_POW ? 2 : 1, s, jinja_kind_name(b));
}

static struct jinja_value repeat(struct jinja_run *r, struct jinja_value v, int64_t times)
{
    struct jinja_value out = jinja_list(r, v.kind == JINJA_TUPLE ? JINJA_TUPLE : JINJA_LIST);
    struct jinja_buf b = {.run = r};

    for (; times > 0; times--) {
        jinja_step(r, 1);
        if (v.kind == JINJA_STRING)
            jinja_buf_string(&b, *v.u.s);
        else
            for (size_t i = 0; i < v.u.list->n; i++)
                jinja_list_add(r, out.u.list, v.u.list->items[i]);
    }
    return v.kind == JINJA_STRING ? jinja_string(r, jinja_buf_done(&b)) : out;
}

static int64_t power(struct jinja_run *r, int64_t x, int64_t y)
{
    int64_t out = 1;

    for (; y > 0 && out != 0; y--) {
        jinja_step(r, 1);
        if (__builtin_mul_overflow(out, x, &out))
            jinja_error(r, "the result has more than 64 bits");
    }
    return out;
}

static struct jinja_value real_power(struct jinja_run *r, double x, double y)
{
    double out = pow(x, y);

    if (!isfinite(out) && isfinite(x) && isfinite(y))
        jinja_error(r, "%g ** %g is no number", x, y);
    return jinja_float(out);
}

/* Integers, as Python: // and % round down, / gives a float, and nothing wraps. */
static struct jinja_value int_binary(struct jinja_run *r, int op, int64_t x, int64_t y)
{
    int64_t out = 0;
    bool over = false, adjust;

    if (op == JINJA_OP_POW)
        return y < 0 ? real_power(r, (double)x, (double)y) : jinja_int(power(r, x, y));
    if (op == '+') {
        over = __builtin_add_overflow(x, y, &out);
    } else if (op == '-') {
        over = __builtin_sub_overflow(x, y, &out);
    } else if (op == '*') {
        over = __builtin_mul_overflow(x, y, &out);
    } else if (y == 0) {
        jinja_error(r, "division by zero");
    } else if (op == '/') {
        return jinja_float((double)x / (double)y);
    } else if (y == -1) { /* apart, as INT64_MIN / -1 traps */
        over = op != '%' && __builtin_sub_overflow(0, x, &out);
    } else {
        adjust = x % y != 0 && (x < 0) != (y < 0);
        out = op == '%' ? x % y + (adjust ? y : 0) : x / y - adjust;
    }
    if (over)
        jinja_error(r, "the result has more than 64 bits");
    return jinja_int(out);
}

static struct jinja_value float_binary(struct jinja_run *r, int op, double x, double y)
{
    double m;

    if (y == 0 && (op == '/' || op == JINJA_OP_DIV || op == '%'))
        jinja_error(r, "division by zero");
    switch (op) {
    case '+':
        return jinja_float(x + y);
    case '-':
        return jinja_float(x - y);
    case '*':
        return jinja_float(x * y);
    case '/':
        return jinja_float(x / y);
    case JINJA_OP_POW:
        return real_power(r, x, y);
    default:
        m = fmod(x, y);
        if (m != 0 && (m < 0) != (y < 0))
            m += y;
        return jinja_float(op == '%' ? m : floor((x - m) / y + 0.5));
    }
}

/* Of an integer or a boolean. */
static int64_t whole(struct jinja_value v) { return v.kind == JINJA_INT ? v.u.i : v.u.b; }

static struct jinja_value binary(struct jinja_run *r, const struct jinja_node *n,
                                 struct jinja_value a, struct jinja_value b)
{
    bool ints = a.kind != JINJA_FLOAT && b.kind != JINJA_FLOAT;
    struct jinja_buf buf = {.run = r};

    if (n->op == '~' || (n->op == '+' && a.kind == JINJA_STRING && b.kind == JINJA_STRING)) {
        jinja_buf_string(&buf, jinja_to_string(r, a));
        jinja_buf_string(&buf, jinja_to_string(r, b));
        return jinja_string(r, jinja_buf_done(&buf));
    }
    if (jinja_is_number(a) && jinja_is_number(b))
        return ints ? int_binary(r, n->op, whole(a), whole(b))
                    : float_binary(r, n->op, jinja_number(a), jinja_number(b));
    if (n->op == '+' && a.kind == b.kind && (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)) {
        struct jinja_value out = repeat(r, a, 1);

        for (size_t i = 0; i < b.u.list->n; i++)
            jinja_list_add(r, out.u.list, b.u.list->items[i]);
        return out;
    }
    if (n->op == '*' && ints && jinja_is_number(a) != jinja_is_number(b)) {
        struct jinja_value seq = jinja_is_number(a) ? b : a;

        if (seq.kind == JINJA_STRING || seq.kind == JINJA_LIST || seq.kind == JINJA_TUPLE)
            return repeat(r, seq, whole(jinja_is_number(a) ? a : b));
    }
    no_operator(r, n, a, b);
}

/* Sums of many terms lean to the left: down the left side by hand, not by recursion. */
static struct jinja_value eval_binary(struct jinja_run *r, const struct jinja_node *n)
{
    const struct jinja_node *few[8], **terms = few;
    struct jinja_value v, right;
    size_t count = 1;

    for (const struct jinja_node *k = n->a; k->kind == JINJA_BINARY; k = k->a)
        count++;
    if (count > ARRAY_LEN(few))
        terms = jinja_alloc(r, count * sizeof(void *));
    for (size_t i = count; i-- > 0; n = n->a)
        terms[i] = n;
    v = jinja_eval(r, n);
    for (size_t i = 0; i < count; i++) {
        jinja_step(r, 1);
        if (terms[i]->op == JINJA_OP_AND || terms[i]->op == JINJA_OP_OR) {
            if (jinja_true(v) == (terms[i]->op == JINJA_OP_AND))
                v = jinja_eval(r, terms[i]->b);
            continue;
        }
        right = jinja_eval(r, terms[i]->b);
        r->ctx.at = terms[i]->at;
        v = binary(r, terms[i], v, right);
    }
    return v;
}

static bool compare(struct jinja_run *r, int op, struct jinja_value a, struct jinja_value b)
{
    switch (op) {
    case JINJA_OP_EQ:
        return jinja_equal(r, a, b);
    case JINJA_OP_NE:
        return !jinja_equal(r, a, b);
    case '<':
        return jinja_order(r, a, b) < 0;
    case '>':
        return jinja_order(r, a, b) > 0;
    case JINJA_OP_LE:
        return jinja_order(r, a, b) <= 0;
    case JINJA_OP_GE:
        return jinja_order(r, a, b) >= 0;
    case JINJA_OP_IN:
        return jinja_contains(r, a, b);
    default:
        return !jinja_contains(r, a, b);
    }
}

static struct jinja_value eval_compare(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value a = jinja_eval(r, n->a);

    for (const struct jinja_arg *arg = n->args; arg; arg = arg->next) {
        struct jinja_value b = jinja_eval(r, arg->value);

        r->ctx.at = n->at;
        if (!compare(r, arg->op, a, b))
            return jinja_bool(false);
        a = b;
    }
    return jinja_bool(true);
}

static struct jinja_value eval_unary(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value v = jinja_eval(r, n->a);

    if (n->op == JINJA_OP_NOT)
        return jinja_bool(!jinja_true(v));
    r->ctx.at = n->at;
    if (!jinja_is_number(v))
        jinja_error(r, "%c before %s", n->op, jinja_kind_name(v));
    if (v.kind == JINJA_FLOAT)
        return jinja_float(n->op == '-' ? -v.u.f : v.u.f);
    return int_binary(r, n->op, 0, whole(v));
}

/* One part of a slice; none is the absent one. */
static int64_t slice_part(struct jinja_run *r, const struct jinja_node *node, int64_t absent)
{
    struct jinja_value v = node ? jinja_eval(r, node) : jinja_none();

    if (v.kind == JINJA_NONE)
        return absent;
    if (v.kind != JINJA_INT && v.kind != JINJA_BOOL)
        jinja_error(r, "a slice takes integers, not %s", jinja_kind_name(v));
    return whole(v);
}

/* A bound of a slice of n items, as Python clips it. */
static int64_t slice_clip(int64_t i, int64_t n, int64_t step)
{
    if (i < 0)
        i = i < -n ? -1 : i + n;
    if (i < 0)
        return step < 0 ? -1 : 0;
    return i >= n ? (step < 0 ? n - 1 : n) : i;
}

static struct jinja_value slice(struct jinja_run *r, struct jinja_value v, int64_t from, int64_t to,
                                int64_t step)
{
    const struct jinja_list *l = jinja_iterate(r, v);
    struct jinja_value out = jinja_list(r, v.kind == JINJA_TUPLE ? JINJA_TUPLE : JINJA_LIST);
    struct jinja_buf b = {.run = r};

    for (int64_t i = from; step > 0 ? i < to : i > to; i += step) {
        jinja_step(r, 1);
        if (v.kind == JINJA_STRING)
            jinja_buf_string(&b, *l->items[i].u.s);
        else
            jinja_list_add(r, out.u.list, l->items[i]);
    }
    return v.kind == JINJA_STRING ? jinja_string(r, jinja_buf_done(&b)) : out;
}

/* Python's v[b:c:d]. Past the end means the end: INT64_MAX and INT64_MIN stand for absent bounds.
 */
static struct jinja_value eval_slice(struct jinja_run *r, const struct jinja_node *node)
{
    struct jinja_value v = jinja_eval(r, node->a);
    int64_t from, to, step = slice_part(r, node->d, 1), n;

    from = slice_part(r, node->b, step < 0 ? INT64_MAX : 0);
    to = slice_part(r, node->c, step < 0 ? INT64_MIN : INT64_MAX);
    r->ctx.at = node->at;
    if (v.kind != JINJA_STRING && v.kind != JINJA_LIST && v.kind != JINJA_TUPLE)
        jinja_error(r, "no slice of %s", jinja_kind_name(v));
    if (step == 0)
        jinja_error(r, "the step of a slice is zero");
    n = (int64_t)jinja_length(r, v);
    step = step > n ? n + 1 : step < -n ? -n - 1 : step; /* the same items, and no overflow */
    return slice(r, v, slice_clip(from, n, step), slice_clip(to, n, step), step);
}

static struct jinja_value eval_make(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value out = n->kind == JINJA_MAKE_DICT   ? jinja_dict(r, JINJA_DICT)
                             : n->kind == JINJA_MAKE_LIST ? jinja_list(r, JINJA_LIST)
                                                          : jinja_list(r, JINJA_TUPLE);

    for (const struct jinja_arg *a = n->args; a; a = a->next) {
        struct jinja_value v = jinja_eval(r, a->value);

        if (n->kind != JINJA_MAKE_DICT) {
            jinja_list_add(r, out.u.list, v);
            continue;
        }
        a = a->next;
        jinja_need_key(r, v);
        jinja_dict_set(r, out.u.dict, v, jinja_eval(r, a->value));
    }
    return out;
}

static struct jinja_value eval_item(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value v = jinja_eval(r, n->a), key;

    if (n->kind == JINJA_ATTR) {
        r->ctx.at = n->at;
        return jinja_attribute(r, v, n->name);
    }
    key = jinja_eval(r, n->b);
    r->ctx.at = n->at;
    return jinja_item(r, v, key);
}

static struct jinja_value eval_kind(struct jinja_run *r, const struct jinja_node *n)
{
    switch (n->kind) {
    case JINJA_CONST:
        return n->value;
    case JINJA_NAME:
        return eval_name(r, n);
    case JINJA_MAKE_LIST:
    case JINJA_MAKE_TUPLE:
    case JINJA_MAKE_DICT:
        return eval_make(r, n);
    case JINJA_ATTR:
    case JINJA_ITEM:
        return eval_item(r, n);
    case JINJA_SLICE:
        return eval_slice(r, n);
    case JINJA_CALL:
        return eval_call(r, n);
    case JINJA_FILTER:
    case JINJA_TEST:
        return call_builtin(r, n, n->builtin, jinja_eval(r, n->a));
    case JINJA_UNARY:
        return eval_unary(r, n);
    case JINJA_BINARY:
        return eval_binary(r, n);
    case JINJA_COMPARE:
        return eval_compare(r, n);
    case JINJA_COND:
        if (jinja_true(jinja_eval(r, n->b)))
            return jinja_eval(r, n->a);
        return n->c ? jinja_eval(r, n->c) : jinja_undefined("the else of an if");
    case JINJA_HOLE:
        return r->hole;
    default:
        UNREACHABLE();
    }
}

struct jinja_value jinja_eval(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value v;

    r->ctx.at = n->at;
    jinja_deeper(r);
    v = eval_kind(r, n);
    r->depth--;
    return v;
}
