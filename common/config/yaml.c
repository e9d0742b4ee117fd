/* DESIGN: libyaml hands out events; an explicit stack of open maps and lists (YAML_DEPTH_MAX of
 * them) turns these into a tree, so that no input decides how deep we recurse. All nodes hang on one
 * list as well, by which they are freed. */
#include "config/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include "base/check.h"
#include "base/mem.h"

struct yaml_doc {
    char *name;
    struct yaml_node *root;
    struct yaml_node *newest; /* every node, by ->older */
    size_t n_nodes;
};

struct yaml_reader {
    struct yaml_doc *doc;
    struct yaml_node *open[YAML_DEPTH_MAX]; /* maps and lists that have not ended */
    size_t depth;
    char *key; /* of the innermost map, waiting for its value */
    struct yaml_mark key_mark;
    bool done; /* the document has ended */
};

static struct yaml_mark yaml_mark_of(const yaml_mark_t *m)
{
    return (struct yaml_mark){m->line + 1, m->column + 1};
}

int yaml_fail(const struct yaml_doc *doc, struct yaml_mark at, struct err *e, const char *fmt, ...)
{
    char text[sizeof(e->text)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return err_set(e, ERR_CONFIG, "%s:%zu:%zu: %s", doc->name, at.line, at.column, text);
}

static struct yaml_node *yaml_node_new(struct yaml_doc *doc, enum yaml_kind kind,
                                       struct yaml_mark mark)
{
    struct yaml_node *node = mem_zalloc(sizeof(*node));

    node->kind = kind;
    node->mark = mark;
    node->older = doc->newest;
    doc->newest = node;
    doc->n_nodes++;
    return node;
}

/* Hangs a new node below the innermost open one, or makes it the root. */
static int yaml_place(struct yaml_reader *r, struct yaml_node **out, enum yaml_kind kind,
                      struct yaml_mark mark, struct err *e)
{
    struct yaml_node *parent = r->depth ? r->open[r->depth - 1] : NULL;
    struct yaml_node *node;

    if (r->doc->n_nodes >= YAML_NODES_MAX)
        return yaml_fail(r->doc, mark, e, "more than %d values in the file", YAML_NODES_MAX);
    node = yaml_node_new(r->doc, kind, mark);
    *out = node;
    if (!parent) {
        r->doc->root = node;
        return 0;
    }
    node->key = r->key;
    node->key_mark = r->key_mark;
    r->key = NULL;
    if (parent->tail)
        parent->tail->next = node;
    else
        parent->child = node;
    parent->tail = node;
    parent->n++;
    return 0;
}

static int yaml_key(struct yaml_reader *r, const char *text, struct yaml_mark mark, struct err *e)
{
    const struct yaml_node *same = yaml_get(r->open[r->depth - 1], text);

    if (same)
        return yaml_fail(r->doc, mark, e, "key \"%s\" is given twice, first in line %zu", text,
                         same->key_mark.line);
    r->key = mem_strdup(text);
    r->key_mark = mark;
    return 0;
}

/* A key comes next: we are in a map and hold none. */
static bool yaml_wants_key(const struct yaml_reader *r)
{
    return r->depth && r->open[r->depth - 1]->kind == YAML_MAP && !r->key;
}

static int yaml_scalar(struct yaml_reader *r, const yaml_event_t *ev, struct yaml_mark mark,
                       struct err *e)
{
    const char *text = (const char *)ev->data.scalar.value;
    struct yaml_node *node;
    int rc;

    if (strlen(text) != ev->data.scalar.length)
        return yaml_fail(r->doc, mark, e, "a NUL character in a value");
    if (yaml_wants_key(r))
        return yaml_key(r, text, mark, e);
    rc = yaml_place(r, &node, YAML_SCALAR, mark, e);
    if (!rc)
        node->value = mem_strdup(text);
    return rc;
}

static int yaml_open_node(struct yaml_reader *r, enum yaml_kind kind, struct yaml_mark mark,
                          struct err *e)
{
    struct yaml_node *node;
    int rc;

    if (yaml_wants_key(r))
        return yaml_fail(r->doc, mark, e, "a key must be text, not a map or a list");
    if (r->depth == YAML_DEPTH_MAX)
        return yaml_fail(r->doc, mark, e, "nested deeper than %d levels", YAML_DEPTH_MAX);
    rc = yaml_place(r, &node, kind, mark, e);
    if (!rc)
        r->open[r->depth++] = node;
    return rc;
}

/* Anchors and tags would let a file say more than its text shows; a configuration needs neither. */
static int yaml_plain(const struct yaml_reader *r, const yaml_char_t *anchor,
                      const yaml_char_t *tag, struct yaml_mark mark, struct err *e)
{
    if (anchor)
        return yaml_fail(r->doc, mark, e, "anchors (&%s) are not supported here", anchor);
    if (tag)
        return yaml_fail(r->doc, mark, e, "tags (%s) are not supported here", tag);
    return 0;
}

static int yaml_event(struct yaml_reader *r, const yaml_event_t *ev, struct err *e)
{
    struct yaml_mark mark = yaml_mark_of(&ev->start_mark);
    int rc;

    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        rc = yaml_plain(r, ev->data.scalar.anchor, ev->data.scalar.tag, mark, e);
        return rc ? rc : yaml_scalar(r, ev, mark, e);
    case YAML_MAPPING_START_EVENT:
        rc = yaml_plain(r, ev->data.mapping_start.anchor, ev->data.mapping_start.tag, mark, e);
        return rc ? rc : yaml_open_node(r, YAML_MAP, mark, e);
    case YAML_SEQUENCE_START_EVENT:
        rc = yaml_plain(r, ev->data.sequence_start.anchor, ev->data.sequence_start.tag, mark, e);
        return rc ? rc : yaml_open_node(r, YAML_SEQ, mark, e);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        ASSERT(r->depth);
        r->depth--;
        return 0;
    case YAML_ALIAS_EVENT:
        return yaml_fail(r->doc, mark, e, "aliases (*%s) are not supported here",
                         ev->data.alias.anchor);
    case YAML_DOCUMENT_START_EVENT:
        if (r->done)
            return yaml_fail(r->doc, mark, e, "a second document; one file holds one");
        return 0;
    case YAML_DOCUMENT_END_EVENT:
        r->done = true;
        return 0;
    default:
        return 0;
    }
}

