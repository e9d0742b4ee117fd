#include "tests/lib/test.h"

#include <math.h>

#include "bench/series.h"

static void assert_stats(const struct stats *s, double mean, double p50, double p90, double p95,
                         double p99, double max)
{
    assert_true(s->mean == mean);
    assert_true(s->p50 == p50);
    assert_true(s->p90 == p90);
    assert_true(s->p95 == p95);
    assert_true(s->p99 == p99);
    assert_true(s->max == max);
}

static void percentiles_are_measured_values(void **state)
{
    struct series s = {0};
    struct stats stats;

    (void)state;
    stats = series_stats(&s);
    assert_int_equal(stats.n, 0);
    assert_stats(&stats, 0, 0, 0, 0, 0, 0);
    series_add(&s, 7);
    stats = series_stats(&s);
    assert_stats(&stats, 7, 7, 7, 7, 7, 7);
    series_add(&s, 1);
    stats = series_stats(&s);
    assert_stats(&stats, 4, 1, 7, 7, 7, 7); /* one value of two is 50 % */
    series_fini(&s);
    for (int i = 1000; i > 0; i--)
        series_add(&s, i);
    stats = series_stats(&s);
    assert_int_equal(stats.n, 1000);
    assert_true(fabs(stats.mean - 500.5) < 1e-9);
    assert_stats(&stats, stats.mean, 500, 900, 950, 990, 1000);
    assert_true(series_percentile(&s, 99.9) == 999);
    assert_true(series_percentile(&s, 0) == 1);
    series_fini(&s);
}

/* 2 4 4 4 5 5 7 9: mean 5, squares of the distances 9 1 1 1 0 0 4 16, so the variance is 32 / 8. */
static void the_spread_is_that_of_the_values(void **state)
{
    static const double values[] = {2, 4, 4, 4, 5, 5, 7, 9};
    struct series s = {0};
    struct stats stats;

    (void)state;
    for (size_t i = 0; i < 8; i++)
        series_add(&s, values[i]);
    stats = series_stats(&s);
    assert_true(fabs(stats.mean - 5) < 1e-12);
    assert_true(fabs(stats.std - 2) < 1e-12);
    assert_true(stats.min == 2);
    series_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_measured_values),
        cmocka_unit_test(the_spread_is_that_of_the_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
