#include "config/option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"

struct config {
    bool quiet;
    uint32_t slots, chunk_tokens;
    int32_t domain;
    uint64_t seed, credit_bytes;
    double temperature;
    char *name;
    int kind;
};

static const char *const kinds[] = {"f16", "f32", NULL};

static const char *no_spaces(const char *value)
{
    return strchr(value, ' ') ? "has a space in it" : NULL;
}

static const struct option rows[] = {
    OPTION(config, quiet, BOOL, .letter = 'q', .help = "say less"),
    OPTION(config, slots, U32, .def = "16", .min = 1, .max = 4096, .letter = 's', .help = "slots"),
    OPTION(config, chunk_tokens, U32, .def = "256", .min = 32, .max = 8192, .multiple = 32,
           .help = "chunk"),
    OPTION(config, domain, I32, .def = "-1", .min = -1, .max = 9, .help = "domain"),
    OPTION(config, seed, U64, .help = "seed"),
    OPTION(config, credit_bytes, BYTES, .def = "8MiB", .min = 1024, .max = 1 << 30, .help = "credit"),
    OPTION(config, temperature, F64, .def = "0.8", .min = 0, .max = 100, .help = "heat"),
    OPTION(config, name, STR, .def = "n0", .max = 8, .wrong = no_spaces, .unit = "NAME",
           .help = "name"),
    OPTION(config, kind, ENUM, .def = "f32", .names = kinds, .help = "kind"),
    {.key = "hosts", .type = OPTION_YAML},
};

static int slots_fit(const void *cfg, struct err *e)
{
    const struct config *c = cfg;

    return c->slots == 13 ? err_set(e, ERR_CONFIG, "slots: 13 is unlucky") : 0;
}

static const struct option_table table = {
    .program = "prog", .summary = "Does things", .options = rows, .n = ARRAY_LEN(rows),
    .environment = true, .file = true, .check = slots_fit,
};
static const struct option_table command = {
    .program = "prog sub", .usage = "[FILE]", .summary = "Does one thing", .options = rows,
    .n = ARRAY_LEN(rows),
};

/* Runs option_main over a NULL-terminated list of arguments; c is zeroed first. */
static int run(const struct option_table *t, struct config *c, const char *const *args,
               struct option_args *rest, enum option_action *action, struct err *e)
{
    static char *argv[16];
    int argc = 0;

