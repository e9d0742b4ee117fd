/* jinja_filters: `x|name`. As in Jinja 3.1; tojson as transformers sets it up (no HTML escapes).
 * Those that are generators in Python give lists here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_priv.h"

#define FILTER(name)                                                          \
    static struct jinja_value name(struct jinja_run *r, struct jinja_value v, \
                                   const struct jinja_value *a)

static struct jinja_string text_of(struct jinja_run *r, struct jinja_value v)
{
    return jinja_to_string(r, v);
}

static bool given(struct jinja_value v) { return v.kind != JINJA_ABSENT; }

FILTER(do_string)
{
    (void)a;
    return jinja_string(r, text_of(r, v));
}
FILTER(do_safe) { return do_string(r, v, a); }
FILTER(do_lower)
{
    (void)a;
    return jinja_string(r, jinja_recase(r, text_of(r, v), JINJA_LOWER));
}
FILTER(do_upper)
{
    (void)a;
    return jinja_string(r, jinja_recase(r, text_of(r, v), JINJA_UPPER));
}
FILTER(do_capitalize)
{
    (void)a;
    return jinja_string(r, jinja_recase(r, text_of(r, v), JINJA_CAPITALIZE));
}
FILTER(do_title)
{
    (void)a;
    return jinja_string(r, jinja_recase(r, text_of(r, v), JINJA_TITLE));
}
FILTER(do_trim)
{
    struct jinja_string set;

    if (!given(a[0]) || a[0].kind == JINJA_NONE)
        return jinja_string(r, jinja_strip(r, text_of(r, v), NULL, JINJA_LEFT | JINJA_RIGHT));
    set = text_of(r, a[0]);
    return jinja_string(r, jinja_strip(r, text_of(r, v), &set, JINJA_LEFT | JINJA_RIGHT));
}
FILTER(do_replace)
{
    int64_t max = a[2].kind == JINJA_INT ? a[2].u.i : -1;

    return jinja_string(r,
                        jinja_replace(r, text_of(r, v), text_of(r, a[0]), text_of(r, a[1]), max));
}
FILTER(do_indent)
{
    struct jinja_buf by = {.run = r};

    if (v.kind != JINJA_STRING)
        jinja_error(r, "indent takes a string, not %s", jinja_kind_name(v));
    if (a[0].kind == JINJA_STRING)
        jinja_buf_string(&by, *a[0].u.s);
    else if (given(a[0]) && a[0].kind != JINJA_INT)
        jinja_error(r, "indent takes an integer or a string, not %s", jinja_kind_name(a[0]));
    else
        for (int64_t i = given(a[0]) ? a[0].u.i : 4; i > 0; i--)
            jinja_buf_adds(&by, " ");
    return jinja_string(
        r, jinja_indent(r, text_of(r, v), jinja_buf_done(&by), jinja_true(a[1]), jinja_true(a[2])));
}
FILTER(do_tojson)
{
    struct jinja_buf b = {.run = r};

    jinja_to_json(r, &b, v, a[0], a[1], a[2], a[3]);
    return jinja_string(r, jinja_buf_done(&b));
}
FILTER(do_from_json)
{
    (void)a;
    if (v.kind != JINJA_STRING)
        jinja_error(r, "from_json takes a string, not %s", jinja_kind_name(v));
    return jinja_from_json(r, v.u.s->s, v.u.s->n, jinja_marked(*v.u.s));
}
FILTER(do_length)
{
    (void)a;
    return jinja_int((int64_t)jinja_length(r, v));
}
FILTER(do_default)
{
    bool missing = v.kind == JINJA_UNDEFINED || (jinja_true(a[1]) && !jinja_true(v));

    if (!missing)
        return v;
    return given(a[0]) ? a[0] : jinja_text(r, "", 0, false);
}

struct jinja_value jinja_path(struct jinja_run *r, struct jinja_value v, struct jinja_value path)
{
    struct jinja_string dot = jinja_str(".");
    struct jinja_list *parts;

    if (path.kind != JINJA_STRING)
        return jinja_item(r, v, path);
    parts = jinja_split(r, *path.u.s, &dot, -1).u.list;
    for (size_t i = 0; i < parts->n; i++) {
        const struct jinja_string *s = parts->items[i].u.s;
        int64_t index = 0;
        size_t k = 0;

        for (; k < s->n && k < 18 && s->s[k] >= '0' && s->s[k] <= '9'; k++)
            index = index * 10 + (s->s[k] - '0');
        v = jinja_item(r, v, k == s->n && k > 0 ? jinja_int(index) : parts->items[i]);
    }
    return v;
}

FILTER(do_join)
{
    struct jinja_list *l = jinja_iterate(r, v);
    struct jinja_buf b = {.run = r};

    for (size_t i = 0; i < l->n; i++) {
        struct jinja_value item = given(a[1]) ? jinja_path(r, l->items[i], a[1]) : l->items[i];

        jinja_step(r, 1);
        if (i > 0 && given(a[0]))
            jinja_buf_string(&b, text_of(r, a[0]));
        jinja_buf_string(&b, text_of(r, item));
    }
    return jinja_string(r, jinja_buf_done(&b));
}

static struct jinja_value copy_list(struct jinja_run *r, struct jinja_value v)
{
    struct jinja_value out = jinja_list(r, JINJA_LIST);
    const struct jinja_list *l = jinja_iterate(r, v);

    for (size_t i = 0; i < l->n; i++)
        jinja_list_add(r, out.u.list, l->items[i]);
    return out;
}
FILTER(do_list)
{
    (void)a;
    return copy_list(r, v);
}
FILTER(do_items)
{
    if (v.kind == JINJA_UNDEFINED)
        return jinja_list(r, JINJA_LIST);
    if (v.kind != JINJA_DICT)
        jinja_error(r, "items takes a dict, not %s", jinja_kind_name(v));
    return jinja_method("items")->call(r, v, a);
}
FILTER(do_first)
{
    const struct jinja_list *l = jinja_iterate(r, v);

    (void)a;
    return l->n ? l->items[0] : jinja_undefined("first");
}
FILTER(do_last)
{
    const struct jinja_list *l = jinja_iterate(r, v);

    (void)a;
    return l->n ? l->items[l->n - 1] : jinja_undefined("last");
}
FILTER(do_reverse)
{
    const struct jinja_list *l = jinja_iterate(r, v);
    struct jinja_value out = jinja_list(r, JINJA_LIST);
    struct jinja_buf b = {.run = r};

    (void)a;
    for (size_t i = l->n; i-- > 0;) {
        jinja_list_add(r, out.u.list, l->items[i]);
        if (v.kind == JINJA_STRING)
            jinja_buf_string(&b, *l->items[i].u.s);
    }
    return v.kind == JINJA_STRING ? jinja_string(r, jinja_buf_done(&b)) : out;
}

struct jinja_value jinja_apply(struct jinja_run *r, const struct jinja_builtin *b,
                               struct jinja_value self, const struct jinja_list *args, size_t first)
{
    struct jinja_value argv[JINJA_ARGS_MAX] = {{JINJA_ABSENT, {0}}};
    size_t n = args->n > first ? args->n - first : 0;

    if (!b->params || n < b->required || n > JINJA_ARGS_MAX)
        jinja_error(r, "\"%s\" does not take %zu arguments here", b->name, n);
    for (size_t i = 0; i < n; i++)
        argv[i] = args->items[first + i];
    jinja_step(r, 1);
    return b->call(r, self, argv);
}

static const char *name_arg(struct jinja_run *r, struct jinja_value v)
{
    char *name;

    if (v.kind != JINJA_STRING)
        jinja_error(r, "the name of a filter or test must be a string, not %s", jinja_kind_name(v));
    name = jinja_alloc(r, v.u.s->n + 1);
    memcpy(name, v.u.s->s, v.u.s->n);
    return name;
}

static struct jinja_value *named_arg(struct jinja_run *r, const struct jinja_value *a,
                                     const char *name)
{
    struct jinja_string s = jinja_str(name);

    return jinja_dict_get(r, a[1].u.dict, (struct jinja_value){.kind = JINJA_STRING, .u.s = &s});
}

/* What map and the like run over: as in Jinja, nothing of what is false, so nothing of none. */
static const struct jinja_list *lenient_list(struct jinja_run *r, struct jinja_value v)
{
    return jinja_iterate(r, jinja_true(v) ? v : jinja_undefined("list"));
}

