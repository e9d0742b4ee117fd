#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/str.h"
#include "router/api.h"

struct good {
    enum api_kind kind;
    const char *body;
};

#define MSGS "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define CHAT(rest) {API_CHAT, "{" MSGS rest "}"}
#define TEXT(rest) {API_COMPLETION, "{\"prompt\":\"hi\"" rest "}"}

static const struct good good[] = {
    CHAT(""),
    TEXT(""),
    CHAT(",\"model\":\"m\",\"max_tokens\":5,\"temperature\":0,\"top_p\":0.5,\"seed\":-1"),
    CHAT(",\"max_tokens\":5,\"max_completion_tokens\":5"),
    CHAT(",\"temperature\":null,\"stop\":null,\"tools\":null,\"seed\":null,\"logprobs\":null"),
    CHAT(",\"stream\":true,\"stream_options\":{\"include_usage\":true}"),
    CHAT(",\"stream\":true,\"stream_options\":{\"include_obfuscation\":false}"),
    CHAT(",\"stream\":false,\"stream_options\":null"),
    CHAT(",\"stop\":[]"),
    CHAT(",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]"),
    CHAT(",\"n\":1,\"frequency_penalty\":0,\"presence_penalty\":0.0,\"logit_bias\":{}"),
    CHAT(",\"tools\":[],\"tool_choice\":\"none\",\"parallel_tool_calls\":true"),
    CHAT(",\"response_format\":{\"type\":\"text\"}"),
    CHAT(",\"user\":\"me\",\"metadata\":{\"a\":\"b\"},\"store\":false,\"service_tier\":\"auto\""),
    CHAT(",\"top_k\":-1"),
    CHAT(",\"top_k\":0"),
    CHAT(",\"seed\":9223372036854775807"),
    CHAT(",\"logprobs\":false,\"top_logprobs\":0"),
    CHAT(",\"ignore_eos\":true,\"min_tokens\":0"),
    TEXT(",\"echo\":false,\"suffix\":null,\"best_of\":1,\"logprobs\":null"),
    {API_COMPLETION, "{\"prompt\":[1,2,3]}"},
    {API_COMPLETION, "{\"prompt\":[\"hi\"]}"},
    {API_COMPLETION, "{\"prompt\":[[1,2]]}"},
    {API_COMPLETION, "{\"prompt\":\"\"}"},
    {API_COMPLETION, "  {\"prompt\":\"\\ud83d\\ude00\"}\n"},
    {API_CHAT, "{\"messages\":[{\"role\":\"system\",\"content\":\"\"},{\"role\":\"developer\","
               "\"content\":\"d\"},{\"role\":\"assistant\",\"content\":\"a\",\"refusal\":null,"
               "\"tool_calls\":[],\"annotations\":[],\"audio\":null}]}"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
               "{\"type\":\"text\",\"text\":\"b\"}]}]}"},
};

struct bad {
    enum api_kind kind;
    const char *body, *param, *part; /* part of the sentence */
};