    argv[argc++] = (char *)(uintptr_t) "prog";
    for (; *args; args++)
        argv[argc++] = (char *)(uintptr_t)*args;
    *c = (struct config){0};
    return option_main(t, c, argc, argv, rest, action, e);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_defaults_come_from_the_table(void **state)
{
    struct config c = {0};

    (void)state;
    option_defaults(&table, &c);
    assert_false(c.quiet);
    assert_int_equal(c.slots, 16);
    assert_int_equal(c.domain, -1);
    assert_int_equal(c.credit_bytes, 8 << 20);
    assert_true(c.temperature == 0.8);
    assert_string_equal(c.name, "n0");
    assert_int_equal(c.kind, 1);
    option_free(&table, &c);
    assert_null(c.name);
}

static void test_values_are_read_to_their_last_bit(void **state)
{
    struct config c = {0};
    struct err e = {0};

    (void)state;
    option_defaults(&table, &c);
    assert_int_equal(option_set(option_find(&table, "seed"), &c, "18446744073709551615", NULL, &e), 0);
    assert_true(c.seed == UINT64_MAX);
    assert_int_equal(option_set(option_find(&table, "credit_bytes"), &c, "1GiB", NULL, &e), 0);
    assert_int_equal(c.credit_bytes, 1 << 30);
    assert_int_equal(option_set(option_find(&table, "credit_bytes"), &c, "1025", NULL, &e), 0);
    assert_int_equal(c.credit_bytes, 1025);
    assert_int_equal(option_set(option_find(&table, "temperature"), &c, "1e-3", NULL, &e), 0);
    assert_true(c.temperature == 1e-3);
    assert_int_equal(option_set(option_find(&table, "quiet"), &c, "true", NULL, &e), 0);
    assert_true(c.quiet);
    option_free(&table, &c);
}

static void test_bad_values_name_value_and_bound(void **state)
{
    static const struct {
        const char *key, *value, *want;
    } cases[] = {
        {"slots", "0", "x:1:2: slots: \"0\" is not in 1..4096"},
        {"slots", "4097", "x:1:2: slots: \"4097\" is not in 1..4096"},
        {"slots", "many", "x:1:2: slots: \"many\" is not a whole number, 1..4096"},
        {"slots", "", "x:1:2: slots: \"\" is not a whole number, 1..4096"},
        {"slots", " 1", "x:1:2: slots: \" 1\" is not a whole number, 1..4096"},
        {"slots", "+1", "x:1:2: slots: \"+1\" is not a whole number, 1..4096"},
        {"slots", "-1", "x:1:2: slots: \"-1\" is not a whole number, 1..4096"},
        {"slots", "1.5", "x:1:2: slots: \"1.5\" is not a whole number, 1..4096"},
        {"slots", "4294967297", "x:1:2: slots: \"4294967297\" is not in 1..4096"},
        {"slots", "99999999999999999999",
         "x:1:2: slots: \"99999999999999999999\" is not a whole number, 1..4096"},
        {"chunk_tokens", "33", "x:1:2: chunk_tokens: \"33\" is not a multiple of 32, 32..8192"},
        {"chunk_tokens", "0", "x:1:2: chunk_tokens: \"0\" is not in 32..8192"},
        {"domain", "-2", "x:1:2: domain: \"-2\" is not in -1..9"},
        {"seed", "18446744073709551616",
         "x:1:2: seed: \"18446744073709551616\" is not a whole number"},
        {"credit_bytes", "64MB", "x:1:2: credit_bytes: \"64MB\" is not a size such as 4096, 64KiB, "
                                 "8MiB or 2GiB, 1KiB..1GiB"},
        {"credit_bytes", "2GiB", "x:1:2: credit_bytes: \"2GiB\" is not in 1KiB..1GiB"},
        {"credit_bytes", "99999999999TiB", "x:1:2: credit_bytes: \"99999999999TiB\" is not a size "
                                           "such as 4096, 64KiB, 8MiB or 2GiB, 1KiB..1GiB"},
        {"temperature", "nan", "x:1:2: temperature: \"nan\" is not a number, 0..100"},
        {"temperature", "1e999", "x:1:2: temperature: \"1e999\" is not a number, 0..100"},
        {"temperature", "101", "x:1:2: temperature: \"101\" is not in 0..100"},
        {"quiet", "yes", "x:1:2: quiet: \"yes\" is not true or false"},
        {"name", "a b", "x:1:2: name: \"a b\" has a space in it"},
        {"name", "ninebytes", "x:1:2: name: \"ninebytes\" is 9 bytes long, at most 8"},
        {"kind", "f8", "x:1:2: kind: \"f8\" is not one of f16, f32"},
    };
    struct config c = {0};

    (void)state;
    option_defaults(&table, &c);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};

        assert_int_equal(option_set(option_find(&table, cases[i].key), &c, cases[i].value, "x:1:2",
                                    &e),
                         ERR_CONFIG);
        assert_string_equal(e.text, cases[i].want);
    }
    assert_int_equal(c.slots, 16); /* a refused value leaves the field alone */
    assert_string_equal(c.name, "n0");
    option_free(&table, &c);
}

static int from_text(struct config *c, const char *text, struct err *e)
{
    struct yaml_doc *doc;
    const struct yaml_node *root, *map;
    int rc;

    assert_int_equal(yaml_load_text(&doc, text, strlen(text), "cluster.yaml", e), 0);
    root = yaml_root(doc);
    map = yaml_get(root, "router");
    rc = option_from_map(&table, c, doc, map ? map : root, e);
    yaml_doc_free(&doc);
    return rc;
}

