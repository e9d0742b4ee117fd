#include "tests/lib/test.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_add_up_and_gauges_are_means),
        cmocka_unit_test(other_pages_say_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
