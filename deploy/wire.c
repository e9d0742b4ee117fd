#include "deploy/wire.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void wire_feed(struct wire *w, const void *bytes, size_t n)
{
    if (w->at) {
        str_drop(&w->in, w->at);
        w->at = 0;
    }
    str_add(&w->in, bytes, n);
}

static struct wire_item wire_bytes(struct wire *w, size_t left)
{
    struct wire_item item = {.kind = WIRE_BYTES, .data = w->in.data + w->at};

    item.n = w->raw < left ? (size_t)w->raw : left;
    w->at += item.n;
    w->raw -= item.n;
    return item;
}

struct wire_item wire_next(struct wire *w)
{
    struct wire_item item = {0};
    size_t left = w->in.len - w->at;
    const char *line = left ? w->in.data + w->at : NULL, *end;

    if (!left)
        return item;
    if (w->raw)
        return wire_bytes(w, left);
    end = memchr(line + w->looked, '\n', left - w->looked);
    if (!end) {
        w->looked = left;
        item.kind = left > WIRE_LINE_MAX ? WIRE_FLOOD : WIRE_NOTHING;
        return item;
    }
    w->looked = 0;
    item.n = (size_t)(end - line);
    w->at += item.n + 1;
    item.object = json_loadb(line, item.n, JSON_REJECT_DUPLICATES, NULL);
    item.kind = WIRE_OBJECT;
    if (!json_is_object(item.object)) {
        json_decref(item.object);
        item = (struct wire_item){.kind = WIRE_BROKEN, .data = line, .n = item.n};
    }
    return item;
}

void wire_raw(struct wire *w, uint64_t n)
{
    ASSERT(!w->raw);
    w->raw = n;
}

const char *wire_rest(const struct wire *w, size_t *n)
{
    *n = w->in.len - w->at;
    return *n ? w->in.data + w->at : "";
}

void wire_put(struct str *out, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

    if (text) {
        str_adds(out, text);
        str_addc(out, '\n');
    }
    free(text); /* jansson's own */
    json_decref(object);
}

void wire_fini(struct wire *w)
{
    str_fini(&w->in);
    *w = (struct wire){0};
}
