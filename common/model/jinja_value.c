#include "model/jinja_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_priv.h"

void *jinja_alloc(struct jinja_run *r, size_t n)
{
    if (r->running && r->arena.bytes + n > JINJA_MEMORY_BYTES_MAX)
        jinja_fail(&r->ctx, ERR_LIMIT, "the template needs more than %zu MiB for these messages",
                   JINJA_MEMORY_BYTES_MAX >> 20);
    return jinja_arena_alloc(&r->arena, n);
}

void jinja_step(struct jinja_run *r, size_t n)
{
    r->steps += n;
    if (r->running && r->steps > JINJA_STEPS_MAX)
        jinja_fail(&r->ctx, ERR_LIMIT, "the template takes more than %u steps for these messages",
                   JINJA_STEPS_MAX);
}

struct jinja_value jinja_undefined(const char *name)
{
    return (struct jinja_value){.kind = JINJA_UNDEFINED, .u.name = name};
}
struct jinja_value jinja_none(void) { return (struct jinja_value){.kind = JINJA_NONE}; }
struct jinja_value jinja_bool(bool b) { return (struct jinja_value){.kind = JINJA_BOOL, .u.b = b}; }
struct jinja_value jinja_int(int64_t i)
{
    return (struct jinja_value){.kind = JINJA_INT, .u.i = i};
}
struct jinja_value jinja_float(double f)
{
    return (struct jinja_value){.kind = JINJA_FLOAT, .u.f = f};
}

struct jinja_value jinja_list(struct jinja_run *r, enum jinja_kind kind)
{
    return (struct jinja_value){.kind = kind, .u.list = jinja_alloc(r, sizeof(struct jinja_list))};
}

struct jinja_value jinja_dict(struct jinja_run *r, enum jinja_kind kind)
{
    return (struct jinja_value){.kind = kind, .u.dict = jinja_alloc(r, sizeof(struct jinja_dict))};
}

struct jinja_value jinja_string(struct jinja_run *r, struct jinja_string s)
{
    struct jinja_string *p = jinja_alloc(r, sizeof(*p));

    *p = s;
    return (struct jinja_value){.kind = JINJA_STRING, .u.s = p};
}

struct jinja_value jinja_text(struct jinja_run *r, const char *s, size_t n, bool user)
{
    struct jinja_buf b = {.run = r};

    jinja_buf_add(&b, s, n, user);
    return jinja_string(r, jinja_buf_done(&b));
}

void jinja_list_add(struct jinja_run *r, struct jinja_list *l, struct jinja_value v)
{
    if (l->n == l->cap) {
        size_t cap = size_max(4, l->cap * 2);
        struct jinja_value *items = jinja_alloc(r, cap * sizeof(*items));

        if (l->n)
            memcpy(items, l->items, l->n * sizeof(*items));
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = v;
}

void jinja_dict_add(struct jinja_run *r, struct jinja_dict *d, struct jinja_value key,
                    struct jinja_value v)
{
    if (d->n == d->cap) {
        size_t cap = size_max(4, d->cap * 2);
        struct jinja_pair *items = jinja_alloc(r, cap * sizeof(*items));

        if (d->n)
            memcpy(items, d->items, d->n * sizeof(*items));
        d->items = items;
        d->cap = cap;
    }
    d->items[d->n++] = (struct jinja_pair){key, v};
}

void jinja_dict_set(struct jinja_run *r, struct jinja_dict *d, struct jinja_value key,
                    struct jinja_value v)
{
    struct jinja_value *have = jinja_dict_get(r, d, key);

    if (have)
        *have = v;
    else
        jinja_dict_add(r, d, key, v);
}

void jinja_need_key(struct jinja_run *r, struct jinja_value key)
{
    if (key.kind == JINJA_LIST || key.kind == JINJA_DICT)
        jinja_error(r, "%s cannot be a key", jinja_kind_name(key));
    jinja_deeper(r);
    for (size_t i = 0; key.kind == JINJA_TUPLE && i < key.u.list->n; i++)
        jinja_need_key(r, key.u.list->items[i]);
    r->depth--;
}

struct jinja_value *jinja_dict_get(struct jinja_run *r, const struct jinja_dict *d,
                                   struct jinja_value key)
{
    jinja_step(r, d->n / 16);
    for (size_t i = 0; i < d->n; i++)
        if (jinja_equal(r, d->items[i].key, key))
            return &d->items[i].value;
    return NULL;
}

bool jinja_true(struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v.u.b;
    case JINJA_INT:
        return v.u.i != 0;
    case JINJA_FLOAT:
        return v.u.f != 0;
    case JINJA_STRING:
        return v.u.s->n > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
        return v.u.list->n > 0;
    case JINJA_DICT:
        return v.u.dict->n > 0;
    default:
        return true;
    }
}

