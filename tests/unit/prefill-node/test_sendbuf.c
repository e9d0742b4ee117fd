#include "prefill-node/sendbuf.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <cmocka.h>

#define BUFFERS 3

static bool readable(const struct sendbufs *s)
{
    struct pollfd p = {.fd = sendbufs_fd(s), .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static void a_release_wakes_only_who_waits(void **state)
{
    struct sendbufs *s;
    void *b[BUFFERS];

    (void)state;
    assert_int_equal(sendbufs_open(&s, BUFFERS, 100, NULL), 0);
    for (int i = 0; i < BUFFERS; i++) {
        b[i] = sendbufs_take(s);
        assert_non_null(b[i]);
        assert_int_equal((uintptr_t)b[i] % 64, 0);
    }
    sendbufs_release(b[1], s);
    assert_false(readable(s));
    assert_ptr_equal(sendbufs_take(s), b[1]);
    assert_null(sendbufs_take(s));
    sendbufs_release(b[2], s);
    assert_true(readable(s));
    sendbufs_woken(s);
    assert_false(readable(s));
    assert_ptr_equal(sendbufs_take(s), b[2]);
    sendbufs_close(&s);
}

#define TURNS 20000

struct release_ctx {
    struct sendbufs *s;
    void *_Atomic handed;
};

static void *release_main(void *arg)
{
    struct release_ctx *c = arg;

    for (int i = 0; i < TURNS;) {
        void *p = __atomic_exchange_n((void **)&c->handed, NULL, __ATOMIC_ACQ_REL);

        if (!p)
            continue;
        sendbufs_release(p, c->s);
        i++;
    }
    return NULL;
}

/* The taker sleeps until woken whenever there is no buffer; it must never sleep for good. */
static void no_wake_is_lost_between_threads(void **state)
{
    struct release_ctx c = {0};
    pthread_t thread;

    (void)state;
    assert_int_equal(sendbufs_open(&c.s, 1, 100, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, release_main, &c), 0);
    for (int i = 0; i < TURNS; i++) {
        void *p;

        while (!(p = sendbufs_take(c.s))) {
            struct pollfd fd = {.fd = sendbufs_fd(c.s), .events = POLLIN};

            assert_int_equal(poll(&fd, 1, 10000), 1);
            sendbufs_woken(c.s);
        }
        __atomic_store_n((void **)&c.handed, p, __ATOMIC_RELEASE);
    }
    pthread_join(thread, NULL);
    sendbufs_close(&c.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_release_wakes_only_who_waits),
        cmocka_unit_test(no_wake_is_lost_between_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
