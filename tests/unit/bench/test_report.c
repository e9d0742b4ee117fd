#include "tests/lib/test.h"

#include <jansson.h>

#include "base/clock.h"
#include "bench/report.h"

static struct bench_options options_make(double rate)
{
    struct bench_options o = {0};

    option_defaults(&bench_option_table, &o);
    o.rate = rate;
    o.prompt_tokens = 10;
    return o;
}

/* Two good requests, one that the server refused. Times in ms from 1 s. */
static void result_make(struct result *r)
{
    static struct record records[3];
    const int64_t t = CLOCK_S;

    memset(r, 0, sizeof(*r));
    records[0] = (struct record){.start = t, .sent = t, .first = t + 10 * CLOCK_MS,
                                 .last = t + 50 * CLOCK_MS, .done = t + 51 * CLOCK_MS,
                                 .prompt_tokens = 10, .output_tokens = 5, .outputs = 5};
    /* one output only: no TPOT */
    records[1] = (struct record){.start = t + CLOCK_MS, .sent = t + 2 * CLOCK_MS,
                                 .first = t + 31 * CLOCK_MS, .last = t + 31 * CLOCK_MS,
                                 .done = t + 100 * CLOCK_MS, .prompt_tokens = 10,
                                 .output_tokens = 1, .outputs = 1};
    records[2] = (struct record){.start = t, .sent = t, .done = t + 2000 * CLOCK_MS,
                                 .outcome = OUTCOME_BUSY};
    r->records = records;
    r->n = 3;
    r->failures[OUTCOME_BUSY].count = 1;
    strcpy(r->failures[OUTCOME_BUSY].first, "queue full");
    strcpy(r->model, "m\"1");
}

static void numbers_follow_the_formulas(void **state)
{
    struct bench_options o = options_make(0);
    struct result r;
    struct summary s;

    (void)state;
    result_make(&r);
    report_summarize(&s, &r, &o);
    assert_int_equal(s.ok, 2);
    assert_int_equal(s.failed, 1);
    assert_true(s.seconds == 2.0);
    assert_true(s.requests_per_s == 1.0);
    assert_true(s.input_tokens_per_s == 10.0);
    assert_true(s.output_tokens_per_s == 3.0);
    assert_true(s.ttft.p50 == 10.0 && s.ttft.max == 30.0); /* from start, not from sent */
    assert_int_equal(s.tpot.n, 1);
    assert_true(s.tpot.mean == 10.0); /* (50 - 10) / (5 - 1) */
    assert_true(s.e2e.p50 == 51.0 && s.e2e.max == 99.0);
    assert_true(s.valid);
    option_free(&bench_option_table, &o);
}

static void a_slow_client_makes_an_open_loop_invalid(void **state)
{
    struct bench_options o = options_make(5);
    struct str json = {0}, table = {0};
    struct result r;
    struct summary s;
    json_t *root;

    (void)state;
    result_make(&r);
    for (int i = 0; i < 100; i++)
        series_add(&r.loop_lag_ms, i < 98 ? 0.1 : 25);
    report_summarize(&s, &r, &o);
    assert_false(s.valid);
    report_table(&table, &s, &r, &o);
    assert_non_null(strstr(str_text(&table), "INVALID: the client was the bottleneck"));
    report_json(&json, &s, &r, &o);
    root = json_loadb(json.data, json.len, 0, NULL);
    assert_non_null(root);
    assert_true(json_is_false(json_object_get(root, "valid")));
    assert_true(json_is_string(json_object_get(root, "invalid_because")));
    json_decref(root);
    o.rate = 0; /* a closed loop waits for the client by definition */
    report_summarize(&s, &r, &o);
    assert_true(s.valid);
    str_clear(&table);
    report_table(&table, &s, &r, &o);
    assert_non_null(strstr(str_text(&table), "NOTE: the client was the bottleneck"));
    series_fini(&r.loop_lag_ms);
    str_fini(&json);
    str_fini(&table);
    option_free(&bench_option_table, &o);
}

static void json_and_table_hold_what_was_measured(void **state)
{
    struct bench_options o = options_make(0);
    struct str json = {0}, table = {0};
    struct result r;
    struct summary s;
    json_t *root, *errors;

    (void)state;
    result_make(&r);
    report_summarize(&s, &r, &o);
    report_json(&json, &s, &r, &o);
    root = json_loadb(json.data, json.len, 0, NULL);
    assert_non_null(root);
    errors = json_object_get(json_object_get(root, "errors"), "status_429");
    assert_int_equal(json_integer_value(json_object_get(errors, "count")), 1);
    assert_string_equal(json_string_value(json_object_get(errors, "first")), "queue full");
    assert_string_equal(json_string_value(json_object_get(root, "served_model")), "m\"1");
    assert_true(json_real_value(json_object_get(json_object_get(root, "ttft_ms"), "max")) == 30.0);
    assert_string_equal(json_string_value(json_object_get(json_object_get(root, "settings"),
                                                          "prompt_tokens")), "10");
    assert_true(json_is_true(json_object_get(root, "valid")));
    json_decref(root);
    report_table(&table, &s, &r, &o);
    assert_non_null(strstr(str_text(&table), "2 ok, 1 failed in 2.00 s: 1.00/s"));
    assert_non_null(strstr(str_text(&table), "status_429  1: queue full"));
    assert_null(strstr(str_text(&table), "INVALID"));
    str_fini(&json);
    str_fini(&table);
    option_free(&bench_option_table, &o);
}

static void what_ctrl_c_cancelled_has_not_failed(void **state)
{
    struct bench_options o = options_make(0);
    struct result r;
    struct summary s;

    (void)state;
    result_make(&r);
    r.records[2].outcome = OUTCOME_CANCELLED;
    r.failures[OUTCOME_BUSY].count = 0;
    r.failures[OUTCOME_CANCELLED].count = 1;
    report_summarize(&s, &r, &o);
    assert_int_equal(s.ok, 2);
    assert_int_equal(s.failed, 0);
    assert_int_equal(s.cancelled, 1);
    option_free(&bench_option_table, &o);
}

static void nothing_measured_is_reported_as_nothing(void **state)
{
    struct bench_options o = options_make(0);
    struct str json = {0}, table = {0};
    struct result r = {0};
    struct summary s;
    json_t *root;

    (void)state;
    report_summarize(&s, &r, &o);
    report_table(&table, &s, &r, &o);
    report_json(&json, &s, &r, &o);
    root = json_loadb(json.data, json.len, 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(root, "requests")), 0);
    json_decref(root);
    str_fini(&json);
    str_fini(&table);
    option_free(&bench_option_table, &o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_follow_the_formulas),
        cmocka_unit_test(a_slow_client_makes_an_open_loop_invalid),
        cmocka_unit_test(json_and_table_hold_what_was_measured),
        cmocka_unit_test(what_ctrl_c_cancelled_has_not_failed),
        cmocka_unit_test(nothing_measured_is_reported_as_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
