#include "tests/lib/test.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "bench/arrivals.h"

enum { N = 100000 };

/* Mean and variance of N gaps, in units of the mean asked for. */
static void moments(double *mean, double *variance, double burstiness)
{
    const struct arrivals_spec spec = {.rate = 250, .burstiness = burstiness};
    double sum = 0, squares = 0;
    struct arrivals a;
    int64_t last = 0;

    arrivals_init(&a, &spec, 7);
    for (int i = 0; i < N; i++) {
        int64_t at = arrivals_next(&a);
        double gap = clock_s(at - last) * spec.rate;

        assert_true(at >= last);
        sum += gap;
        squares += gap * gap;
        last = at;
    }
    *mean = sum / N;
    *variance = squares / N - *mean * *mean;
}

/* A gamma distribution of mean 1 and shape k has variance 1 / k. Seeded: no test of luck. */
static void gaps_have_the_mean_and_spread_of_their_shape(void **state)
{
    static const double shapes[] = {0.25, 0.5, 1, 2, 16};

    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        double mean, variance, sigma = sqrt(1 / shapes[i] / N);

        moments(&mean, &variance, shapes[i]);
        assert_true(fabs(mean - 1) < 4 * sigma);
        assert_true(fabs(variance * shapes[i] - 1) < 0.05);
    }
}

static void no_burstiness_is_a_constant_gap(void **state)
{
    const struct arrivals_spec spec = {.rate = 8, .burstiness = INFINITY};
    struct arrivals a;

    (void)state;
    arrivals_init(&a, &spec, 3);
    for (int i = 1; i <= 100; i++)
        assert_int_equal(arrivals_next(&a), i * CLOCK_S / 8);
}

/* Linear from 1 to 5 over 5 arrivals: 1, 2, 3, 4, 5, and 5 after that; exponential from 1 to 16 over
 * 5: 1, 2, 4, 8, 16. */
static void a_ramp_changes_the_rate_with_each_arrival(void **state)
{
    struct arrivals_spec linear = {
        .ramp = RAMP_LINEAR, .ramp_from = 1, .ramp_to = 5, .ramp_count = 5};
    struct arrivals_spec exponential = {.burstiness = INFINITY,
                                        .ramp = RAMP_EXPONENTIAL,
                                        .ramp_from = 1,
                                        .ramp_to = 16,
                                        .ramp_count = 5};
    struct arrivals a;

    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_true(fabs(arrivals_rate(&linear, (uint64_t)i) - (1 + i)) < 1e-12);
        assert_true(fabs(arrivals_rate(&exponential, (uint64_t)i) - (1 << i)) < 1e-9);
    }
    assert_true(arrivals_rate(&linear, 100) == 5);
    arrivals_init(&a, &exponential, 1);
    assert_int_equal(arrivals_next(&a), CLOCK_S);
    assert_true(llabs(arrivals_next(&a) - 3 * CLOCK_S / 2) <= 1);
}

static void a_seed_gives_the_same_times_again_and_another_seed_others(void **state)
{
    const struct arrivals_spec spec = {.rate = 10, .burstiness = 0.5};
    struct arrivals a, b, c;
    int same = 0;

    (void)state;
    arrivals_init(&a, &spec, 1);
    arrivals_init(&b, &spec, 1);
    arrivals_init(&c, &spec, 2);
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
        cmocka_unit_test(gaps_have_the_mean_and_spread_of_their_shape),
        cmocka_unit_test(no_burstiness_is_a_constant_gap),
        cmocka_unit_test(a_ramp_changes_the_rate_with_each_arrival),
        cmocka_unit_test(a_seed_gives_the_same_times_again_and_another_seed_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
