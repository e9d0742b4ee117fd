/* The loop strands no message, starves nobody, and survives callbacks that remove anything. */
#include "net/loop.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include "base/log.h"
#include "tests/lib/test.h"

#define MESSAGES 5000
#define BALLS 100

/* Balls that go round two rings, in opposite directions. An end receives on one socket and sends on
 * another, as a router does:
 *   first ring:  (d1) -> r1, back on r2 -> d2, back on d1
 *   second ring: (d2) -> r2, back on r1 -> d1, back on d2 */
struct end {
    struct loop *loop;
    struct sock *back;
    const struct peer *to; /* NULL: back is a DEALER */
    uint32_t got;
    uint32_t *still_short; /* ends that have not yet got MESSAGES */
};

static struct sock *open_sock(struct sock_ctx *ctx, enum sock_kind kind, const char *identity)
{
    struct sock_options o = {.kind = kind, .identity = identity};
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

static void wait_readable(struct sock *s)
{
    for (int i = 0; i < 5000 && !sock_readable(s); i++)
        usleep(1000);
    assert_true(sock_readable(s));
}

/* Sends n CANCELs, numbered from 0, and waits until the first has come. */
static void queue_messages(struct sock *dealer, struct sock *router, uint32_t n)
{
    for (uint32_t i = 0; i < n;) {
        struct msg m = {.type = MSG_CANCEL, .u.cancel.id.request = i};

        if (sock_send(dealer, NULL, &m, NULL) == 0)
            i++;
        else
            usleep(1000);
    }
    wait_readable(router);
}

static void on_ball(void *ctx, const struct peer *from, struct msg *m)
{
    struct end *x = ctx;
    struct err e = {0};

    (void)from;
    assert_int_equal(m->type, MSG_CANCEL);
    assert_int_equal(m->u.cancel.id.request, x->got); /* in order, none lost */
    if (++x->got == MESSAGES && --*x->still_short == 0)
        loop_stop(x->loop);
    if (!x->to)
        m->u.cancel.id.request += BALLS; /* half a round is behind it */
    assert_int_equal(sock_send(x->back, x->to, m, &e), 0);
}

static void on_timeout(void *ctx)
{
    const struct end *x = ctx;

    fail_msg("stranded after %u, %u, %u, %u of %d", x[0].got, x[1].got, x[2].got, x[3].got,
             MESSAGES);
}

/* Once the balls fly, every send is made by the callback of a message, on another socket, and swallows
 * edges of that one's descriptor; and more balls wait than one turn hands over. A stranded ball
 * stays where it is, and the numbers after it never come. */
static void test_thousands_both_ways(void **state)
{
    static const struct peer one = {"1", 1}, two = {"2", 1};
    struct sock_ctx *ctx = sock_ctx_new();
    struct loop *l = loop_new();
    struct sock *r1 = open_sock(ctx, SOCK_ROUTER, NULL), *d1 = open_sock(ctx, SOCK_DEALER, "1");
    struct sock *r2 = open_sock(ctx, SOCK_ROUTER, NULL), *d2 = open_sock(ctx, SOCK_DEALER, "2");
    uint32_t still_short = 4;
    struct end ends[4] = {
        {l, r2, &two, 0, &still_short}, /* r1 */
        {l, d1, NULL, 0, &still_short}, /* d2 */
        {l, r1, &one, 0, &still_short}, /* r2 */
        {l, d2, NULL, 0, &still_short}, /* d1 */
    };

    (void)state;
    connect_ends(r1, d1);
    connect_ends(r2, d2);
    queue_messages(d1, r1, BALLS);
    queue_messages(d2, r2, BALLS);
    loop_add_sock(l, r1, on_ball, &ends[0]);
    loop_add_sock(l, d2, on_ball, &ends[1]);
    loop_add_sock(l, r2, on_ball, &ends[2]);
    loop_add_sock(l, d1, on_ball, &ends[3]);
    loop_add_timer(l, 30000, on_timeout, ends);
    loop_run(l);
    assert_int_equal(still_short, 0);
    loop_free(&l);
    sock_close(&r1);
    sock_close(&r2);
    sock_close(&d1);
    sock_close(&d2);
    sock_ctx_free(&ctx);
}

struct fair {
    struct loop *loop;
    uint32_t flood, when_other, when_fd;
    int fd;
};

static void on_flood(void *ctx, const struct peer *from, struct msg *m)
{
    struct fair *f = ctx;

    (void)from;
    (void)m;
    if (++f->flood == 2000)
        loop_stop(f->loop);
}

static void on_other(void *ctx, const struct peer *from, struct msg *m)
{
    struct fair *f = ctx;
    uint64_t one = 1;

    (void)from;
    (void)m;
    f->when_other = f->flood;
    assert_int_equal(write(f->fd, &one, sizeof(one)), sizeof(one));
}

static void on_fd(void *ctx)
{
    struct fair *f = ctx;
    uint64_t n;

    assert_int_equal(read(f->fd, &n, sizeof(n)), sizeof(n));
    assert_int_equal(n, 1);
    f->when_fd = f->flood;
}

/* 2,000 messages wait on one socket: another's message and a descriptor get their turn between. */
static void test_fairness(void **state)
{
    struct sock_ctx *ctx = sock_ctx_new();
    struct fair f = {.loop = loop_new(), .fd = eventfd(0, EFD_NONBLOCK)};
    struct sock *r1 = open_sock(ctx, SOCK_ROUTER, NULL), *r2 = open_sock(ctx, SOCK_ROUTER, NULL);
    struct sock *d1 = open_sock(ctx, SOCK_DEALER, "1"), *d2 = open_sock(ctx, SOCK_DEALER, "2");

    (void)state;
    connect_ends(r1, d1);
    connect_ends(r2, d2);
    queue_messages(d1, r1, 2000);
    queue_messages(d2, r2, 1);
    loop_add_sock(f.loop, r2, on_other, &f);
    loop_add_sock(f.loop, r1, on_flood, &f); /* asked first */
    loop_add_fd(f.loop, f.fd, on_fd, &f);
    loop_run(f.loop);
    assert_int_equal(f.flood, 2000);
    assert_in_range(f.when_other, 1, LOOP_BATCH);
    assert_in_range(f.when_fd, 1, 2 * LOOP_BATCH);
    loop_free(&f.loop);
    close(f.fd);
    sock_close(&r1);
    sock_close(&r2);
    sock_close(&d1);
    sock_close(&d2);
    sock_ctx_free(&ctx);
}

/* Callbacks that take away what is being served. */
struct surgery {
    struct loop *loop;
    struct sock *mine, *other;
    struct loop_event *timer;
    uint32_t calls, ticks, signals;
};

static void on_surgery(void *ctx, const struct peer *from, struct msg *m)
{
    struct surgery *x = ctx;

    (void)from;
    (void)m;
    x->calls++;
    loop_del_sock(x->loop, x->mine); /* more messages wait there: none of them comes */
    sock_close(&x->mine);
    loop_del_sock(x->loop, x->other);
    sock_close(&x->other);
}

static void on_last_tick(void *ctx)
{
    struct surgery *x = ctx;

    if (++x->ticks == 3) {
        loop_del_event(&x->timer);
        raise(SIGUSR1);
    }
}

static void on_signal(void *ctx)
{
    struct surgery *x = ctx;

    x->signals++;
    loop_stop(x->loop);
}

static void test_callbacks_remove_anything(void **state)
{
    struct sock_ctx *ctx = sock_ctx_new();
    struct surgery x = {.loop = loop_new()}, y;
    struct sock *d1 = open_sock(ctx, SOCK_DEALER, "1"), *d2 = open_sock(ctx, SOCK_DEALER, "2");

    (void)state;
    x.mine = open_sock(ctx, SOCK_ROUTER, NULL);
    x.other = open_sock(ctx, SOCK_ROUTER, NULL);
    connect_ends(x.mine, d1);
    connect_ends(x.other, d2);
    queue_messages(d1, x.mine, 10);
    queue_messages(d2, x.other, 10);
    y = (struct surgery){.loop = x.loop};
    loop_add_sock(x.loop, x.other, on_surgery, &y); /* would close nothing, must not be called */
    loop_add_sock(x.loop, x.mine, on_surgery, &x);
    x.timer = loop_add_timer(x.loop, 1, on_last_tick, &x);
    loop_add_signal(x.loop, SIGUSR1, on_signal, &x);
    loop_run(x.loop);
    assert_true(x.calls == 1 && y.calls == 0);
    assert_true(x.ticks == 3 && x.signals == 1);
    assert_null(x.timer);
    loop_del_event(&x.timer); /* of NULL */
    loop_free(&x.loop);
    sock_close(&d1);
    sock_close(&d2);
    sock_ctx_free(&ctx);
}

static void never(void *ctx, const struct peer *from, struct msg *m)
{
    (void)ctx;
    (void)from;
    fail_msg("%s was handed over", msg_type_name(m->type));
}

struct told {
    struct loop *loop;
    void *raw;
    char text[256];
};

static void on_told(void *ctx)
{
    struct told *t = ctx;
    char header[8];
    int n = zmq_recv(t->raw, header, sizeof(header), ZMQ_DONTWAIT);

    if (n < 0)
        return;
    assert_int_equal(n, 8);
    assert_int_equal(header[4], MSG_REFUSED);
    n = zmq_recv(t->raw, t->text, sizeof(t->text) - 1, ZMQ_DONTWAIT);
    assert_in_range(n, 2, sizeof(t->text) - 1);
    loop_stop(t->loop);
}

/* A peer of another version gets a sentence that it can read, whatever it speaks. */
static void test_refusal_is_answered(void **state)
{
    static const char header[] = {'T', 'D', MSG_PROTOCOL + 1, 0, MSG_REGISTER, 0, 0, 0};
    void *zctx = zmq_ctx_new();
    struct told t = {.loop = loop_new(), .raw = zmq_socket(zctx, ZMQ_DEALER)};
    struct sock_ctx *ctx = sock_ctx_new();
    struct sock *r = open_sock(ctx, SOCK_ROUTER, NULL);
    struct err e = {0};

    (void)state;
    assert_int_equal(sock_bind(r, "tcp://127.0.0.1:*", &e), 0);
    assert_int_equal(zmq_connect(t.raw, sock_endpoint(r)), 0);
    zmq_send(t.raw, header, sizeof(header), ZMQ_SNDMORE);
    zmq_send(t.raw, "from the future", 15, 0);
    loop_add_sock(t.loop, r, never, NULL);
    loop_add_timer(t.loop, 2, on_told, &t);
    log_level_max = LOG_ERROR;
    loop_run(t.loop);
    log_level_max = LOG_INFO;
    assert_string_equal(t.text + 2, "peer speaks protocol 7, we speak 6");
    loop_free(&t.loop);
    sock_close(&r);
    sock_ctx_free(&ctx);
    zmq_close(t.raw);
    zmq_ctx_term(zctx);
}

static void test_empty_loop_returns(void **state)
{
    struct loop *l = loop_new();

    (void)state;
    loop_run(l);
    loop_free(&l);
    loop_free(&l); /* of NULL */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thousands_both_ways),
        cmocka_unit_test(test_fairness),
        cmocka_unit_test(test_callbacks_remove_anything),
        cmocka_unit_test(test_refusal_is_answered),
        cmocka_unit_test(test_empty_loop_returns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