bool jinja_is_number(struct jinja_value v)
{
    return v.kind == JINJA_BOOL || v.kind == JINJA_INT || v.kind == JINJA_FLOAT;
}

double jinja_number(struct jinja_value v)
{
    return v.kind == JINJA_FLOAT ? v.u.f : v.kind == JINJA_INT ? (double)v.u.i : v.u.b;
}

const char *jinja_kind_name(struct jinja_value v)
{
    static const char *const names[] = {
        [JINJA_ABSENT] = "nothing",
        [JINJA_UNDEFINED] = "something undefined",
        [JINJA_NONE] = "none",
        [JINJA_BOOL] = "a boolean",
        [JINJA_INT] = "an integer",
        [JINJA_FLOAT] = "a float",
        [JINJA_STRING] = "a string",
        [JINJA_LIST] = "a list",
        [JINJA_TUPLE] = "a tuple",
        [JINJA_DICT] = "a dict",
        [JINJA_NAMESPACE] = "a namespace",
        [JINJA_LOOP] = "a loop",
        [JINJA_MACRO] = "a macro",
        [JINJA_FUNCTION] = "a function",
        [JINJA_METHOD] = "a method",
    };

    return names[v.kind];
}

void jinja_deeper(struct jinja_run *r)
{
    if (++r->depth > JINJA_DEPTH_MAX && r->running)
        jinja_fail(&r->ctx, ERR_LIMIT, "more than %d levels of evaluation", JINJA_DEPTH_MAX);
    jinja_step(r, 1);
}

static bool lists_equal(struct jinja_run *r, const struct jinja_list *a, const struct jinja_list *b)
{
    bool same = a->n == b->n;

    jinja_deeper(r);
    for (size_t i = 0; same && i < a->n; i++)
        same = jinja_equal(r, a->items[i], b->items[i]);
    r->depth--;
    return same;
}

static bool dicts_equal(struct jinja_run *r, const struct jinja_dict *a, const struct jinja_dict *b)
{
    bool same = a->n == b->n;

    jinja_deeper(r);
    for (size_t i = 0; same && i < a->n; i++) {
        const struct jinja_value *v = jinja_dict_get(r, b, a->items[i].key);

        same = v && jinja_equal(r, *v, a->items[i].value);
    }
    r->depth--;
    return same;
}

bool jinja_equal(struct jinja_run *r, struct jinja_value a, struct jinja_value b)
{
    if (jinja_is_number(a) && jinja_is_number(b)) {
        if (a.kind != JINJA_FLOAT && b.kind != JINJA_FLOAT)
            return (a.kind == JINJA_INT ? a.u.i : a.u.b) == (b.kind == JINJA_INT ? b.u.i : b.u.b);
        return jinja_number(a) == jinja_number(b);
    }
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case JINJA_STRING:
        return jinja_same(*a.u.s, *b.u.s);
    case JINJA_LIST:
    case JINJA_TUPLE:
        return a.u.list == b.u.list || lists_equal(r, a.u.list, b.u.list);
    case JINJA_DICT:
        return a.u.dict == b.u.dict || dicts_equal(r, a.u.dict, b.u.dict);
    case JINJA_METHOD:
        return false;
    case JINJA_NONE:
    case JINJA_UNDEFINED:
        return true;
    default:
        return a.u.macro == b.u.macro; /* the same object */
    }
}

int jinja_order(struct jinja_run *r, struct jinja_value a, struct jinja_value b)
{
    if (jinja_is_number(a) && jinja_is_number(b)) {
        double x = jinja_number(a), y = jinja_number(b);

        if (a.kind == JINJA_INT && b.kind == JINJA_INT)
            return a.u.i < b.u.i ? -1 : a.u.i > b.u.i;
        return x < y ? -1 : x > y;
    }
    if (a.kind == JINJA_STRING && b.kind == JINJA_STRING)
        return jinja_compare(*a.u.s, *b.u.s);
    if (a.kind == b.kind && (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)) {
        const struct jinja_list *x = a.u.list, *y = b.u.list;
        int c = 0;

        jinja_deeper(r);
        for (size_t i = 0; i < x->n && i < y->n && !c; i++)
            c = jinja_equal(r, x->items[i], y->items[i]) ? 0
                                                         : jinja_order(r, x->items[i], y->items[i]);
        r->depth--;
        return c ? c : x->n < y->n ? -1 : x->n > y->n;
    }
    jinja_error(r, "%s and %s have no order", jinja_kind_name(a), jinja_kind_name(b));
}

