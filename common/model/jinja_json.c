/* jinja_json: values to JSON text as Python's json.dumps writes it, and back. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_priv.h"
#include "base/utf8.h"

struct writer {
    struct jinja_run *r;
    struct jinja_buf *out;
    bool ascii, pretty, sorted;
    struct jinja_string indent, item_sep, key_sep;
};

static void add_escaped(struct writer *w, struct jinja_string s)
{
    bool user = jinja_marked(s);
    char buf[16];
    size_t len;
    uint32_t cp;

    jinja_step(w->r, 1 + s.n / 64);
    jinja_buf_add(w->out, "\"", 1, user);
    for (size_t i = 0; i < s.n; i += len) {
        static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
        const char *p;

        utf8_step(s.s + i, s.n - i, &len, &cp);
        p = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
        if (p)
            snprintf(buf, sizeof(buf), "\\%c", to[p - from]);
        else if (cp < 0x20 || (w->ascii && cp > 0x7E && cp < 0x10000))
            snprintf(buf, sizeof(buf), "\\u%04x", cp);
        else if (w->ascii && cp >= 0x10000)
            snprintf(buf, sizeof(buf), "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10),
                     0xDC00 + (cp & 0x3FF));
        else
            buf[0] = '\0';
        jinja_buf_add(w->out, buf[0] ? buf : s.s + i, buf[0] ? strlen(buf) : len, user);
    }
    jinja_buf_add(w->out, "\"", 1, user);
}

static void new_line(struct writer *w, unsigned level)
{
    if (!w->pretty)
        return;
    jinja_buf_adds(w->out, "\n");
    for (unsigned i = 0; i < level; i++)
        jinja_buf_string(w->out, w->indent);
}

static void write_value(struct writer *w, struct jinja_value v, unsigned level);

static void write_list(struct writer *w, const struct jinja_list *l, unsigned level)
{
    jinja_buf_adds(w->out, "[");
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            jinja_buf_string(w->out, w->item_sep);
        new_line(w, level + 1);
        write_value(w, l->items[i], level + 1);
    }
    if (l->n)
        new_line(w, level);
    jinja_buf_adds(w->out, "]");
}

/* Keys are strings in JSON: what is none is written as one. */
static void write_key(struct writer *w, struct jinja_value key)
{
    struct jinja_buf b = {.run = w->r};
    struct writer plain = {.r = w->r, .out = &b};

    if (key.kind == JINJA_STRING) {
        add_escaped(w, *key.u.s);
        return;
    }
    write_value(&plain, key, 0);
    add_escaped(w, jinja_buf_done(&b));
}

static void write_dict(struct writer *w, const struct jinja_dict *d, unsigned level)
{
    const struct jinja_pair **order = jinja_alloc(w->r, d->n * sizeof(void *));

    for (size_t i = 0; i < d->n; i++) { /* insertion sort: dicts are small, and steps are counted */
        size_t k = i;

        for (; w->sorted && k > 0 && jinja_order(w->r, order[k - 1]->key, d->items[i].key) > 0;
             k--) {
            jinja_step(w->r, 1);
            order[k] = order[k - 1];
        }
        order[k] = &d->items[i];
    }
    jinja_buf_adds(w->out, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i)
            jinja_buf_string(w->out, w->item_sep);
        new_line(w, level + 1);
        write_key(w, order[i]->key);
        jinja_buf_string(w->out, w->key_sep);
        write_value(w, order[i]->value, level + 1);
    }
    if (d->n)
        new_line(w, level);
    jinja_buf_adds(w->out, "}");
}

