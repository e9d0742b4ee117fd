#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "net/http.h"

/* A server that answers each connection with a fixed text, in pieces, then does as told. */
struct server {
    const char *reply;
    size_t piece; /* bytes a write */
    int linger_ms; /* how long it keeps the connection open after the reply */
    int connections;
    int fd;
    char url[64];
    struct str request; /* of the last connection */
    pthread_t thread;
};

static void serve(struct server *s, int fd)
{
    char buffer[4096];
    size_t n = strlen(s->reply);
    struct pollfd p = {.fd = fd, .events = POLLIN};

    str_clear(&s->request);
    while (!strstr(str_text(&s->request), "\r\n\r\n")) {
        ssize_t got = read(fd, buffer, sizeof(buffer));

        if (got <= 0)
            return;
        str_add(&s->request, buffer, (size_t)got);
    }
    for (size_t at = 0; at < n; at += s->piece)
        if (send(fd, s->reply + at, n - at < s->piece ? n - at : s->piece, MSG_NOSIGNAL) < 0)
            return;
    poll(&p, 1, s->linger_ms); /* ends early when the client closes */
}

static void *server_main(void *arg)
{
    struct server *s = arg;

    for (int i = 0; i < s->connections; i++) {
        int fd = accept(s->fd, NULL, NULL);

        serve(s, fd);
        close(fd);
    }
    return NULL;
}

/* Binds; listens and starts the thread only if there are connections to serve. */
static void server_start(struct server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);

    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
    snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%d", ntohs(a.sin_port));
    if (s->connections > 0) {
        assert_int_equal(listen(s->fd, 8), 0);
        assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
    }
}

static void server_stop(struct server *s)
{
    if (s->connections > 0)
        pthread_join(s->thread, NULL);
    close(s->fd);
    str_fini(&s->request);
}

static void fetch_returns_status_and_body(void **state)
{
    struct server s = {.reply = "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "4\r\nnot \r\n5\r\nfound\r\n0\r\n\r\n",
                       .piece = 7, .linger_ms = 60000, .connections = 2};
    struct str body = {0};
    struct err e = {0};
    int status = 0;

    (void)state;
    server_start(&s);
    if (http_fetch(&status, &body, "GET", s.url, "/x?y=1", NULL, 10000, &e) != ERR_OK)
        fail_msg("%s", e.text);
    assert_int_equal(status, 404);
    assert_string_equal(str_text(&body), "not found");
    str_clear(&body);
    assert_int_equal(http_fetch(&status, &body, "POST", s.url, "/v1", "{}", 0, &e), ERR_OK);
    assert_string_equal(str_text(&body), "not found");
    pthread_join(s.thread, NULL);
    assert_memory_equal(str_text(&s.request), "POST /v1 HTTP/1.1\r\nHost: 127.0.0.1:", 35);
    assert_non_null(strstr(str_text(&s.request), "\r\nContent-Length: 2\r\n"));
    assert_non_null(strstr(str_text(&s.request), "\r\n\r\n"));
    s.connections = 0;
    server_stop(&s);
    str_fini(&body);
}

static void failures_are_one_sentence_with_the_address(void **state)
{
    static const struct {
        const char *reply;
        int code;
        const char *says;
    } cases[] = {
        {"", ERR_NET, "closed before a response"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", ERR_NET, "middle of a response"},
        {"220 smtp ready\r\n", ERR_FORMAT, "220 smtp ready"},
    };
    struct str body = {0};
    struct err e;
    int status;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct server s = {.reply = cases[i].reply, .piece = 100, .connections = 1};

        server_start(&s);
        e = (struct err){0};
        assert_int_equal(http_fetch(&status, &body, "GET", s.url, "/", NULL, 10000, &e),
                         cases[i].code);
        assert_non_null(strstr(e.text, cases[i].says));
        server_stop(&s);
    }
    {
        struct server s = {.connections = 0}; /* bound, so that nobody else takes the port */

        server_start(&s);
        assert_int_equal(http_fetch(&status, &body, "GET", s.url, "/", NULL, 10000, &e), ERR_NET);
        assert_non_null(strstr(e.text, s.url + 7));
        assert_non_null(strstr(e.text, "Connection refused"));
        server_stop(&s);
    }
    str_fini(&body);
}

static void a_silent_server_times_out(void **state)
{
    struct server s = {.reply = "HTTP/1.1 200 OK\r\n", .piece = 100, .linger_ms = 60000,
                       .connections = 1};
    struct str body = {0};
    struct err e = {0};
    int status;

    (void)state;
    server_start(&s);
    assert_int_equal(http_fetch(&status, &body, "GET", s.url, "/", NULL, 30, &e), ERR_TIMEOUT);
    server_stop(&s);
    str_fini(&body);
}

static void bad_urls_are_refused(void **state)
{
    static const struct {
        const char *url;
        int code;
    } cases[] = {
        {"https://host/", ERR_UNSUPPORTED}, {"host:80", ERR_ARG},      {"http://", ERR_ARG},
        {"http://:80", ERR_ARG},            {"http://h:", ERR_ARG},    {"http://h:123456", ERR_ARG},
        {"http://h:8x", ERR_ARG},           {"http://[::1", ERR_ARG},  {"http://a b/", ERR_ARG},
        {"http://h\r\nX: y", ERR_ARG},      {"http://[::1]x", ERR_ARG},
    };
    struct str body = {0};
    int status;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};

        assert_int_equal(http_fetch(&status, &body, "GET", cases[i].url, "/", NULL, 1000, &e),
                         cases[i].code);
        assert_int_equal(e.code, cases[i].code);
    }
    assert_int_equal(http_fetch(&status, &body, "GET", "http://127.0.0.1:1", "/a b", NULL, 0, NULL),
                     ERR_ARG);
    str_fini(&body);
}

