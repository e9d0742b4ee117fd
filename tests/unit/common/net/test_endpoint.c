#include "net/endpoint.h"

#include "base/check.h"
#include "tests/lib/test.h"

static void test_loopback(void **state)
{
    static const char *const here[] = {"tcp://127.0.0.1:1", "tcp://127.255.0.9:*",
                                       "tcp://localhost:5555", "tcp://[::1]:80"};
    static const char *const beyond[] = {
        "tcp://*:5555",        "tcp://0.0.0.0:1",   "tcp://10.0.0.1:5555", "tcp://128.0.0.1:1",
        "tcp://[::]:5",        "tcp://[::1%1]:5",   "tcp://eth0:5555",     "tcp://127.evil.example:5",
        "tcp://localhost.x:5", "tcp://127.0.0:5",   "tcp://a-name-that-is-longer-than-any-address:1",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(here); i++)
        assert_true(endpoint_is_loopback(here[i]));
    for (size_t i = 0; i < ARRAY_LEN(beyond); i++)
        if (endpoint_is_loopback(beyond[i]))
            fail_msg("%s", beyond[i]);
}

static void test_tcp(void **state)
{
    (void)state;
    assert_true(endpoint_is_tcp("tcp://127.0.0.1:1"));
    assert_false(endpoint_is_tcp("ipc://tcp://"));
    assert_false(endpoint_is_tcp("tcp:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_tcp),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
