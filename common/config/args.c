/* The command line of a program: flags, --help, --print-config; the rest of option.h. */
#include "config/option.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/nearest.h"

#define ARGS_HELP_COLUMN 30 /* where the explanations start */

/* What every program understands besides its table. */
struct args_scan {
    bool help, version, print_config;
    const char *config; /* file, NULL: none */
};

/* One argument split: --key, --key=value, -l. */
struct args_flag {
    char key[64];
    const char *value; /* after '=', NULL: none */
};

static int args_unknown(const struct option_table *t, const char *key, struct err *e)
{
    static const char *const common[] = {"help", "version", "print_config"};
    struct nearest near;

    nearest_init(&near, key);
    for (size_t i = 0; i < t->n; i++)
        if (t->options[i].type != OPTION_YAML)
            nearest_try(&near, t->options[i].key);
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        nearest_try(&near, common[i]);
    if (near.best)
        return err_set(e, ERR_ARG, "unknown option --%s; did you mean --%s?", key, near.best);
    return err_set(e, ERR_ARG, "unknown option --%s; %s --help lists them", key, t->program);
}

static const struct option *args_letter(const struct option_table *t, char letter)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->options[i].letter && t->options[i].letter == letter)
            return &t->options[i];
    return NULL;
}

/* The flag's value: after '=', or the next argument, which *i then passes. */
static int args_value(const char **value, const char *flag, const char *inline_value, int argc,
                      char **argv, int *i, struct err *e)
{
    *value = inline_value;
    if (inline_value)
        return 0;
    if (*i + 1 >= argc)
        return err_set(e, ERR_ARG, "option %s needs a value", flag);
    *value = argv[++*i];
    return 0;
}

static int args_set(const struct option *o, void *cfg, const struct args_flag *flag, int argc,
                    char **argv, int *i, struct err *e)
{
    const char *value;
    int rc;

    if (o->type == OPTION_BOOL && !flag->value)
        return cfg ? option_set(o, cfg, "true", NULL, e) : 0;
    rc = args_value(&value, argv[*i], flag->value, argc, argv, i, e);
    return rc || !cfg ? rc : option_set(o, cfg, value, NULL, e);
}

static bool args_split(struct args_flag *flag, const char *arg)
{
    size_t n = strcspn(arg, "=");

    if (n >= sizeof(flag->key))
        return false;
    memcpy(flag->key, arg, n);
    flag->key[n] = '\0';
    flag->value = arg[n] ? arg + n + 1 : NULL;
    return true;
}

static int args_switch(bool *on, const struct args_flag *flag, struct err *e)
{
    if (flag->value)
        return err_set(e, ERR_ARG, "option --%s takes no value", flag->key);
    *on = true;
    return 0;
}

/* A flag that starts with "--". */
static int args_long(const struct option_table *t, void *cfg, struct args_scan *scan, int argc,
                     char **argv, int *i, struct err *e)
{
    const struct option *o;
    struct args_flag flag;

    if (!args_split(&flag, argv[*i] + 2))
        return err_set(e, ERR_ARG, "unknown option %.80s...", argv[*i]);
    if (!strcmp(flag.key, "help"))
        return args_switch(&scan->help, &flag, e);
    if (!strcmp(flag.key, "version"))
        return args_switch(&scan->version, &flag, e);
    if (!strcmp(flag.key, "print-config") || !strcmp(flag.key, "print_config"))
        return args_switch(&scan->print_config, &flag, e);
    if (t->file && !strcmp(flag.key, "config"))
        return args_value(&scan->config, "--config", flag.value, argc, argv, i, e);
    o = option_find(t, flag.key);
    if (!o || o->type == OPTION_YAML)
        return args_unknown(t, flag.key, e);
    return args_set(o, cfg, &flag, argc, argv, i, e);
}

static int args_short(const struct option_table *t, void *cfg, struct args_scan *scan, int argc,
                      char **argv, int *i, struct err *e)
{
    const char *arg = argv[*i];
    const struct option *o = args_letter(t, arg[1]);
    struct args_flag flag = {.value = o && arg[2] ? arg + 2 : NULL};

    if (!strcmp(arg, "-h")) {
        scan->help = true;
        return 0;
    }
    if (!o || (o->type == OPTION_BOOL && arg[2]))
        return err_set(e, ERR_ARG, "unknown option %.40s; %s --help lists them", arg, t->program);
    return args_set(o, cfg, &flag, argc, argv, i, e);
}

/* Walks the arguments once. cfg NULL: only looks (for --config, which must be read before the flags
 * are set, and --help). rest, if given, collects the positional ones at the front of argv. */
static int args_walk(const struct option_table *t, void *cfg, struct args_scan *scan, int argc,
                     char **argv, struct option_args *rest, struct err *e)
{
    bool flags = true;
    int rc = 0;

    for (int i = 1; i < argc && !rc; i++) {
        const char *arg = argv[i];

        if (flags && !strcmp(arg, "--"))
            flags = false;
        else if (flags && arg[0] == '-' && arg[1] == '-')
            rc = args_long(t, cfg, scan, argc, argv, &i, e);
        else if (flags && arg[0] == '-' && arg[1])
            rc = args_short(t, cfg, scan, argc, argv, &i, e);
        else if (!t->usage)
            rc = err_set(e, ERR_ARG, "unexpected argument \"%.80s\"; options start with --", arg);
        else if (rest)
            rest->argv[rest->n++] = argv[i];
    }
    return rc;
}

