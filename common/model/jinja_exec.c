/* jinja_exec: statements, macros, and a whole rendering.
 *
 * Scopes are Jinja's: a loop, a macro, a filtered or assigned block has its own variables, `if` has
 * not. A macro sees the scope where it was defined, not the one it is called from. */
#include <string.h>

#include "base/mem.h"
#include "model/jinja_priv.h"

void jinja_scope_set(struct jinja_run *r, struct jinja_scope *s, const char *name,
                     struct jinja_value v)
{
    ASSERT(s);
    jinja_step(r, s->n / 16);
    for (size_t i = 0; i < s->n; i++)
        if (s->vars[i].name == name) {
            s->vars[i].value = v;
            return;
        }
    if (s->n == s->cap) {
        size_t cap = size_max(8, s->cap * 2);
        struct jinja_var *vars = jinja_alloc(r, cap * sizeof(*vars));

        if (s->n)
            memcpy(vars, s->vars, s->n * sizeof(*vars));
        s->vars = vars;
        s->cap = cap;
    }
    s->vars[s->n++] = (struct jinja_var){name, v};
}

struct jinja_scope *jinja_scope_push(struct jinja_run *r)
{
    struct jinja_scope *s = jinja_alloc(r, sizeof(*s));

    s->parent = r->scope;
    r->scope = s;
    return s;
}

/* Runs statements in a scope of their own and returns what they print. */
static struct jinja_value capture(struct jinja_run *r, const struct jinja_node *body)
{
    struct jinja_buf *out = r->out, buf = {.run = r};
    struct jinja_scope *scope = r->scope;

    jinja_scope_push(r);
    r->out = &buf;
    jinja_exec(r, body);
    r->out = out;
    r->scope = scope;
    return jinja_string(r, jinja_buf_done(&buf));
}

/* The captured text through the filters of a block. */
static struct jinja_value capture_filtered(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value text = capture(r, n->body), outer = r->hole;

    if (!n->b)
        return text;
    r->hole = text;
    text = jinja_eval(r, n->b);
    r->hole = outer;
    return text;
}

static void assign(struct jinja_run *r, const struct jinja_node *n, const struct jinja_arg *target,
                   struct jinja_value v)
{
    struct jinja_value ns;
    struct jinja_node name = {.kind = JINJA_NAME, .at = n->at, .name = target->name};

    if (!target->value) {
        jinja_scope_set(r, r->scope, target->name, v);
        return;
    }
    ns = jinja_eval(r, &name);
    r->ctx.at = n->at;
    if (ns.kind != JINJA_NAMESPACE)
        jinja_error(r, "\"%s\" is %s, only of a namespace an attribute can be set", target->name,
                    jinja_kind_name(ns));
    jinja_dict_set(r, ns.u.dict,
                   jinja_text(r, target->value->name, strlen(target->value->name), false), v);
}

static void assign_all(struct jinja_run *r, const struct jinja_node *n, struct jinja_value v)
{
    const struct jinja_list *l;
    size_t i = 0, targets = 0;

    if (n->single) {
        assign(r, n, n->targets, v);
        return;
    }
    for (const struct jinja_arg *t = n->targets; t; t = t->next)
        targets++;
    l = jinja_iterate(r, v);
    if (l->n != targets)
        jinja_error(r, "%zu values for %zu names", l->n, targets);
    for (const struct jinja_arg *t = n->targets; t; t = t->next)
        assign(r, n, t, l->items[i++]);
}

/* The items that the loop's condition lets through. */
static struct jinja_list *filtered(struct jinja_run *r, const struct jinja_node *n,
                                   const struct jinja_list *all)
{
    struct jinja_list *l = jinja_list(r, JINJA_LIST).u.list;
    struct jinja_scope *outer = r->scope;

    jinja_scope_push(r);
    for (size_t i = 0; i < all->n; i++) {
        assign_all(r, n, all->items[i]);
        if (jinja_true(jinja_eval(r, n->b)))
            jinja_list_add(r, l, all->items[i]);
    }
    r->scope = outer;
    return l;
}

static const char *loop_name(const struct jinja_run *r)
{
    return jinja_intern(r->t, "loop", 4, false); /* NULL: the template never says it */
}

static void exec_for(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_loop *loop = jinja_alloc(r, sizeof(*loop));
    struct jinja_scope *outer = r->scope, *s = NULL;
    struct jinja_value v = jinja_eval(r, n->a);
    const char *name = loop_name(r);
    enum jinja_flow flow = JINJA_GO_ON;
    size_t ran = 0;

    r->ctx.at = n->at;
    loop->items = jinja_iterate(r, v);
    if (n->b)
        loop->items = filtered(r, n, loop->items);
    /* The list may grow or shrink under the loop; Python looks at its length each time, too. */
    for (size_t i = 0; i < loop->items->n && flow != JINJA_DID_BREAK; i++, ran++) {
        jinja_step(r, 1);
        r->scope = outer;
        if (!s || s->kept)
            s = jinja_scope_push(r);
        s->n = 0;
        r->scope = s;
        loop->index0 = i;
        if (name)
            jinja_scope_set(r, s, name, (struct jinja_value){.kind = JINJA_LOOP, .u.loop = loop});
        r->ctx.at = n->at;
        assign_all(r, n, loop->items->items[i]);
        flow = jinja_exec(r, n->body);
    }
    r->scope = outer;
    if (ran == 0 && n->other) {
        jinja_scope_push(r);
        jinja_exec(r, n->other);
        r->scope = outer;
    }
}