/* map("filter", arguments...) or map(attribute="a.b", default=x). */
FILTER(do_map)
{
    struct jinja_value *attribute = named_arg(r, a, "attribute"), *def = named_arg(r, a, "default");
    const struct jinja_list *l = lenient_list(r, v), *args = a[0].u.list;
    struct jinja_value out = jinja_list(r, JINJA_LIST);
    const struct jinja_builtin *f = NULL;

    if (a[1].u.dict->n != (size_t)(attribute != NULL) + (def != NULL) || (!attribute && !args->n))
        jinja_error(r, "map takes a filter's name, or attribute and default");
    if (!attribute && !(f = jinja_filter(name_arg(r, args->items[0]))))
        jinja_error(r, "map: no such filter");
    for (size_t i = 0; i < l->n; i++) {
        struct jinja_value item = attribute ? jinja_path(r, l->items[i], *attribute)
                                            : jinja_apply(r, f, l->items[i], args, 1);

        if (attribute && def && item.kind == JINJA_UNDEFINED)
            item = *def;
        jinja_list_add(r, out.u.list, item);
    }
    return out;
}

/* Items of which the test holds (want) or not; of their attribute, if by_attribute. */
static struct jinja_value sift(struct jinja_run *r, struct jinja_value v,
                               const struct jinja_value *a, bool by_attribute, bool want)
{
    const struct jinja_list *l = lenient_list(r, v), *args = a[0].u.list;
    struct jinja_value out = jinja_list(r, JINJA_LIST);
    const struct jinja_builtin *test = NULL;

    if (a[1].u.dict->n || (by_attribute && !args->n))
        jinja_error(r, "select and reject take %s the name of a test and its arguments",
                    by_attribute ? "an attribute," : "");
    if (args->n > by_attribute && !(test = jinja_test(name_arg(r, args->items[by_attribute]))))
        jinja_error(r, "select and reject: no such test");
    for (size_t i = 0; i < l->n; i++) {
        struct jinja_value item = l->items[i];
        bool holds;

        if (by_attribute)
            item = jinja_path(r, item, args->items[0]);
        holds = test ? jinja_apply(r, test, item, args, by_attribute + 1u).u.b : jinja_true(item);
        if (holds == want)
            jinja_list_add(r, out.u.list, l->items[i]);
    }
    return out;
}
FILTER(do_select) { return sift(r, v, a, false, true); }
FILTER(do_reject) { return sift(r, v, a, false, false); }
FILTER(do_selectattr) { return sift(r, v, a, true, true); }
FILTER(do_rejectattr) { return sift(r, v, a, true, false); }

