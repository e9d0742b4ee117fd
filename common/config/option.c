/* One option: text to field, field to text. The command line is args.c. */
#include "config/option.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/nearest.h"

#define OPTION_KEY_MAX 64

static const struct {
    const char *suffix;
    unsigned shift;
} option_sizes[] = {{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"", 0}};

static void *option_field(const struct option *o, void *cfg) { return (char *)cfg + o->offset; }

static const void *option_field_const(const struct option *o, const void *cfg)
{
    return (const char *)cfg + o->offset;
}

/* Digits only: no sign, no space, no other base. */
static bool option_parse_u64(uint64_t *out, const char *s, const char **end)
{
    char *stop;

    if (!isdigit((unsigned char)*s))
        return false;
    errno = 0;
    *out = strtoull(s, &stop, 10);
    *end = stop;
    return errno == 0;
}

static bool option_parse_bytes(uint64_t *out, const char *s)
{
    const char *suffix;

    if (!option_parse_u64(out, s, &suffix))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(option_sizes); i++) {
        unsigned shift = option_sizes[i].shift;

        if (strcmp(suffix, option_sizes[i].suffix) != 0)
            continue;
        if (*out > UINT64_MAX >> shift)
            return false;
        *out <<= shift;
        return true;
    }
    return false;
}

static bool option_parse_f64(double *out, const char *s)
{
    char *end;

    if (!isdigit((unsigned char)*s) && *s != '-' && *s != '.')
        return false;
    *out = strtod(s, &end);
    return !*end && isfinite(*out);
}


/* A number of o's type: in *f, and exactly in *u where it is not negative and whole. */
static bool option_parse_number(const struct option *o, double *f, uint64_t *u, const char *value)
{
    bool negative = o->type == OPTION_I32 && *value == '-';
    const char *end;

    *u = 0;
    if (o->type == OPTION_F64)
        return option_parse_f64(f, value);
    if (o->type == OPTION_BYTES) {
        if (!option_parse_bytes(u, value))
            return false;
    } else if (!option_parse_u64(u, value + negative, &end) || *end) {
        return false;
    }
    *f = negative ? -(double)*u : (double)*u;
    return true;
}

/* The bounds of the table, or of the type where the table has none. */
static bool option_in_bounds(const struct option *o, double f)
{
    if (o->min != 0 || o->max != 0)
        return f >= o->min && f <= o->max;
    if (o->type == OPTION_U32)
        return f <= UINT32_MAX;
    if (o->type == OPTION_I32)
        return f >= INT32_MIN && f <= INT32_MAX;
    return true;
}

/* f as it is written in the file; the largest unit that leaves a whole number. */
static void option_number_text(const struct option *o, double f, struct str *out)
{
    size_t i = ARRAY_LEN(option_sizes) - 1;

    if (o->type == OPTION_F64) {
        str_addf(out, "%g", f);
        return;
    }
    if (o->type == OPTION_BYTES && f != 0)
        for (i = 0; fmod(f, (double)(UINT64_C(1) << option_sizes[i].shift)) != 0;)
            i++;
    str_addf(out, "%.0f%s", f / (double)(UINT64_C(1) << option_sizes[i].shift),
             option_sizes[i].suffix);
}

void option_bounds_text(const struct option *o, struct str *out)
{
    if (o->min == 0 && o->max == 0)
        return;
    option_number_text(o, o->min, out);
    str_adds(out, "..");
    option_number_text(o, o->max, out);
}

