#include "prefill-node/sendbuf.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/lib/test.h"

#define BUFFERS 3

static bool readable(const struct sendbufs *s)
{
    struct pollfd p = {.fd = sendbufs_fd(s), .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static struct kv_pool *pool_of(uint32_t pages)
{
    struct kv_pool *pool;
    struct kv_layout l;

    kv_layout_init(&l, KV_F16, 1, 1, 16);
    assert_int_equal(kv_pool_open(&pool, &l, pages, NULL), 0);
    return pool;
}

static void a_release_wakes_only_who_waits(void **state)
{
    struct kv_pool *pool = pool_of(1);
    struct sendbufs *s;
    struct sendbuf *b[BUFFERS];

    (void)state;
    assert_int_equal(sendbufs_open(&s, pool, BUFFERS, 100, NULL), 0);
    for (int i = 0; i < BUFFERS; i++) {
        b[i] = sendbufs_take(s, (uint32_t)i);
        assert_non_null(b[i]);
        assert_int_equal((uintptr_t)sendbuf_data(b[i]) % 64, 0);
        memset(sendbuf_data(b[i]), i, 100); /* ASan watches */
    }
    for (int i = 0; i < BUFFERS; i++)
        assert_int_equal(*(uint8_t *)sendbuf_data(b[i]), i);
    sendbuf_release(NULL, b[1]);
    assert_false(readable(s));
    assert_ptr_equal(sendbufs_take(s, 9), b[1]);
    assert_null(sendbufs_take(s, 9));
    sendbuf_release(NULL, b[2]);
    assert_true(readable(s));
    sendbufs_woken(s);
    assert_false(readable(s));
    assert_ptr_equal(sendbufs_take(s, 10), b[2]);
    sendbufs_close(&s);
    kv_pool_close(&pool);
}

/* Whoever else gives the page back, it is not free before its bytes have left. */
static void a_page_on_its_way_is_not_free(void **state)
{
    struct kv_pool *pool = pool_of(2);
    struct sendbufs *s;
    struct sendbuf *b[2];
    uint32_t page;

    (void)state;
    assert_int_equal(sendbufs_open(&s, pool, 2, 100, NULL), 0);
    assert_true(kv_pool_take(pool, &page, 1));
    for (int i = 0; i < 2; i++) { /* two units of it */
        b[i] = sendbufs_take(s, (uint32_t)i);
        sendbuf_hold(b[i], page);
    }
    kv_pool_unref(pool, page); /* the job ends */
    sendbuf_release(NULL, b[0]);
    sendbufs_collect(s);
    assert_int_equal(kv_pool_refs(pool, page), 1);
    sendbuf_release(NULL, b[1]);
    assert_int_equal(kv_pool_refs(pool, page), 1); /* another thread does not touch the pool */
    sendbufs_collect(s);
    assert_int_equal(kv_pool_free_count(pool), 2);

    assert_true(kv_pool_take(pool, &page, 1));
    sendbuf_hold(sendbufs_take(s, 9), page);
    b[1] = sendbufs_take(s, 8);
    sendbuf_hold(b[1], page);
    sendbuf_release(NULL, b[1]);
    assert_ptr_equal(sendbufs_take(s, 8), b[1]); /* a slot that is taken anew has let go */
    assert_int_equal(kv_pool_refs(pool, page), 2);
    sendbufs_close(&s); /* and at the end all do */
    assert_int_equal(kv_pool_refs(pool, page), 1);
    kv_pool_close(&pool);
}

static void a_link_leaves_as_many_as_it_has(void **state)
{
    struct kv_pool *pool = pool_of(1);
    struct sendbuf *b[4];
    struct sendbufs *s;

    (void)state;
    assert_int_equal(sendbufs_open(&s, pool, 8, 100, NULL), 0);
    for (int i = 0; i < 4; i++)
        assert_non_null(b[i] = sendbufs_take(s, 1));
    assert_null(sendbufs_take(s, 1));
    for (int i = 0; i < 2; i++)
        assert_non_null(sendbufs_take(s, 2));
    assert_null(sendbufs_take(s, 2));
    assert_non_null(sendbufs_take(s, 3));
    sendbuf_release(NULL, b[0]);
    assert_true(readable(s));
    assert_non_null(sendbufs_take(s, 3));
    sendbufs_close(&s);
    kv_pool_close(&pool);
}

#define TURNS 20000

struct release_ctx {
    struct sendbuf *_Atomic handed;
};

static void *release_main(void *arg)
{
    struct release_ctx *c = arg;

    for (int i = 0; i < TURNS;) {
        struct sendbuf *b = atomic_exchange(&c->handed, NULL);

        if (!b)
            continue;
        sendbuf_release(NULL, b);
        i++;
    }
    return NULL;
}

/* The taker sleeps until woken whenever there is no slot; it must never sleep for good. */
static void no_wake_is_lost_between_threads(void **state)
{
    struct kv_pool *pool = pool_of(1);
    struct release_ctx c = {NULL};
    struct sendbufs *s;
    pthread_t thread;
    uint32_t page;

    (void)state;
    assert_int_equal(sendbufs_open(&s, pool, 1, 100, NULL), 0);
    assert_true(kv_pool_take(pool, &page, 1));
    assert_int_equal(pthread_create(&thread, NULL, release_main, &c), 0);
    for (int i = 0; i < TURNS; i++) {
        struct sendbuf *b;

        while (!(b = sendbufs_take(s, 9))) {
            struct pollfd fd = {.fd = sendbufs_fd(s), .events = POLLIN};

            assert_int_equal(poll(&fd, 1, 10000), 1);
            sendbufs_woken(s);
        }
        assert_int_equal(kv_pool_refs(pool, page), 1);
        sendbuf_hold(b, page);
        atomic_store(&c.handed, b);
    }
    pthread_join(thread, NULL);
    sendbufs_collect(s);
    assert_int_equal(kv_pool_refs(pool, page), 1);
    sendbufs_close(&s);
    kv_pool_close(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_release_wakes_only_who_waits),
        cmocka_unit_test(a_page_on_its_way_is_not_free),
        cmocka_unit_test(a_link_leaves_as_many_as_it_has),
        cmocka_unit_test(no_wake_is_lost_between_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
