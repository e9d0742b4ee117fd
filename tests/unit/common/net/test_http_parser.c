#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/str.h"
#include "net/http_parser.h"

static bool collect(void *ctx, const void *bytes, size_t n)
{
    str_add(ctx, bytes, n);
    return true;
}

/* Feeds `step` bytes at a time. */
static int feed(struct http_parser *p, struct str *body, const char *text, size_t step, struct err *e)
{
    size_t n = strlen(text), at = 0;

    while (at < n) {
        size_t piece = n - at < step ? n - at : step, used;
        int rc = http_parser_feed(p, text + at, piece, &used, collect, body, e);

        if (rc != ERR_OK)
            return rc;
        at += used;
    }
    return ERR_OK;
}

static const struct {
    const char *text;
    int status;
    const char *body;
    bool needs_close;
} good[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", false},
    {"HTTP/1.1 200 OK\r\ncontent-LENGTH:\t5 \r\n\r\nhello<ignored>", 200, "hello", false},
    {"HTTP/1.1 404\nContent-Length: 0\n\n", 404, "", false},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
    {"HTTP/1.1 204 No Content\r\n\r\n", 204, "", false},
    {"HTTP/1.0 200 OK\r\n\r\nuntil close", 200, "until close", true},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
     "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nTrailer: x\r\n\r\n",
     200, "hello world", false},
    {"HTTP/1.1 429 Too Many Requests\r\nTransfer-Encoding: Chunked\r\nContent-Length: 99\r\n\r\n"
     "A \r\n0123456789\r\n000\r\n\r\n",
     429, "0123456789", false},
};

static void responses_are_read_in_pieces_of_any_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        for (size_t step = 1; step <= strlen(good[i].text); step++) {
            struct http_parser p = {0};
            struct str body = {0};
            struct err e = {0};

            if (feed(&p, &body, good[i].text, step, &e) != ERR_OK)
                fail_msg("%zu: %s", i, e.text);
            assert_int_equal(p.status, good[i].status);
            assert_true(p.headers_done);
            assert_string_equal(str_text(&body), good[i].body);
            assert_int_equal(p.state == HTTP_DONE, !good[i].needs_close);
            assert_int_equal(http_parser_close(&p, &e), ERR_OK);
            assert_int_equal(p.state, HTTP_DONE);
            str_fini(&body);
        }
}

static const struct {
    const char *text;
    int code;
} bad[] = {
    {"SSH-2.0-OpenSSH_9.2\r\n", ERR_FORMAT},
    {"HTTP/2 200\r\n", ERR_FORMAT},
    {"HTTP/1.1 20 OK\r\n", ERR_FORMAT},
    {"HTTP/1.1 2000 OK\r\n", ERR_FORMAT},
    {"HTTP/1.1 200 OK\r\nno colon\r\n", ERR_FORMAT},
    {"HTTP/1.1 200 OK\r\n: no name\r\n", ERR_FORMAT},
    {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", ERR_FORMAT},
    {"HTTP/1.1 200 OK\r\nContent-Length:\r\n", ERR_FORMAT},
    {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n", ERR_FORMAT},
    {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n", ERR_FORMAT},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", ERR_UNSUPPORTED},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", ERR_FORMAT},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", ERR_FORMAT},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", ERR_FORMAT},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", ERR_FORMAT},
};

static void malformed_responses_are_refused_with_a_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        for (size_t step = 1; step <= strlen(bad[i].text); step++) {
            struct http_parser p = {0};
            struct str body = {0};
            struct err e = {0};

            assert_int_equal(feed(&p, &body, bad[i].text, step, &e), bad[i].code);
            assert_memory_equal(e.text, "http: ", 6);
            str_fini(&body);
        }
}

static void headers_without_end_meet_a_limit(void **state)
{
    struct http_parser p = {0};
    struct str body = {0};
    struct err e = {0};
    int rc = ERR_OK;

    (void)state;
    assert_int_equal(feed(&p, &body, "HTTP/1.1 200 OK\r\n", 64, &e), ERR_OK);
    for (int i = 0; i < HTTP_HEADERS_MAX && rc == ERR_OK; i++)
        rc = feed(&p, &body, "X-Header: value\r\n", 64, &e);
    assert_int_equal(rc, ERR_LIMIT);
    memset(&p, 0, sizeof(p));
    for (int i = 0; i <= HTTP_LINE_MAX && rc == ERR_OK; i++)
        rc = feed(&p, &body, "x", 1, &e);
    assert_int_equal(rc, ERR_LIMIT);
    str_fini(&body);
}

static void a_close_in_the_middle_is_an_error(void **state)
{
    static const char *const cut[] = {
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cut); i++) {
        struct http_parser p = {0};
        struct str body = {0};
        struct err e = {0};

        assert_int_equal(feed(&p, &body, cut[i], 4096, &e), ERR_OK);
        assert_int_equal(http_parser_close(&p, &e), ERR_NET);
        str_fini(&body);
    }
}

static bool refuse(void *ctx, const void *bytes, size_t n)
{
    (void)bytes;
    *(size_t *)ctx += n;
    return false;
}

static void the_body_callback_can_stop_it(void **state)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    struct http_parser p = {0};
    size_t got = 0, used, head;

    (void)state;
    assert_int_equal(http_parser_feed(&p, text, sizeof(text) - 1, &head, refuse, &got, NULL), ERR_OK);
    assert_true(p.headers_done); /* stopped after the headers, for the caller to look */
    assert_int_equal(got, 0);
    assert_int_equal(http_parser_feed(&p, text + head, sizeof(text) - 1 - head, &used, refuse, &got,
                                      NULL),
                     ERR_OK);
    assert_int_equal(got, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(responses_are_read_in_pieces_of_any_size),
        cmocka_unit_test(malformed_responses_are_refused_with_a_sentence),
        cmocka_unit_test(headers_without_end_meet_a_limit),
        cmocka_unit_test(a_close_in_the_middle_is_an_error),
        cmocka_unit_test(the_body_callback_can_stop_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