static void test_map_sets_fields_and_leaves_yaml_keys(void **state)
{
    struct config c = {0};
    struct err e = {0};

    (void)state;
    option_defaults(&table, &c);
    assert_int_equal(from_text(&c, "slots: 4\nname: bob\nhosts: [a, b]\nkind: f16\n", &e), 0);
    assert_int_equal(c.slots, 4);
    assert_string_equal(c.name, "bob");
    assert_int_equal(c.kind, 0);
    option_free(&table, &c);
}

static void test_map_errors_have_file_line_column(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"router:\n  name: a\n  slotz: 1\n",
         "cluster.yaml:3:3: unknown key \"slotz\" in router; did you mean \"slots\"?"},
        {"slots: 1\nzzzzzz: 1\n", "cluster.yaml:2:1: unknown key \"zzzzzz\""},
        {"chunk-tokens: 64\n",
         "cluster.yaml:1:1: unknown key \"chunk-tokens\"; did you mean \"chunk_tokens\"?"},
        {"slots: [1]\n", "cluster.yaml:1:8: slots: one value expected, not a list"},
        {"slots: {a: 1}\n", "cluster.yaml:1:8: slots: one value expected, not a map"},
        {"slots: 0\n", "cluster.yaml:1:8: slots: \"0\" is not in 1..4096"},
        {"router: 7\n", "cluster.yaml:1:9: router: key: value lines expected here"},
        {"- 7\n", "cluster.yaml:1:1: key: value lines expected here"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config c = {0};
        struct err e = {0};

        option_defaults(&table, &c);
        assert_int_equal(from_text(&c, cases[i].text, &e), ERR_CONFIG);
        assert_string_equal(e.text, cases[i].want);
        option_free(&table, &c);
    }
}

static void test_flag_beats_environment_beats_file(void **state)
{
    char path[] = "/tmp/tandem-option-XXXXXX", flag[64];
    static const char text[] = "slots: 2\nchunk_tokens: 64\nname: file\n";
    enum option_action action;
    struct config c;
    struct err e = {0};
    int fd = mkstemp(path);

    (void)state;
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    close(fd);
    snprintf(flag, sizeof(flag), "--config=%s", path);
    setenv("TANDEM_CHUNK_TOKENS", "96", 1);
    setenv("TANDEM_NAME", "env", 1);
    assert_int_equal(run(&table, &c, ARGS("--name=flag", flag), NULL, &action, &e), 0);
    assert_int_equal(action, OPTION_RUN);
    assert_int_equal(c.slots, 2);
    assert_int_equal(c.chunk_tokens, 96);
    assert_string_equal(c.name, "flag");
    option_free(&table, &c);
    /* A one-shot command does not look at the environment. */
    assert_int_equal(run(&command, &c, ARGS("--slots=3"), NULL, &action, &e), 0);
    assert_string_equal(c.name, "n0");
    option_free(&command, &c);
    setenv("TANDEM_SLOTS", "no", 1);
    assert_int_equal(run(&table, &c, ARGS("--name=flag"), NULL, &action, &e), ERR_CONFIG);
    assert_string_equal(e.text, "TANDEM_SLOTS: slots: \"no\" is not a whole number, 1..4096");
    option_free(&table, &c);
    unsetenv("TANDEM_SLOTS");
    unsetenv("TANDEM_NAME");
    unsetenv("TANDEM_CHUNK_TOKENS");
    unlink(path);
}

static void test_flags_in_all_their_forms(void **state)
{
    struct option_args rest = {0};
    enum option_action action;
    struct config c;
    struct err e = {0};

    (void)state;
    assert_int_equal(run(&command, &c,
                         ARGS("one", "--chunk-tokens", "64", "-q", "two", "-s", "5", "--domain=-1",
                              "--", "--slots"),
                         &rest, &action, &e),
                     0);
    assert_int_equal(c.chunk_tokens, 64);
    assert_true(c.quiet);
    assert_int_equal(c.slots, 5);
    assert_int_equal(rest.n, 3);
    assert_string_equal(rest.argv[0], "one");
    assert_string_equal(rest.argv[1], "two");
    assert_string_equal(rest.argv[2], "--slots");
    option_free(&command, &c);
    assert_int_equal(run(&command, &c, ARGS("-s7", "--quiet=false", "-"), &rest, &action, &e), 0);
    assert_int_equal(c.slots, 7);
    assert_false(c.quiet);
    assert_string_equal(rest.argv[0], "-");
    option_free(&command, &c);
}