/* What items are compared by: an attribute, and without case unless asked for. */
static struct jinja_value sort_key(struct jinja_run *r, struct jinja_value v,
                                   struct jinja_value attribute, struct jinja_value case_sensitive)
{
    if (given(attribute) && attribute.kind != JINJA_NONE)
        v = jinja_path(r, v, attribute);
    if (v.kind == JINJA_STRING && !jinja_true(case_sensitive))
        v = jinja_string(r, jinja_recase(r, *v.u.s, JINJA_LOWER));
    return v;
}

/* Stable merge sort of item[i] by key[i], bottom up. */
static void sort(struct jinja_run *r, struct jinja_value *key, struct jinja_value *item, size_t n,
                 bool reverse)
{
    struct jinja_value *k2 = jinja_alloc(r, n * sizeof(*k2)), *i2 = jinja_alloc(r, n * sizeof(*i2));

    for (size_t width = 1; width < n; width *= 2) {
        for (size_t from = 0; from < n; from += 2 * width) {
            size_t mid = size_min(from + width, n), end = size_min(from + 2 * width, n);

            for (size_t a = from, b = mid, o = from; o < end; o++) {
                bool second = a == mid;

                jinja_step(r, 1);
                if (!second && b < end) {
                    int c = jinja_order(r, key[a], key[b]);

                    second = reverse ? c < 0 : c > 0;
                }
                k2[o] = key[second ? b : a];
                i2[o] = item[second ? b++ : a++];
            }
        }
        memcpy(key, k2, n * sizeof(*key));
        memcpy(item, i2, n * sizeof(*item));
    }
}

