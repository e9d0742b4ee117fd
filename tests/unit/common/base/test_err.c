#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_set_returns_the_code_and_keeps_the_sentence(void **state)
{
    struct err e = {0};

    (void)state;
    assert_int_equal(err_set(&e, ERR_LIMIT, "%d files, the limit is %d", 7, 5), ERR_LIMIT);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_string_equal(e.text, "7 files, the limit is 5");
}

static void test_a_null_err_drops_the_sentence_only(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_PEER, "%s", "unheard"), ERR_PEER);
}

static void test_wrap_puts_where_before_what(void **state)
{
    struct err e;

    (void)state;
    err_set(&e, ERR_FORMAT, "key \"%s\" is missing", "a%sb");
    assert_int_equal(err_wrap(&e, "%s", "model.gguf"), ERR_FORMAT);
    assert_string_equal(e.text, "model.gguf: key \"a%sb\" is missing");
    assert_true(err_wrap(NULL, "nobody") < 0);
}

static void test_long_sentences_are_cut(void **state)
{
    char text[2 * sizeof(((struct err *)0)->text)];
    struct err e;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    err_set(&e, ERR_IO, "%s", text);
    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
    err_wrap(&e, "where");
    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
    assert_memory_equal(e.text, "where: xxx", 10);
    err_wrap(&e, "%s", text); /* no room left for the old sentence */
    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
}

static void test_a_sentence_is_one_line(void **state)
{
    struct err e;

    (void)state;
    err_set(&e, ERR_CONFIG, "host: \"%s\" is none", "a\nb\033[2J\x7f\xc3\xa9");
    assert_string_equal(e.text, "host: \"a?b?[2J?\xc3\xa9\" is none");
    err_wrap(&e, "%s", "x\ty");
    assert_string_equal(e.text, "x?y: host: \"a?b?[2J?\xc3\xa9\" is none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_returns_the_code_and_keeps_the_sentence),
        cmocka_unit_test(test_a_null_err_drops_the_sentence_only),
        cmocka_unit_test(test_wrap_puts_where_before_what),
        cmocka_unit_test(test_long_sentences_are_cut),
        cmocka_unit_test(test_a_sentence_is_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
