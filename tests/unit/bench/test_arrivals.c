#include "tests/lib/test.h"

#include "base/clock.h"
#include "bench/arrivals.h"

static void gaps_have_the_mean_and_spread_of_a_poisson_process(void **state)
{
    enum { N = 100000 };
    const double rate = 250;
    int64_t start = 12345 * CLOCK_S, last = start;
    double sum = 0, squares = 0;
    int over_mean = 0;
    struct arrivals a;

    (void)state;
    arrivals_init(&a, 7, rate, start);
    for (int i = 0; i < N; i++) {
        int64_t at = arrivals_next(&a);
        double gap = clock_s(at - last) * rate;

        assert_true(at >= last);
        sum += gap;
        squares += gap * gap;
        over_mean += gap > 1;
        last = at;
    }
    /* exponential: mean 1, variance 1, P(gap > mean) = 1/e; 1 % is 3 standard errors of the mean */
    assert_true(sum / N > 0.99 && sum / N < 1.01);
    assert_true(squares / N - 1 > 0.95 && squares / N - 1 < 1.05);
    assert_true(over_mean > 0.36 * N && over_mean < 0.376 * N);
}

static void a_seed_gives_the_same_times_again_and_another_seed_others(void **state)
{
    struct arrivals a, b, c;
    int same = 0;

    (void)state;
    arrivals_init(&a, 1, 10, 0);
    arrivals_init(&b, 1, 10, 0);
    arrivals_init(&c, 2, 10, 0);
    for (int i = 0; i < 100; i++) {
        int64_t at = arrivals_next(&a);

        assert_int_equal(at, arrivals_next(&b));
        same += at == arrivals_next(&c);
    }
    assert_int_equal(same, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaps_have_the_mean_and_spread_of_a_poisson_process),
        cmocka_unit_test(a_seed_gives_the_same_times_again_and_another_seed_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
