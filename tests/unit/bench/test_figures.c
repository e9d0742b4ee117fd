#include "tests/lib/test.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bench/figures.h"
#include "bench/json.h"

static struct bench_options options;
static struct result result;

static int setup(void **state)
{
    (void)state;
    memset(&options, 0, sizeof(options));
    memset(&result, 0, sizeof(result));
    option_defaults(&bench_option_table, &options);
    result.joules = -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    result_fini(&result);
    option_free(&bench_option_table, &options);
    return 0;
}

static void option_is(const char *key, const char *value)
{
    assert_int_equal(option_set(option_find(&bench_option_table, key), &options, value, NULL, NULL),
                     ERR_OK);
}

static void near(double got, double want)
{
    if (fabs(got - want) > 1e-9 * fmax(1, fabs(want)))
        fail_msg("%.12g, not %.12g", got, want);
}

/* A request of 10 tokens in, due at start ms, with outputs at the times (ms, 0-terminated). */
static struct record record_of(double start, const double *outputs, uint32_t tokens, double done)
{
    struct record r;

    record_init(&r);
    r.start = r.sent = (int64_t)((1000 + start) * 1e6);
    r.done = (int64_t)((1000 + done) * 1e6);
    r.prompt_tokens = 10;
    r.output_tokens = tokens;
    for (; outputs[r.outputs] > 0; r.outputs++) {
        int64_t at = (int64_t)((1000 + outputs[r.outputs]) * 1e6);

        if (r.outputs == 0)
            r.first = at;
        if (r.outputs == 1)
            r.second = at;
        r.last = at;
    }
    if (r.outputs > 1)
        r.gaps_ms = mem_calloc(r.outputs - 1, sizeof(float));
    for (uint32_t i = 0; i + 1 < r.outputs; i++)
        r.gaps_ms[i] = (float)(outputs[i + 1] - outputs[i]);
    return r;
}

/* Three requests: good; slow to the first token; failed after a second. */
static void three_requests(void)
{
    struct record a = record_of(0, (const double[]){50, 60, 90, 0}, 5, 100);
    struct record b = record_of(10, (const double[]){510, 520, 0}, 2, 530);
    struct record c = record_of(20, (const double[]){0}, 0, 1000);

    c.outcome = OUTCOME_SERVER_ERROR;
    result_add(&result, &a, "");
    result_add(&result, &b, "");
    result_add(&result, &c, "it broke");
}

static void figures_are_those_of_the_formulas(void **state)
{
    struct figures f;

    (void)state;
    option_is("goodput", "ttft:100 tpot:10");
    option_is("price_per_hour", "3.6");
    three_requests();
    figures_make(&f, &result, &options);
    assert_int_equal(f.ok, 2);
    assert_int_equal(f.failed, 1);
    assert_int_equal(f.peak_concurrency, 3);
    near(f.seconds, 1);
    near(f.requests_per_s, 2);
    near(f.input_tokens_per_s, 20);
    near(f.output_tokens_per_s, 7);
    near(f.metrics[METRIC_TTFT].mean, (50 + 500) / 2.0);
    near(f.metrics[METRIC_TTST].mean, 10);
    near(f.metrics[METRIC_TPOT].mean, (40 / 4.0 + 10 / 1.0) / 2);
    assert_int_equal(f.metrics[METRIC_ITL].n, 3);
    near(f.metrics[METRIC_ITL].p99, 30);
    near(f.metrics[METRIC_E2EL].max, 520);
    assert_int_equal(f.judged, 3);
    assert_int_equal(f.good, 1);
    assert_int_equal(f.missed[METRIC_TTFT], 2); /* the failed one, too */
    assert_int_equal(f.missed[METRIC_TPOT], 1);
    near(f.goodput, 1);
    near(f.attainment, 1 / 3.0);
    near(f.cost_requests, 3.6 / 3600 / 2 * 1000); /* a second costs 0.001 */
    near(f.cost_output, 0.001 / 7 * 1e6);
    near(f.cost_total, 0.001 / 27 * 1e6);
    assert_true(f.tokens_per_joule < 0);
    figures_fini(&f);
}