static int args_file(const struct option_table *t, void *cfg, const char *path, struct err *e)
{
    struct yaml_doc *doc;
    int rc = yaml_load_file(&doc, path, e);

    if (rc)
        return rc;
    rc = option_from_map(t, cfg, doc, yaml_root(doc), e);
    yaml_doc_free(&doc);
    return rc;
}

static void args_print(struct str *text)
{
    fwrite(str_text(text), 1, text->len, stdout);
    fflush(stdout);
    str_fini(text);
}

int option_main(const struct option_table *t, void *cfg, int argc, char **argv,
                struct option_args *rest, enum option_action *action, struct err *e)
{
    struct option_args positional = {.argv = argv + 1};
    struct args_scan scan = {0};
    struct str text = {0};
    int rc;

    *action = OPTION_EXIT_OK;
    option_defaults(t, cfg);
    rc = args_walk(t, NULL, &scan, argc, argv, NULL, e);
    if (rc)
        return rc;
    if (scan.help || scan.version) {
        if (scan.help)
            option_help(t, &text);
        else
            str_addf(&text, "%s %s\n", t->program, TANDEM_VERSION);
        args_print(&text);
        return 0;
    }
    rc = scan.config ? args_file(t, cfg, scan.config, e) : 0;
    if (!rc)
        rc = option_from_env(t, cfg, e);
    if (!rc)
        rc = args_walk(t, cfg, &scan, argc, argv, &positional, e);
    if (!rc && t->check)
        rc = t->check(cfg, e);
    if (rc)
        return rc;
    if (scan.print_config) {
        option_print(t, cfg, &text);
        args_print(&text);
        return 0;
    }
    if (rest)
        *rest = positional;
    *action = OPTION_RUN;
    return 0;
}

/* Text that YAML would not read back as it is goes in double quotes. */
static void args_quote(const char *value, struct str *out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./_";

    if (*value && !value[strspn(value, plain)]) {
        str_adds(out, value);
        return;
    }
    str_addc(out, '"');
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            str_addf(out, "\\%c", *value);
        else if ((unsigned char)*value < ' ')
            str_addf(out, "\\x%02x", (unsigned)*value);
        else
            str_addc(out, *value);
    }
    str_addc(out, '"');
}

void option_print(const struct option_table *t, const void *cfg, struct str *out)
{
    for (size_t i = 0; i < t->n; i++) {
        struct str value = {0};

        if (t->options[i].type == OPTION_YAML)
            continue;
        option_text(&t->options[i], cfg, &value);
        str_addf(out, "%s: ", t->options[i].key);
        args_quote(str_text(&value), out);
        str_addc(out, '\n');
        str_fini(&value);
    }
}

/* By the example of the table's first option. */
static void args_help_environment(const struct option_table *t, struct str *out)
{
    const char *key = t->options[0].key;

    str_addf(out, "\nAn option is also read from the environment, --%s as TANDEM_", key);
    for (; *key; key++)
        str_addc(out, (char)toupper((unsigned char)*key));
    str_adds(out, ".\nA flag wins over the environment, which wins over the file.\n");
}

/* "  -i, --slots=N", as far as the explanation. */
static void args_help_flag(const struct option *o, struct str *out)
{
    size_t start = out->len;

    if (o->letter)
        str_addf(out, "  -%c, ", o->letter);
    else
        str_adds(out, "      ");
    str_addf(out, "--%s", o->key);
    if (o->type == OPTION_ENUM) {
        for (int i = 0; o->names[i]; i++)
            str_addf(out, "%c%s", i ? '|' : '=', o->names[i]);
    } else if (o->type != OPTION_BOOL) {
        str_addf(out, "=%s", o->unit ? o->unit : "N");
    }
    if (out->len - start >= ARGS_HELP_COLUMN)
        str_addf(out, "\n%*s", ARGS_HELP_COLUMN, "");
    else
        str_addf(out, "%*s", (int)(ARGS_HELP_COLUMN - (out->len - start)), "");
}

/* "sequences at once (16; 1..4096)". */
static void args_help_text(const struct option *o, struct str *out)
{
    bool bounds = o->type != OPTION_STR && (o->min != 0 || o->max != 0);
    bool def = o->def && *o->def && o->type != OPTION_BOOL;

    str_adds(out, o->help);
    if (def || bounds)
        str_addf(out, " (%s%s", def ? o->def : "", def && bounds ? "; " : "");
    if (bounds)
        option_bounds_text(o, out);
    str_adds(out, def || bounds ? ")\n" : "\n");
}

void option_help(const struct option_table *t, struct str *out)
{
    str_addf(out, "usage: %s [options]%s%s\n%s.\n\n", t->program, t->usage ? " " : "",
             t->usage ? t->usage : "", t->summary);
    for (size_t i = 0; i < t->n; i++) {
        if (t->options[i].type == OPTION_YAML)
            continue;
        args_help_flag(&t->options[i], out);
        args_help_text(&t->options[i], out);
    }
    if (t->file)
        str_adds(out, "      --config=FILE           options as YAML lines, key: value\n");
    str_adds(out, "      --print-config          print what is in force, and exit\n"
                  "  -h, --help                  print this, and exit\n"
                  "      --version               print the version, and exit\n");
    if (t->environment)
        args_help_environment(t, out);
}