static const struct bad bad[] = {
    /* not JSON, not an object */
    {API_CHAT, "", "", "not valid JSON"},
    {API_CHAT, "{", "", "not valid JSON: line 1"},
    {API_CHAT, "[]", "", "must be a JSON object"},
    {API_CHAT, "null", "", "not valid JSON"},
    {API_CHAT, "{} x", "", "not valid JSON"},
    {API_CHAT, "{\"a\":1,\"a\":2}", "", "duplicate"},
    {API_CHAT, "{'a':1}", "", "not valid JSON"},
    {API_COMPLETION, "{\"prompt\":\"\xff\"}", "", "not valid JSON"},
    {API_COMPLETION, "{\"prompt\":\"\xc3\"}", "", "not valid JSON"},
    {API_COMPLETION, "{\"prompt\":\"\\ud800\"}", "", "not valid JSON"},
    {API_COMPLETION, "{\"prompt\":\"a\\u0000b\"}", "", "not valid JSON"},
    {API_COMPLETION, "{\"prompt\":\"a\nb\"}", "", "not valid JSON"},
    {API_CHAT, "{\"max_tokens\":99999999999999999999}", "", "a number is too large"},
    {API_CHAT, "{\"temperature\":1e999}", "", "a number is too large"},
    {API_CHAT, "{\"temperature\":NaN}", "", "not valid JSON"},
    /* what is missing or unknown */
    {API_CHAT, "{}", "messages", "messages is missing"},
    {API_COMPLETION, "{}", "prompt", "prompt is missing"},
    {API_COMPLETION, "{\"prompt\":null}", "prompt", "prompt is missing"},
    {API_CHAT, "{\"prompt\":\"hi\"}", "prompt", "not a field of this endpoint"},
    {API_COMPLETION, "{" MSGS "}", "messages", "not a field of this endpoint"},
    {API_CHAT, "{" MSGS ",\"max_token\":5}", "max_token", "unknown field \"max_token\""},
    {API_CHAT, "{" MSGS ",\"\":5}", "", "unknown field \"\""},
    /* wrong types and ranges */
    {API_CHAT, "{" MSGS ",\"model\":5}", "model", "model is 5, but must be a string"},
    {API_CHAT, "{" MSGS ",\"max_tokens\":0}", "max_tokens", "max_tokens is 0"},
    {API_CHAT, "{" MSGS ",\"max_tokens\":-1}", "max_tokens", "max_tokens is -1"},
    {API_CHAT, "{" MSGS ",\"max_tokens\":2147483648}", "max_tokens", "from 1 to 2147483647"},
    {API_CHAT, "{" MSGS ",\"max_tokens\":1.5}", "max_tokens", "max_tokens is 1.5"},
    {API_CHAT, "{" MSGS ",\"max_tokens\":\"5\"}", "max_tokens", "max_tokens is \"5\""},
    {API_CHAT, "{" MSGS ",\"max_tokens\":true}", "max_tokens", "max_tokens is true"},
    {API_CHAT, "{" MSGS ",\"max_tokens\":[5]}", "max_tokens", "max_tokens is an array"},
    {API_CHAT, "{" MSGS ",\"max_completion_tokens\":0}", "max_completion_tokens", "is 0"},
    {API_CHAT, "{" MSGS ",\"max_tokens\":5,\"max_completion_tokens\":6}", "max_completion_tokens",
     "both given, 5 and 6"},
    {API_CHAT, "{" MSGS ",\"temperature\":-0.1}", "temperature", "a number from 0 to 100"},
    {API_CHAT, "{" MSGS ",\"temperature\":101}", "temperature", "temperature is 101"},
    {API_CHAT, "{" MSGS ",\"temperature\":\"hot\"}", "temperature", "temperature is \"hot\""},
    {API_CHAT, "{" MSGS ",\"temperature\":{}}", "temperature", "temperature is an object"},
    {API_CHAT, "{" MSGS ",\"top_p\":0}", "top_p", "above 0"},
    {API_CHAT, "{" MSGS ",\"top_p\":1e-60}", "top_p", "above 0"},
    {API_CHAT, "{" MSGS ",\"top_p\":1.01}", "top_p", "up to 1"},
    {API_CHAT, "{" MSGS ",\"top_p\":\"x\"}", "top_p", "up to 1"},
    {API_CHAT, "{" MSGS ",\"top_k\":-2}", "top_k", "top_k is -2"},
    {API_CHAT, "{" MSGS ",\"top_k\":1.0}", "top_k", "an integer"},
    {API_CHAT, "{" MSGS ",\"seed\":\"1\"}", "seed", "an integer"},
    {API_CHAT, "{" MSGS ",\"seed\":1.5}", "seed", "an integer"},
    {API_CHAT, "{" MSGS ",\"seed\":9223372036854775808}", "", "seed too, go from -2^63 to 2^63 - 1"},
    {API_CHAT, "{" MSGS ",\"seed\":-9223372036854775809}", "", "a number is too large (line 1, "},
    {API_CHAT, "{" MSGS ",\"stop\":5}", "stop", "a string or an array of strings"},
    {API_CHAT, "{" MSGS ",\"stop\":\"\"}", "stop", "has 0 bytes"},
    {API_CHAT, "{" MSGS ",\"stop\":[\"\"]}", "stop", "has 0 bytes"},
    {API_CHAT, "{" MSGS ",\"stop\":[\"a\",null]}", "stop", "stop is null"},
    {API_CHAT, "{" MSGS ",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]}",
     "stop", "9 strings, and at most 8"},
    {API_CHAT, "{" MSGS ",\"stream\":1}", "stream", "true or false"},
    {API_CHAT, "{" MSGS ",\"stream\":\"true\"}", "stream", "true or false"},
    {API_CHAT, "{" MSGS ",\"stream\":true,\"stream_options\":true}", "stream_options", "an object"},
    {API_CHAT, "{" MSGS ",\"stream\":true,\"stream_options\":{\"x\":1}}", "stream_options",
     "unknown field \"x\""},
    {API_CHAT, "{" MSGS ",\"stream\":true,\"stream_options\":{\"include_usage\":1}}",
     "stream_options.include_usage", "true or false"},
    {API_CHAT, "{" MSGS ",\"stream_options\":{\"include_usage\":true}}", "stream_options",
     "with stream: true"},
    {API_CHAT, "{" MSGS ",\"ignore_eos\":0}", "ignore_eos", "true or false"},
    /* never ignored silently */
    {API_CHAT, "{" MSGS ",\"n\":2}", "n", "n is 2, but must be 1"},
    {API_CHAT, "{" MSGS ",\"n\":\"1\"}", "n", "must be 1"},
    {API_COMPLETION, "{\"prompt\":\"a\",\"best_of\":3}", "best_of", "must be 1"},
    {API_COMPLETION, "{\"prompt\":\"a\",\"echo\":true}", "echo", "echo is not supported"},
    {API_COMPLETION, "{\"prompt\":\"a\",\"suffix\":\"b\"}", "suffix", "not supported"},
    {API_COMPLETION, "{\"prompt\":\"a\",\"logprobs\":0}", "logprobs", "not supported"},
    {API_CHAT, "{" MSGS ",\"logprobs\":true}", "logprobs", "not supported"},
    {API_CHAT, "{" MSGS ",\"top_logprobs\":3}", "top_logprobs", "not supported"},
    {API_CHAT, "{" MSGS ",\"logit_bias\":{\"5\":1}}", "logit_bias", "not supported"},
    {API_CHAT, "{" MSGS ",\"frequency_penalty\":0.1}", "frequency_penalty", "not supported"},
    {API_CHAT, "{" MSGS ",\"presence_penalty\":-1}", "presence_penalty", "not supported"},
    {API_CHAT, "{" MSGS ",\"repetition_penalty\":1.1}", "repetition_penalty", "must be 1"},
    {API_CHAT, "{" MSGS ",\"min_p\":0.05}", "min_p", "not supported"},
    {API_CHAT, "{" MSGS ",\"min_tokens\":1}", "min_tokens", "not supported"},
    {API_CHAT, "{" MSGS ",\"stop_token_ids\":[2]}", "stop_token_ids", "not supported"},
    {API_CHAT, "{" MSGS ",\"response_format\":{\"type\":\"json_object\"}}", "response_format",
     "not supported"},
    {API_CHAT, "{" MSGS ",\"tools\":[{}]}", "tools", "not supported"},
    {API_CHAT, "{" MSGS ",\"tool_choice\":\"required\"}", "tool_choice", "not supported"},
    {API_CHAT, "{" MSGS ",\"functions\":[{}]}", "functions", "not supported"},
    {API_CHAT, "{" MSGS ",\"audio\":{}}", "audio", "not supported"},
    {API_CHAT, "{" MSGS ",\"reasoning_effort\":\"low\"}", "reasoning_effort", "not supported"},
    {API_CHAT, "{" MSGS ",\"store\":true}", "store", "not supported"},
    {API_CHAT, "{" MSGS ",\"grammar\":\"x\"}", "grammar", "not supported"},
    {API_CHAT, "{" MSGS ",\"chat_template_kwargs\":{\"a\":1}}", "chat_template_kwargs",
     "not supported"},
    /* prompts */
    {API_COMPLETION, "{\"prompt\":5}", "prompt", "a string or an array of token ids"},
    {API_COMPLETION, "{\"prompt\":{}}", "prompt", "prompt is an object"},
    {API_COMPLETION, "{\"prompt\":[]}", "prompt", "an array of 1 to 1048576 token ids"},
    {API_COMPLETION, "{\"prompt\":[[]]}", "prompt", "an array of 1 to"},
    {API_COMPLETION, "{\"prompt\":[1,-2]}", "prompt", "prompt is -2"},
    {API_COMPLETION, "{\"prompt\":[1,\"2\"]}", "prompt", "prompt is \"2\""},
    {API_COMPLETION, "{\"prompt\":[1,4294967296]}", "prompt", "from 0 to 4294967295"},
    {API_COMPLETION, "{\"prompt\":[\"a\",\"b\"]}", "prompt", "2 prompts"},
    {API_COMPLETION, "{\"prompt\":[[1],[2],[3]]}", "prompt", "3 prompts"},
    /* messages */
    {API_CHAT, "{\"messages\":\"hi\"}", "messages", "an array of 1 to"},
    {API_CHAT, "{\"messages\":[]}", "messages", "an array of 1 to"},
    {API_CHAT, "{\"messages\":[\"hi\"]}", "messages[0]", "must be an object"},
    {API_CHAT, "{\"messages\":[{\"content\":\"x\"}]}", "messages[0].role", "role is missing"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content", "is missing"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "messages[0].content",
     "is null"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":5}]}", "messages[0].content", "is 5"},
    {API_CHAT, "{\"messages\":[{\"role\":\"wizard\",\"content\":\"x\"}]}", "messages[0].role",
     "is \"wizard\", but must be system, developer, user or assistant"},
    {API_CHAT, "{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "messages[0].role",
     "is \"tool\""},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"name\":\"bob\"}]}",
     "messages[0].name", "not supported"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\","
               "\"content\":\"y\",\"tool_calls\":[{}]}]}",
     "messages[1].tool_calls", "not supported"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
     "messages[0].content", "parts of type \"image_url\""},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
     "messages[0].content", "a string text"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[\"x\"]}]}", "messages[0].content",
     "with a type"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\","
               "\"cache_control\":{}}]}]}",
     "messages[0].content", "cache_control"},
};

