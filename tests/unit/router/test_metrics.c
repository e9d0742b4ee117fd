#include "base/check.h"
#include "rig.h"
#include "router/metrics.h"
#include "tests/lib/prom.h"

static char *render(struct metrics *m, struct rig *r)
{
    struct str s = {0};

    metrics_render(m, r->core, "model", 3, CLOCK_S, &s);
    return str_steal(&s);
}

#define LABELS "model_name=\"model\",engine=\"0\""

static void check_has(const char *page, const char *line)
{
    char whole[256];

    snprintf(whole, sizeof(whole), "\n%s\n", line);
    if (!strstr(page, whole))
        fail_msg("no line: %s", line);
}

/* A page with something in every metric passes what promtool would check. */
static void test_page_is_well_formed(void **state)
{
    const struct router_stats stats = {.wait_ns = 1000, .prefill_ns = 2000, .cached_tokens = 32};
    struct metrics *m = mem_zalloc(sizeof(*m));
    char *page, why[256];
    struct rig r;

    (void)state;
    rig_init(&r);
    rig_register(&r, P1);
    rig_register(&r, D1);
    metrics_request(m, METRICS_CHAT, 200);
    metrics_request(m, METRICS_CHAT, 418);
    metrics_first(m, 10, 5 * CLOCK_MS);
    metrics_tokens(m, 4, 8 * CLOCK_MS);
    metrics_served(m, &(struct metrics_served){FINISH_LENGTH, 10, 5, CLOCK_S, 2 * CLOCK_MS, &stats});
    page = render(m, &r);
    check_has(page, "vllm:request_success_total{" LABELS ",finished_reason=\"length\"} 1");
    check_has(page, "vllm:prompt_tokens_total{" LABELS "} 10");
    check_has(page, "vllm:generation_tokens_total{" LABELS "} 5");
    check_has(page, "vllm:prefix_cache_hits_total{" LABELS "} 32");
    check_has(page, "vllm:time_to_first_token_seconds_bucket{" LABELS ",le=\"0.001\"} 0");
    check_has(page, "vllm:time_to_first_token_seconds_bucket{" LABELS ",le=\"0.01\"} 1");
    check_has(page, "vllm:inter_token_latency_seconds_count{" LABELS "} 4");
    check_has(page, "vllm:e2e_request_latency_seconds_bucket{" LABELS ",le=\"1.5\"} 1");
    check_has(page, "vllm:request_generation_tokens_sum{" LABELS "} 5");
    if (!prom_lint(page, why))
        fail_msg("%s", why);
    mem_free(page);
    mem_free(m);
    rig_fini(&r);
}

static void test_values_arrive(void **state)
{
    struct metrics *m = mem_zalloc(sizeof(*m));
    struct msg beat = {.type = MSG_HEARTBEAT};
    struct rig r;
    char *page;

    (void)state;
    rig_init(&r);
    rig_register(&r, P1);
    rig_register(&r, D1);
    beat.u.heartbeat = (struct msg_heartbeat){.pages_free = 30, .pages_total = 32,
                                              .tokens = 1ull << 53, .kv_bytes = 7,
                                              .pages_bad = 4, .leases_expired = 5, .resumed = 6};
    rig_msg(&r, D1, beat);
    rig_submit(&r, 1, 40, 8);
    metrics_request(m, METRICS_COMPLETIONS, 503);
    metrics_first(m, 10, 5 * CLOCK_MS);
    metrics_tokens(m, 4, 8 * CLOCK_MS);
    page = render(m, &r);
    check_has(page, "tandem_requests_total{endpoint=\"completions\",code=\"503\"} 1");
    check_has(page, "tandem_requests_total{endpoint=\"chat\",code=\"200\"} 0");
    check_has(page, "tandem_prompt_tokens_total 10");
    check_has(page, "tandem_output_tokens_total 5");
    check_has(page, "tandem_ttft_seconds_count 1");
    check_has(page, "tandem_ttft_seconds_bucket{le=\"0.0025\"} 0");
    check_has(page, "tandem_ttft_seconds_bucket{le=\"0.01\"} 1");
    check_has(page, "tandem_itl_seconds_count 4");
    check_has(page, "tandem_queue_depth 0");
    check_has(page, "tandem_requests_running 1");
    check_has(page, "tandem_ready 1");
    check_has(page, "tandem_http_connections 3");
    check_has(page, "tandem_kv_pages_used{node=\"decode-1\",role=\"decode\"} 2");
    check_has(page, "tandem_node_tokens_total{node=\"decode-1\",role=\"decode\"} 9007199254740992");
    check_has(page, "tandem_node_pages_bad_total{node=\"decode-1\",role=\"decode\"} 4");
    check_has(page, "tandem_node_leases_expired_total{node=\"decode-1\",role=\"decode\"} 5");
    check_has(page, "tandem_node_resumed_total{node=\"decode-1\",role=\"decode\"} 6");
    check_has(page, "tandem_streams_restarted_total 0");
    mem_free(page);
    mem_free(m);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_is_well_formed),
        cmocka_unit_test(test_values_arrive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
