#include "deploy/top.h"

#include <math.h>

#include "base/clock.h"
#include "base/mem.h"
#include "deploy/top_text.h"
#include "tests/lib/test.h"

static struct top *top;

static int start(void **state)
{
    (void)state;
    top = mem_zalloc(sizeof(*top));
    return 0;
}

static int stop(void **state)
{
    (void)state;
    mem_free(top);
    return 0;
}

static void take(const char *reply, int64_t now)
{
    json_t *json = json_loads(reply, 0, NULL);

    assert_non_null(json);
    top_take(top, json, now);
    json_decref(json);
}

#define NODES                                                                                      \
    "{\"cluster\": \"c\", \"model\": \"m\", \"router\": {\"requests\": %d, \"prompt_tokens\": 0,"  \
    " \"output_tokens\": 0, \"uptime_s\": 90}, \"nodes\": ["                                       \
    "{\"name\": \"decode-10\", \"role\": \"decode\", \"state\": \"ready\", \"host\": \"b\","       \
    " \"domain\": 1, \"pid\": 9, \"queued\": 0, \"running\": 12, \"slots\": 16,"                   \
    " \"pages_total\": 100, \"pages_free\": 25, \"tokens\": %d,"                                     \
    " \"rates\": {\"mfu\": 0.1, \"mbu\": 0.155}},"                                                \
    "{\"name\": \"decode-2\", \"role\": \"decode\", \"state\": \"draining\", \"pid\": %d,"         \
    " \"queued\": 20, \"running\": 1, \"slots\": 16, \"pages_total\": 100, \"pages_free\": 90,"    \
    " \"tokens\": 10},"                                                                            \
    "{\"name\": \"prefill-1\", \"role\": \"prefill\", \"state\": \"ready\", \"pid\": 7,"           \
    " \"pages_total\": 0, \"pages_free\": 0, \"tokens\": %d,"                                      \
    " \"rates\": {\"mfu\": 0.5, \"mbu\": 0.2}}]}"

static void take_nodes(int requests, int tokens, int pid, int prompt, int64_t now)
{
    struct str s = {0};

    str_addf(&s, NODES, requests, tokens, pid, prompt);
    take(str_text(&s), now);
    str_fini(&s);
}

static const struct top_node *node(const char *name)
{
    for (uint32_t i = 0; i < top->n; i++)
        if (!strcmp(top->nodes[i].name, name))
            return &top->nodes[i];
    fail_msg("no node %s", name);
    return NULL;
}

static void rates_are_differences_of_counters(void **state)
{
    (void)state;
    take_nodes(5, 1000, 8, 0, CLOCK_S);
    assert_true(top->requests_s < 0 && node("decode-10")->tokens_s < 0);
    take_nodes(15, 1500, 8, 4000, 3 * CLOCK_S);
    assert_true(fabs(top->requests_s - 5) < 1e-9);
    assert_true(fabs(node("decode-10")->tokens_s - 250) < 1e-9);
    assert_true(fabs(node("decode-2")->tokens_s) < 1e-9);
    assert_true(fabs(node("prefill-1")->tokens_s - 2000) < 1e-9);
    assert_true(node("decode-10")->use == 0.155 && node("prefill-1")->use == 0.5); /* MBU; MFU */
    assert_true(node("decode-2")->use < 0); /* not told */
}

static void a_process_that_started_anew_has_no_rate_yet(void **state)
{
    (void)state;
    take_nodes(5, 1000, 8, 0, CLOCK_S);
    take_nodes(3, 400, 80, 0, 2 * CLOCK_S);
    assert_true(top->requests_s < 0);             /* the router started anew: it counts from 0 */
    assert_true(node("decode-10")->tokens_s < 0); /* a counter that fell */
    assert_true(node("decode-2")->tokens_s < 0);  /* another process */
}

