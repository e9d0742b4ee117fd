#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/http_head.h"

#define H "Host: a\r\n"

static int parse(struct http_head *h, char **copy, const char *text, size_t n)
{
    const char *why = NULL;
    bool over;
    int status;

    *copy = mem_dup(text, n); /* so that a sanitizer sees reads beyond it */
    assert_int_equal(http_head_length(*copy, n, &over), n);
    status = http_head_parse(h, *copy, n, &why);
    if (status)
        assert_non_null(why);
    return status;
}

static void test_heads_that_are_refused(void **state)
{
    const struct {
        int status;
        const char *head;
    } rows[] = {
        {400, "\r\n\r\n"},
        {400, "GET\r\n\r\n"},
        {400, "GET /\r\n\r\n"},
        {400, "GET / HTTP/1.1 \r\n" H "\r\n"},
        {400, "GET  / HTTP/1.1\r\n" H "\r\n"},
        {400, " GET / HTTP/1.1\r\n" H "\r\n"},
        {400, "G@T / HTTP/1.1\r\n" H "\r\n"},
        {400, "GET /\x01 HTTP/1.1\r\n" H "\r\n"},
        {400, "GET / FTP/1.1\r\n" H "\r\n"},
        {400, "GET / HTTP/11\r\n" H "\r\n"},
        {505, "GET / HTTP/2.0\r\n" H "\r\n"},
        {505, "GET / HTTP/1.2\r\n" H "\r\n"},
        {505, "GET / HTTP/0.9\r\n" H "\r\n"},
        {400, "GET / HTTP/1.1\r\n\r\n"},                                /* no Host */
        {400, "GET / HTTP/1.1\r\n" H H "\r\n"},
        {400, "GET / HTTP/1.1\r\n" H "nocolon\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" H ": empty name\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" H "a : blank\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" H "a: b\r\n folded\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" H "a: b\r\n\tfolded\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" H "a: b\nc: d\r\n\r\n"},             /* bare LF */
        {400, "GET / HTTP/1.1\n" H "\r\n"},
        {400, "GET / HTTP/1.1\r\n" H "a: b\rc\r\n\r\n"},                /* bare CR */
        {400, "GET / HTTP/1.1\r\n" H "a: \x7f\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551616\r\n\r\n"},
        {400, "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n"},
        {501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: "
              "chunked\r\n\r\n"},
        {417, "POST / HTTP/1.1\r\n" H "Expect: tea\r\n\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_head h;
        char *copy;
        int status = parse(&h, &copy, rows[i].head, strlen(rows[i].head));

        if (status != rows[i].status)
            fail_msg("%d, not %d: %s", status, rows[i].status, rows[i].head);
        mem_free(copy);
    }
}

static void test_nul_is_refused(void **state)
{
    static const char head[] = "GET / HTTP/1.1\r\nHost: a\r\nb: x\0y\r\n\r\n";
    struct http_head h;
    char *copy;

    (void)state;
    assert_int_equal(parse(&h, &copy, head, sizeof(head) - 1), 400);
    mem_free(copy);
}

static void test_head_is_taken_apart(void **state)
{
    const char *head = "POST /v1/x?a=b?c HTTP/1.1\r\nHOST: h:1\r\nX-Y: \t v w\t \r\nempty:\r\n"
                       "content-LENGTH: 0012\r\nExpect: 100-Continue\r\n\r\n";
    struct http_head h;
    char *copy;

    (void)state;
    assert_int_equal(parse(&h, &copy, head, strlen(head)), 0);
    assert_true(http_text_is(h.method, "POST"));
    assert_true(http_text_is(h.path, "/v1/x"));
    assert_true(http_text_is(h.query, "a=b?c"));
    assert_true(http_text_is(http_head_get(&h, "x-y"), "v w"));
    assert_true(http_text_is(http_head_get(&h, "Empty"), ""));
    assert_null(http_head_get(&h, "absent").s);
    assert_true(h.has_length && h.expect_continue && h.keep_alive && !h.chunked);
    assert_int_equal(h.length, 12);
    mem_free(copy);
}

static void test_keep_alive(void **state)
{
    const struct {
        const char *head;
        bool keep;
    } rows[] = {
        {"GET / HTTP/1.1\r\n" H "\r\n", true},
        {"GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" H "Connection: foo, Close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" H "Connection: closed\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_head h;
        char *copy;

        assert_int_equal(parse(&h, &copy, rows[i].head, strlen(rows[i].head)), 0);
        assert_int_equal(h.keep_alive, rows[i].keep);
        mem_free(copy);
    }
}

static void test_limits(void **state)
{
    struct str s = {0};
    struct http_head h;
    bool over;
    char *copy;

    (void)state;
    str_adds(&s, "GET / HTTP/1.1\r\n" H);
    for (int i = 1; i < HTTP_FIELDS_MAX; i++)
        str_addf(&s, "f%d: x\r\n", i);
    str_adds(&s, "\r\n");
    assert_int_equal(parse(&h, &copy, s.data, s.len), 0);
    mem_free(copy);
    s.len -= 2;
    str_adds(&s, "one: more\r\n\r\n");
    assert_int_equal(parse(&h, &copy, s.data, s.len), 431);
    mem_free(copy);

    str_clear(&s);
    str_adds(&s, "GET /");
    for (int i = 0; i < HTTP_TARGET_MAX; i++)
        str_addc(&s, 'x');
    str_adds(&s, " HTTP/1.1\r\n" H "\r\n");
    assert_int_equal(parse(&h, &copy, s.data, s.len), 414);
    mem_free(copy);

    str_clear(&s);
    while (s.len < HTTP_HEAD_MAX + 100)
        str_addc(&s, 'x');
    assert_int_equal(http_head_length(s.data, HTTP_HEAD_MAX - 1, &over), 0);
    assert_false(over);
    assert_int_equal(http_head_length(s.data, s.len, &over), 0);
    assert_true(over);
    str_fini(&s);
}

/* Feeds a chunked body in pieces of `step` bytes; the body, or NULL if malformed or incomplete. */
static char *unchunk(const char *text, size_t step, size_t *left)
{
    struct http_chunked c = {0};
    struct str in = {0}, out = {0};
    size_t n = strlen(text), framing, used;
    bool ok = true;

    for (size_t at = 0; at < n && ok; at += step) {
        str_add(&in, text + at, size_min(step, n - at));
        do {
            ok = http_chunked_next(&c, str_text(&in), in.len, &framing, &used);
            if (!ok)
                break;
            str_add(&out, str_text(&in) + framing, used - framing);
            str_drop(&in, used);
        } while (used && c.state != CHUNK_DONE);
    }
    ok = ok && c.state == CHUNK_DONE;
    *left = in.len;
    str_fini(&in);
    if (ok)
        return out.data ? str_steal(&out) : mem_strdup("");
    str_fini(&out);
    return NULL;
}

static void test_chunked_bodies(void **state)
{
    const struct {
        const char *text, *body; /* NULL: refused */
    } rows[] = {
        {"5\r\nhello\r\n0\r\n\r\n", "hello"},
        {"1\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n", "a0123456789"},
        {"0\r\n\r\n", ""},
        {"000005\r\nhello\r\n0\r\n\r\n", "hello"},
        {"2\r\n\r\n\r\n0\r\n\r\n", "\r\n"},
        {"5;ext=1\r\nhello\r\n0\r\n\r\n", NULL},
        {"5 \r\nhello\r\n0\r\n\r\n", NULL},
        {"5\nhello\r\n0\r\n\r\n", NULL},
        {"5\r\nhello0\r\n\r\n", NULL},
        {"5\r\nhelloX\r\n0\r\n\r\n", NULL},
        {"\r\nhello\r\n0\r\n\r\n", NULL},
        {"-5\r\nhello\r\n0\r\n\r\n", NULL},
        {"0x5\r\nhello\r\n0\r\n\r\n", NULL},
        {"10000000000000005\r\nhello\r\n0\r\n\r\n", NULL},
        {"0\r\nTrailer: x\r\n\r\n", NULL},
        {"5\r\nhel", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t step = 1; step <= 64; step++) {
            size_t left;
            char *body = unchunk(rows[i].text, step, &left);

            if (!body != !rows[i].body || (body && strcmp(body, rows[i].body) != 0))
                fail_msg("%s in steps of %zu: %s", rows[i].text, step, body ? body : "refused");
            mem_free(body);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads_that_are_refused),
        cmocka_unit_test(test_nul_is_refused),
        cmocka_unit_test(test_head_is_taken_apart),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_chunked_bodies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