bool jinja_contains(struct jinja_run *r, struct jinja_value item, struct jinja_value in)
{
    const struct jinja_list *l;

    if (in.kind == JINJA_STRING) {
        if (item.kind != JINJA_STRING)
            jinja_error(r, "%s is not looked for in a string", jinja_kind_name(item));
        return jinja_find(r, *in.u.s, *item.u.s, 0) != SIZE_MAX;
    }
    if (in.kind == JINJA_DICT) {
        jinja_need_key(r, item);
        return jinja_dict_get(r, in.u.dict, item) != NULL;
    }
    l = jinja_iterate(r, in);
    jinja_step(r, l->n / 16);
    for (size_t i = 0; i < l->n; i++)
        if (jinja_equal(r, l->items[i], item))
            return true;
    return false;
}

size_t jinja_length(struct jinja_run *r, struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_UNDEFINED:
        return 0;
    case JINJA_STRING:
        return jinja_chars(r, *v.u.s);
    case JINJA_LIST:
    case JINJA_TUPLE:
        return v.u.list->n;
    case JINJA_DICT:
        return v.u.dict->n;
    default:
        jinja_error(r, "%s has no length", jinja_kind_name(v));
    }
}

struct jinja_list *jinja_iterate(struct jinja_run *r, struct jinja_value v)
{
    struct jinja_list *l;

    if (v.kind == JINJA_LIST || v.kind == JINJA_TUPLE)
        return v.u.list;
    l = jinja_list(r, JINJA_LIST).u.list;
    if (v.kind == JINJA_DICT) {
        for (size_t i = 0; i < v.u.dict->n; i++)
            jinja_list_add(r, l, v.u.dict->items[i].key);
    } else if (v.kind == JINJA_STRING) {
        for (size_t i = 0, n; i < v.u.s->n; i += n) {
            jinja_step(r, 1);
            n = jinja_char_bytes(*v.u.s, i);
            jinja_list_add(r, l, jinja_string(r, jinja_cut(r, *v.u.s, i, i + n)));
        }
    } else if (v.kind != JINJA_UNDEFINED) {
        jinja_error(r, "%s cannot be iterated over", jinja_kind_name(v));
    }
    return l;
}

static bool loop_attribute(struct jinja_run *r, const struct jinja_loop *l, const char *name,
                           struct jinja_value *out)
{
    const struct {
        const char *name;
        size_t value;
    } numbers[] = {{"index", l->index0 + 1},
                   {"index0", l->index0},
                   {"revindex", l->items->n - l->index0},
                   {"revindex0", l->items->n - l->index0 - 1},
                   {"length", l->items->n},
                   {"depth", 1}, /* of recursive loops, which we have not */
                   {"depth0", 0}};

    (void)r;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (strcmp(name, numbers[i].name) == 0) {
            *out = jinja_int((int64_t)numbers[i].value);
            return true;
        }
    if (strcmp(name, "first") == 0)
        *out = jinja_bool(l->index0 == 0);
    else if (strcmp(name, "last") == 0)
        *out = jinja_bool(l->index0 + 1 == l->items->n);
    else if (strcmp(name, "previtem") == 0)
        *out = l->index0 ? l->items->items[l->index0 - 1] : jinja_undefined("loop.previtem");
    else if (strcmp(name, "nextitem") == 0)
        *out = l->index0 + 1 < l->items->n ? l->items->items[l->index0 + 1]
                                           : jinja_undefined("loop.nextitem");
    else
        return false;
    return true;
}

struct jinja_value jinja_attribute(struct jinja_run *r, struct jinja_value v, const char *name)
{
    struct jinja_value out;
    struct jinja_string s = jinja_str(name);
    const struct jinja_value *have;

    if (v.kind == JINJA_UNDEFINED)
        jinja_error(r, "\"%.64s\" is undefined, it has no \"%.64s\"", v.u.name ? v.u.name : "it",
                    name);
    if (v.kind == JINJA_LOOP && loop_attribute(r, v.u.loop, name, &out))
        return out;
    if (jinja_has_method(v.kind, name))
        return (struct jinja_value){.kind = JINJA_METHOD, .u.name = name};
    if (v.kind == JINJA_DICT || v.kind == JINJA_NAMESPACE) {
        have = jinja_dict_get(r, v.u.dict, (struct jinja_value){.kind = JINJA_STRING, .u.s = &s});
        if (have)
            return *have;
    }
    return jinja_undefined(name);
}

