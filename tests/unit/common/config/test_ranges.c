#include "config/ranges.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"

static void test_lists_read_and_write_the_same(void **state)
{
    static const char *const texts[] = {"0", "0,2-5", "3,1", "0-1,4095", "7-9,0-2", ""};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct str out = {0};
        uint32_t *list, n;

        assert_int_equal(ranges_parse(&list, &n, texts[i], NULL), 0);
        ranges_format(&out, list, n);
        assert_string_equal(str_text(&out), texts[i]);
        str_fini(&out);
        mem_free(list);
    }
}

static void test_order_is_kept(void **state)
{
    uint32_t *list, n;

    (void)state;
    assert_int_equal(ranges_parse(&list, &n, "4,0-2", NULL), 0);
    assert_int_equal(n, 4);
    assert_int_equal(list[0], 4);
    assert_int_equal(list[3], 2);
    mem_free(list);
    assert_int_equal(ranges_parse(&list, &n, "", NULL), 0);
    assert_null(list);
}

static void test_other_text_is_refused(void **state)
{
    static const char *const texts[] = {",",  "1,", "1-", "-1", "2-1", "1,1", "0-3,2", "4096",
                                        "a", "1 2", "1-2-3", "0x1", "99999999999999999999"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct err e = {0};
        uint32_t *list, n;

        assert_int_equal(ranges_parse(&list, &n, texts[i], &e), ERR_ARG);
        assert_null(list);
        assert_int_equal(n, 0);
        assert_non_null(strstr(e.text, texts[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists_read_and_write_the_same),
        cmocka_unit_test(test_order_is_kept),
        cmocka_unit_test(test_other_text_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