static int option_bad(const struct option *o, const char *value, const char *where, struct err *e,
                      const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* where: key: "value" is not ... */
static int option_bad(const struct option *o, const char *value, const char *where, struct err *e,
                      const char *fmt, ...)
{
    struct str text = {0};
    va_list ap;

    va_start(ap, fmt);
    str_addv(&text, fmt, ap);
    va_end(ap);
    err_set(e, ERR_CONFIG, "%s%s%s: \"%.120s\" %s", where ? where : "", where ? ": " : "", o->key,
            value, str_text(&text));
    str_fini(&text);
    return ERR_CONFIG;
}

static int option_set_number(const struct option *o, void *field, const char *value,
                             const char *where, struct err *e)
{
    static const char *const kinds[] = {
        [OPTION_BYTES] = "is not a size such as 4096, 64KiB, 8MiB or 2GiB",
        [OPTION_F64] = "is not a number",
    };
    const char *kind = o->type < ARRAY_LEN(kinds) ? kinds[o->type] : NULL;
    struct str bounds = {0};
    double f = 0;
    uint64_t u;
    int rc = 0;

    option_bounds_text(o, &bounds);
    if (!option_parse_number(o, &f, &u, value))
        rc = option_bad(o, value, where, e, "%s%s%s", kind ? kind : "is not a whole number",
                        bounds.len ? ", " : "", str_text(&bounds));
    else if (o->multiple && u % o->multiple)
        rc = option_bad(o, value, where, e, "is not a multiple of %u%s%s", o->multiple,
                        bounds.len ? ", " : "", str_text(&bounds));
    else if (!option_in_bounds(o, f))
        rc = option_bad(o, value, where, e, "is not in %s",
                        bounds.len ? str_text(&bounds) : "the range of 32 bits");
    str_fini(&bounds);
    if (rc)
        return rc;
    if (o->type == OPTION_U32)
        *(uint32_t *)field = (uint32_t)u;
    else if (o->type == OPTION_I32)
        *(int32_t *)field = (int32_t)f;
    else if (o->type == OPTION_F64)
        *(double *)field = f;
    else
        *(uint64_t *)field = u;
    return 0;
}

static int option_set_enum(const struct option *o, int *field, const char *value,
                           const char *where, struct err *e)
{
    struct str all = {0};

    for (int i = 0; o->names[i]; i++) {
        if (!strcmp(value, o->names[i])) {
            *field = i;
            str_fini(&all);
            return 0;
        }
        str_addf(&all, "%s%s", i ? ", " : "", o->names[i]);
    }
    option_bad(o, value, where, e, "is not one of %s", str_text(&all));
    str_fini(&all);
    return ERR_CONFIG;
}

static int option_set_str(const struct option *o, char **field, const char *value,
                          const char *where, struct err *e)
{
    const char *wrong = o->wrong ? o->wrong(value) : NULL;

    if (wrong)
        return option_bad(o, value, where, e, "%s", wrong);
    if (o->max != 0 && strlen(value) > (size_t)o->max)
        return option_bad(o, value, where, e, "is %zu bytes long, at most %zu", strlen(value),
                          (size_t)o->max);
    mem_free(*field);
    *field = mem_strdup(value);
    return 0;
}

int option_set(const struct option *o, void *cfg, const char *value, const char *where,
               struct err *e)
{
    void *field = option_field(o, cfg);

    switch (o->type) {
    case OPTION_BOOL:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return option_bad(o, value, where, e, "is not true or false");
        *(bool *)field = !strcmp(value, "true");
        return 0;
    case OPTION_STR:
        return option_set_str(o, field, value, where, e);
    case OPTION_ENUM:
        return option_set_enum(o, field, value, where, e);
    case OPTION_YAML:
        return option_bad(o, value, where, e, "stands where a map or a list belongs");
    default:
        return option_set_number(o, field, value, where, e);
    }
}

void option_defaults(const struct option_table *t, void *cfg)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct option *o = &t->options[i];

        if (o->type == OPTION_STR)
            *(char **)option_field(o, cfg) = mem_strdup(o->def ? o->def : "");
        else if (o->def)
            ASSERT(option_set(o, cfg, o->def, NULL, NULL) == 0);
    }
}

static bool option_key_is(const char *key, const char *name)
{
    for (; *key && *name; key++, name++)
        if (*key != *name && !(*key == '_' && *name == '-'))
            return false;
    return !*key && !*name;
}

