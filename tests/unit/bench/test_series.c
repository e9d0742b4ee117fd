#include "tests/lib/test.h"

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
    assert_stats(&stats, 500.5, 500, 900, 950, 990, 1000);
    series_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_measured_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
