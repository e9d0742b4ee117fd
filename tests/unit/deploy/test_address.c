#include "deploy/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"

static void numbers_are_taken_as_they_are(void **state)
{
    static const struct {
        const char *name, *want;
    } cases[] = {
        {"10.0.0.1", "10.0.0.1"},
        {"127.0.0.1", "127.0.0.1"}, /* who says it so means it */
        {"fd00::2", "fd00::2"},
        {"[fd00::2]", "fd00::2"},
        {"::1", "::1"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[ADDRESS_MAX];
        struct err e = {0};

        if (address_resolve(out, cases[i].name, &e))
            fail_msg("%s", e.text);
        assert_string_equal(out, cases[i].want);
    }
}

static void names_that_no_other_host_reaches_are_refused(void **state)
{
    char out[ADDRESS_MAX], longer[ADDRESS_MAX + 1];
    struct err e = {0};

    (void)state;
    assert_int_equal(address_resolve(out, "localhost", &e), ERR_NET);
    assert_string_equal(e.text,
                        "localhost is this machine's loopback by name, which no other host reaches");
    assert_int_equal(address_resolve(out, "a..b", &e), ERR_NET);
    assert_memory_equal(e.text, "a..b has no address: ", 21);
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(address_resolve(out, longer, &e), ERR_NET);
    assert_string_equal(e.text, "an address of 128 bytes, at most 127");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_taken_as_they_are),
        cmocka_unit_test(names_that_no_other_host_reaches_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
