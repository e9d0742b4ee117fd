/* jinja_methods: x.name(...) of strings, lists, dicts and loops, and the global functions. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "model/jinja_priv.h"

#define METHOD(name)                                                          \
    static struct jinja_value name(struct jinja_run *r, struct jinja_value v, \
                                   const struct jinja_value *a)

static struct jinja_string string_arg(struct jinja_run *r, struct jinja_value v, const char *what)
{
    if (v.kind != JINJA_STRING)
        jinja_error(r, "%s takes a string, not %s", what, jinja_kind_name(v));
    return *v.u.s;
}

static int64_t int_arg(struct jinja_run *r, struct jinja_value v, int64_t def, const char *what)
{
    if (v.kind == JINJA_ABSENT)
        return def;
    if (v.kind != JINJA_INT && v.kind != JINJA_BOOL)
        jinja_error(r, "%s takes an integer, not %s", what, jinja_kind_name(v));
    return v.kind == JINJA_INT ? v.u.i : v.u.b;
}

static struct jinja_value strip(struct jinja_run *r, struct jinja_value v, struct jinja_value set,
                                unsigned sides)
{
    struct jinja_string chars;

    if (set.kind == JINJA_ABSENT || set.kind == JINJA_NONE)
        return jinja_string(r, jinja_strip(r, *v.u.s, NULL, sides));
    chars = string_arg(r, set, "strip");
    return jinja_string(r, jinja_strip(r, *v.u.s, &chars, sides));
}
METHOD(do_strip) { return strip(r, v, a[0], JINJA_LEFT | JINJA_RIGHT); }
METHOD(do_lstrip) { return strip(r, v, a[0], JINJA_LEFT); }
METHOD(do_rstrip) { return strip(r, v, a[0], JINJA_RIGHT); }

METHOD(do_split)
{
    int64_t max = int_arg(r, a[1], -1, "split");
    struct jinja_string sep;

    if (a[0].kind == JINJA_ABSENT || a[0].kind == JINJA_NONE)
        return jinja_split(r, *v.u.s, NULL, max);
    sep = string_arg(r, a[0], "split");
    if (sep.n == 0)
        jinja_error(r, "split at an empty string");
    return jinja_split(r, *v.u.s, &sep, max);
}

/* With a tuple: any of its strings. */
static struct jinja_value at_end(struct jinja_run *r, struct jinja_string s,
                                 struct jinja_value what, bool start)
{
    struct jinja_string part;

    if (what.kind == JINJA_TUPLE) {
        for (size_t i = 0; i < what.u.list->n; i++)
            if (what.u.list->items[i].kind != JINJA_TUPLE &&
                at_end(r, s, what.u.list->items[i], start).u.b)
                return jinja_bool(true);
        return jinja_bool(false);
    }
    part = string_arg(r, what, start ? "startswith" : "endswith");
    return jinja_bool(part.n <= s.n &&
                      memcmp(start ? s.s : s.s + s.n - part.n, part.s, part.n) == 0);
}
METHOD(do_startswith) { return at_end(r, *v.u.s, a[0], true); }
METHOD(do_endswith) { return at_end(r, *v.u.s, a[0], false); }

METHOD(do_replace)
{
    return jinja_string(r, jinja_replace(r, *v.u.s, string_arg(r, a[0], "replace"),
                                         string_arg(r, a[1], "replace"),
                                         int_arg(r, a[2], -1, "replace")));
}
METHOD(do_upper)
{
    (void)a;
    return jinja_string(r, jinja_recase(r, *v.u.s, JINJA_UPPER));
}
METHOD(do_lower)
{
    (void)a;
    return jinja_string(r, jinja_recase(r, *v.u.s, JINJA_LOWER));
}
METHOD(do_capitalize)
{
    (void)a;
    return jinja_string(r, jinja_recase(r, *v.u.s, JINJA_CAPITALIZE));
}

/* The value that a {} or {0} or {name} of format stands for. */
static struct jinja_value format_field(struct jinja_run *r, struct jinja_string field,
                                       const struct jinja_value *a, size_t *next)
{
    const struct jinja_list *l = a[0].u.list;
    struct jinja_value key = {.kind = JINJA_STRING, .u.s = &field}, *have;
    size_t i = 0;

    if (field.n == 0)
        i = (*next)++;
    for (size_t k = 0; k < field.n; k++) {
        if (field.s[k] < '0' || field.s[k] > '9' || k > 6) {
            if (memchr(field.s, ':', field.n) || memchr(field.s, '!', field.n) ||
                memchr(field.s, '.', field.n) || memchr(field.s, '[', field.n))
                jinja_error(r, "format: only {}, {0} and {name} are supported, not {%.*s}",
                            (int)size_min(field.n, 40), field.s);
            if (!(have = jinja_dict_get(r, a[1].u.dict, key)))
                jinja_error(r, "format: nothing is given for {%.*s}", (int)size_min(field.n, 40),
                            field.s);
            return *have;
        }
        i = i * 10 + (size_t)(field.s[k] - '0');
    }
    if (i >= l->n)
        jinja_error(r, "format: %zu values are not enough", l->n);
    return l->items[i];
}

