/* The loop strands no message, starves nobody, and survives callbacks that remove anything. */
#include "net/loop.h"

#include <event2/event.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define MESSAGES 5000

struct end {
    struct loop *loop;
    struct sock *sock;
    struct peer peer;
    bool bound;
    uint32_t sent, got, limit;
    struct end *other;
};

static struct sock *open_sock(struct sock_ctx *ctx, enum sock_kind kind, const char *identity,
                              uint32_t hwm)
{
    struct sock_options o = {.kind = kind, .identity = identity, .hwm = hwm};
    struct sock *s;
    struct err e = {0};

    assert_int_equal(sock_open(&s, ctx, &o, &e), 0);
    return s;
}

static void connect_ends(struct sock *router, struct sock *dealer)
{
    struct err e = {0};

    assert_int_equal(sock_bind(router, "tcp://127.0.0.1:*", &e), 0);
    assert_int_equal(sock_connect(dealer, sock_endpoint(router), &e), 0);
}

/* Sends as many as go now; the rest on the next timer. */
static void end_send(struct end *x)
{
    if (x->bound && x->peer.n == 0)
        return;
    while (x->sent < x->limit) {
        struct msg m = {.type = MSG_CANCEL, .u.cancel.id = {.request = x->sent}};

        if (sock_send(x->sock, x->bound ? &x->peer : NULL, &m, NULL) < 0)
            return;
        x->sent++;
    }
}

static void on_tick(void *ctx)
{
    struct end *x = ctx;

    end_send(x);
    end_send(x->other);
}

static void on_msg(void *ctx, const struct peer *from, struct msg *m)
{
    struct end *x = ctx;

    assert_int_equal(m->type, MSG_CANCEL);
    assert_int_equal(m->u.cancel.id.request, x->got);
    x->got++;
    if (x->bound)
        x->peer = *from;
    if (x->got == MESSAGES && x->other->got == MESSAGES)
        loop_stop(x->loop);
}

/* Both ways at once, through pipes that fill (10 messages) and with a timer too rare (20 ms) to
 * paper over a lost wakeup of each: all come, in order. */
static void test_thousands_both_ways(void **state)
{
    struct sock_ctx *ctx = sock_ctx_new();
    struct loop *l = loop_new();
    struct end a = {.loop = l, .bound = true, .limit = MESSAGES}, b = {.loop = l, .limit = MESSAGES};

    (void)state;
    a.other = &b;
    b.other = &a;
    a.sock = open_sock(ctx, SOCK_ROUTER, NULL, 200);
    b.sock = open_sock(ctx, SOCK_DEALER, "b#1", 200);
    connect_ends(a.sock, b.sock);
    loop_add_sock(l, a.sock, on_msg, &a);
    loop_add_sock(l, b.sock, on_msg, &b);
    loop_add_timer(l, 20, on_tick, &a);
    loop_run(l);
    assert_int_equal(a.got, MESSAGES);
    assert_int_equal(b.got, MESSAGES);
    loop_free(&l);
    sock_close(&a.sock);
    sock_close(&b.sock);
    sock_ctx_free(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thousands_both_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