FILTER(do_sort) /* reverse case_sensitive attribute */
{
    struct jinja_list *l = copy_list(r, v).u.list;
    struct jinja_value *keys = jinja_alloc(r, l->n * sizeof(*keys));

    for (size_t i = 0; i < l->n; i++)
        keys[i] = sort_key(r, l->items[i], a[2], a[1]);
    sort(r, keys, l->items, l->n, jinja_true(a[0]));
    return (struct jinja_value){.kind = JINJA_LIST, .u.list = l};
}
FILTER(do_dictsort) /* case_sensitive by reverse */
{
    struct jinja_string by_value = jinja_str("value");
    size_t by = a[1].kind == JINJA_STRING && jinja_same(*a[1].u.s, by_value);
    struct jinja_value *keys;
    struct jinja_list *l;

    if (v.kind != JINJA_DICT)
        jinja_error(r, "dictsort takes a dict, not %s", jinja_kind_name(v));
    l = do_items(r, v, a).u.list;
    keys = jinja_alloc(r, l->n * sizeof(*keys));
    for (size_t i = 0; i < l->n; i++)
        keys[i] = sort_key(r, l->items[i].u.list->items[by], jinja_none(), a[0]);
    sort(r, keys, l->items, l->n, jinja_true(a[2]));
    return (struct jinja_value){.kind = JINJA_LIST, .u.list = l};
}
FILTER(do_unique) /* case_sensitive attribute */
{
    const struct jinja_list *l = jinja_iterate(r, v);
    struct jinja_value out = jinja_list(r, JINJA_LIST), seen = jinja_list(r, JINJA_LIST);

    for (size_t i = 0; i < l->n; i++) {
        struct jinja_value key = sort_key(r, l->items[i], a[1], a[0]);

        jinja_need_key(r, key);
        if (jinja_contains(r, key, seen))
            continue;
        jinja_list_add(r, seen.u.list, key);
        jinja_list_add(r, out.u.list, l->items[i]);
    }
    return out;
}

static struct jinja_value extreme(struct jinja_run *r, struct jinja_value v,
                                  const struct jinja_value *a, int sign)
{
    const struct jinja_list *l = jinja_iterate(r, v);
    struct jinja_value best = {0}, best_key = {0};

    for (size_t i = 0; i < l->n; i++) {
        struct jinja_value key = sort_key(r, l->items[i], a[1], a[0]);

        jinja_step(r, 1);
        if (i > 0 && sign * jinja_order(r, key, best_key) <= 0)
            continue;
        best = l->items[i];
        best_key = key;
    }
    return l->n ? best : jinja_undefined("an item of an empty list");
}
FILTER(do_min) { return extreme(r, v, a, -1); }
FILTER(do_max) { return extreme(r, v, a, 1); }

