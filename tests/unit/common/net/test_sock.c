/* Sockets over ipc and tcp loopback: bytes arrive whole, bulk is released exactly once, nothing that
 * was refused for want of room is lost or sent twice, and a raw peer's garbage is refused. */
#include "net/sock.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "net/codec.h"
#include "tests/lib/test.h"

/* A bound ROUTER and a connected DEALER "d#1". */
struct pair {
    struct sock_ctx *ctx;
    struct sock *router, *dealer;
    struct peer peer;
    char dir[64], path[96];
};

static const char *const transports[] = {"ipc", "tcp"};

static void pair_open(struct pair *p, const char *transport, enum sock_lane lane, uint32_t hwm)
{
    struct sock_options r = {.kind = SOCK_ROUTER, .lane = lane, .hwm = hwm};
    struct sock_options d = {.kind = SOCK_DEALER, .lane = lane, .identity = "d#1", .hwm = hwm};
    struct err e = {0};

    *p = (struct pair){.ctx = sock_ctx_new(), .peer = {"d#1", 3}};
    if (strcmp(transport, "ipc") == 0) {
        snprintf(p->dir, sizeof(p->dir), "/tmp/tandem-test-XXXXXX");
        assert_non_null(mkdtemp(p->dir));
        snprintf(p->path, sizeof(p->path), "ipc://%s/s", p->dir);
    } else {
        snprintf(p->path, sizeof(p->path), "tcp://127.0.0.1:*");
    }
    assert_int_equal(sock_open(&p->router, p->ctx, &r, &e), 0);
    assert_int_equal(sock_open(&p->dealer, p->ctx, &d, &e), 0);
    assert_string_equal(sock_endpoint(p->router), "");
    assert_int_equal(sock_bind(p->router, p->path, &e), 0);
    assert_int_equal(sock_connect(p->dealer, sock_endpoint(p->router), &e), 0);
}

static void pair_close(struct pair *p)
{
    sock_close(&p->dealer);
    sock_close(&p->router);
    sock_ctx_free(&p->ctx);
    if (p->dir[0]) {
        unlink(p->path + strlen("ipc://"));
        rmdir(p->dir);
    }
}

/* Sleeps until the socket may have something; bounded, so that a bug fails instead of hanging. */
static void wait_some(struct sock *s)
{
    struct pollfd p = {.fd = sock_fd(s), .events = POLLIN};

    if (!sock_readable(s))
        poll(&p, 1, 20);
}

/* The next message, good or bad. */
static int recv_next(struct sock *s, struct peer *from, struct msg *m, struct err *e)
{
    for (int i = 0; i < 500; i++) {
        int rc = sock_recv(s, from, m, e);

        if (rc != 0)
            return rc;
        wait_some(s);
    }
    fail_msg("nothing came in 10 s");
    return 0;
}

/* Sends, trying again while busy. */
static void send_now(struct sock *s, const struct peer *to, struct msg *m)
{
    struct err e = {0};
    int rc = ERR_BUSY;

    for (int i = 0; i < 10000 && rc == ERR_BUSY; i++) {
        rc = sock_send(s, to, m, &e);
        if (rc == ERR_BUSY)
            usleep(1000);
    }
    if (rc != 0)
        fail_msg("send: %d %s", rc, e.text);
    assert_int_equal(m->type, 0); /* taken */
}

/* The dealer becomes known to the router. */
static void pair_greet(struct pair *p)
{
    struct msg m = {.type = MSG_HEARTBEAT, .u.heartbeat.tokens = 42};
    struct peer from;
    struct err e;

    send_now(p->dealer, NULL, &m);
    assert_int_equal(recv_next(p->router, &from, &m, &e), 1);
    assert_true(m.type == MSG_HEARTBEAT && m.u.heartbeat.tokens == 42);
    assert_true(peer_equal(&from, &p->peer));
    msg_fini(&m);
}

static void test_there_and_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(transports); i++) {
        struct msg m = {.type = MSG_REGISTERED, .u.registered = {1000, 3000}};
        struct pair p;
        struct peer from;
        struct err e;

        pair_open(&p, transports[i], SOCK_CONTROL, 0);
        pair_greet(&p);
        assert_int_equal(sock_send(p.router, &p.peer, &m, &e), 0);
        assert_int_equal(recv_next(p.dealer, &from, &m, &e), 1);
        assert_true(m.type == MSG_REGISTERED && m.u.registered.dead_ms == 3000);
        assert_int_equal(from.n, 0);
        assert_int_equal(sock_recv(p.dealer, NULL, &m, &e), 0);
        pair_close(&p);
    }
}

