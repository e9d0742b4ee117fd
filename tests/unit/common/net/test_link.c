#include "net/link.h"

#include "base/clock.h"
#include "tests/lib/test.h"

#define MS(x) ((int64_t)(x) * CLOCK_MS)

/* Dead at dead_ms of silence, not before; alive again when heard. */
static void test_silence(void **state)
{
    struct link l;

    (void)state;
    link_init(&l, 0, 100, 500);
    for (int t = 100; t < 500; t += 100)
        assert_false(link_dead(&l, MS(t)));
    assert_true(link_dead(&l, MS(500)));
    assert_true(link_dead(&l, MS(501)));
    link_heard(&l, MS(510));
    assert_false(link_dead(&l, MS(600)));
    assert_false(link_dead(&l, MS(700)));
    assert_false(link_dead(&l, MS(800)));
    assert_false(link_dead(&l, MS(900)));
    assert_false(link_dead(&l, MS(1000)));
    assert_true(link_dead(&l, MS(1010)));
}

/* One beat a period; a pause is made good by one. */
static void test_due(void **state)
{
    struct link l;

    (void)state;
    link_init(&l, MS(50), 100, 500);
    assert_true(link_due(&l, MS(50)));
    assert_false(link_due(&l, MS(50)));
    assert_false(link_due(&l, MS(149)));
    assert_true(link_due(&l, MS(150)));
    assert_true(link_due(&l, MS(1150)));
    assert_false(link_due(&l, MS(1249)));
    assert_true(link_due(&l, MS(1250)));
}

/* This process slept for a minute: the peer gets its full time from now, less one beat. */
static void test_own_sleep_is_not_held_against_the_peer(void **state)
{
    struct link l;
    int t;

    (void)state;
    link_init(&l, 0, 100, 500);
    assert_false(link_dead(&l, MS(100)));
    assert_false(link_dead(&l, MS(60000)));
    for (t = 60100; t < 60300; t += 100)
        assert_false(link_dead(&l, MS(t)));
    assert_true(link_dead(&l, MS(60300))); /* 100 before, 100 for the sleep, 300 after */
    assert_true(link_dead(&l, MS(120000))); /* and stays dead through another sleep */
}

/* What was heard after the last question is not pushed into the future by a late one. */
static void test_late_question(void **state)
{
    struct link l;

    (void)state;
    link_init(&l, 0, 100, 500);
    link_heard(&l, MS(990));
    assert_false(link_dead(&l, MS(1000)));
    for (int t = 1100; t < 1500; t += 100)
        assert_false(link_dead(&l, MS(t)));
    assert_true(link_dead(&l, MS(1500)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_due),
        cmocka_unit_test(test_own_sleep_is_not_held_against_the_peer),
        cmocka_unit_test(test_late_question),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