static void test_good_bodies(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct api_request r;
        struct api_error e = {0};

        if (api_parse(&r, good[i].kind, good[i].body, strlen(good[i].body), &e) != 0)
            fail_msg("%s: %s", good[i].body, e.text);
        api_request_fini(&r);
    }
}

static void test_bad_bodies_name_the_field(void **state)
{
    (void)state;
    assert_true(ARRAY_LEN(bad) >= 80);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct api_request r;
        struct api_error e = {0};
        const char *body = bad[i].body;

        if (api_parse(&r, bad[i].kind, body, strlen(body), &e) == 0)
            fail_msg("accepted: %s", body);
        assert_int_equal(e.status, 400);
        assert_string_equal(e.type, "invalid_request_error");
        if (strcmp(e.param, bad[i].param) != 0)
            fail_msg("%s: param \"%s\"", body, e.param);
        if (!strstr(e.text, bad[i].part))
            fail_msg("%s: \"%s\"", body, e.text);
        api_request_fini(&r);
    }
}

/* Every prefix of a body is refused, and none breaks anything. */
static void test_truncated_bodies(void **state)
{
    const char *body = "{" MSGS ",\"stop\":[\"a\"],\"stream\":true,\"temperature\":0.5}";

    (void)state;
    for (size_t n = 0; n < strlen(body); n++) {
        struct api_request r;
        struct api_error e = {0};
        char *copy = mem_dup(body, n); /* so that a sanitizer sees reads beyond it */

        assert_int_not_equal(api_parse(&r, API_CHAT, copy, n, &e), 0);
        api_request_fini(&r);
        mem_free(copy);
    }
}

