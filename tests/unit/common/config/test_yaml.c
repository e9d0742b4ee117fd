#include "config/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/str.h"

static int load(struct yaml_doc **doc, const char *text, struct err *e)
{
    return yaml_load_text(doc, text, strlen(text), "f.yaml", e);
}

static void test_tree_has_keys_values_and_places(void **state)
{
    static const char text[] = "a: 1\nm:\n  k: 'x y'\n  e:\nl: [p, {q: r}]\n";
    const struct yaml_node *root, *m, *l;
    struct yaml_doc *doc;
    struct err e = {0};

    (void)state;
    assert_int_equal(load(&doc, text, &e), 0);
    root = yaml_root(doc);
    assert_int_equal(root->kind, YAML_MAP);
    assert_int_equal(root->n, 3);
    assert_string_equal(yaml_get(root, "a")->value, "1");
    m = yaml_get(root, "m");
    assert_int_equal(m->kind, YAML_MAP);
    assert_string_equal(m->key, "m");
    assert_int_equal(m->key_mark.line, 2);
    assert_string_equal(yaml_get(m, "k")->value, "x y");
    assert_int_equal(yaml_get(m, "k")->mark.line, 3);
    assert_int_equal(yaml_get(m, "k")->mark.column, 6);
    assert_string_equal(yaml_get(m, "e")->value, "");
    l = yaml_get(root, "l");
    assert_int_equal(l->kind, YAML_SEQ);
    assert_int_equal(l->n, 2);
    assert_string_equal(l->child->value, "p");
    assert_null(l->child->key);
    assert_string_equal(yaml_get(l->child->next, "q")->value, "r");
    assert_null(yaml_get(root, "absent"));
    assert_null(yaml_get(l, "p"));
    yaml_doc_free(&doc);
    assert_null(doc);
}

static void test_empty_file_is_an_empty_map(void **state)
{
    static const char *const texts[] = {"", "# only a comment\n", "---\n", "---\n...\n"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct yaml_doc *doc;
        struct err e = {0};

        assert_int_equal(load(&doc, texts[i], &e), 0);
        assert_int_equal(yaml_root(doc)->kind, YAML_MAP);
        assert_int_equal(yaml_root(doc)->n, 0);
        yaml_doc_free(&doc);
    }
}

static void test_refusals_name_the_place(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"a: 1\nb: 2\na: 3\n", "f.yaml:3:1: key \"a\" is given twice, first in line 1"},
        {"a: &x 1\n", "f.yaml:1:4: anchors (&x) are not supported here"},
        {"a: &x {b: 1}\n", "f.yaml:1:4: anchors (&x) are not supported here"},
        {"a: [1, *x]\n", "f.yaml:1:8: aliases (*x) are not supported here"},
        {"a: !!int 1\n", "f.yaml:1:4: tags (tag:yaml.org,2002:int) are not supported here"},
        {"a: !t [1]\n", "f.yaml:1:4: tags (!t) are not supported here"},
        {"? [a]\n: 1\n", "f.yaml:1:3: a key must be text, not a map or a list"},
        {"a: 1\n---\nb: 1\n", "f.yaml:2:1: a second document; one file holds one"},
        {"a: \"x\\0y\"\n", "f.yaml:1:4: a NUL character in a value"},
        {"a: b: c\n", "f.yaml:1:5: mapping values are not allowed in this context"},
        {"a:\n\t- 1\n", "f.yaml:2:1: found character that cannot start any token while scanning "
                        "for the next token"},
        {"a: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n", "f.yaml:1:19: nested deeper than 16 levels"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct yaml_doc *doc;
        struct err e = {0};

        assert_int_equal(load(&doc, cases[i].text, &e), ERR_CONFIG);
        assert_string_equal(e.text, cases[i].want);
        assert_null(doc);
    }
}

static void test_unreadable_bytes_are_refused(void **state)
{
    static const char *const texts[] = {"a: \xff\xfe\n", "a: \x01\n", "a: 'open", "{a: 1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct yaml_doc *doc;
        struct err e = {0};

        assert_int_equal(load(&doc, texts[i], &e), ERR_CONFIG);
        assert_memory_equal(e.text, "f.yaml:", 7);
    }
}

static void test_sixteen_levels_are_read(void **state)
{
    struct yaml_doc *doc;
    struct err e = {0};

    (void)state;
    assert_int_equal(load(&doc, "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n", &e), 0);
    yaml_doc_free(&doc);
}

static void test_too_many_values_are_refused(void **state)
{
    struct yaml_doc *doc;
    struct str text = {0};
    struct err e = {0};

    (void)state;
    str_adds(&text, "[");
    for (int i = 0; i < YAML_NODES_MAX; i++)
        str_adds(&text, "1, ");
    str_adds(&text, "]");
    assert_int_equal(load(&doc, str_text(&text), &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "more than 16384 values"));
    str_fini(&text);
}

static void test_too_long_a_file_is_refused(void **state)
{
    char path[] = "/tmp/tandem-yaml-XXXXXX";
    struct yaml_doc *doc;
    struct err e = {0};
    int fd = mkstemp(path);
    char line[1024];

    (void)state;
    assert_true(fd >= 0);
    memset(line, '#', sizeof(line));
    for (unsigned i = 0; i < YAML_BYTES_MAX / sizeof(line); i++)
        assert_int_equal(write(fd, line, sizeof(line)), sizeof(line));
    assert_int_equal(yaml_load_file(&doc, path, &e), 0);
    yaml_doc_free(&doc);
    assert_int_equal(write(fd, "#", 1), 1);
    assert_int_equal(yaml_load_file(&doc, path, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "longer than 262144 bytes"));
    close(fd);
    unlink(path);
}

static void test_missing_file_is_named(void **state)
{
    struct yaml_doc *doc;
    struct err e = {0};

    (void)state;
    assert_int_equal(yaml_load_file(&doc, "/nonexistent/c.yaml", &e), ERR_NOT_FOUND);
    assert_string_equal(e.text, "/nonexistent/c.yaml: No such file or directory");
    assert_int_equal(yaml_load_file(&doc, "/tmp", &e), ERR_IO);
    assert_null(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_has_keys_values_and_places),
        cmocka_unit_test(test_empty_file_is_an_empty_map),
        cmocka_unit_test(test_refusals_name_the_place),
        cmocka_unit_test(test_unreadable_bytes_are_refused),
        cmocka_unit_test(test_sixteen_levels_are_read),
        cmocka_unit_test(test_too_many_values_are_refused),
        cmocka_unit_test(test_too_long_a_file_is_refused),
        cmocka_unit_test(test_missing_file_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
