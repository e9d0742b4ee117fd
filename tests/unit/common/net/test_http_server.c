/* The server on a real loopback socket: a thread-less dialogue in which the test is the client and
 * turns the server's event loop by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/http_server.h"

struct rig {
    struct event_base *base;
    struct http_server *server;
    uint32_t requests, gone;
    struct http_conn *held; /* the last request to /hold or /stream, not yet answered */
    size_t body_bytes;
};

static void on_request(void *ctx, struct http_conn *c)
{
    struct rig *r = ctx;
    const char *body;

    r->requests++;
    body = http_conn_body(c, &r->body_bytes);
    if (http_text_is(http_conn_head(c)->path, "/hold")) {
        r->held = c;
    } else if (http_text_is(http_conn_head(c)->path, "/stream")) {
        http_stream_open(c, 200, "text/plain", "X-A: b\r\n");
        http_stream_write(c, "one", 3);
        r->held = c;
    } else {
        http_reply(c, 200, "text/plain", NULL, body, r->body_bytes);
    }
}

static void on_gone(void *ctx, struct http_conn *c)
{
    struct rig *r = ctx;

    assert_ptr_equal(c, r->held);
    r->held = NULL;
    r->gone++;
}

static void on_refused(void *ctx, int status, const char *why, struct str *out)
{
    (void)ctx;
    str_addf(out, "{\"status\":%d,\"why\":\"%s\"}", status, why);
}

static int rig_setup(void **state)
{
    struct rig *r = mem_zalloc(sizeof(*r));
    const struct http_service service = {r, on_request, on_gone, on_refused};
    struct err e;

    r->base = event_base_new();
    assert_int_equal(http_server_open(&r->server, r->base, "127.0.0.1:0", &service, &e), 0);
    *state = r;
    return 0;
}

static int rig_teardown(void **state)
{
    struct rig *r = *state;

    http_server_close(&r->server);
    event_base_free(r->base);
    mem_free(r);
    return 0;
}