static void test_fields_arrive(void **state)
{
    const char *body =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"developer\",\"content\":\"be kind\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
        "\"text\":\"\"},{\"type\":\"text\",\"text\":\"b\"}]}],\"max_completion_tokens\":7,"
        "\"temperature\":0.25,\"top_p\":0.5,\"top_k\":40,\"seed\":-2,\"stop\":[\"x\",\"\\u00e9\"],"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"ignore_eos\":true}";
    struct api_request r;
    struct api_error e;

    (void)state;
    assert_int_equal(api_parse(&r, API_CHAT, body, strlen(body), &e), 0);
    assert_string_equal(r.model, "m");
    assert_int_equal(r.n_messages, 2);
    assert_string_equal(r.messages[0].role, "system");
    assert_string_equal(r.messages[1].content, "a\n\nb");
    assert_int_equal(r.messages[1].content_bytes, 4);
    assert_true(r.has_max_tokens);
    assert_int_equal(r.max_tokens, 7);
    assert_true(r.sampling.temperature == 0.25f);
    assert_true(r.sampling.top_p == 0.5f);
    assert_int_equal(r.sampling.top_k, 40);
    assert_true(r.has_seed);
    assert_int_equal(r.sampling.seed, (uint64_t)-2);
    assert_int_equal(r.n_stops, 2);
    assert_string_equal(r.stops[1], "\xc3\xa9");
    assert_true(r.stream && r.include_usage && r.ignore_eos);
    api_request_fini(&r);
}