METHOD(do_format)
{
    struct jinja_string s = *v.u.s;
    struct jinja_buf b = {.run = r};
    size_t next = 0;

    for (size_t i = 0; i < s.n; i++) {
        char c = s.s[i];
        size_t end = i + 1;

        jinja_step(r, 1);
        if ((c == '{' || c == '}') && end < s.n && s.s[end] == c) {
            jinja_buf_string(&b, jinja_cut(r, s, i, end));
            i++;
        } else if (c == '{') {
            while (end < s.n && s.s[end] != '}')
                end++;
            if (end == s.n)
                jinja_error(r, "format: { without }");
            jinja_buf_string(
                &b, jinja_to_string(r, format_field(r, jinja_cut(r, s, i + 1, end), a, &next)));
            i = end;
        } else {
            if (c == '}')
                jinja_error(r, "format: } without {");
            jinja_buf_string(&b, jinja_cut(r, s, i, end));
        }
    }
    return jinja_string(r, jinja_buf_done(&b));
}

METHOD(do_items)
{
    struct jinja_value out = jinja_list(r, JINJA_LIST);

    (void)a;
    for (size_t i = 0; i < v.u.dict->n; i++) {
        struct jinja_value pair = jinja_list(r, JINJA_TUPLE);

        jinja_list_add(r, pair.u.list, v.u.dict->items[i].key);
        jinja_list_add(r, pair.u.list, v.u.dict->items[i].value);
        jinja_list_add(r, out.u.list, pair);
    }
    return out;
}
METHOD(do_keys)
{
    (void)a;
    return (struct jinja_value){.kind = JINJA_LIST, .u.list = jinja_iterate(r, v)};
}
METHOD(do_values)
{
    struct jinja_value out = jinja_list(r, JINJA_LIST);

    (void)a;
    for (size_t i = 0; i < v.u.dict->n; i++)
        jinja_list_add(r, out.u.list, v.u.dict->items[i].value);
    return out;
}
METHOD(do_get)
{
    const struct jinja_value *have;

    jinja_need_key(r, a[0]);
    have = jinja_dict_get(r, v.u.dict, a[0]);
    return have ? *have : a[1].kind == JINJA_ABSENT ? jinja_none() : a[1];
}

METHOD(do_append)
{
    jinja_list_add(r, v.u.list, a[0]);
    return jinja_none();
}

static struct jinja_value pop_key(struct jinja_run *r, struct jinja_dict *d,
                                  const struct jinja_value *a)
{
    struct jinja_value *have = a[0].kind == JINJA_ABSENT ? NULL : jinja_dict_get(r, d, a[0]), out;
    size_t i;

    if (!have) {
        if (a[1].kind == JINJA_ABSENT)
            jinja_error(r, "pop: no such key");
        return a[1];
    }
    out = *have;
    for (i = 0; &d->items[i].value != have; i++)
        ;
    memmove(&d->items[i], &d->items[i + 1], (d->n - i - 1) * sizeof(*d->items));
    d->n--;
    return out;
}
METHOD(do_pop)
{
    struct jinja_list *l = v.u.list;
    struct jinja_value out;
    int64_t i;

    if (v.kind == JINJA_DICT)
        return pop_key(r, v.u.dict, a);
    i = int_arg(r, a[0], -1, "pop");
    if (i < 0)
        i += (int64_t)l->n;
    if (i < 0 || (uint64_t)i >= l->n)
        jinja_error(r, "pop: the list has %zu items", l->n);
    out = l->items[i];
    jinja_step(r, l->n / 16);
    memmove(&l->items[i], &l->items[i + 1], (l->n - (size_t)i - 1) * sizeof(*l->items));
    l->n--;
    return out;
}

METHOD(do_cycle)
{
    const struct jinja_list *l = a[0].u.list;

    if (l->n == 0)
        jinja_error(r, "cycle takes at least one value");
    return l->items[v.u.loop->index0 % l->n];
}
METHOD(do_changed)
{
    struct jinja_value now = {.kind = JINJA_TUPLE, .u.list = a[0].u.list};
    bool same = jinja_equal(r, v.u.loop->changed, now);

    v.u.loop->changed = now;
    return jinja_bool(!same);
}

