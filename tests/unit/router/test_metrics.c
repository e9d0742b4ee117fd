#include <regex.h>

#include "base/check.h"
#include "rig.h"
#include "router/metrics.h"

static char *render(struct metrics *m, struct rig *r)
{
    struct str s = {0};

    metrics_render(m, r->core, 3, CLOCK_S, &s);
    return str_steal(&s);
}

/* Every line is a comment or a sample, and HELP and TYPE come before a metric's first sample. */
static void test_page_is_well_formed(void **state)
{
    struct metrics *m = mem_zalloc(sizeof(*m));
    struct rig r;
    regex_t line;
    char *page, *save, type[128] = "";

    (void)state;
    rig_init(&r);
    rig_register(&r, P1);
    rig_register(&r, D1);
    metrics_request(m, METRICS_CHAT, 200);
    metrics_request(m, METRICS_CHAT, 418);
    metrics_first(m, 10, 5 * CLOCK_MS);
    metrics_tokens(m, 4, 8 * CLOCK_MS);
    assert_int_equal(regcomp(&line,
                             "^(# (HELP|TYPE) tandem_[a-z_]+ .+|"
                             "tandem_[a-z_]+(\\{[a-z]+=\"[^\"]+\"(,[a-z]+=\"[^\"]+\")*\\})? "
                             "[0-9.e+-]+)$",
                             REG_EXTENDED),
                     0);
    page = render(m, &r);
    assert_int_equal(page[strlen(page) - 1], '\n');
    for (char *l = strtok_r(page, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        if (regexec(&line, l, 0, NULL, 0) != 0)
            fail_msg("%s", l);
        if (!strncmp(l, "# TYPE ", 7)) {
            snprintf(type, sizeof(type), "%.*s", (int)strcspn(l + 7, " "), l + 7);
        } else if (*l != '#' && strncmp(l, type, strlen(type)) != 0) {
            fail_msg("%s under %s", l, type);
        }
    }
    mem_free(page);
    regfree(&line);
    mem_free(m);
    rig_fini(&r);
}

static void check_has(const char *page, const char *line)
{
    char whole[256];

    snprintf(whole, sizeof(whole), "\n%s\n", line);
    if (!strstr(page, whole))
        fail_msg("no line: %s", line);
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
                                              .tokens = 1ull << 53, .kv_bytes = 7};
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