/* The largest messages of the control lane pass. */
static void test_long_prompt(void **state)
{
    struct msg m = {.type = MSG_GENERATE_TOKENS};
    uint32_t *tokens = mem_calloc(MSG_TOKENS_MAX, 4);
    struct pair p;
    struct err e;

    (void)state;
    pair_open(&p, "ipc", SOCK_CONTROL, 0);
    tokens[MSG_TOKENS_MAX - 1] = UINT32_MAX;
    m.u.generate_tokens.tokens = tokens;
    m.u.generate_tokens.n_tokens = MSG_TOKENS_MAX;
    m.u.generate_tokens.text = mem_zalloc(MSG_PROMPT_MAX);
    m.u.generate_tokens.text_bytes = MSG_PROMPT_MAX;
    send_now(p.dealer, NULL, &m);
    assert_int_equal(recv_next(p.router, NULL, &m, &e), 1);
    assert_int_equal(m.u.generate_tokens.n_tokens, MSG_TOKENS_MAX);
    assert_int_equal(m.u.generate_tokens.tokens[MSG_TOKENS_MAX - 1], UINT32_MAX);
    assert_int_equal(m.u.generate_tokens.text_bytes, MSG_PROMPT_MAX);
    msg_fini(&m);
    pair_close(&p);
}

static void test_unknown_peer(void **state)
{
    struct msg m = {.type = MSG_DRAIN, .u.text.text = "bye"};
    struct peer nobody = {"nobody", 6};
    struct pair p;
    struct err e = {0};

    (void)state;
    pair_open(&p, "ipc", SOCK_CONTROL, 0);
    assert_int_equal(sock_send(p.router, &nobody, &m, &e), ERR_NOT_FOUND);
    assert_int_equal(m.type, MSG_DRAIN); /* still ours */
    pair_greet(&p);
    assert_int_equal(sock_send(p.router, &nobody, &m, &e), ERR_NOT_FOUND);
    sock_close(&p.dealer); /* a peer that left becomes unknown */
    for (int i = 0; i < 500 && sock_send(p.router, &p.peer, &m, &e) != ERR_NOT_FOUND; i++) {
        if (m.type == 0)
            m = (struct msg){.type = MSG_DRAIN};
        usleep(1000);
    }
    assert_int_equal(m.type, MSG_DRAIN);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    pair_close(&p);
}

/* A DEALER that is connected to nobody is busy, and keeps the message. */
static void test_unconnected_dealer_is_busy(void **state)
{
    struct sock_options o = {.kind = SOCK_DEALER, .identity = "d#1"};
    struct msg m = {.type = MSG_BYE};
    struct sock_ctx *ctx = sock_ctx_new();
    struct sock *s;
    struct err e = {0};

    (void)state;
    assert_int_equal(sock_open(&s, ctx, &o, &e), 0);
    assert_int_equal(sock_send(s, NULL, &m, &e), ERR_BUSY);
    assert_int_equal(sock_connect(s, "ipc:///tmp/tandem-test-nobody-is-here", &e), 0);
    assert_int_equal(sock_send(s, NULL, &m, &e), ERR_BUSY);
    assert_int_equal(m.type, MSG_BYE);
    sock_close(&s);
    sock_ctx_free(&ctx);
}

static void test_bad_endpoints(void **state)
{
    struct sock_options o = {.kind = SOCK_ROUTER};
    struct pair p;
    struct sock *s;
    struct err e = {0};

    (void)state;
    pair_open(&p, "tcp", SOCK_CONTROL, 0);
    assert_int_equal(sock_open(&s, p.ctx, &o, &e), 0);
    assert_int_equal(sock_bind(s, sock_endpoint(p.router), &e), ERR_NET);
    assert_non_null(strstr(e.text, "Address already in use"));
    assert_non_null(strstr(e.text, sock_endpoint(p.router)));
    assert_int_equal(sock_bind(s, "ipc:///tmp/tandem-no-such-dir/s", &e), ERR_NET);
    assert_int_equal(sock_bind(s, "nonsense", &e), ERR_NET);
    assert_int_equal(sock_connect(s, "tcp://", &e), ERR_NET);
    sock_close(&s);
    pair_close(&p);
}

/* Bulk. Each buffer counts how often it was released; ZeroMQ's io thread may do it. */
struct buffer {
    atomic_uint released; /* relaxed; waited for */
    uint32_t size;
    uint8_t bytes[];
};

