/* Against a server that sends a fixed reply. */
#include "deploy/stream.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

struct server {
    const char *reply;
    bool stays; /* does not end what it says */
    int fd;
    char url[64];
    struct str request;
    pthread_t thread;
};

static void *server_main(void *arg)
{
    struct server *s = arg;
    int fd = accept(s->fd, NULL, NULL);
    char buffer[4096];
    ssize_t n;

    while (!strstr(str_text(&s->request), "\r\n\r\n{") && (n = read(fd, buffer, sizeof(buffer))) > 0)
        str_add(&s->request, buffer, (size_t)n);
    send(fd, s->reply, strlen(s->reply), MSG_NOSIGNAL);
    if (!s->stays)
        shutdown(fd, SHUT_WR);
    while (read(fd, buffer, sizeof(buffer)) > 0)
        ;
    close(fd);
    return NULL;
}

static void server_start(struct server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);

    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
    assert_int_equal(listen(s->fd, 1), 0);
    snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%d", ntohs(a.sin_port));
    assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static bool collect(void *ctx, const char *piece, size_t n)
{
    str_add(ctx, piece, n);
    return true;
}

static bool stop_at_once(void *ctx, const char *piece, size_t n)
{
    str_add(ctx, piece, n);
    return false;
}

static bool interrupt(void *ctx, const char *piece, size_t n)
{
    str_add(ctx, piece, n);
    raise(SIGINT);
    return true;
}

static int run(const char *reply, struct stream_figures *f, struct str *text,
               bool (*fn)(void *, const char *, size_t), struct err *e)
{
    struct server s = {.reply = reply, .stays = fn == interrupt};
    json_t *request = json_pack("{s:s, s:b}", "prompt", "x", "stream", 1);
    int rc;

    server_start(&s);
    rc = stream_run(f, s.url, "/v1/completions", request, fn, text, fn == interrupt, e);
    pthread_join(s.thread, NULL);
    assert_memory_equal(str_text(&s.request), "POST /v1/completions HTTP/1.1\r\n", 31);
    assert_non_null(strstr(str_text(&s.request), "\r\nx-tandem-timings: 1\r\n"));
    str_fini(&s.request);
    close(s.fd);
    json_decref(request);
    return rc;
}

#define OK "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

static void test_text_and_figures(void **state)
{
    static const char reply[] =
        OK "data: {\"choices\":[{\"text\":\"Hi\",\"finish_reason\":null}]}\n\n"
           "data: {\"choices\":[{\"text\":\" there\",\"finish_reason\":\"length\"}]}\n\n"
           "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2},"
           "\"tandem\":{\"ttft_ms\":12.5,\"tpot_ms\":4,\"prefill_node\":\"prefill-1\","
           "\"decode_node\":\"decode-2\",\"kv_bytes\":36864,\"prefill_queue_ms\":0.5,"
           "\"prefill_ms\":9}}\n\ndata: [DONE]\n\n";
    struct str text = {0}, report = {0};
    struct stream_figures f;
    struct err e = {0};

    (void)state;
    assert_int_equal(run(reply, &f, &text, collect, &e), 0);
    assert_string_equal(str_text(&text), "Hi there");
    stream_report(&f, &report);
    assert_string_equal(str_text(&report),
                        "TTFT 12.5 ms, TPOT 4.00 ms, 9 prompt tokens, 2 output tokens (length)\n"
                        "prefill-1 computed the prompt in 9.0 ms after 0.5 ms in its queue, and "
                        "shipped 36.0 KiB of KV to decode-2, which generated the rest\n");
    str_fini(&text);
    str_fini(&report);
}

static void test_chat_without_figures_is_measured(void **state)
{
    static const char reply[] =
        OK "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"
           "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
           "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\ndata: [DONE]\n\n";
    struct str text = {0};
    struct stream_figures f;
    struct err e = {0};

    (void)state;
    assert_int_equal(run(reply, &f, &text, collect, &e), 0);
    assert_string_equal(str_text(&text), "ab");
    assert_int_equal(f.output_tokens, 2);
    assert_true(f.ttft_ms > 0);
    str_fini(&text);
}

static void test_failures_are_one_sentence(void **state)
{
    static const struct {
        const char *reply;
        int code;
        const char *want;
    } cases[] = {
        {"HTTP/1.1 400 No\r\nContent-Length: 39\r\n\r\n{\"error\":{\"message\":\"too long: 9 > 8\"}}\n",
         ERR_PEER, "too long: 9 > 8"},
        {"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", ERR_PEER,
         "the router answered with status 503"},
        {OK "data: {\"choices\":[{\"text\":\"a\"}]}\n\n", ERR_NET, "the stream broke off"},
        {OK "data: {\"error\":{\"message\":\"both nodes died\"}}\n\n", ERR_PEER, "both nodes died"},
        {OK "data: {oops\n\n", ERR_FORMAT, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct str text = {0};
        struct stream_figures f;
        struct err e = {0};

        assert_int_equal(run(cases[i].reply, &f, &text, collect, &e), cases[i].code);
        if (cases[i].want)
            assert_string_equal(e.text, cases[i].want);
        str_fini(&text);
    }
}

static void test_the_reader_may_stop_it(void **state)
{
    static const char reply[] = OK "data: {\"choices\":[{\"text\":\"a\"}]}\n\n"
                                   "data: {\"choices\":[{\"text\":\"b\"}]}\n\n";
    struct str text = {0};
    struct stream_figures f;
    struct err e = {0};

    (void)state;
    assert_int_equal(run(reply, &f, &text, stop_at_once, &e), 0);
    assert_string_equal(str_text(&text), "a");
    str_fini(&text);
}

static void test_sigint_ends_the_answer_and_nothing_else(void **state)
{
    static const char reply[] = OK "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
    struct str text = {0}, report = {0};
    struct stream_figures f;
    struct sigaction after;
    struct err e = {0};

    (void)state;
    signal(SIGINT, SIG_DFL); /* ignored, where a shell runs the tests in the background */
    assert_int_equal(run(reply, &f, &text, interrupt, &e), 0);
    assert_string_equal(str_text(&text), "a");
    assert_int_equal(f.output_tokens, 0); /* nobody counted them */
    stream_report(&f, &report);
    assert_non_null(strstr(str_text(&report), "ended from here after 1 pieces of text"));
    assert_int_equal(sigaction(SIGINT, NULL, &after), 0);
    assert_ptr_equal(after.sa_handler, SIG_DFL); /* the next one ends the program */
    str_fini(&text);
    str_fini(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_and_figures),
        cmocka_unit_test(test_chat_without_figures_is_measured),
        cmocka_unit_test(test_failures_are_one_sentence),
        cmocka_unit_test(test_the_reader_may_stop_it),
        cmocka_unit_test(test_sigint_ends_the_answer_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
