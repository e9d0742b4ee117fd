/* The page and the rows of results at their edges: nothing in them, one request, one without output. */
#include "tests/lib/test.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bench/html.h"
#include "bench/json.h"
#include "bench/rows.h"

static struct bench_options options;
static struct result result;

static int setup(void **state)
{
    (void)state;
    memset(&options, 0, sizeof(options));
    memset(&result, 0, sizeof(result));
    option_defaults(&bench_option_table, &options);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    result_fini(&result);
    option_free(&bench_option_table, &options);
    return 0;
}

/* Each tag that must be closed is, nothing is loaded, and no figure is no number. */
static void page_is_sound(const char *page)
{
    static const char *const tags[] = {"figure", "svg", "text", "table",
                                       "div",    "p",   "h3",   "details"};
    static const char *const never[] = {"=\"nan",  "=\"-nan", "inf\"", "nan ",
                                        "<script", "src=",    "href=", "url("};

    for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        char open[16], close[16];
        int depth = 0;

        snprintf(open, sizeof(open), "<%s", tags[i]);
        snprintf(close, sizeof(close), "</%s>", tags[i]);
        for (const char *at = page; (at = strstr(at, open)); at++)
            depth += strchr(" >", at[strlen(open)]) != NULL;
        for (const char *at = page; (at = strstr(at, close)); at++)
            depth--;
        if (depth != 0)
            fail_msg("%d <%s> more than are closed", depth, tags[i]);
    }
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        if (strstr(page, never[i]))
            fail_msg("\"%s\" at \"%.60s\"", never[i], strstr(page, never[i]));
}

/* Appends the page of what result holds. */
static void page_make(struct str *out, json_t *extra)
{
    struct roof roof = {0};
    struct figures f;
    json_t *root;

    figures_make(&f, &result, &options);
    root = json_result(&f, &result, &options);
    json_object_update(root, extra);
    html_report(out, root, &f, &result, &options, &roof);
    json_decref(root);
    json_decref(extra);
    figures_fini(&f);
}

static void add(int64_t start_ms, int64_t first_ms, uint32_t outputs, enum outcome outcome)
{
    struct record r;

    record_init(&r);
    r.item = (uint32_t)result.n;
    r.start = r.sent = CLOCK_S + start_ms * CLOCK_MS;
    r.done = r.start + (first_ms + outputs) * CLOCK_MS;
    r.outputs = r.output_tokens = outputs;
    r.prompt_tokens = 7;
    r.outcome = outcome;
    if (outputs > 0)
        r.first = r.last = r.start + first_ms * CLOCK_MS;
    if (outputs > 1) {
        r.second = r.first + CLOCK_MS;
        r.last = r.first + (outputs - 1) * CLOCK_MS;
        r.gaps_ms = mem_calloc(outputs - 1, sizeof(float));
    }
    r.server.ttft = 2;
    r.server.prefill = 1;
    strcpy(r.server.decode_node, "a\"<\\,b"); /* a server may say anything */
    result_add(&result, &r, "why <b> & not");
}

static void a_page_of_nothing_is_sound(void **state)
{
    struct str page = {0};

    (void)state;
    page_make(&page, NULL);
    page_is_sound(str_text(&page));
    str_fini(&page);
}

static void a_page_of_odd_requests_is_sound(void **state)
{
    struct str page = {0};

    (void)state;
    strcpy(result.model, "<i>model</i>");
    add(0, 0, 0, OUTCOME_OK);
    page_make(&page, NULL);
    page_is_sound(str_text(&page));
    add(0, 5, 1, OUTCOME_OK);
    add(0, 5, 2, OUTCOME_OK);
    add(1, 50, 30, OUTCOME_OK);
    add(3, 0, 0, OUTCOME_SERVER_ERROR);
    add(3, 9, 4, OUTCOME_LEFT);
    str_clear(&page);
    page_make(&page, json_pack("{s:[{s:f, s:f, s:f}, {s:f, s:f, s:f}]}", "points", "request_rate",
                               1.0, "request_throughput", 1.0, "p99_ttft_ms", 3.0, "request_rate",
                               2.0, "request_throughput", 0.0, "p99_ttft_ms", 0.0));
    page_is_sound(str_text(&page));
    assert_non_null(strstr(str_text(&page), "Goodput by rate"));
    assert_non_null(strstr(str_text(&page), "why &lt;b&gt; &amp; not"));
    assert_null(strstr(str_text(&page), "<i>model"));
    str_fini(&page);
}

/* Both curves in one figure, a line at each answer, and a sentence. */
static void an_earlier_search_is_shown_beside_this_one(void **state)
{
    struct str page = {0};
    const char *points = "[{\"request_rate\": 1, \"request_throughput\": 1, \"request_goodput\": 1},"
                         " {\"request_rate\": 4, \"request_throughput\": 3, \"request_goodput\": 2}]";

    (void)state;
    add(0, 5, 2, OUTCOME_OK);
    options.find_goodput = true;
    mem_free(options.goodput);
    options.goodput = mem_strdup("ttft:100");
    page_make(&page, json_pack("{s:o, s:{s:f}, s:{s:o, s:{s:f}}}", "points", json_loads(points, 0, NULL),
                               "find_goodput", "request_rate", 3.0, "before", "points",
                               json_loads(points, 0, NULL), "find_goodput", "request_rate", 1.5));
    page_is_sound(str_text(&page));
    assert_non_null(strstr(str_text(&page), "in the targets before"));
    assert_non_null(strstr(str_text(&page), ">now</text>"));
    assert_non_null(strstr(str_text(&page), ">before</text>"));
    assert_non_null(strstr(str_text(&page), "Before: 1.500 requests/s kept the targets. Now: 3.000, 2.00 "
                                            "times that."));
    str_fini(&page);
}

/* Every line has the header's cells, every value is JSON. */
static void rows_are_whole(void **state)
{
    size_t commas = 0, all = 0, lines = 0;
    struct str text = {0};
    json_t *trace;

    (void)state;
    add(0, 5, 3, OUTCOME_OK);
    add(1, 0, 0, OUTCOME_TIMEOUT);
    rows_csv(&text, &result);
    for (const char *c = str_text(&text); *c; c++) {
        commas += lines == 0 && *c == ',';
        all += *c == ',';
        lines += *c == '\n';
    }
    assert_int_equal(lines, 3);
    assert_int_equal(all, 3 * commas);
    str_clear(&text);
    rows_jsonl(&text, &result);
    for (char *line = strtok(text.data, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *value = json_loads(line, 0, NULL);

        assert_non_null(value);
        assert_string_equal(json_string_value(json_object_get(value, "decode_node")), "a\"<\\,b");
        json_decref(value);
    }
    str_clear(&text);
    rows_trace(&text, &result);
    trace = json_loads(str_text(&text), 0, NULL);
    assert_true(json_array_size(json_object_get(trace, "traceEvents")) > 4);
    json_decref(trace);
    str_fini(&text);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_page_of_nothing_is_sound),
        T(a_page_of_odd_requests_is_sound),
        T(an_earlier_search_is_shown_beside_this_one),
        T(rows_are_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