static void buffer_release(void *data, void *hint)
{
    struct buffer *b = hint;

    assert_ptr_equal(data, b->bytes);
    atomic_fetch_add_explicit(&b->released, 1, memory_order_release); /* read by buffer_wait */
}

static struct buffer *buffer_new(uint32_t size, uint8_t fill)
{
    struct buffer *b = mem_zalloc(sizeof(*b) + size);

    b->size = size;
    memset(b->bytes, fill, size);
    return b;
}

static struct msg page_of(struct buffer *b, uint32_t page)
{
    return (struct msg){.type = MSG_KV_PAGE,
                        .u.page = {.page = page, .head_count = 1, .n_tokens = 1,
                                   .checksum = hash64(b->bytes, b->size, 0),
                                   .bulk = {b->bytes, b->size, buffer_release, b}}};
}

static unsigned released(struct buffer *b)
{
    return atomic_load_explicit(&b->released, memory_order_acquire);
}

static void buffer_wait_free(struct buffer *b)
{
    for (int i = 0; i < 10000 && released(b) == 0; i++)
        usleep(1000);
    assert_int_equal(released(b), 1);
    mem_free(b);
}

static void test_bulk(void **state)
{
    static const uint32_t sizes[] = {1, 29, 33, 34, 4096, 8192, 100000, MSG_BULK_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(transports); i++) {
        struct buffer *sent[ARRAY_LEN(sizes)];
        struct msg got[ARRAY_LEN(sizes)];
        struct pair p;
        struct err e;

        pair_open(&p, transports[i], SOCK_DATA, 0);
        for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
            struct msg m;

            sent[k] = buffer_new(sizes[k], (uint8_t)(k + 1));
            m = page_of(sent[k], (uint32_t)k);
            send_now(p.dealer, NULL, &m);
        }
        for (size_t k = 0; k < ARRAY_LEN(sizes); k++) /* kept together: each has its own bytes */
            assert_int_equal(recv_next(p.router, NULL, &got[k], &e), 1);
        for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
            const struct msg_kv_page *page = &got[k].u.page;

            assert_true(page->page == k && page->bulk.size == sizes[k]);
            assert_true(hash64(page->bulk.data, page->bulk.size, 0) == page->checksum);
            msg_fini(&got[k]);
            buffer_wait_free(sent[k]);
        }
        pair_close(&p);
    }
}

/* Pages that nobody reads pile up to the high-water mark, then are busy and not released; when the
 * reader comes, all arrive once, in order; what is unread at the end is released once all the same. */
static void test_full_pipe(void **state)
{
    enum { COUNT = 400, READ = 300, BYTES = 64 << 10 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(transports); i++) {
        struct buffer *sent[COUNT];
        uint32_t n = 0, got = 0, busy = 0;
        struct msg m;
        struct pair p;
        struct err e;

        pair_open(&p, transports[i], SOCK_DATA, 8);
        for (n = 0; n < COUNT; n++)
            sent[n] = buffer_new(BYTES, (uint8_t)n);
        n = 0;
        for (int64_t end = clock_now() + 20 * CLOCK_S; got < READ && clock_now() < end;) {
            int rc = 0;

            while (n < COUNT && rc == 0) {
                m = page_of(sent[n], n);
                rc = sock_send(p.dealer, NULL, &m, &e);
                n += rc == 0;
                assert_true(rc == 0 || rc == ERR_BUSY);
            }
            if (rc == ERR_BUSY) {
                busy++;
                assert_int_equal(m.type, MSG_KV_PAGE);
                assert_int_equal(released(sent[n]), 0);
                usleep(1000); /* let the io threads fill what they can */
            }
            if (busy < 20)
                continue; /* truly full before the reader starts */
            while (got < READ && sock_recv(p.router, NULL, &m, &e) == 1) {
                assert_int_equal(m.u.page.page, got);
                assert_true(hash64(m.u.page.bulk.data, BYTES, 0) == m.u.page.checksum);
                msg_fini(&m);
                got++;
            }
        }
        assert_int_equal(got, READ);
        assert_true(n < COUNT || busy > 0);
        pair_close(&p);
        for (uint32_t k = 0; k < COUNT; k++) {
            if (k >= n) {
                assert_int_equal(released(sent[k]), 0);
                mem_free(sent[k]);
            } else {
                buffer_wait_free(sent[k]);
            }
        }
    }
}