static int dial(const struct rig *r)
{
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons(http_server_port(r->server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void turn(struct rig *r) { event_base_loop(r->base, EVLOOP_NONBLOCK); }

/* Sends all of data while the server reads. */
static void put(struct rig *r, int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t k = send(fd, data, n, MSG_NOSIGNAL);

        if (k > 0)
            data += k, n -= (size_t)k;
        else if (errno != EAGAIN)
            return; /* closed: the test looks at the answer */
        turn(r);
    }
}

static void puts_to(struct rig *r, int fd, const char *text) { put(r, fd, text, strlen(text)); }

/* Turns the loop until `until` was received (NULL: the server's end of file); what came so far. The
 * limit only ends a test that would otherwise hang. */
static const char *get(struct rig *r, int fd, const char *until)
{
    static char buf[1 << 16];
    int64_t limit = clock_now() + 20 * CLOCK_S;
    size_t n = 0;

    buf[0] = '\0';
    while (clock_now() < limit) {
        ssize_t k = recv(fd, buf + n, sizeof(buf) - 1 - n, 0);

        if (k > 0)
            buf[n += (size_t)k] = '\0';
        if (k == 0 || (k < 0 && errno != EAGAIN))
            return until && !strstr(buf, until) ? NULL : buf;
        if (until && strstr(buf, until))
            return buf;
        turn(r);
    }
    return NULL;
}

static void wait_for(struct rig *r, const uint32_t *counter, uint32_t value)
{
    int64_t limit = clock_now() + 20 * CLOCK_S;

    while (*counter != value && clock_now() < limit)
        turn(r);
    assert_int_equal(*counter, value);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static void test_keep_alive_and_pipelining(void **state)
{
    struct rig *r = *state;
    int fd = dial(r);
    const char *got;

    puts_to(r, fd, GET("/"));
    assert_non_null(got = get(r, fd, "\r\n\r\n"));
    assert_non_null(strstr(got, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(got, "Content-Length: 0\r\n"));
    assert_null(strstr(got, "Connection:"));
    puts_to(r, fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" GET("/")
            "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_non_null(got = get(r, fd, NULL));
    assert_non_null(strstr(got, "\r\n\r\nabcHTTP/1.1 200"));
    assert_non_null(strstr(got, "Connection: close\r\n"));
    assert_int_equal(r->requests, 4);
    close(fd);
}

static void test_pipelined_request_waits_for_the_answer(void **state)
{
    struct rig *r = *state;
    int fd = dial(r);

    puts_to(r, fd, GET("/hold") GET("/after"));
    wait_for(r, &r->requests, 1);
    for (int i = 0; i < 20; i++)
        turn(r);
    assert_int_equal(r->requests, 1);
    http_reply(r->held, 200, "text/plain", NULL, "x", 1);
    wait_for(r, &r->requests, 2);
    close(fd);
}

static void test_body_by_length_and_by_chunks(void **state)
{
    struct rig *r = *state;
    int fd = dial(r);
    char *big = mem_zalloc(3 << 20);

    memset(big, 'x', 3 << 20);
    puts_to(r, fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3145728\r\n\r\n");
    put(r, fd, big, 3 << 20);
    wait_for(r, &r->requests, 1);
    assert_int_equal(r->body_bytes, 3 << 20);
    close(fd);
    mem_free(big);
    fd = dial(r);
    puts_to(r, fd, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
    turn(r);
    puts_to(r, fd, "lo\r\n1\r\n!\r\n0\r\n\r\n");
    assert_non_null(get(r, fd, "\r\n\r\nhello!"));
    close(fd);
}

static void test_expect_continue(void **state)
{
    struct rig *r = *state;
    int fd = dial(r);

    puts_to(r, fd,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_non_null(get(r, fd, "HTTP/1.1 100 Continue\r\n\r\n"));
    puts_to(r, fd, "ok");
    assert_non_null(get(r, fd, "\r\n\r\nok"));
    close(fd);
}

static void test_bad_requests_get_json_and_the_end(void **state)
{
    struct rig *r = *state;
    const struct {
        const char *text, *status;
    } rows[] = {
        {"GET / HTTP/1.1\r\n\r\n", "400"},
        {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"},
        {"rubbish\r\n\r\n" GET("/"), "400"}, /* and what follows is not looked at */
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16777217\r\n\r\nabc", "413"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "400"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1000001\r\n", "413"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int fd = dial(r);
        const char *got;
        char want[32];

        puts_to(r, fd, rows[i].text);
        assert_non_null(got = get(r, fd, NULL));
        snprintf(want, sizeof(want), "HTTP/1.1 %s ", rows[i].status);
        assert_memory_equal(got, want, strlen(want));
        assert_non_null(strstr(got, "Connection: close\r\n"));
        assert_non_null(strstr(got, "\"status\":"));
        close(fd);
    }
    assert_int_equal(r->requests, 0);
}

/* The answer to a body that is too large can be read although the client has not sent all of it. */
static void test_refusal_reaches_a_client_that_still_sends(void **state)
{
    struct rig *r = *state;
    int fd = dial(r);
    char *big = mem_zalloc(1 << 20);

    puts_to(r, fd, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 20; i++) {
        puts_to(r, fd, "100000\r\n");
        put(r, fd, big, 1 << 20);
        puts_to(r, fd, "\r\n");
    }
    assert_non_null(get(r, fd, "HTTP/1.1 413 "));
    close(fd);
    mem_free(big);
}

static void test_client_that_leaves_while_it_waits(void **state)
{
    struct rig *r = *state;

    for (int how = 0; how < 3; how++) {
        const struct linger reset = {.l_onoff = 1};
        int fd = dial(r);

        puts_to(r, fd, how == 2 ? GET("/stream") : GET("/hold"));
        wait_for(r, &r->requests, (uint32_t)how + 1);
        assert_non_null(r->held);
        if (how == 1) /* RST instead of FIN */
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(fd);
        wait_for(r, &r->gone, (uint32_t)how + 1);
    }
    assert_int_equal(http_server_conns(r->server), 0);
}

static void test_client_that_leaves_in_the_middle_of_a_request(void **state)
{
    struct rig *r = *state;
    int fd = dial(r), fd2 = dial(r);

    puts_to(r, fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    puts_to(r, fd2, "GET / HT");
    turn(r);
    assert_int_equal(http_server_conns(r->server), 2);
    close(fd);
    close(fd2);
    for (int64_t limit = clock_now() + 20 * CLOCK_S; clock_now() < limit;) {
        turn(r);
        if (!http_server_conns(r->server))
            break;
    }
    assert_int_equal(http_server_conns(r->server), 0);
    assert_int_equal(r->gone, 0);
}

static void test_stream_is_chunked(void **state)
{
    struct rig *r = *state;
    int fd = dial(r);
    const char *got;

    puts_to(r, fd, GET("/stream"));
    assert_non_null(got = get(r, fd, "3\r\none\r\n"));
    assert_non_null(strstr(got, "Transfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(got, "X-A: b\r\n"));
    http_stream_write(r->held, "", 0); /* would end the body: writes nothing */
    http_stream_write(r->held, "two", 3);
    http_stream_close(r->held);
    assert_non_null(get(r, fd, "3\r\ntwo\r\n0\r\n\r\n"));
    puts_to(r, fd, GET("/")); /* and the connection goes on */
    assert_non_null(get(r, fd, "Content-Length: 0"));
    close(fd);
}

static void test_http_1_0_stream_ends_with_the_connection(void **state)
{
    struct rig *r = *state;
    int fd = dial(r);
    const char *got;

    puts_to(r, fd, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    wait_for(r, &r->requests, 1);
    http_stream_close(r->held);
    assert_non_null(got = get(r, fd, NULL));
    assert_null(strstr(got, "chunked"));
    assert_non_null(strstr(got, "\r\n\r\none"));
    close(fd);
}

static void test_head_has_no_body(void **state)
{
    struct rig *r = *state;
    int fd = dial(r);
    const char *got;

    puts_to(r, fd, "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab" GET("/"));
    assert_non_null(got = get(r, fd, "Content-Length: 0\r\n\r\n"));
    assert_non_null(strstr(got, "Content-Length: 2\r\n\r\nHTTP/1.1 200"));
    close(fd);
}

static void test_client_that_does_not_read_is_cut_off(void **state)
{
    struct rig *r = *state;
    int fd = dial(r), small = 4096;
    char piece[4096] = {0};
    int64_t limit = clock_now() + 20 * CLOCK_S;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    puts_to(r, fd, GET("/stream"));
    wait_for(r, &r->requests, 1);
    while (!r->gone && clock_now() < limit) {
        http_stream_write(r->held, piece, sizeof(piece));
        turn(r);
    }
    assert_int_equal(r->gone, 1);
    assert_int_equal(http_server_conns(r->server), 0);
    close(fd);
}

static void test_client_that_pipelines_without_end_is_cut_off(void **state)
{
    struct rig *r = *state;
    int fd = dial(r);
    char *many = mem_zalloc(1 << 20);

    memset(many, 'x', 1 << 20);
    puts_to(r, fd, GET("/hold"));
    wait_for(r, &r->requests, 1);
    put(r, fd, many, 1 << 20);
    wait_for(r, &r->gone, 1);
    close(fd);
    mem_free(many);
}

static void test_half_closed_client_gets_what_was_answered(void **state)
{
    struct rig *r = *state;
    int fd = dial(r);

    puts_to(r, fd, GET("/"));
    shutdown(fd, SHUT_WR);
    assert_non_null(get(r, fd, "Content-Length: 0"));
    assert_non_null(get(r, fd, NULL));
    close(fd);
}

static void test_drain(void **state)
{
    struct rig *r = *state;
    int idle = dial(r), busy = dial(r);
    const char *got;

    puts_to(r, idle, GET("/"));
    assert_non_null(get(r, idle, "Content-Length: 0"));
    puts_to(r, busy, GET("/hold"));
    wait_for(r, &r->requests, 2);
    http_server_drain(r->server);
    assert_non_null(get(r, idle, NULL)); /* closed */
    assert_int_equal(http_server_conns(r->server), 1);
    http_reply(r->held, 200, "text/plain", NULL, "x", 1);
    assert_non_null(got = get(r, busy, NULL));
    assert_non_null(strstr(got, "Connection: close\r\n"));
    close(idle);
    close(busy);
}

static void test_address_in_use_is_said(void **state)
{
    struct rig *r = *state;
    const struct http_service service = {r, on_request, on_gone, on_refused};
    struct http_server *second;
    char address[32], want[96];
    struct err e;

    snprintf(address, sizeof(address), "127.0.0.1:%u", http_server_port(r->server));
    assert_int_equal(http_server_open(&second, r->base, address, &service, &e), ERR_NET);
    snprintf(want, sizeof(want), "cannot listen on %s: Address already in use", address);
    assert_string_equal(e.text, want);
    assert_null(second);
    assert_int_equal(http_server_open(&second, r->base, "[::1]:x", &service, &e), ERR_NET);
    assert_null(second);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_keep_alive_and_pipelining),
        TEST(test_pipelined_request_waits_for_the_answer),
        TEST(test_body_by_length_and_by_chunks),
        TEST(test_expect_continue),
        TEST(test_bad_requests_get_json_and_the_end),
        TEST(test_refusal_reaches_a_client_that_still_sends),
        TEST(test_client_that_leaves_while_it_waits),
        TEST(test_client_that_leaves_in_the_middle_of_a_request),
        TEST(test_stream_is_chunked),
        TEST(test_http_1_0_stream_ends_with_the_connection),
        TEST(test_head_has_no_body),
        TEST(test_client_that_does_not_read_is_cut_off),
        TEST(test_client_that_pipelines_without_end_is_cut_off),
        TEST(test_half_closed_client_gets_what_was_answered),
        TEST(test_drain),
        TEST(test_address_in_use_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