static void test_defaults(void **state)
{
    struct api_request r;
    struct api_error e;

    (void)state;
    assert_int_equal(api_parse(&r, API_COMPLETION, "{\"prompt\":[[5,6]]}", 18, &e), 0);
    assert_null(r.model);
    assert_null(r.prompt);
    assert_int_equal(r.n_tokens, 2);
    assert_int_equal(r.tokens[1], 6);
    assert_false(r.has_max_tokens || r.has_seed || r.stream || r.ignore_eos);
    assert_true(r.sampling.temperature == 1 && r.sampling.top_p == 1 && r.sampling.top_k == 0);
    api_request_fini(&r);
}

static void check_bound(char open, size_t n, const char *part)
{
    struct str s = {0};
    struct api_request r;
    struct api_error e;

    str_adds(&s, "{\"prompt\":");
    for (size_t i = 0; i < n; i++)
        str_addc(&s, open);
    assert_int_not_equal(api_parse(&r, API_COMPLETION, s.data, s.len, &e), 0);
    if (!strstr(e.text, part))
        fail_msg("\"%s\"", e.text);
    api_request_fini(&r);
    str_fini(&s);
}

static void test_nesting_and_values_are_bounded(void **state)
{
    (void)state;
    check_bound('[', 1000000, "nested deeper than 32");
    check_bound('{', 33, "nested deeper than 32");
    check_bound('[', 5, "not valid JSON");
    check_bound(',', API_VALUES_MAX + 1, "more than");
    check_bound('"', 99, "not valid JSON");
}

static void test_long_values_are_not_quoted_back(void **state)
{
    struct str s = {0};
    struct api_request r;
    struct api_error e;

    (void)state;
    str_adds(&s, "{" MSGS ",\"temperature\":\"");
    for (int i = 0; i < 5000; i++)
        str_adds(&s, "\xc3\xa9");
    str_adds(&s, "\"}");
    assert_int_not_equal(api_parse(&r, API_CHAT, s.data, s.len, &e), 0);
    assert_non_null(strstr(e.text, "temperature is a string of 10000 bytes"));
    api_request_fini(&r);
    str_fini(&s);
}

static void test_tokenize(void **state)
{
    struct api_tokenize t;
    struct api_error e;
    const struct {
        const char *body;
        bool special;
    } ok[] = {{"{\"content\":\"hi\"}", false},
              {"{\"content\":\"hi\",\"add_special\":true}", true},
              {"{\"prompt\":\"hi\",\"model\":\"m\"}", true},
              {"{\"add_special_tokens\":false,\"prompt\":\"hi\"}", false}};
    const char *const wrong[] = {"", "{}", "{\"content\":5}",
                                 "{\"content\":\"a\",\"prompt\":\"b\"}",
                                 "{\"content\":\"a\",\"x\":1}",
                                 "{\"content\":\"a\",\"add_special\":1}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ok); i++) {
        assert_int_equal(api_parse_tokenize(&t, ok[i].body, strlen(ok[i].body), &e), 0);
        assert_string_equal(t.text, "hi");
        assert_int_equal(t.add_special, ok[i].special);
        api_tokenize_fini(&t);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_not_equal(api_parse_tokenize(&t, wrong[i], strlen(wrong[i]), &e), 0);
        api_tokenize_fini(&t);
    }
}

static void test_detokenize(void **state)
{
    uint32_t *tokens, n;
    struct api_error e;
    const char *const wrong[] = {"{}", "{\"tokens\":5}", "{\"tokens\":[-1]}", "{\"tokens\":null}",
                                 "{\"tokens\":[1],\"y\":2}"};

    (void)state;
    assert_int_equal(api_parse_detokenize(&tokens, &n, "{\"tokens\":[7,8]}", 16, &e), 0);
    assert_int_equal(n, 2);
    assert_int_equal(tokens[1], 8);
    mem_free(tokens);
    assert_int_equal(api_parse_detokenize(&tokens, &n, "{\"tokens\":[]}", 13, &e), 0);
    assert_int_equal(n, 0);
    mem_free(tokens);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_not_equal(api_parse_detokenize(&tokens, &n, wrong[i], strlen(wrong[i]), &e), 0);
        mem_free(tokens);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_bodies),
        cmocka_unit_test(test_bad_bodies_name_the_field),
        cmocka_unit_test(test_truncated_bodies),
        cmocka_unit_test(test_fields_arrive),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_nesting_and_values_are_bounded),
        cmocka_unit_test(test_long_values_are_not_quoted_back),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_detokenize),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