/* A bound socket towards a peer that does not read: busy, and nothing lost when tried again. */
static void test_full_router(void **state)
{
    enum { COUNT = 3000 };
    struct pair p;
    struct msg m;
    struct err e;
    uint32_t sent = 0, got = 0, busy = 0;
    int64_t end = clock_now() + 20 * CLOCK_S;

    (void)state;
    pair_open(&p, "ipc", SOCK_CONTROL, 4);
    pair_greet(&p);
    while (got < COUNT && clock_now() < end) {
        m = (struct msg){.type = MSG_DECODE_FAILED, .u.failed.id.request = sent};
        memset(m.u.failed.text, 'x', MSG_TEXT_MAX - 1);
        if (sent < COUNT && sock_send(p.router, &p.peer, &m, &e) == 0) {
            sent++;
            continue;
        }
        busy += sent < COUNT;
        if (sock_recv(p.dealer, NULL, &m, &e) == 0) {
            wait_some(p.dealer); /* at most 20 ms: what was read makes room a moment later */
            continue;
        }
        assert_int_equal(m.u.failed.id.request, got++);
        msg_fini(&m);
    }
    assert_int_equal(got, COUNT);
    assert_true(busy > 0);
    pair_close(&p);
}

/* Frames of a raw ZeroMQ peer. */
struct raw {
    size_t n, sizes[5];
    const char *bytes[5];
    int want;
};

static const char good_header[] = {'T', 'D', MSG_PROTOCOL, 0, MSG_CANCEL, 0, 0, 0};
static const char newer_header[] = {'T', 'D', MSG_PROTOCOL + 1, 0, MSG_CANCEL, 0, 0, 0};

static void test_raw_peer(void **state)
{
    static const struct raw raws[] = {
        {1, {0}, {""}, ERR_FORMAT},
        {1, {8}, {good_header}, ERR_FORMAT},
        {2, {0, 8}, {"", good_header}, ERR_FORMAT},
        {3, {8, 0, 1}, {good_header, "", "x"}, ERR_FORMAT},
        {5, {8, 0, 1, 1, 1}, {good_header, "", "x", "y", "z"}, ERR_FORMAT},
        {2, {8, 1}, {good_header, "\x08"}, ERR_FORMAT},
        {2, {8, 0}, {newer_header, ""}, ERR_PEER},
        {2, {8, 2}, {good_header, "\x08\x07"}, 1},
    };
    void *zctx = zmq_ctx_new(), *raw = zmq_socket(zctx, ZMQ_DEALER);
    int linger = 0;
    struct pair p;

    (void)state;
    pair_open(&p, "tcp", SOCK_CONTROL, 0);
    zmq_setsockopt(raw, ZMQ_LINGER, &linger, sizeof(linger));
    assert_int_equal(zmq_connect(raw, sock_endpoint(p.router)), 0);
    for (size_t i = 0; i < ARRAY_LEN(raws); i++) {
        const struct raw *r = &raws[i];
        struct err e = {0};
        struct peer from;
        struct msg m;

        for (size_t k = 0; k < r->n; k++)
            assert_true(zmq_send(raw, r->bytes[k], r->sizes[k], k + 1 < r->n ? ZMQ_SNDMORE : 0) >=
                        0);
        assert_int_equal(recv_next(p.router, &from, &m, &e), r->want);
        assert_int_equal(from.n, 5); /* ZeroMQ's own identity for a peer without one */
        if (r->want == 1)
            assert_true(m.type == MSG_CANCEL && m.u.cancel.id.request == 7);
        else
            assert_true(m.type == 0 && e.text[0] != '\0');
        msg_fini(&m);
    }
    pair_close(&p);
    zmq_close(raw);
    zmq_ctx_term(zctx);
}

/* An identity longer than ours ever are is refused, not cut. */
static void test_long_identity(void **state)
{
    void *zctx = zmq_ctx_new(), *raw = zmq_socket(zctx, ZMQ_DEALER);
    char id[PEER_ID_MAX + 1];
    struct err e = {0};
    struct peer from;
    struct pair p;
    struct msg m;

    (void)state;
    memset(id, 'i', sizeof(id));
    pair_open(&p, "tcp", SOCK_CONTROL, 0);
    assert_int_equal(zmq_setsockopt(raw, ZMQ_ROUTING_ID, id, sizeof(id)), 0);
    assert_int_equal(zmq_connect(raw, sock_endpoint(p.router)), 0);
    zmq_send(raw, good_header, sizeof(good_header), ZMQ_SNDMORE);
    zmq_send(raw, "", 0, 0);
    assert_int_equal(recv_next(p.router, &from, &m, &e), ERR_LIMIT);
    assert_int_equal(from.n, 0);
    assert_string_equal(e.text, "peer's identity has 97 bytes, not 1 .. 96");
    pair_close(&p);
    zmq_close(raw);
    zmq_ctx_term(zctx);
}