/* Two segments of 100 ms with an hour between them are 0.2 s of load. */
static void time_between_segments_does_not_count(void **state)
{
    struct record a = record_of(0, (const double[]){50, 0}, 1, 100);
    struct record b = record_of(3600e3, (const double[]){3600e3 + 50, 0}, 1, 3600e3 + 100);
    struct figures f;

    (void)state;
    b.segment = 1;
    result_add(&result, &a, "");
    result_segment(&result, 0, 1);
    result_add(&result, &b, "");
    result_segment(&result, 2, 3);
    figures_make(&f, &result, &options);
    near(f.seconds, 0.2);
    assert_int_equal(f.peak_concurrency, 1);
    figures_fini(&f);
}

static void what_was_cut_is_judged_only_if_it_had_missed(void **state)
{
    struct record r = record_of(0, (const double[]){0}, 0, 200);
    struct targets t;

    (void)state;
    r.outcome = OUTCOME_CANCELLED;
    targets_parse(&t, "ttft:100", NULL);
    assert_int_equal(figures_judge(&r, &t, true), 0);
    assert_int_equal(figures_judge(&r, &t, false), -1); /* Ctrl-C is nobody's fault */
    targets_parse(&t, "ttft:300", NULL);
    assert_int_equal(figures_judge(&r, &t, true), -1);
    r.outcome = OUTCOME_LEFT;
    assert_int_equal(figures_judge(&r, &t, true), -1);
    r.outcome = OUTCOME_TIMEOUT;
    assert_int_equal(figures_judge(&r, &t, true), 0);
}

static void a_client_that_is_late_makes_an_open_loop_invalid(void **state)
{
    struct figures f;

    (void)state;
    three_requests();
    for (int i = 0; i < 100; i++)
        series_add(&result.loop_lag_ms, i < 97 ? 0 : 25);
    figures_make(&f, &result, &options);
    assert_true(f.valid); /* a closed loop waits for its client anyway */
    assert_non_null(strstr(f.note, "lag is 25.0 ms"));
    figures_fini(&f);
    result.open = true;
    figures_make(&f, &result, &options);
    assert_false(f.valid);
    figures_fini(&f);
    series_fini(&result.loop_lag_ms);
    figures_make(&f, &result, &options);
    assert_true(f.valid);
    assert_string_equal(f.note, "");
    figures_fini(&f);
    result.cpu_s = 0.95; /* of one second */
    figures_make(&f, &result, &options);
    assert_false(f.valid);
    figures_fini(&f);
    result.cpu_s = 0;
    for (int i = 0; i < 50; i++)
        series_add(&result.start_lag_ms, 21);
    figures_make(&f, &result, &options);
    assert_false(f.valid);
    assert_non_null(strstr(f.note, "late it sent is 21.0 ms"));
    figures_fini(&f);
}

/* Sent 2 ms late, first output 50 ms later, second after 30 more, then 4 gaps of 5. */
static void stages_add_up_to_the_whole(void **state)
{
    struct record r = record_of(0, (const double[]){52, 82, 87, 92, 97, 102, 0}, 6, 102);
    double ms[STAGE_COUNT], sum = 0;

    (void)state;
    r.sent += 2 * CLOCK_MS;
    record_stages(&r, ms); /* a server that says nothing */
    near(ms[STAGE_CLIENT], 2);
    assert_true(ms[STAGE_PREFILL] < 0 && ms[STAGE_NETWORK] < 0 && ms[STAGE_TRANSFER] < 0);
    near(ms[STAGE_DECODE], 50);
    r.server.ttft = 48;
    r.server.prefill = 30;
    r.server.prefill_queue = 12;
    strcpy(r.server.decode_node, "decode-1");
    record_stages(&r, ms);
    near(ms[STAGE_NETWORK], 2);
    near(ms[STAGE_ROUTER], 6);
    near(ms[STAGE_PREFILL_QUEUE], 12);
    near(ms[STAGE_PREFILL], 30);
    near(ms[STAGE_TRANSFER], 25); /* 30 to the second token, of which a step is 5 */
    near(ms[STAGE_DECODE], 25);
    r.server.router_queue = 4;
    r.server.transfer = 7;
    r.server.decode_queue = 3;
    record_stages(&r, ms);
    near(ms[STAGE_ROUTER], 4);
    near(ms[STAGE_NETWORK], 4); /* 2 more are between the router and the node */
    near(ms[STAGE_TRANSFER], 7);
    near(ms[STAGE_DECODE_QUEUE], 3);
    near(ms[STAGE_DECODE], 40);
    for (int i = 0; i < STAGE_COUNT; i++)
        sum += ms[i];
    near(sum, 102);
    record_fini(&r);
    r = record_of(0, (const double[]){50, 60, 0}, 2, 60); /* llama-server tells prompt_ms only */
    r.server.prefill = 20;
    record_stages(&r, ms);
    near(ms[STAGE_PREFILL_QUEUE], 30);
    near(ms[STAGE_DECODE], 10);
    assert_true(ms[STAGE_ROUTER] < 0);
    record_fini(&r);
}

