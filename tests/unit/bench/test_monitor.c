#include "tests/lib/test.h"

#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "bench/monitor.h"

static void page(struct monitor_nodes *m, int tokens, int running, int64_t now, int resume)
{
    char text[400];

    snprintf(text, sizeof(text),
             "# HELP tandem_node_tokens_total Tokens computed.\n"
             "tandem_node_tokens_total{node=\"decode-1\",role=\"decode\"} %d\n"
             "tandem_node_running{node=\"decode-1\",role=\"decode\"} %d\n"
             "tandem_node_tokens_total{node=\"prefill-1\",role=\"prefill\"} 7\n"
             "tandem_queue_depth 3\n",
             tokens, running);
    assert_int_equal(monitor_page(m, text, now, resume), 3);
}

static void counters_add_up_and_gauges_are_means(void **state)
{
    static struct monitor_nodes m;

    (void)state;
    page(&m, 1000, 1, 10 * CLOCK_S, 1);
    page(&m, 1100, 2, 11 * CLOCK_S, 0);
    page(&m, 30, 3, 12 * CLOCK_S, 0); /* the node started again: 30 are new */
    page(&m, 5030, 2, 100 * CLOCK_S, 1); /* another server had its turn meanwhile */
    page(&m, 5040, 2, 101 * CLOCK_S, 0);
    assert_int_equal(m.n, 2);
    assert_string_equal(m.list[0].name, "decode-1");
    assert_string_equal(m.list[0].role, "decode");
    assert_true(m.list[0].total[MONITOR_TOKENS] == 100 + 30 + 10);
    assert_true(m.list[1].total[MONITOR_TOKENS] == 0);
    assert_true(monitor_mean(&m.list[0], MONITOR_RUNNING) == 2);
    assert_true(m.seconds == 3);
    monitor_nodes_fini(&m);
}

static void other_pages_say_nothing(void **state)
{
    static const char *const pages[] = {"",
                                        "\n\n",
                                        "<html>no</html>",
                                        "tandem_node_tokens_total 5\n",
                                        "tandem_node_tokens_total{\n}} 3\n",
                                        "tandem_node_tokens_total{node=\"\"} 3\n",
                                        "vllm:num_requests_running{model_name=\"x\"} 1\n"};
    static struct monitor_nodes m;

    (void)state;
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        assert_int_equal(monitor_page(&m, pages[i], CLOCK_S, 0), 0);
    assert_int_equal(m.n, 0);
    monitor_nodes_fini(&m);
}

/* Two pages a second apart: passes and KV pages in use of decode-1, prompt tokens of prefill-1. */
static void work_page(struct monitor_nodes *m, int steps, int pages, int tokens, int64_t now, int resume)
{
    char text[600];

    snprintf(text, sizeof(text),
             "tandem_node_steps_total{node=\"decode-1\",role=\"decode\"} %d\n"
             "tandem_node_tokens_total{node=\"decode-1\",role=\"decode\"} %d\n"
             "tandem_node_local_tokens_total{node=\"decode-1\",role=\"decode\"} %d\n"
             "tandem_kv_pages_used{node=\"decode-1\",role=\"decode\"} %d\n"
             "tandem_node_tokens_total{node=\"prefill-1\",role=\"prefill\"} %d\n",
             steps, 10 * steps, steps, pages, tokens);
    assert_int_equal(monitor_page(m, text, now, resume), 5);
}

static void work_is_counted_by_the_costs_that_nodes_told(void **state)
{
    static const char reply[] =
        "{\"nodes\": [{\"name\": \"gone\", \"costs\": {}}, 3, {\"name\": \"prefill-1\", \"costs\":"
        " {\"flops_token\": 1000, \"flops_s\": 1e6}}, {\"name\": \"decode-1\", \"costs\":"
        " {\"flops_token\": 2000, \"weight_bytes\": 5000, \"kv_token_bytes\": 10,"
        " \"flops_s\": 1e7, \"read_bytes_s\": 1e6, \"x\": -1}}]}";
    static struct monitor_nodes m;

    (void)state;
    work_page(&m, 100, 9, 500, 10 * CLOCK_S, 1);
    assert_true(monitor_mfu(&m, &m.list[0]) == 0 && monitor_mbu(&m, &m.list[0]) == 0); /* unknown */
    work_page(&m, 110, 2, 900, 11 * CLOCK_S, 0);
    work_page(&m, 130, 3, 1000, 12 * CLOCK_S, 0);
    assert_int_equal(monitor_costs(&m, reply, sizeof(reply) - 1), 2);
    /* 30 passes; 10 of them read 2 pages of 32 tokens, 20 of them 3 */
    assert_true(fabs(monitor_bytes(&m.list[0]) - (30 * 5000.0 + (10 * 2 + 20 * 3) * 32 * 10.0)) < 1e-6);
    assert_true(fabs(monitor_mbu(&m, &m.list[0]) - monitor_bytes(&m.list[0]) / 2 / 1e6) < 1e-9);
    assert_true(fabs(monitor_flops(&m.list[0]) - (300 + 30) * 2000.0) < 1e-6);
    assert_true(fabs(monitor_mfu(&m, &m.list[1]) - 500 * 1000.0 / 2 / 1e6) < 1e-9);
    assert_true(monitor_mbu(&m, &m.list[1]) == 0); /* it did not say */
    assert_int_equal(monitor_costs(&m, "{\"nodes\": 3}", 12), 0);
    assert_int_equal(monitor_costs(&m, "<html>", 6), 0);
    assert_true(m.list[0].cost.weight_bytes == 5000); /* what was known stays */
    monitor_nodes_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_add_up_and_gauges_are_means),
        cmocka_unit_test(other_pages_say_nothing),
        cmocka_unit_test(work_is_counted_by_the_costs_that_nodes_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
