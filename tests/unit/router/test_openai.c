#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/check.h"
#include "router/openai.h"

static const struct openai_head chat = {API_CHAT, "chatcmpl-1", "m", 1234};
static const struct openai_head text = {API_COMPLETION, "cmpl-1", "m", 1234};

/* The JSON of one server-sent event; the event is of the only form we send. */
static json_t *event(struct str *s)
{
    json_t *v;

    assert_true(s->len > 8);
    assert_memory_equal(s->data, "data: ", 6);
    assert_string_equal(s->data + s->len - 2, "\n\n");
    assert_ptr_equal(strchr(s->data, '\n'), s->data + s->len - 2);
    v = json_loadb(s->data + 6, s->len - 8, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(v);
    str_fini(s);
    return v;
}

static json_t *choice(json_t *v)
{
    assert_int_equal(json_array_size(json_object_get(v, "choices")), 1);
    return json_array_get(json_object_get(v, "choices"), 0);
}

static void check_common(json_t *v, const char *object)
{
    assert_string_equal(json_string_value(json_object_get(v, "object")), object);
    assert_string_equal(json_string_value(json_object_get(v, "model")), "m");
    assert_int_equal(json_integer_value(json_object_get(v, "created")), 1234);
    assert_null(json_object_get(v, "usage"));
}

static void test_role_comes_alone(void **state)
{
    struct str s = {0};
    json_t *v, *delta;

    (void)state;
    openai_chunk_role(&s, &chat);
    v = event(&s);
    check_common(v, "chat.completion.chunk");
    delta = json_object_get(choice(v), "delta");
    assert_string_equal(json_string_value(json_object_get(delta, "role")), "assistant");
    assert_string_equal(json_string_value(json_object_get(delta, "content")), "");
    assert_true(json_is_null(json_object_get(choice(v), "finish_reason")));
    json_decref(v);
}

static void test_text_chunks(void **state)
{
    const uint32_t ids[] = {5, 6};
    struct str s = {0};
    json_t *v, *delta;

    (void)state;
    openai_chunk_text(&s, &chat, "a\"\n", 3, NULL, 0);
    v = event(&s);
    check_common(v, "chat.completion.chunk");
    delta = json_object_get(choice(v), "delta");
    assert_string_equal(json_string_value(json_object_get(delta, "content")), "a\"\n");
    assert_null(json_object_get(delta, "role"));
    assert_true(json_is_null(json_object_get(choice(v), "finish_reason")));
    assert_null(json_object_get(choice(v), "token_ids"));
    json_decref(v);
    openai_chunk_text(&s, &text, "b", 1, ids, 2);
    v = event(&s);
    check_common(v, "text_completion");
    assert_string_equal(json_string_value(json_object_get(choice(v), "text")), "b");
    assert_int_equal(json_array_size(json_object_get(choice(v), "token_ids")), 2);
    json_decref(v);
}

static void test_last_chunks(void **state)
{
    const struct openai_timings t = {.ttft_ms = 1.5, .kv_bytes = 1ull << 40,
                                     .prefill_node = "prefill-1", .decode_node = "decode-1"};
    const struct openai_usage u = {3, 4, 2};
    struct str s = {0};
    json_t *v;

    (void)state;
    openai_chunk_finish(&s, &chat, "stop", NULL);
    v = event(&s);
    assert_int_equal(json_object_size(json_object_get(choice(v), "delta")), 0);
    assert_string_equal(json_string_value(json_object_get(choice(v), "finish_reason")), "stop");
    assert_null(json_object_get(v, "tandem"));
    json_decref(v);
    openai_chunk_finish(&s, &text, "length", &t);
    v = event(&s);
    assert_string_equal(json_string_value(json_object_get(choice(v), "text")), "");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(v, "tandem"), "kv_bytes")), 1ll << 40);
    json_decref(v);
    openai_chunk_usage(&s, &chat, &u);
    v = event(&s);
    assert_int_equal(json_array_size(json_object_get(v, "choices")), 0);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(v, "usage"), "total_tokens")), 7);
    assert_int_equal(json_integer_value(json_object_get(
                         json_object_get(json_object_get(v, "usage"), "prompt_tokens_details"),
                         "cached_tokens")),
                     2);
    json_decref(v);
    openai_chunk_done(&s);
    assert_string_equal(s.data, "data: [DONE]\n\n");
    str_fini(&s);
}

static void test_whole_bodies(void **state)
{
    const struct openai_usage u = {3, 4, 2};
    struct str s = {0};
    json_t *v, *message;

    (void)state;
    openai_body(&s, &chat, "hi", 2, NULL, 0, "stop", &u, NULL);
    assert_non_null(v = json_loads(s.data, JSON_REJECT_DUPLICATES, NULL));
    assert_string_equal(json_string_value(json_object_get(v, "object")), "chat.completion");
    message = json_object_get(choice(v), "message");
    assert_string_equal(json_string_value(json_object_get(message, "role")), "assistant");
    assert_string_equal(json_string_value(json_object_get(message, "content")), "hi");
    json_decref(v);
    str_clear(&s);
    openai_body(&s, &text, "", 0, NULL, 0, "length", &u, NULL);
    assert_non_null(v = json_loads(s.data, JSON_REJECT_DUPLICATES, NULL));
    assert_string_equal(json_string_value(json_object_get(choice(v), "text")), "");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(v, "usage"), "completion_tokens")), 4);
    json_decref(v);
    str_fini(&s);
}

static void test_errors(void **state)
{
    struct api_error e = {.status = 503, .text = "busy \"now\""};
    struct str s = {0};
    json_t *v, *error;

    (void)state;
    openai_chunk_error(&s, &e);
    v = event(&s);
    error = json_object_get(v, "error");
    assert_string_equal(json_string_value(json_object_get(error, "message")), "busy \"now\"");
    assert_string_equal(json_string_value(json_object_get(error, "type")), "unavailable_error");
    assert_true(json_is_null(json_object_get(error, "param")));
    assert_true(json_is_null(json_object_get(error, "code")));
    json_decref(v);
    assert_string_equal(openai_error_type(404), "not_found_error");
    assert_string_equal(openai_error_type(413), "invalid_request_error");
    assert_string_equal(openai_error_type(500), "server_error");
}

static void test_strings_survive(void **state)
{
    char raw[128 + 16];
    struct str s = {0};
    json_t *v;
    size_t n = 0;

    (void)state;
    for (int c = 1; c < 128; c++)
        raw[n++] = (char)c;
    memcpy(raw + n, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9);
    n += 9;
    openai_string(&s, raw, n);
    assert_non_null(v = json_loadb(s.data, s.len, JSON_DECODE_ANY, NULL));
    assert_int_equal(json_string_length(v), n);
    assert_memory_equal(json_string_value(v), raw, n);
    json_decref(v);
    str_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_role_comes_alone), cmocka_unit_test(test_text_chunks),
        cmocka_unit_test(test_last_chunks),      cmocka_unit_test(test_whole_bodies),
        cmocka_unit_test(test_errors),           cmocka_unit_test(test_strings_survive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
