#include "daemon/prom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/prom.h"

static void test_a_value_is_written_whole_or_to_nine_digits(void **state)
{
    struct str s = {0};

    (void)state;
    prom_sample(&s, "a", "", 9007199254740992.0);
    prom_sample(&s, "b", "k=\"v\"", 0.1);
    prom_sample(&s, "c", "", -3);
    assert_string_equal(s.data, "a 9007199254740992\nb{k=\"v\"} 0.1\nc -3\n");
    str_fini(&s);
}

static void test_labels_are_escaped_and_bounded(void **state)
{
    char labels[PROM_LABELS_MAX], many[500];

    (void)state;
    prom_labels(labels, "model_name", "a\"b\\c\nd", "engine", "0");
    assert_string_equal(labels, "model_name=\"a\\\"b\\\\c d\",engine=\"0\"");
    memset(many, 'x', sizeof(many) - 1);
    many[sizeof(many) - 1] = '\0';
    prom_labels(labels, "k", many, "z", "1");
    assert_string_equal(labels, "z=\"1\"");
}

static void test_a_histogram_has_its_unit_and_ascends(void **state)
{
    struct hist *h = mem_zalloc(sizeof(*h));
    struct str s = {0};
    char why[256];

    (void)state;
    hist_add(h, 5000000);
    hist_add(h, 2000000000);
    hist_add(h, 9000000000000000);
    prom_hist(&s, "x_seconds", "Help.", "k=\"v\"", h, 1e-9, &prom_ttft);
    assert_non_null(strstr(s.data, "x_seconds_bucket{k=\"v\",le=\"0.001\"} 0\n"));
    assert_non_null(strstr(s.data, "x_seconds_bucket{k=\"v\",le=\"0.01\"} 1\n"));
    assert_non_null(strstr(s.data, "x_seconds_bucket{k=\"v\",le=\"2.5\"} 2\n"));
    assert_non_null(strstr(s.data, "x_seconds_bucket{k=\"v\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(s.data, "x_seconds_sum{k=\"v\"} 9000002"));
    assert_non_null(strstr(s.data, "x_seconds_count{k=\"v\"} 3\n"));
    if (!prom_lint(s.data, why))
        fail_msg("%s", why);
    str_fini(&s);
    mem_free(h);
}

static void test_an_engine_has_the_names_of_the_dashboards(void **state)
{
    static const char *const names[] = {
        "vllm:num_requests_running{", "vllm:num_requests_waiting{", "vllm:kv_cache_usage_perc{",
        "vllm:gpu_cache_usage_perc{", "vllm:prompt_tokens_total{", "vllm:generation_tokens_total{",
        "vllm:prefix_cache_queries_total{", "vllm:prefix_cache_hits_total{",
        "vllm:num_preemptions_total{"};
    const struct prom_engine e = {.labels = "model_name=\"m\",engine=\"0\"", .kv_usage = 0.5};
    struct str s = {0};
    char why[256];

    (void)state;
    prom_engine(&s, &e);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_non_null(strstr(s.data, names[i]));
    assert_non_null(strstr(s.data, "\nvllm:kv_cache_usage_perc{model_name=\"m\",engine=\"0\"} 0.5\n"));
    if (!prom_lint(s.data, why))
        fail_msg("%s", why);
    str_fini(&s);
}

/* The check itself can fail. */
static void test_the_lint_finds_faults(void **state)
{
    static const char *const bad[] = {
        "",
        "a 1",
        "a 1\n",
        "# HELP a x\n# TYPE a gauge\nb 1\n",
        "# HELP a x\n# TYPE a counter\na 1\n",
        "# HELP a x\n# TYPE a gauge\na{k=\"v} 1\n",
        "# HELP a x\n# TYPE a gauge\na one\n",
        "# TYPE a gauge\na 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\n# HELP a x\n# TYPE a gauge\na 1\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
    };
    char page[300], why[256];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(page, sizeof(page), "%s", bad[i]);
        if (prom_lint(page, why))
            fail_msg("taken: %s", bad[i]);
    }
    snprintf(page, sizeof(page), "# HELP a_total x\n# TYPE a_total counter\na_total{k=\"\\\"\"} 1e+20\n");
    if (!prom_lint(page, why))
        fail_msg("%s", why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_value_is_written_whole_or_to_nine_digits),
        cmocka_unit_test(test_labels_are_escaped_and_bounded),
        cmocka_unit_test(test_a_histogram_has_its_unit_and_ascends),
        cmocka_unit_test(test_an_engine_has_the_names_of_the_dashboards),
        cmocka_unit_test(test_the_lint_finds_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