/* Index i of n from either end; false: outside. */
static bool in_range(int64_t i, size_t n, size_t *at)
{
    if (i < 0)
        i += (int64_t)n;
    *at = (size_t)i;
    return i >= 0 && (uint64_t)i < n;
}

struct jinja_value jinja_item(struct jinja_run *r, struct jinja_value v, struct jinja_value key)
{
    int64_t i = key.kind == JINJA_INT ? key.u.i : key.kind == JINJA_BOOL ? key.u.b : 0;
    bool index = key.kind == JINJA_INT || key.kind == JINJA_BOOL;
    const struct jinja_value *have;
    size_t at;

    if (v.kind == JINJA_UNDEFINED)
        jinja_error(r, "\"%.64s\" is undefined, it has no items", v.u.name ? v.u.name : "it");
    if (v.kind == JINJA_DICT && (have = jinja_dict_get(r, v.u.dict, key)))
        return *have;
    if (index && (v.kind == JINJA_LIST || v.kind == JINJA_TUPLE))
        return in_range(i, v.u.list->n, &at) ? v.u.list->items[at] : jinja_undefined("list item");
    if (index && v.kind == JINJA_STRING) {
        size_t byte = 0;

        if (!in_range(i, jinja_chars(r, *v.u.s), &at))
            return jinja_undefined("character");
        while (at-- > 0)
            byte += jinja_char_bytes(*v.u.s, byte);
        return jinja_string(r, jinja_cut(r, *v.u.s, byte, byte + jinja_char_bytes(*v.u.s, byte)));
    }
    if (key.kind == JINJA_STRING && v.kind != JINJA_DICT) { /* as Jinja: then the attribute */
        char *name = jinja_alloc(r, key.u.s->n + 1);

        memcpy(name, key.u.s->s, key.u.s->n);
        return jinja_attribute(r, v, name);
    }
    return jinja_undefined("item");
}

static void add_repr(struct jinja_buf *b, struct jinja_value v);

static void add_reprs(struct jinja_buf *b, const struct jinja_list *l, const char *ends)
{
    jinja_buf_add(b, ends, 1, false);
    for (size_t i = 0; i < l->n; i++) {
        jinja_buf_adds(b, i ? ", " : "");
        add_repr(b, l->items[i]);
    }
    if (*ends == '(' && l->n == 1)
        jinja_buf_adds(b, ",");
    jinja_buf_add(b, ends + 1, 1, false);
}

static void add_repr(struct jinja_buf *b, struct jinja_value v)
{
    char buf[32];

    jinja_deeper(b->run);
    switch (v.kind) {
    case JINJA_NONE:
        jinja_buf_adds(b, "None");
        break;
    case JINJA_BOOL:
        jinja_buf_adds(b, v.u.b ? "True" : "False");
        break;
    case JINJA_INT:
        snprintf(buf, sizeof(buf), "%lld", (long long)v.u.i);
        jinja_buf_adds(b, buf);
        break;
    case JINJA_FLOAT:
        jinja_repr_float(b, v.u.f);
        break;
    case JINJA_STRING:
        jinja_repr_string(b, *v.u.s);
        break;
    case JINJA_LIST:
        add_reprs(b, v.u.list, "[]");
        break;
    case JINJA_TUPLE:
        add_reprs(b, v.u.list, "()");
        break;
    case JINJA_DICT:
        jinja_buf_adds(b, "{");
        for (size_t i = 0; i < v.u.dict->n; i++) {
            jinja_buf_adds(b, i ? ", " : "");
            add_repr(b, v.u.dict->items[i].key);
            jinja_buf_adds(b, ": ");
            add_repr(b, v.u.dict->items[i].value);
        }
        jinja_buf_adds(b, "}");
        break;
    case JINJA_UNDEFINED:
        jinja_buf_adds(b, "Undefined");
        break;
    default:
        jinja_error(b->run, "%s has no text", jinja_kind_name(v));
    }
    b->run->depth--;
}

struct jinja_string jinja_to_string(struct jinja_run *r, struct jinja_value v)
{
    struct jinja_buf b = {.run = r};

    if (v.kind == JINJA_STRING)
        return *v.u.s;
    if (v.kind != JINJA_UNDEFINED)
        add_repr(&b, v);
    return jinja_buf_done(&b);
}
