#include "daemon/outbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"

static struct msg numbered(uint64_t n)
{
    return (struct msg){.type = MSG_KV_CREDIT, .u.credit.bytes = n};
}

/* What was sent while nobody listened arrives later, all of it, in order; more than the bound is
 * refused. */
static void messages_wait_in_order_for_a_connection(void **state)
{
    const struct sock_options dealer = {.kind = SOCK_DEALER, .identity = "a#1"};
    const struct sock_options router = {.kind = SOCK_ROUTER};
    char dir[] = "/tmp/tandem-outbox-XXXXXX", endpoint[64];
    struct sock_ctx *ctx = sock_ctx_new();
    struct sock *s, *r;
    struct outbox b = {0};
    struct msg m;
    struct err e;
    int64_t end;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/s", dir);
    assert_int_equal(sock_open(&s, ctx, &dealer, NULL), 0);
    assert_int_equal(sock_connect(s, endpoint, NULL), 0);
    for (uint64_t i = 0; i < OUTBOX_MAX; i++) {
        m = numbered(i);
        assert_true(outbox_send(&b, s, &m, &e));
    }
    m = numbered(OUTBOX_MAX);
    assert_false(outbox_send(&b, s, &m, &e));
    assert_false(outbox_flush(&b, s));

    assert_int_equal(sock_open(&r, ctx, &router, NULL), 0);
    assert_int_equal(sock_bind(r, endpoint, NULL), 0);
    end = clock_now() + 20 * CLOCK_S;
    for (uint64_t next = 0; next < OUTBOX_MAX; usleep(100)) {
        outbox_flush(&b, s);
        while (sock_recv(r, NULL, &m, NULL) == 1)
            assert_int_equal(m.u.credit.bytes, next++);
        assert_true(clock_now() < end);
    }
    assert_true(outbox_flush(&b, s));
    outbox_fini(&b);
    sock_close(&s);
    sock_close(&r);
    sock_ctx_free(&ctx);
    unlink(endpoint + 6);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_wait_in_order_for_a_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