/* A whole string as a number; false: it is none. */
static bool parse_number(struct jinja_run *r, struct jinja_value v, double *f, int64_t *i,
                         bool *whole)
{
    struct jinja_string s;
    char *text, *end;

    if (v.kind == JINJA_UNDEFINED)
        jinja_error(r, "\"%.64s\" is undefined, it is no number", v.u.name);
    if (v.kind != JINJA_STRING) {
        *f = jinja_is_number(v) ? jinja_number(v) : 0;
        *i = v.kind == JINJA_INT ? v.u.i : v.kind == JINJA_BOOL ? v.u.b : 0;
        *whole = v.kind != JINJA_FLOAT;
        return jinja_is_number(v);
    }
    s = jinja_strip(r, *v.u.s, NULL, JINJA_LEFT | JINJA_RIGHT);
    if (s.n == 0 || s.n > 64)
        return false;
    text = jinja_alloc(r, s.n + 1);
    memcpy(text, s.s, s.n);
    if (strspn(text, "+-.0123456789eE") < s.n) /* strtod knows more than Python */
        return false;
    *i = strtoll(text, &end, 10);
    *whole = *end == '\0';
    *f = strtod(text, &end);
    return *end == '\0';
}
FILTER(do_int) /* default base */
{
    double f;
    int64_t i;
    bool whole;

    if (given(a[1]) && !(a[1].kind == JINJA_INT && a[1].u.i == 10))
        jinja_error(r, "int: only base 10 is supported");
    if (!parse_number(r, v, &f, &i, &whole))
        return given(a[0]) ? a[0] : jinja_int(0);
    if (whole)
        return jinja_int(i);
    if (!(fabs(f) < 0x1p63))
        return given(a[0]) ? a[0] : jinja_int(0);
    return jinja_int((int64_t)f);
}
FILTER(do_float) /* default */
{
    double f;
    int64_t i;
    bool whole;

    if (!parse_number(r, v, &f, &i, &whole))
        return given(a[0]) ? a[0] : jinja_float(0);
    return jinja_float(f);
}
FILTER(do_abs)
{
    (void)a;
    if (v.kind == JINJA_FLOAT)
        return jinja_float(fabs(v.u.f));
    if (v.kind == JINJA_BOOL)
        return jinja_int(v.u.b);
    if (v.kind != JINJA_INT || v.u.i == INT64_MIN)
        jinja_error(r, "abs takes a number, not %s", jinja_kind_name(v));
    return jinja_int(v.u.i < 0 ? -v.u.i : v.u.i);
}

static const struct jinja_builtin filters[] = {
    {"abs", "", 0, do_abs},
    {"capitalize", "", 0, do_capitalize},
    {"count", "", 0, do_length},
    {"d", "default_value boolean", 0, do_default},
    {"default", "default_value boolean", 0, do_default},
    {"dictsort", "case_sensitive by reverse", 0, do_dictsort},
    {"first", "", 0, do_first},
    {"float", "default", 0, do_float},
    {"from_json", "", 0, do_from_json},
    {"indent", "width first blank", 0, do_indent},
    {"int", "default base", 0, do_int},
    {"items", "", 0, do_items},
    {"join", "d attribute", 0, do_join},
    {"last", "", 0, do_last},
    {"length", "", 0, do_length},
    {"list", "", 0, do_list},
    {"lower", "", 0, do_lower},
    {"map", NULL, 0, do_map},
    {"max", "case_sensitive attribute", 0, do_max},
    {"min", "case_sensitive attribute", 0, do_min},
    {"reject", NULL, 0, do_reject},
    {"rejectattr", NULL, 0, do_rejectattr},
    {"replace", "old new count", 2, do_replace},
    {"reverse", "", 0, do_reverse},
    {"safe", "", 0, do_safe},
    {"select", NULL, 0, do_select},
    {"selectattr", NULL, 0, do_selectattr},
    {"sort", "reverse case_sensitive attribute", 0, do_sort},
    {"string", "", 0, do_string},
    {"title", "", 0, do_title},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, do_tojson},
    {"trim", "chars", 0, do_trim},
    {"unique", "case_sensitive attribute", 0, do_unique},
    {"upper", "", 0, do_upper},
};

const struct jinja_builtin *jinja_filter(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(filters); i++)
        if (strcmp(filters[i].name, name) == 0)
            return &filters[i];
    return NULL;
}