static void nodes_are_sorted(void **state)
{
    static const char *const orders[TOP_SORTS][3] = {
        [TOP_BY_NAME] = {"prefill-1", "decode-2", "decode-10"},
        [TOP_BY_TOKENS] = {"prefill-1", "decode-10", "decode-2"},
        [TOP_BY_QUEUE] = {"decode-2", "decode-10", "prefill-1"},
        [TOP_BY_KV] = {"decode-10", "decode-2", "prefill-1"},
    };

    (void)state;
    take_nodes(5, 0, 8, 0, CLOCK_S);
    take_nodes(5, 10, 8, 20, 2 * CLOCK_S);
    for (int by = 0; by < TOP_SORTS; by++) {
        top_order(top, (enum top_sort)by);
        for (int i = 0; i < 3; i++)
            assert_string_equal(top->nodes[i].name, orders[by][i]);
    }
}

/* The longest line of the text. */
static size_t longest(const char *text)
{
    size_t most = 0;

    for (; *text; text += strcspn(text, "\n"), text += *text == '\n')
        most = strcspn(text, "\n") > most ? strcspn(text, "\n") : most;
    return most;
}

static void lines_fit_any_width(void **state)
{
    struct str page = {0};

    (void)state;
    take_nodes(5, 0, 8, 0, CLOCK_S);
    take_nodes(5, 10, 8, 20, 2 * CLOCK_S);
    for (int width = TOP_WIDTH_MIN; width <= 300; width++) {
        str_clear(&page);
        top_page(&page, top, "http://127.0.0.1:8000", width);
        assert_true(longest(str_text(&page)) <= (size_t)width);
        assert_non_null(strstr(str_text(&page), "\ndecode-10 "));
    }
    str_clear(&page);
    top_page(&page, top, "http://127.0.0.1:8000", 80);
    assert_non_null(strstr(str_text(&page), "host")); /* is there on 80 columns */
    assert_non_null(strstr(str_text(&page), " 12/16 [|||| ]  75% "));
    assert_non_null(strstr(str_text(&page), "up 2 min"));
    str_fini(&page);
}

static void percentiles_are_shown_where_the_router_has_them(void **state)
{
    struct str page = {0};

    (void)state;
    take("{\"router\": {\"percentiles\": {\"ttft_ms\": {\"p50\": 12.34, \"p90\": 3, \"p99\": 1000},"
         " \"tpot_ms\": {\"n\": 0, \"p50\": null}}}}", 1);
    top_page(&page, top, "u", 80);
    assert_non_null(strstr(str_text(&page), "TTFT p50 12 p90 3.0 p99 1000 ms; TPOT p50 - p90 - p99 - ms"));
    str_fini(&page);
}

static void a_malformed_reply_is_empty(void **state)
{
    (void)state;
    take("{\"router\": 3, \"nodes\": [3, {\"name\": 7, \"pages_total\": -5, \"costs\": []}]}", 1);
    assert_int_equal(top->n, 2);
    take("{\"nodes\": {}}", 2);
    assert_int_equal(top->n, 0);
}

static void more_nodes_than_shown_are_counted(void **state)
{
    json_t *reply = json_object(), *nodes = json_array();
    struct str page = {0};

    (void)state;
    for (int i = 0; i < TOP_NODES_MAX + 3; i++)
        json_array_append_new(nodes, json_object());
    json_object_set_new(reply, "nodes", nodes);
    top_take(top, reply, 1);
    json_decref(reply);
    top_page(&page, top, "u", 80);
    assert_non_null(strstr(str_text(&page), "\nand 3 more\n"));
    str_fini(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rates_are_differences_of_counters, start, stop),
        cmocka_unit_test_setup_teardown(a_process_that_started_anew_has_no_rate_yet, start, stop),
        cmocka_unit_test_setup_teardown(nodes_are_sorted, start, stop),
        cmocka_unit_test_setup_teardown(lines_fit_any_width, start, stop),
        cmocka_unit_test_setup_teardown(percentiles_are_shown_where_the_router_has_them, start, stop),
        cmocka_unit_test_setup_teardown(a_malformed_reply_is_empty, start, stop),
        cmocka_unit_test_setup_teardown(more_nodes_than_shown_are_counted, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