static int yaml_syntax(const struct yaml_doc *doc, const yaml_parser_t *p, struct err *e)
{
    /* An encoding error has an offset in bytes and no mark of its own. */
    bool marked = p->error == YAML_SCANNER_ERROR || p->error == YAML_PARSER_ERROR;

    if (marked)
        return yaml_fail(doc, yaml_mark_of(&p->problem_mark), e, "%s%s%s", p->problem,
                         p->context ? " " : "", p->context ? p->context : "");
    return yaml_fail(doc, yaml_mark_of(&p->mark), e, "%s",
                     p->problem ? p->problem : "not readable as YAML");
}

static int yaml_read_events(struct yaml_reader *r, yaml_parser_t *p, struct err *e)
{
    bool end = false;
    int rc = 0;

    while (!end && !rc) {
        yaml_event_t ev;

        if (!yaml_parser_parse(p, &ev))
            return yaml_syntax(r->doc, p, e);
        rc = yaml_event(r, &ev, e);
        end = ev.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&ev);
    }
    return rc;
}

int yaml_load_text(struct yaml_doc **out, const char *text, size_t n, const char *name,
                   struct err *e)
{
    struct yaml_doc *doc = mem_zalloc(sizeof(*doc));
    struct yaml_reader r = {.doc = doc};
    yaml_parser_t p;
    int rc;

    *out = NULL;
    doc->name = mem_strdup(name);
    if (n > YAML_BYTES_MAX) {
        rc = err_set(e, ERR_CONFIG, "%s: %zu bytes; at most %u are read", name, n, YAML_BYTES_MAX);
        goto fail;
    }
    ASSERT(yaml_parser_initialize(&p));
    yaml_parser_set_input_string(&p, (const unsigned char *)text, n);
    rc = yaml_read_events(&r, &p, e);
    yaml_parser_delete(&p);
    mem_free(r.key);
    if (rc)
        goto fail;
    /* A file of comments is an empty map; libyaml sees one empty scalar or nothing at all. */
    if (!doc->root || (doc->root->kind == YAML_SCALAR && !doc->root->value[0]))
        doc->root = yaml_node_new(doc, YAML_MAP, (struct yaml_mark){1, 1});
    *out = doc;
    return 0;
fail:
    yaml_doc_free(&doc);
    return rc;
}

int yaml_load_file(struct yaml_doc **out, const char *path, struct err *e)
{
    FILE *f = fopen(path, "re");
    char *text;
    size_t n;
    int rc;

    *out = NULL;
    if (!f)
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path,
                       strerror(errno));
    text = mem_alloc(YAML_BYTES_MAX + 1);
    n = fread(text, 1, YAML_BYTES_MAX + 1, f);
    if (ferror(f))
        rc = err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    else if (n > YAML_BYTES_MAX)
        rc = err_set(e, ERR_CONFIG, "%s: longer than %u bytes", path, YAML_BYTES_MAX);
    else
        rc = yaml_load_text(out, text, n, path, e);
    mem_free(text);
    fclose(f);
    return rc;
}

void yaml_doc_free(struct yaml_doc **doc)
{
    struct yaml_node *node, *older;

    if (!*doc)
        return;
    for (node = (*doc)->newest; node; node = older) {
        older = node->older;
        mem_free(node->value);
        mem_free(node->key);
        mem_free(node);
    }
    mem_free((*doc)->name);
    mem_free(*doc);
    *doc = NULL;
}

const struct yaml_node *yaml_root(const struct yaml_doc *doc) { return doc->root; }

const char *yaml_name(const struct yaml_doc *doc) { return doc->name; }

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key)
{
    const struct yaml_node *node;

    if (!map || map->kind != YAML_MAP)
        return NULL;
    for (node = map->child; node; node = node->next)
        if (!strcmp(node->key, key))
            return node;
    return NULL;
}