static void test_bad_flags_are_refused(void **state)
{
    static const struct {
        const char *args[3], *want;
        int code;
    } cases[] = {
        {{"--slotz=1"}, "unknown option --slotz; did you mean --slots?", ERR_ARG},
        {{"--hepl"}, "unknown option --hepl; did you mean --help?", ERR_ARG},
        {{"--wholly-other"}, "unknown option --wholly-other; prog --help lists them", ERR_ARG},
        {{"--hosts=a"}, "unknown option --hosts; prog --help lists them", ERR_ARG},
        {{"-x"}, "unknown option -x; prog --help lists them", ERR_ARG},
        {{"-qs"}, "unknown option -qs; prog --help lists them", ERR_ARG},
        {{"--slots"}, "option --slots needs a value", ERR_ARG},
        {{"--help=1"}, "option --help takes no value", ERR_ARG},
        {{"file"}, "unexpected argument \"file\"; options start with --", ERR_ARG},
        {{"--slots=13"}, "slots: 13 is unlucky", ERR_CONFIG},
        {{"--slots=x"}, "slots: \"x\" is not a whole number, 1..4096", ERR_CONFIG},
        {{"--config=/nonexistent"}, "/nonexistent: No such file or directory", ERR_NOT_FOUND},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum option_action action;
        struct config c;
        struct err e = {0};

        assert_int_equal(run(&table, &c, cases[i].args, NULL, &action, &e), cases[i].code);
        assert_string_equal(e.text, cases[i].want);
        option_free(&table, &c);
    }
}

static void test_printed_config_reads_back(void **state)
{
    struct config a = {0}, b = {0};
    struct str text = {0}, again = {0};
    struct err e = {0};

    (void)state;
    option_defaults(&table, &a);
    assert_int_equal(option_set(option_find(&table, "name"), &a, "q\"\\:\t#", NULL, &e), 0);
    a.seed = UINT64_MAX;
    a.temperature = 0.1;
    option_print(&table, &a, &text);
    option_defaults(&table, &b);
    assert_int_equal(from_text(&b, str_text(&text), &e), 0);
    option_print(&table, &b, &again);
    assert_string_equal(str_text(&text), str_text(&again));
    assert_string_equal(b.name, "q\"\\:\t#");
    assert_non_null(strstr(str_text(&text), "credit_bytes: 8MiB\n"));
    str_fini(&text);
    str_fini(&again);
    option_free(&table, &a);
    option_free(&table, &b);
}

static void test_help_shows_default_and_bound(void **state)
{
    struct str text = {0};

    (void)state;
    option_help(&table, &text);
    assert_non_null(strstr(str_text(&text), "usage: prog [options]\nDoes things.\n"));
    assert_non_null(strstr(str_text(&text), "  -s, --slots=N               slots (16; 1..4096)\n"));
    assert_non_null(strstr(str_text(&text), "--kind=f16|f32"));
    assert_non_null(strstr(str_text(&text), "credit (8MiB; 1KiB..1GiB)\n"));
    assert_null(strstr(str_text(&text), "hosts"));
    str_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_come_from_the_table),
        cmocka_unit_test(test_values_are_read_to_their_last_bit),
        cmocka_unit_test(test_bad_values_name_value_and_bound),
        cmocka_unit_test(test_map_sets_fields_and_leaves_yaml_keys),
        cmocka_unit_test(test_map_errors_have_file_line_column),
        cmocka_unit_test(test_flag_beats_environment_beats_file),
        cmocka_unit_test(test_flags_in_all_their_forms),
        cmocka_unit_test(test_bad_flags_are_refused),
        cmocka_unit_test(test_printed_config_reads_back),
        cmocka_unit_test(test_help_shows_default_and_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
