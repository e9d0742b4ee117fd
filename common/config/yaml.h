/* yaml: a small tree of a configuration file, over libyaml's event API.
 *
 * Only what a configuration needs: maps with text keys, lists, scalars as text. A file is at most
 * YAML_BYTES_MAX long, YAML_DEPTH_MAX deep and YAML_NODES_MAX values big, and one document;
 * aliases, anchors, tags and repeated keys are refused, each with `file:line:column`. What a scalar
 * means (number, enum) is the reader's business: see config/option.h. One thread. */
#ifndef TANDEM_CONFIG_YAML_H
#define TANDEM_CONFIG_YAML_H

#include <stddef.h>

#include "base/err.h"

#define YAML_BYTES_MAX (256u << 10)
#define YAML_DEPTH_MAX 16
#define YAML_NODES_MAX 16384 /* bounds the search for repeated keys */

enum yaml_kind { YAML_SCALAR, YAML_MAP, YAML_SEQ };

struct yaml_mark {
    size_t line, column; /* both from 1; a column is a character, not a byte */
};

struct yaml_node {
    enum yaml_kind kind;
    struct yaml_mark mark;
    char *value; /* scalar: its text, "" for an empty one; NULL otherwise */
    char *key;   /* in a map: the key; NULL otherwise */
    struct yaml_mark key_mark;
    size_t n; /* map, list: how many children */
    struct yaml_node *child, *next;
    struct yaml_node *tail, *older; /* the reader's own: last child, list of all nodes */
};

struct yaml_doc;

/* Reads the file at path. ERR_NOT_FOUND and ERR_IO name the path, ERR_CONFIG the place. *doc is
 * owned by the caller (yaml_doc_free), NULL on failure. */
int yaml_load_file(struct yaml_doc **doc, const char *path, struct err *e);

/* The same of n bytes; name stands for the file in messages. The text is borrowed until return. */
int yaml_load_text(struct yaml_doc **doc, const char *text, size_t n, const char *name,
                   struct err *e);

/* NULL is fine. Not yaml_free: libyaml exports a function of that name for its own use. */
void yaml_doc_free(struct yaml_doc **doc);

/* The top node, an empty map if the file says nothing. Lives as long as doc. */
const struct yaml_node *yaml_root(const struct yaml_doc *doc);
const char *yaml_name(const struct yaml_doc *doc);

/* The child of a map with this key, NULL if there is none or map is not a map. */
const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key);

/* Records ERR_CONFIG with `file:line:column: ` before the sentence. Returns ERR_CONFIG. */
int yaml_fail(const struct yaml_doc *doc, struct yaml_mark at, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