static void write_value(struct writer *w, struct jinja_value v, unsigned level)
{
    jinja_deeper(w->r);
    switch (v.kind) {
    case JINJA_NONE:
        jinja_buf_adds(w->out, "null");
        break;
    case JINJA_BOOL:
        jinja_buf_adds(w->out, v.u.b ? "true" : "false");
        break;
    case JINJA_INT:
        jinja_buf_string(w->out, jinja_to_string(w->r, v));
        break;
    case JINJA_FLOAT:
        if (v.u.f != v.u.f || v.u.f - v.u.f != 0)
            jinja_buf_adds(w->out, v.u.f != v.u.f ? "NaN" : v.u.f > 0 ? "Infinity" : "-Infinity");
        else
            jinja_repr_float(w->out, v.u.f);
        break;
    case JINJA_STRING:
        add_escaped(w, *v.u.s);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        write_list(w, v.u.list, level);
        break;
    case JINJA_DICT:
        write_dict(w, v.u.dict, level);
        break;
    default:
        jinja_error(w->r, "%s has no form in JSON", jinja_kind_name(v));
    }
    w->r->depth--;
}

void jinja_to_json(struct jinja_run *r, struct jinja_buf *out, struct jinja_value v,
                   struct jinja_value ensure_ascii, struct jinja_value indent,
                   struct jinja_value separators, struct jinja_value sort_keys)
{
    struct writer w = {.r = r,
                       .out = out,
                       .ascii = jinja_true(ensure_ascii),
                       .sorted = jinja_true(sort_keys),
                       .item_sep = jinja_str(", "),
                       .key_sep = jinja_str(": ")};

    if (indent.kind == JINJA_STRING || indent.kind == JINJA_INT) {
        struct jinja_buf b = {.run = r};

        w.pretty = true;
        w.item_sep = jinja_str(",");
        for (int64_t i = 0; indent.kind == JINJA_INT && i < indent.u.i && i < 64; i++)
            jinja_buf_adds(&b, " ");
        w.indent = indent.kind == JINJA_STRING ? *indent.u.s : jinja_buf_done(&b);
    }
    if (separators.kind == JINJA_TUPLE || separators.kind == JINJA_LIST) {
        const struct jinja_list *l = separators.u.list;

        if (l->n != 2 || l->items[0].kind != JINJA_STRING || l->items[1].kind != JINJA_STRING)
            jinja_error(r, "tojson: separators are two strings");
        w.item_sep = *l->items[0].u.s;
        w.key_sep = *l->items[1].u.s;
    }
    write_value(&w, v, 0);
}

/* jansson bounds the depth (2048). Past the memory of a run there is no point in going on; it fails
 * when the tree has been freed. */
static struct jinja_value from(struct jinja_run *r, json_t *j, bool user)
{
    struct jinja_value v;

    if (r->arena.bytes > JINJA_MEMORY_BYTES_MAX)
        return jinja_none();
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        v = jinja_dict(r, JINJA_DICT);
        for (void *it = json_object_iter(j); it; it = json_object_iter_next(j, it)) {
            const char *key = json_object_iter_key(it);

            jinja_dict_add(r, v.u.dict, jinja_text(r, key, strlen(key), user), /* keys are unique */
                           from(r, json_object_iter_value(it), user));
        }
        return v;
    case JSON_ARRAY:
        v = jinja_list(r, JINJA_LIST);
        for (size_t i = 0; i < json_array_size(j); i++)
            jinja_list_add(r, v.u.list, from(r, json_array_get(j, i), user));
        return v;
    case JSON_STRING:
        return jinja_text(r, json_string_value(j), json_string_length(j), user);
    case JSON_INTEGER:
        return jinja_int(json_integer_value(j));
    case JSON_REAL:
        return jinja_float(json_real_value(j));
    case JSON_NULL:
        return jinja_none();
    default:
        return jinja_bool(json_is_true(j));
    }
}

struct jinja_value jinja_from_json(struct jinja_run *r, const char *s, size_t n, bool user)
{
    bool running = r->running;
    struct jinja_value v;
    json_error_t why;
    json_t *j = json_loadb(s, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);

    if (!j && running)
        jinja_error(r, "from_json: %s", why.text);
    if (!j)
        return jinja_undefined("JSON");
    r->running = false; /* failing in here would lose the tree */
    v = from(r, j, user);
    r->running = running;
    json_decref(j);
    jinja_alloc(r, 1);
    return v;
}
