#include "tests/lib/test.h"

#include <math.h>

#include "base/clock.h"
#include "bench/schedule.h"

static struct bench_options options;

static int setup(void **state)
{
    (void)state;
    memset(&options, 0, sizeof(options));
    option_defaults(&bench_option_table, &options);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    option_free(&bench_option_table, &options);
    return 0;
}

static void option_is(const char *key, const char *value)
{
    assert_int_equal(option_set(option_find(&bench_option_table, key), &options, value, NULL, NULL),
                     ERR_OK);
}

static void items_come_in_order_and_end(void **state)
{
    struct workload w = {0};
    struct schedule s;
    struct planned p;
    int64_t last = 0;

    (void)state;
    schedule_init(&s, &options, &w, 10, 5, 3);
    for (uint32_t i = 5; i < 8; i++) {
        assert_true(schedule_next(&s, &p));
        assert_int_equal(p.item, i);
        assert_true(p.due_ns >= last);
        assert_int_equal(p.cancel_ns, 0);
        last = p.due_ns;
    }
    assert_false(schedule_next(&s, &p));
    schedule_init(&s, &options, &w, INFINITY, 0, 2); /* no rate: as soon as there is a place */
    assert_int_equal(s.kind, SCHEDULE_ASAP);
    assert_true(schedule_next(&s, &p) && p.due_ns == 0);
}

/* 8/s at a constant gap for a second: due at 1/8 .. 7/8; the eighth would be at its end. */
static void a_duration_bounds_when_requests_are_due(void **state)
{
    struct workload w = {0};
    struct schedule s;
    struct planned p;
    int n = 0;

    (void)state;
    option_is("burstiness", "inf");
    option_is("duration", "1");
    schedule_init(&s, &options, &w, 8, 0, UINT32_MAX);
    while (schedule_next(&s, &p))
        n++;
    assert_int_equal(n, 7);
}

static void a_trace_keeps_its_times_scaled_from_its_first(void **state)
{
    struct trace_entry entries[] = {{.at_ns = 0}, {.at_ns = 4 * CLOCK_S}, {.at_ns = 10 * CLOCK_S}};
    struct workload w = {.trace = {.entries = entries, .n = 3}};
    struct schedule s;
    struct planned p;

    (void)state;
    option_is("trace_scale", "0.5");
    schedule_init(&s, &options, &w, INFINITY, 1, 100);
    assert_true(schedule_next(&s, &p) && p.item == 1 && p.due_ns == 0);
    assert_true(schedule_next(&s, &p) && p.item == 2 && p.due_ns == 3 * CLOCK_S);
    assert_false(schedule_next(&s, &p)); /* a trace ends */
    schedule_init(&s, &options, &w, INFINITY, 3, 1);
    assert_false(schedule_next(&s, &p));
    option_is("max_concurrency", "2"); /* its lengths, in a closed loop */
    schedule_init(&s, &options, &w, INFINITY, 0, 3);
    assert_int_equal(s.kind, SCHEDULE_ASAP);
}

/* Exponential with mean 2 s: seeded, so no test of luck. 3 standard errors of 30 % of 10000 are 1.4 %. */
static void clients_leave_as_often_as_asked_and_the_same_again(void **state)
{
    struct workload w = {0};
    struct schedule s, again;
    struct planned p, q;
    double sum = 0;
    int n = 0;

    (void)state;
    option_is("request_cancellation_rate", "30");
    option_is("request_cancellation_delay", "2");
    schedule_init(&s, &options, &w, INFINITY, 0, 10000);
    schedule_init(&again, &options, &w, INFINITY, 0, 10000);
    while (schedule_next(&s, &p)) {
        assert_true(schedule_next(&again, &q));
        assert_int_equal(p.cancel_ns, q.cancel_ns);
        n += p.cancel_ns > 0;
        sum += clock_s(p.cancel_ns);
    }
    assert_in_range(n, 2860, 3140);
    assert_true(fabs(sum / n - 2) < 0.11);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(items_come_in_order_and_end),
        T(a_duration_bounds_when_requests_are_due),
        T(a_trace_keeps_its_times_scaled_from_its_first),
        T(clients_leave_as_often_as_asked_and_the_same_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