static void define_macro(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_macro *m = jinja_alloc(r, sizeof(*m));

    m->def = n;
    m->scope = r->scope;
    for (struct jinja_scope *s = r->scope; s; s = s->parent)
        s->kept = true;
    jinja_scope_set(r, r->scope, n->name, (struct jinja_value){.kind = JINJA_MACRO, .u.macro = m});
}

/* Gives parameters their values. */
static void bind_macro(struct jinja_run *r, const struct jinja_macro *m, struct jinja_scope *s,
                       const struct jinja_arg *args)
{
    const struct jinja_arg *param = m->def->args;

    for (; args; args = args->next) {
        struct jinja_value v = jinja_eval(r, args->value); /* in the caller's scope */

        if (args->name)
            for (param = m->def->args; param && param->name != args->name;)
                param = param->next;
        if (!param && args->name)
            jinja_error(r, "macro \"%s\" has no parameter \"%s\"", m->def->name, args->name);
        if (!param)
            jinja_error(r, "more arguments than macro \"%s\" has parameters", m->def->name);
        jinja_scope_set(r, s, param->name, v);
        param = param->next;
    }
}

static bool scope_has(const struct jinja_scope *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->vars[i].name == name)
            return true;
    return false;
}

struct jinja_value jinja_call_macro(struct jinja_run *r, const struct jinja_macro *m,
                                    const struct jinja_arg *args)
{
    struct jinja_scope *caller = r->scope, *s = jinja_alloc(r, sizeof(*s));
    struct jinja_value text;

    s->parent = m->scope;
    bind_macro(r, m, s, args);
    r->scope = s;
    for (const struct jinja_arg *p = m->def->args; p; p = p->next)
        if (!scope_has(s, p->name))
            jinja_scope_set(r, s, p->name,
                            p->value ? jinja_eval(r, p->value) : jinja_undefined(p->name));
    text = capture(r, m->def->body);
    r->scope = caller;
    return text;
}

static enum jinja_flow exec_if(struct jinja_run *r, const struct jinja_node *n)
{
    for (;;) {
        if (jinja_true(jinja_eval(r, n->a)))
            return jinja_exec(r, n->body);
        if (!n->other || n->other->kind != JINJA_IF || n->other->next)
            return jinja_exec(r, n->other);
        n = n->other; /* an elif, or as good as one */
    }
}

static enum jinja_flow exec_one(struct jinja_run *r, const struct jinja_node *n)
{
    switch (n->kind) {
    case JINJA_DATA:
        jinja_buf_string(r->out, *n->value.u.s);
        break;
    case JINJA_PRINT:
        jinja_buf_string(r->out, jinja_to_string(r, jinja_eval(r, n->a)));
        break;
    case JINJA_IF:
        return exec_if(r, n);
    case JINJA_FOR:
        exec_for(r, n);
        break;
    case JINJA_SET:
        assign_all(r, n, jinja_eval(r, n->a));
        break;
    case JINJA_SET_BLOCK:
        assign(r, n, n->targets, capture_filtered(r, n));
        break;
    case JINJA_FILTER_BLOCK:
        jinja_buf_string(r->out, jinja_to_string(r, capture_filtered(r, n)));
        break;
    case JINJA_MACRO_DEF:
        define_macro(r, n);
        break;
    case JINJA_BREAK:
        return JINJA_DID_BREAK;
    case JINJA_CONTINUE:
        return JINJA_DID_CONTINUE;
    case JINJA_SCOPE:
        jinja_buf_string(r->out, *capture(r, n->body).u.s);
        break;
    default:
        UNREACHABLE();
    }
    return JINJA_GO_ON;
}

enum jinja_flow jinja_exec(struct jinja_run *r, const struct jinja_node *n)
{
    enum jinja_flow flow = JINJA_GO_ON;

    jinja_deeper(r);
    for (; n && flow == JINJA_GO_ON; n = n->next) {
        r->ctx.at = n->at;
        jinja_step(r, 1);
        flow = exec_one(r, n);
    }
    r->depth--;
    return flow;
}

struct jinja_run *jinja_run_new(const struct jinja *t, int64_t now_s)
{
    struct jinja_run *r = mem_zalloc(sizeof(*r));

    r->t = t;
    r->ctx.name = t->name;
    r->ctx.source = t->source;
    r->now_s = now_s;
    r->scope = &r->globals;
    return r;
}

void jinja_run_free(struct jinja_run **r)
{
    if (!*r)
        return;
    jinja_arena_fini(&(*r)->arena);
    mem_free(*r);
    *r = NULL;
}

void jinja_set(struct jinja_run *r, const char *name, struct jinja_value value)
{
    const char *known = jinja_intern(r->t, name, strlen(name), false);

    if (known)
        jinja_scope_set(r, &r->globals, known, value);
}

int jinja_render(struct jinja_run *r, struct jinja_output *out, struct err *e)
{
    struct jinja_buf *buf = jinja_arena_alloc(&r->arena, sizeof(*buf));

    *out = (struct jinja_output){.text = ""};
    buf->run = r;
    r->ctx.err = e;
    r->ctx.code = 0;
    r->out = buf;
    r->running = true;
    if (setjmp(r->ctx.jump) == 0) {
        jinja_scope_push(r);
        jinja_exec(r, r->t->body);
        *out = (struct jinja_output){buf->s ? buf->s : "", buf->n, buf->marks, buf->n_marks};
    }
    r->running = false;
    return r->ctx.code;
}