/* Closing gets out what was sent before, on the control lane. */
static void test_linger(void **state)
{
    struct msg m = {.type = MSG_BYE, .u.text.text = "restart"};
    struct pair p;
    struct err e;

    (void)state;
    pair_open(&p, "tcp", SOCK_CONTROL, 0);
    send_now(p.dealer, NULL, &m);
    sock_close(&p.dealer);
    assert_int_equal(recv_next(p.router, NULL, &m, &e), 1);
    assert_string_equal(m.u.text.text, "restart");
    msg_fini(&m);
    pair_close(&p);
}

static void test_an_endpoint_in_use_is_refused(void **state)
{
    struct sock_options o = {.kind = SOCK_ROUTER, .lane = SOCK_CONTROL};

    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(transports); t++) {
        struct pair p;
        struct sock *other;
        struct err e = {0};

        pair_open(&p, transports[t], SOCK_CONTROL, 0);
        assert_int_equal(sock_open(&other, p.ctx, &o, &e), 0);
        assert_int_equal(sock_bind(other, sock_endpoint(p.router), &e), ERR_NET);
        assert_non_null(strstr(e.text, "Address already in use"));
        sock_close(&other);
        pair_close(&p);
    }
}

/* A file that another process has put in its place is not ours to remove. */
static void test_a_closed_endpoint_leaves_no_file(void **state)
{
    (void)state;
    for (int replaced = 0; replaced < 2; replaced++) {
        struct pair p;
        const char *file = p.path + strlen("ipc://");
        char moved[128];

        pair_open(&p, "ipc", SOCK_CONTROL, 0);
        assert_int_equal(access(file, F_OK), 0);
        snprintf(moved, sizeof(moved), "%s.moved", file);
        if (replaced) {
            assert_int_equal(rename(file, moved), 0);
            fclose(fopen(file, "w"));
        }
        sock_close(&p.router);
        assert_int_equal(access(file, F_OK), replaced ? 0 : -1);
        unlink(moved);
        pair_close(&p);
    }
}

static void test_a_broken_connection_is_told_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(transports); i++) {
        struct pair p;
        bool broke = false;

        pair_open(&p, transports[i], SOCK_DATA, 0);
        pair_greet(&p);
        assert_false(sock_broke(p.dealer));
        sock_close(&p.router);
        for (int n = 0; n < 1000 && !broke; n++) {
            usleep(10000);
            broke = sock_broke(p.dealer);
        }
        assert_true(broke);
        assert_false(sock_broke(p.dealer));
        pair_close(&p);
    }
}

/* Loopback of IPv6, where the system has it. */
static void test_ipv6(void **state)
{
    struct sock_options r = {.kind = SOCK_ROUTER}, d = {.kind = SOCK_DEALER, .identity = "d#1"};
    struct pair p = {.ctx = sock_ctx_new(), .peer = {"d#1", 3}};
    struct err e = {0};

    (void)state;
    assert_int_equal(sock_open(&p.router, p.ctx, &r, &e), 0);
    assert_int_equal(sock_open(&p.dealer, p.ctx, &d, &e), 0);
    if (sock_bind(p.router, "tcp://[::1]:*", &e) == 0) {
        assert_memory_equal(sock_endpoint(p.router), "tcp://[::1]:", 12);
        assert_int_equal(sock_connect(p.dealer, sock_endpoint(p.router), &e), 0);
        pair_greet(&p);
    } else if (!strstr(e.text, "Cannot assign") && !strstr(e.text, "not supported")) {
        fail_msg("%s", e.text);
    }
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_endpoint_in_use_is_refused),
        cmocka_unit_test(test_a_closed_endpoint_leaves_no_file),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_long_prompt),
        cmocka_unit_test(test_unknown_peer),
        cmocka_unit_test(test_unconnected_dealer_is_busy),
        cmocka_unit_test(test_bad_endpoints),
        cmocka_unit_test(test_bulk),
        cmocka_unit_test(test_full_pipe),
        cmocka_unit_test(test_full_router),
        cmocka_unit_test(test_raw_peer),
        cmocka_unit_test(test_long_identity),
        cmocka_unit_test(test_linger),
        cmocka_unit_test(test_a_broken_connection_is_told_once),
        cmocka_unit_test(test_ipv6),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
