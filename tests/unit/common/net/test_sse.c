#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "net/sse.h"

static bool collect(void *ctx, const char *event, const char *data, size_t n)
{
    assert_int_equal(strlen(data), n);
    str_addf(ctx, "<%s|%s>", event, data);
    return true;
}

static const struct {
    const char *text, *events;
} streams[] = {
    {"data: one\n\ndata: two\n\n", "<|one><|two>"},
    {"data: one\r\n\r\ndata: two\r\n\r\n", "<|one><|two>"},
    {"data: one\r\rdata: two\r\r", "<|one><|two>"},
    {"data:no space\n\ndata:  two\n\n", "<|no space><| two>"},
    {"data: a\ndata: b\ndata\n\n", "<|a\nb\n>"},
    {"event: error\ndata: x\n\ndata: y\n\n", "<error|x><|y>"},
    {": a comment\n\nid: 7\nretry: 10\nnonsense\ndata: z\n\n", "<|z>"},
    {"event: nothing\n\ndata: a: b\n\n", "<|a: b>"},
    {"\xef\xbb\xbf" "data: bom\n\n", "<|bom>"},
    {"data: [DONE]\n\ndata: cut", "<|[DONE]>"},
};

static void events_come_out_whatever_the_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        size_t n = strlen(streams[i].text);
        for (size_t step = 1; step <= n; step++) {
            struct sse s = {0};
            struct str got = {0};

            for (size_t at = 0; at < n; at += step)
                assert_int_equal(sse_feed(&s, streams[i].text + at, n - at < step ? n - at : step,
                                          collect, &got, NULL),
                                 ERR_OK);
            assert_string_equal(str_text(&got), streams[i].events);
            str_fini(&got);
            sse_fini(&s);
        }
    }
}

static bool stop(void *ctx, const char *event, const char *data, size_t n)
{
    (void)event;
    (void)data;
    (void)n;
    ++*(int *)ctx;
    return false;
}

static void the_callback_can_stop_it(void **state)
{
    static const char text[] = "data: one\n\ndata: two\n\n";
    struct sse s = {0};
    int events = 0;

    (void)state;
    assert_int_equal(sse_feed(&s, text, sizeof(text) - 1, stop, &events, NULL), ERR_OK);
    assert_int_equal(events, 1);
    sse_fini(&s);
}

static void an_event_without_end_meets_a_limit(void **state)
{
    struct sse s = {0};
    struct err e = {0};
    int rc = ERR_OK, lines = 0;

    (void)state;
    while (rc == ERR_OK && lines++ < 1 << 20)
        rc = sse_feed(&s, "data: 0123456789\n", 17, stop, &lines, &e);
    assert_int_equal(rc, ERR_LIMIT);
    assert_true(s.data.len <= SSE_EVENT_MAX);
    sse_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_out_whatever_the_pieces),
        cmocka_unit_test(the_callback_can_stop_it),
        cmocka_unit_test(an_event_without_end_meets_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
