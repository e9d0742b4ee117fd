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

static void work_page(struct monitor_nodes *m, double flops, double bytes, int64_t now, int resume)
{
    char text[300];

    snprintf(text, sizeof(text),
             "tandem_node_flops_total{node=\"decode-1\",role=\"decode\"} %.17g\n"
             "tandem_node_read_bytes_total{node=\"decode-1\",role=\"decode\"} %.17g\n",
             flops, bytes);
    assert_int_equal(monitor_page(m, text, now, resume), 2);
}

static void shares_are_of_what_nodes_told_that_they_can(void **state)
{
    static const char reply[] =
        "{\"nodes\": [{\"name\": \"gone\", \"costs\": {}}, 3, {\"name\": \"decode-1\", \"slots\": 8, \"costs\":"
        " {\"flops_s\": 1e7, \"read_bytes_s\": 1e6, \"x\": -1}}]}";
    static struct monitor_nodes m;

    (void)state;
    work_page(&m, 1e6, 5e5, 10 * CLOCK_S, 1);
    work_page(&m, 4e6, 9e5, 11 * CLOCK_S, 0);
    work_page(&m, 5e6, 11e5, 12 * CLOCK_S, 0);
    assert_true(monitor_mfu(&m, &m.list[0]) == 0 && monitor_mbu(&m, &m.list[0]) == 0); /* unknown */
    assert_int_equal(monitor_peaks(&m, reply, sizeof(reply) - 1), 1);
    assert_true(fabs(monitor_mfu(&m, &m.list[0]) - 4e6 / 2 / 1e7) < 1e-9);
    assert_true(fabs(monitor_mbu(&m, &m.list[0]) - 6e5 / 2 / 1e6) < 1e-9);
    assert_int_equal(monitor_peaks(&m, "{\"nodes\": 3}", 12), 0);
    assert_int_equal(monitor_peaks(&m, "<html>", 6), 0);
    assert_true(m.list[0].peaks.flops == 1e7); /* what was known stays */
    assert_true(m.list[0].peaks.slots == 8);
    monitor_nodes_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_add_up_and_gauges_are_means),
        cmocka_unit_test(other_pages_say_nothing),
        cmocka_unit_test(shares_are_of_what_nodes_told_that_they_can),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
