/* option: one table of options a program, from which come the YAML keys, the --flags, the TANDEM_*
 * environment, --help and --print-config.
 *
 * A table describes the fields of a plain struct. Precedence: flag, environment, file, default. In
 * YAML a key is written as in the table (`kv_pages`); a flag may use '-' for '_'; the environment
 * variable is TANDEM_KV_PAGES. Strings in the struct are owned by it, never NULL after
 * option_defaults, and freed by option_free. Messages name the key, the value and the bound. */
#ifndef TANDEM_CONFIG_OPTION_H
#define TANDEM_CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "config/yaml.h"

enum option_type {
    OPTION_BOOL,  /* bool: true or false; as a flag, --key alone is true */
    OPTION_U32,   /* uint32_t */
    OPTION_I32,   /* int32_t */
    OPTION_U64,   /* uint64_t */
    OPTION_BYTES, /* uint64_t: "4096", "64KiB", "8MiB", "2GiB", "1TiB" */
    OPTION_F64,   /* double, finite */
    OPTION_STR,   /* char *, owned by the struct */
    OPTION_ENUM,  /* int: index into names */
    OPTION_YAML,  /* no field: a map or list known in the file only, read by the program itself */
};

struct option {
    const char *key; /* lower case, '_' between words */
    enum option_type type;
    unsigned multiple; /* 0: any; otherwise the value is a multiple of this */
    size_t offset;     /* of the field in the struct */
    const char *def; /* as in the file; NULL: 0, false, "" or the first name */
    double min, max; /* inclusive; both 0: what the type holds. STR: at most max bytes */
    const char *const *names;  /* ENUM: the values, NULL-terminated */
    const char *(*wrong)(const char *value); /* STR: NULL if good, or "is not a ..." */
    const char *unit;          /* what --help calls the value: "N" if NULL */
    const char *help;          /* a phrase */
    char letter;               /* short flag, 0: none */
};

/* A row of a table: the option named k, held in member k of struct s, or of its member `in`. The
 * rest are designated initialisers: OPTION(decode_options, slots, U32, .def = "16", .min = 1, ...). */
#define OPTION(s, k, kind, ...)                                                                    \
    {.key = #k, .type = OPTION_##kind, .offset = offsetof(struct s, k), __VA_ARGS__}
#define OPTION_IN(s, in, k, kind, ...)                                                             \
    {.key = #k, .type = OPTION_##kind, .offset = offsetof(struct s, in.k), __VA_ARGS__}

struct option_table {
    const char *program; /* "tandem-decode", "tandem run" */
    const char *usage;   /* what follows the options: "[FILE]", NULL: no positional arguments */
    const char *summary; /* one sentence */
    const struct option *options;
    size_t n;
    bool environment; /* TANDEM_* counts: daemons and the cluster file, not one-shot commands */
    bool file;        /* --config=FILE is understood */
    int (*check)(const void *cfg, struct err *e); /* what involves several options; may be NULL */
};

enum option_action { OPTION_RUN, OPTION_EXIT_OK };

struct option_args {
    char **argv; /* the positional arguments, inside the argv that was given */
    int n;
};

/* Sets every field of a zeroed struct to its default. */
void option_defaults(const struct option_table *t, void *cfg);

/* The option of this key ('-' and '_' alike), NULL if unknown. */
const struct option *option_find(const struct option_table *t, const char *key);

/* Sets one field from text. where: "cluster.yaml:3:8" or "--slots", put before the sentence; NULL
 * leaves it out. ERR_CONFIG, the field then being as before. */
int option_set(const struct option *o, void *cfg, const char *value, const char *where,
               struct err *e);

/* Sets the fields a YAML map names; OPTION_YAML keys are left to the caller. Unknown key:
 * `cluster.yaml:7:5: unknown key "slotz" in router; did you mean "slots"?` */
int option_from_map(const struct option_table *t, void *cfg, const struct yaml_doc *doc,
                    const struct yaml_node *map, struct err *e);

/* Sets the fields that TANDEM_<KEY> names, if the table takes the environment. */
int option_from_env(const struct option_table *t, void *cfg, struct err *e);

/* What a program's main does: defaults, then --config FILE, environment and flags, then check. cfg is
 * zeroed before. Handles --help, --version and --print-config (*action = OPTION_EXIT_OK). argv is
 * reordered. rest may be NULL for a table without positional arguments. "--" ends the flags. */
int option_main(const struct option_table *t, void *cfg, int argc, char **argv,
                struct option_args *rest, enum option_action *action, struct err *e);

/* Appends the field's value as option_set reads it. */
void option_text(const struct option *o, const void *cfg, struct str *out);

/* Appends the bounds, "32..8192"; nothing where only the type bounds. */
void option_bounds_text(const struct option *o, struct str *out);

/* Appends `key: value` lines, readable as YAML. */
void option_print(const struct option_table *t, const void *cfg, struct str *out);

/* Appends what --help shows. */
void option_help(const struct option_table *t, struct str *out);

/* Frees the strings; the struct may be thrown away or given to option_defaults after memset. */
void option_free(const struct option_table *t, void *cfg);

#endif
