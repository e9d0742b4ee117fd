#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/utf8.h"

static void every_code_point_goes_there_and_back(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char s[4];
        size_t n, len;
        uint32_t back;

        if (cp >= 0xD800 && cp < 0xE000)
            continue;
        n = utf8_put(s, cp);
        if (utf8_step(s, n, &len, &back) != UTF8_OK || len != n || back != cp)
            fail_msg("U+%04X", cp);
        for (size_t k = 1; k < n; k++)
            if (utf8_step(s, k, &len, &back) != UTF8_MORE || len != k)
                fail_msg("U+%04X cut to %zu bytes", cp, k);
    }
}

static void show(struct str *out, const char *s, size_t n)
{
    size_t len;
    uint32_t cp;

    str_clear(out);
    for (size_t i = 0; i < n; i += len) {
        enum utf8_status st = utf8_step(s + i, n - i, &len, &cp);

        if (st == UTF8_OK)
            str_add(out, s + i, len);
        else
            str_addc(out, '?');
    }
}

/* Tables 3-8 to 3-11 of the Unicode standard, version 15, chapter 3; '?' is U+FFFD. */
static void ill_formed_text_is_cut_into_maximal_subparts(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "????????A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "????????A"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", "?????A??B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "????A"},
        {"\xF0\x9F\x99", "?"},
        {"a\xE2\x96", "a?"},
    };
    struct str out = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        show(&out, cases[i].in, strlen(cases[i].in));
        assert_string_equal(str_text(&out), cases[i].out);
        assert_false(utf8_valid(cases[i].in, strlen(cases[i].in)));
    }
    assert_true(utf8_valid("na\xC3\xAFve", 6));
    str_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_goes_there_and_back),
        cmocka_unit_test(ill_formed_text_is_cut_into_maximal_subparts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