/* Asynchronous use: what a handler saw, and what it is to do. */
struct seen {
    struct event_base *base;
    struct http_request *request;
    int status, done, code;
    size_t bytes;
    bool cancel_on_status, cancel_on_body;
};

static void seen_status(void *ctx, int status)
{
    struct seen *s = ctx;

    s->status = status;
    if (s->cancel_on_status)
        http_cancel(&s->request);
}

static void seen_body(void *ctx, const void *bytes, size_t n)
{
    struct seen *s = ctx;

    (void)bytes;
    s->bytes += n;
    if (s->cancel_on_body)
        http_cancel(&s->request);
}

static void seen_done(void *ctx, const struct err *error)
{
    struct seen *s = ctx;

    s->done++;
    s->code = error ? error->code : ERR_OK;
    s->request = NULL;
}

static void run_once(struct seen *seen, struct server *s, uint32_t silence_ms)
{
    static const struct http_handlers handlers = {seen_status, seen_body, seen_done};
    struct http_client *c;
    struct err e = {0};

    server_start(s);
    seen->base = event_base_new();
    if (http_client_open(&c, seen->base, s->url, silence_ms, &e) != ERR_OK ||
        http_start(&seen->request, c, "GET", "/", NULL, 0, &handlers, seen, &e) != ERR_OK)
        fail_msg("%s", e.text);
    event_base_dispatch(seen->base); /* ends when no request is open */
    http_client_close(&c);
    event_base_free(seen->base);
    server_stop(s);
}

static const char chunks[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";

static void a_request_is_done_when_its_last_chunk_arrived(void **state)
{
    /* the server would keep the connection for a minute */
    struct server s = {.reply = chunks, .piece = 1, .linger_ms = 60000, .connections = 1};
    struct seen seen = {0};

    (void)state;
    run_once(&seen, &s, 0);
    assert_int_equal(seen.status, 200);
    assert_int_equal(seen.bytes, 6);
    assert_int_equal(seen.done, 1);
    assert_int_equal(seen.code, ERR_OK);
}

static void cancelling_in_a_handler_closes_and_calls_nobody(void **state)
{
    struct seen in_status = {.cancel_on_status = true}, in_body = {.cancel_on_body = true};
    struct server s = {.reply = chunks, .piece = 100, .linger_ms = 60000, .connections = 1};

    (void)state;
    run_once(&in_status, &s, 0);
    assert_int_equal(in_status.status, 200);
    assert_int_equal(in_status.bytes, 0);
    assert_int_equal(in_status.done, 0);
    run_once(&in_body, &s, 0);
    assert_int_equal(in_body.bytes, 3);
    assert_int_equal(in_body.done, 0);
}

static void added_headers_go_with_every_request(void **state)
{
    static const struct http_handlers handlers = {seen_status, seen_body, seen_done};
    struct server s = {.reply = chunks, .piece = 100, .connections = 1};
    struct seen seen = {.base = event_base_new()};
    struct http_client *c;

    (void)state;
    server_start(&s);
    assert_int_equal(http_client_open(&c, seen.base, s.url, 0, NULL), ERR_OK);
    http_client_header(c, "x-one", "1");
    http_client_header(c, "x-two", "a b");
    assert_int_equal(http_start(&seen.request, c, "GET", "/", NULL, 0, &handlers, &seen, NULL),
                     ERR_OK);
    event_base_dispatch(seen.base);
    pthread_join(s.thread, NULL);
    assert_non_null(strstr(str_text(&s.request), "\r\nx-one: 1\r\nx-two: a b\r\n\r\n"));
    s.connections = 0;
    http_client_close(&c);
    event_base_free(seen.base);
    server_stop(&s);
}

static void silence_fails_a_request(void **state)
{
    struct server s = {.reply = "HTTP/1.1 200 OK\r\n\r\nx", .piece = 100, .linger_ms = 60000,
                       .connections = 1};
    struct seen seen = {0};

    (void)state;
    run_once(&seen, &s, 30);
    assert_int_equal(seen.done, 1);
    assert_int_equal(seen.code, ERR_TIMEOUT);
}

static void closing_the_client_cancels_what_is_open(void **state)
{
    static const struct http_handlers handlers = {seen_status, seen_body, seen_done};
    struct server s = {.connections = 0};
    struct seen seen = {.base = event_base_new()};
    struct http_request *other;
    struct http_client *c;

    (void)state;
    server_start(&s);
    assert_int_equal(http_client_open(&c, seen.base, s.url, 0, NULL), ERR_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(http_start(&other, c, "GET", "/", NULL, 0, &handlers, &seen, NULL), ERR_OK);
    http_cancel(&other);
    assert_null(other);
    http_client_close(&c);
    event_base_dispatch(seen.base);
    assert_int_equal(seen.done, 0);
    event_base_free(seen.base);
    server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fetch_returns_status_and_body),
        cmocka_unit_test(failures_are_one_sentence_with_the_address),
        cmocka_unit_test(a_silent_server_times_out),
        cmocka_unit_test(bad_urls_are_refused),
        cmocka_unit_test(a_request_is_done_when_its_last_chunk_arrived),
        cmocka_unit_test(cancelling_in_a_handler_closes_and_calls_nobody),
        cmocka_unit_test(added_headers_go_with_every_request),
        cmocka_unit_test(silence_fails_a_request),
        cmocka_unit_test(closing_the_client_cancels_what_is_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
