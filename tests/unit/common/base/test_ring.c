#include "base/ring.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_items_come_out_in_order_until_empty(void **state)
{
    struct ring *r = ring_new(sizeof(int), 5); /* rounded up to 8 */
    int v;

    (void)state;
    for (int round = 0; round < 100; round++) {
        assert_false(ring_pop(r, &v));
        for (int i = 0; i < 8; i++)
            assert_true(ring_push(r, &i));
        v = 99;
        assert_false(ring_push(r, &v));
        for (int i = 0; i < 8; i++) {
            assert_true(ring_pop(r, &v));
            assert_int_equal(v, i);
        }
    }
    ring_free(&r);
    assert_null(r);
    ring_free(&r);
}

static void test_a_ring_of_one(void **state)
{
    struct ring *r = ring_new(1, 1);
    char v = 'a';

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_true(ring_push(r, &v));
        assert_false(ring_push(r, &v));
        assert_true(ring_pop(r, &v));
        assert_false(ring_pop(r, &v));
    }
    ring_free(&r);
}

/* An item wide enough to be seen half-written, were the order of memory wrong. */
struct item {
    uint64_t words[5];
};

#define ITEMS 200000

static void *produce(void *arg)
{
    struct ring *r = arg;

    for (uint64_t i = 0; i < ITEMS; i++) {
        struct item item = {{i, i + 1, i + 2, i + 3, i + 4}};

        while (!ring_push(r, &item))
            sched_yield();
    }
    return NULL;
}

/* Under TSAN=1 this also proves the ring free of races. */
static void test_two_threads_lose_and_tear_nothing(void **state)
{
    struct ring *r = ring_new(sizeof(struct item), 16);
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, produce, r), 0);
    for (uint64_t i = 0; i < ITEMS; i++) {
        struct item item;

        while (!ring_pop(r, &item))
            sched_yield();
        for (uint64_t k = 0; k < 5; k++)
            assert_true(item.words[k] == i + k);
    }
    pthread_join(thread, NULL);
    ring_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items_come_out_in_order_until_empty),
        cmocka_unit_test(test_a_ring_of_one),
        cmocka_unit_test(test_two_threads_lose_and_tear_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