/* One entry a name; kinds: what has such a method. */
static const struct {
    struct jinja_builtin m;
    unsigned kinds;
} methods[] = {
    {{"strip", "chars", 0, do_strip}, 1u << JINJA_STRING},
    {{"lstrip", "chars", 0, do_lstrip}, 1u << JINJA_STRING},
    {{"rstrip", "chars", 0, do_rstrip}, 1u << JINJA_STRING},
    {{"split", "sep maxsplit", 0, do_split}, 1u << JINJA_STRING},
    {{"startswith", "prefix", 1, do_startswith}, 1u << JINJA_STRING},
    {{"endswith", "suffix", 1, do_endswith}, 1u << JINJA_STRING},
    {{"replace", "old new count", 2, do_replace}, 1u << JINJA_STRING},
    {{"upper", "", 0, do_upper}, 1u << JINJA_STRING},
    {{"lower", "", 0, do_lower}, 1u << JINJA_STRING},
    {{"capitalize", "", 0, do_capitalize}, 1u << JINJA_STRING},
    {{"format", NULL, 0, do_format}, 1u << JINJA_STRING},
    {{"items", "", 0, do_items}, 1u << JINJA_DICT},
    {{"keys", "", 0, do_keys}, 1u << JINJA_DICT},
    {{"values", "", 0, do_values}, 1u << JINJA_DICT},
    {{"get", "key default", 1, do_get}, 1u << JINJA_DICT},
    {{"append", "object", 1, do_append}, 1u << JINJA_LIST},
    {{"pop", "key default", 0, do_pop}, 1u << JINJA_LIST | 1u << JINJA_DICT},
    {{"cycle", NULL, 0, do_cycle}, 1u << JINJA_LOOP},
    {{"changed", NULL, 0, do_changed}, 1u << JINJA_LOOP},
};

const struct jinja_builtin *jinja_method(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (strcmp(methods[i].m.name, name) == 0)
            return &methods[i].m;
    return NULL;
}

bool jinja_has_method(enum jinja_kind kind, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (strcmp(methods[i].m.name, name) == 0)
            return methods[i].kinds >> kind & 1;
    return false;
}

METHOD(do_namespace)
{
    struct jinja_value out = jinja_dict(r, JINJA_NAMESPACE);
    const struct jinja_list *l = a[0].u.list;

    (void)v;
    if (l->n > 1 || (l->n == 1 && l->items[0].kind != JINJA_DICT))
        jinja_error(r, "namespace takes a dict and named values");
    for (size_t i = 0; l->n && i < l->items[0].u.dict->n; i++)
        jinja_dict_set(r, out.u.dict, l->items[0].u.dict->items[i].key,
                       l->items[0].u.dict->items[i].value);
    for (size_t i = 0; i < a[1].u.dict->n; i++)
        jinja_dict_set(r, out.u.dict, a[1].u.dict->items[i].key, a[1].u.dict->items[i].value);
    return out;
}

METHOD(do_range)
{
    struct jinja_value out = jinja_list(r, JINJA_LIST);
    int64_t start = int_arg(r, a[0], 0, "range"), stop = int_arg(r, a[1], 0, "range");
    int64_t step = int_arg(r, a[2], 1, "range");

    (void)v;
    if (a[1].kind == JINJA_ABSENT) {
        stop = start;
        start = 0;
    }
    if (step == 0)
        jinja_error(r, "range: the step is zero");
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        jinja_step(r, 1);
        jinja_list_add(r, out.u.list, jinja_int(i));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    return out;
}

METHOD(do_raise)
{
    struct jinja_string s = jinja_to_string(r, a[0]);

    (void)v;
    /* The template's own words, for whoever sent the messages: no place in a file. */
    r->ctx.code = err_set(r->ctx.err, ERR_ARG, "%.*s", (int)size_min(s.n, 400), s.s);
    longjmp(r->ctx.jump, 1);
}

METHOD(do_strftime)
{
    struct jinja_string s = string_arg(r, a[0], "strftime_now");
    char format[128], buf[512];
    time_t now = (time_t)r->now_s;
    struct tm tm;
    size_t n;

    (void)v;
    if (s.n >= sizeof(format) || !localtime_r(&now, &tm))
        jinja_error(r, "strftime_now: a format of %zu bytes", s.n);
    memcpy(format, s.s, s.n);
    format[s.n] = '\0';
    n = strftime(buf, sizeof(buf), format, &tm);
    return jinja_text(r, buf, n, jinja_marked(s));
}

static const struct jinja_builtin functions[] = {
    {"namespace", NULL, 0, do_namespace},
    {"range", "start stop step", 1, do_range},
    {"raise_exception", "message", 1, do_raise},
    {"strftime_now", "format", 1, do_strftime},
};

const struct jinja_builtin *jinja_function(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(functions); i++)
        if (strcmp(functions[i].name, name) == 0)
            return &functions[i];
    return NULL;
}