const struct option *option_find(const struct option_table *t, const char *key)
{
    for (size_t i = 0; i < t->n; i++)
        if (option_key_is(t->options[i].key, key))
            return &t->options[i];
    return NULL;
}

static int option_unknown_key(const struct option_table *t, const struct yaml_doc *doc,
                              const struct yaml_node *map, const struct yaml_node *node,
                              struct err *e)
{
    struct nearest near;

    nearest_init(&near, node->key);
    for (size_t i = 0; i < t->n; i++)
        nearest_try(&near, t->options[i].key);
    return yaml_fail(doc, node->key_mark, e, "unknown key \"%.64s\"%s%s%s%s%s", node->key,
                     map->key ? " in " : "", map->key ? map->key : "",
                     near.best ? "; did you mean \"" : "", near.best ? near.best : "",
                     near.best ? "\"?" : "");
}

int option_from_map(const struct option_table *t, void *cfg, const struct yaml_doc *doc,
                    const struct yaml_node *map, struct err *e)
{
    if (map->kind != YAML_MAP)
        return yaml_fail(doc, map->mark, e, "%s%skey: value lines expected here",
                         map->key ? map->key : "", map->key ? ": " : "");
    for (const struct yaml_node *node = map->child; node; node = node->next) {
        const struct option *o = option_find(t, node->key);
        char where[512];
        int rc;

        if (!o || strcmp(o->key, node->key) != 0) /* in a file only '_' */
            return option_unknown_key(t, doc, map, node, e);
        if (o->type == OPTION_YAML)
            continue;
        if (node->kind != YAML_SCALAR)
            return yaml_fail(doc, node->mark, e, "%s: one value expected, not a %s", o->key,
                             node->kind == YAML_MAP ? "map" : "list");
        snprintf(where, sizeof(where), "%s:%zu:%zu", yaml_name(doc), node->mark.line,
                 node->mark.column);
        rc = option_set(o, cfg, node->value, where, e);
        if (rc)
            return rc;
    }
    return 0;
}

int option_from_env(const struct option_table *t, void *cfg, struct err *e)
{
    for (size_t i = 0; t->environment && i < t->n; i++) {
        const struct option *o = &t->options[i];
        char name[OPTION_KEY_MAX];
        const char *value;
        int n = snprintf(name, sizeof(name), "TANDEM_%s", o->key), rc;

        ASSERT(n > 0 && (size_t)n < sizeof(name));
        for (char *c = name; *c; c++)
            *c = (char)toupper((unsigned char)*c);
        value = o->type == OPTION_YAML ? NULL : getenv(name);
        rc = value ? option_set(o, cfg, value, name, e) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

void option_text(const struct option *o, const void *cfg, struct str *out)
{
    const void *field = option_field_const(o, cfg);

    switch (o->type) {
    case OPTION_BOOL:
        str_adds(out, *(const bool *)field ? "true" : "false");
        break;
    case OPTION_U32:
        str_addf(out, "%" PRIu32, *(const uint32_t *)field);
        break;
    case OPTION_I32:
        str_addf(out, "%" PRId32, *(const int32_t *)field);
        break;
    case OPTION_U64:
        str_addf(out, "%" PRIu64, *(const uint64_t *)field);
        break;
    case OPTION_BYTES:
        option_number_text(o, (double)*(const uint64_t *)field, out);
        break;
    case OPTION_F64:
        str_addf(out, "%.17g", *(const double *)field);
        break;
    case OPTION_STR:
        str_adds(out, *(char *const *)field);
        break;
    case OPTION_ENUM:
        str_adds(out, o->names[*(const int *)field]);
        break;
    case OPTION_YAML:
        break;
    }
}

void option_free(const struct option_table *t, void *cfg)
{
    for (size_t i = 0; i < t->n; i++) {
        char **field = option_field(&t->options[i], cfg);

        if (t->options[i].type != OPTION_STR)
            continue;
        mem_free(*field);
        *field = NULL;
    }
}
