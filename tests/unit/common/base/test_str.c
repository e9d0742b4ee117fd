#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void test_an_empty_string_needs_no_memory(void **state)
{
    struct str s = {0};
    char *stolen;

    (void)state;
    assert_string_equal(str_text(&s), "");
    str_clear(&s);
    str_drop(&s, 0);
    assert_null(s.data);
    stolen = str_steal(&s);
    assert_string_equal(stolen, "");
    mem_free(stolen);
    str_fini(&s);
}

static void test_it_grows_and_stays_terminated(void **state)
{
    struct str s = {0};

    (void)state;
    for (int i = 0; i < 5000; i++) {
        str_addc(&s, (char)('a' + i % 26));
        assert_int_equal(s.len, i + 1);
        assert_int_equal(s.data[s.len], '\0');
    }
    for (int i = 0; i < 5000; i++)
        assert_int_equal(s.data[i], 'a' + i % 26);
    str_fini(&s);
    assert_null(s.data);
}

static void test_it_holds_nuls(void **state)
{
    struct str s = {0};

    (void)state;
    str_add(&s, "a\0b", 3);
    str_adds(&s, "c");
    assert_int_equal(s.len, 4);
    assert_memory_equal(s.data, "a\0bc", 5);
    str_fini(&s);
}

static void test_formatting_at_every_length(void **state)
{
    char want[300];
    struct str s = {0};

    (void)state;
    memset(want, 'z', sizeof(want));
    for (int n = 0; n < 299; n++) {
        str_clear(&s);
        str_addf(&s, "%.*s|", n, want);
        assert_int_equal(s.len, n + 1);
        assert_int_equal(s.data[n], '|');
    }
    str_addf(&s, "%d%%", 50);
    assert_string_equal(s.data + s.len - 4, "|50%");
    str_fini(&s);
}

static void test_drop_takes_from_the_front(void **state)
{
    struct str s = {0};

    (void)state;
    str_adds(&s, "hello world");
    str_drop(&s, 6);
    assert_string_equal(str_text(&s), "world");
    str_drop(&s, 5);
    assert_string_equal(str_text(&s), "");
    str_adds(&s, "again");
    assert_string_equal(str_text(&s), "again");
    str_fini(&s);
}

static void test_steal_hands_over_the_bytes(void **state)
{
    struct str s = {0};
    char *p;

    (void)state;
    str_adds(&s, "mine");
    p = str_steal(&s);
    assert_string_equal(p, "mine");
    assert_int_equal(s.len, 0);
    str_adds(&s, "new");
    assert_string_equal(p, "mine");
    mem_free(p);
    str_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_string_needs_no_memory),
        cmocka_unit_test(test_it_grows_and_stays_terminated),
        cmocka_unit_test(test_it_holds_nuls),
        cmocka_unit_test(test_formatting_at_every_length),
        cmocka_unit_test(test_drop_takes_from_the_front),
        cmocka_unit_test(test_steal_hands_over_the_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
