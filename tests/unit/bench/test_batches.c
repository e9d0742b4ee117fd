#include "bench/batches.h"

#include <math.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tests/lib/test.h"

static struct result result;

static int teardown(void **state)
{
    (void)state;
    result_fini(&result);
    return 0;
}

/* A request from `start` to `done`, seconds, with an output of 3 tokens at each half. */
static void add(double start, double done, enum outcome outcome, uint32_t segment)
{
    struct record r;

    record_init(&r);
    r.start = r.sent = (int64_t)(start * 1e9);
    r.done = (int64_t)(done * 1e9);
    r.first = (int64_t)((start + done) / 2 * 1e9);
    r.outputs = 2;
    r.output_tokens = 6;
    r.gaps_ms = mem_calloc(1, sizeof(float));
    r.gaps_ms[0] = (float)((done - start) / 2 * 1e3);
    r.outcome = outcome;
    r.segment = segment;
    result_add(&result, &r, outcome == OUTCOME_OK ? "" : "why");
}

static void an_even_run_is_sure(void **state)
{
    struct batches b;

    (void)state;
    for (int i = 0; i < 100; i++) /* one a second, of a second */
        add(10 + i, 11 + i - 1e-6, OUTCOME_OK, 0);
    assert_true(batches_make(&b, &result));
    assert_true(fabs(b.requests_per_s[0] - 1) < 1e-3 && fabs(b.requests_per_s[1] - 1) < 1e-3);
    assert_true(fabs(b.output_tokens_per_s[0] - 6) < 1e-2 && fabs(b.output_tokens_per_s[1] - 6) < 1e-2);
}

static void an_uneven_run_is_not(void **state)
{
    struct batches b;
    double mean, deviation;

    (void)state;
    for (int i = 0; i < 10; i++) /* 4 in each of the even parts of 1 s, none in the others */
        for (int k = 0; k < 4; k++)
            add(1 + 2 * i, 1 + 2 * i + 0.5, OUTCOME_OK, 0);
    add(1, 21, OUTCOME_TIMEOUT, 0); /* so the run has 20 s: what failed counts for the time alone */
    assert_true(batches_make(&b, &result));
    mean = 40.0 / 20;
    deviation = sqrt(20 * 4.0 / 19); /* each part is 2 off */
    assert_true(fabs(b.requests_per_s[0] - (mean - 2.093024 * deviation / sqrt(20))) < 1e-6);
    assert_true(fabs(b.requests_per_s[1] - (mean + 2.093024 * deviation / sqrt(20))) < 1e-6);
    assert_true(fabs((b.output_tokens_per_s[0] + b.output_tokens_per_s[1]) / 2 - 6 * mean) < 1e-6);
}

static void few_requests_or_turns_say_nothing(void **state)
{
    struct batches b;

    (void)state;
    assert_false(batches_make(&b, &result));
    for (int i = 0; i < BATCHES_REQUESTS_MIN - 1; i++)
        add(1 + i, 2 + i, OUTCOME_OK, 0);
    assert_false(batches_make(&b, &result));
    assert_true(b.requests_per_s[1] == 0);
    add(100, 101, OUTCOME_OK, 0);
    assert_true(batches_make(&b, &result));
    add(102, 103, OUTCOME_OK, 1);
    assert_false(batches_make(&b, &result));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(an_even_run_is_sure, teardown),
        cmocka_unit_test_teardown(an_uneven_run_is_not, teardown),
        cmocka_unit_test_teardown(few_requests_or_turns_say_nothing, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