/* 8 of 10 at 95 %: 0.490 to 0.943 (Wilson 1927's formula by hand: centre 0.7167, half-width 0.2266). */
static void the_interval_is_wilsons(void **state)
{
    double low, high;

    (void)state;
    figures_wilson(&low, &high, 8, 10);
    assert_true(fabs(low - 0.4902) < 1e-4 && fabs(high - 0.9433) < 1e-4);
    figures_wilson(&low, &high, 10, 10);
    assert_true(fabs(low - 0.7225) < 1e-4 && fabs(high - 1) < 1e-9);
    figures_wilson(&low, &high, 0, 0);
    assert_true(low == 0 && high == 1);
}

static void json_has_the_keys_of_vllm(void **state)
{
    static const char *const keys[] = {
        "date", "backend", "model_id", "tokenizer_id", "num_prompts", "request_rate", "burstiness",
        "max_concurrency", "duration", "completed", "failed", "total_input_tokens",
        "total_output_tokens", "request_throughput", "request_goodput", "output_throughput",
        "total_token_throughput", "mean_ttft_ms", "median_ttft_ms", "std_ttft_ms", "p99_ttft_ms",
        "mean_tpot_ms", "p99_tpot_ms", "mean_itl_ms", "p99_itl_ms", "mean_e2el_ms", "p99.9_e2el_ms",
        "input_lens", "output_lens", "ttfts", "itls", "generated_texts", "errors"};
    struct figures f;
    json_t *root;

    (void)state;
    option_is("metric_percentiles", "99,99.9");
    option_is("save_detailed", "true");
    three_requests();
    figures_make(&f, &result, &options);
    root = json_result(&f, &result, &options);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (!json_object_get(root, keys[i]))
            fail_msg("no key %s", keys[i]);
    assert_string_equal(
        json_string_value(json_object_get(
            json_object_get(json_object_get(root, "failures"), "status_5xx"), "first")),
        "request 0: it broke");
    near(json_real_value(json_array_get(json_object_get(root, "ttfts"), 1)), 0.5);
    near(json_real_value(json_array_get(json_array_get(json_object_get(root, "itls"), 0), 1)),
         0.03);
    json_decref(root);
    figures_fini(&f);
}

static void a_scenario_has_a_verdict(void **state)
{
    struct figures f = {.valid = true, .ok = 100, .requests = 100, .attainment = 0.99};
    char text[200];

    (void)state;
    assert_true(figures_scenario(text, sizeof(text), &f, SCENARIO_SERVER));
    f.attainment = 0.98;
    assert_false(figures_scenario(text, sizeof(text), &f, SCENARIO_SERVER));
    assert_non_null(strstr(text, "INVALID"));
    assert_true(figures_scenario(text, sizeof(text), &f, SCENARIO_OFFLINE));
    f.failed = 1;
    assert_false(figures_scenario(text, sizeof(text), &f, SCENARIO_OFFLINE));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(figures_are_those_of_the_formulas),
        T(time_between_segments_does_not_count),
        T(what_was_cut_is_judged_only_if_it_had_missed),
        T(a_client_that_is_late_makes_an_open_loop_invalid),
        T(stages_add_up_to_the_whole),
        T(the_interval_is_wilsons),
        T(json_has_the_keys_of_vllm),
        T(a_scenario_has_a_verdict),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
