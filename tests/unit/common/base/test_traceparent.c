#include "base/traceparent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define GOOD "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static bool parse(struct traceparent *t, const char *s) { return traceparent_parse(t, s, strlen(s)); }

static void test_a_traceparent_is_read_and_written(void **state)
{
    char text[TRACEPARENT_MAX];
    struct traceparent t;

    (void)state;
    assert_true(parse(&t, GOOD));
    assert_true(t.id[0] == 0x0af7651916cd43dd && t.id[1] == 0x8448eb211c80319c);
    assert_true(t.span == 0xb7ad6b7169203331 && t.flags == 1);
    traceparent_text(text, &t);
    assert_string_equal(text, GOOD);
}

static void test_what_is_none_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        GOOD " ",
        GOOD "-00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333--01",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
    };
    struct traceparent t;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (parse(&t, bad[i]))
            fail_msg("taken: %s", bad[i]);
        assert_false(traceparent_is(&t));
        assert_true(!t.span && !t.flags);
    }
}

static void test_a_later_version_may_say_more(void **state)
{
    struct traceparent t;

    (void)state;
    assert_true(parse(&t, "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"));
    assert_true(parse(&t, "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert_true(t.span == 0xb7ad6b7169203331);
}

static void test_children_have_spans_of_their_own(void **state)
{
    struct traceparent t, a, b;
    const struct traceparent none = {0};

    (void)state;
    assert_true(parse(&t, GOOD));
    a = traceparent_child(&t, 1);
    b = traceparent_child(&t, 2);
    assert_true(a.id[0] == t.id[0] && a.id[1] == t.id[1] && a.flags == t.flags);
    assert_true(a.span && a.span != t.span && a.span != b.span);
    assert_true(a.span == traceparent_child(&t, 1).span);
    assert_true(!traceparent_child(&none, 1).span);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_traceparent_is_read_and_written),
        cmocka_unit_test(test_what_is_none_is_refused),
        cmocka_unit_test(test_a_later_version_may_say_more),
        cmocka_unit_test(test_children_have_spans_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
