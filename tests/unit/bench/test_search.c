#include "tests/lib/test.h"

#include <math.h>

#include "base/rng.h"
#include "bench/search.h"

/* A server whose requests keep the targets up to a rate of `capacity`, and beyond it the share falls
 * as 1 / rate; n requests a probe, each good by a seeded draw. */
static struct probe server(double rate, double capacity, uint64_t n, uint64_t seed)
{
    double p = rate <= capacity ? 0.99 : 0.99 * capacity / rate * 0.8;
    struct probe out = {.rate = rate, .judged = n};

    for (uint64_t i = 0; i < n; i++)
        out.good += rng_f64(seed + (uint64_t)(rate * 1e6), i) < p;
    out.goodput = rate * (double)out.good / (double)n;
    return out;
}

static struct search_answer search(struct search *s, double start, double capacity)
{
    double rate;

    search_init(s, start, 0.9);
    while (search_next(&rate, s)) {
        struct probe p = server(rate, capacity, 200, 42);

        search_add(s, &p);
    }
    return search_answer(s);
}

static void the_highest_rate_that_holds_is_found_from_any_start(void **state)
{
    static const double starts[] = {0.01, 1, 7, 100, 3000}, capacities[] = {0.3, 7, 450};

    (void)state;
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 3; j++) {
            struct search s;
            struct search_answer a = search(&s, starts[i], capacities[j]);
            double far = fabs(log2(starts[i] / capacities[j]));

            if (far > SEARCH_PROBES_MAX - 5)
                continue; /* as many probes it does not have */
            assert_true(a.bounded);
            assert_true(a.rate <= capacities[j] && a.rate > capacities[j] / SEARCH_PRECISION);
            assert_true(a.low <= a.rate && a.high > a.rate);
            assert_true(a.high > capacities[j]); /* the truth is in the interval */
            assert_true(s.n < SEARCH_PROBES_MAX);
        }
}

static void a_saturated_probe_does_not_hold(void **state)
{
    struct probe p = {.rate = 4, .good = 10, .judged = 10};

    (void)state;
    assert_true(probe_holds(&p, 0.9));
    p.saturated = true;
    assert_false(probe_holds(&p, 0.9));
    p = (struct probe){.rate = 4};
    assert_false(probe_holds(&p, 0.9)); /* nothing was judged: nothing is known */
}

/* 9 of 10 keep 90 %, but the interval of 9 of 10 begins at 60 %: the rate holds, not surely. */
static void few_requests_make_a_wide_interval(void **state)
{
    struct search s;
    struct search_answer a;

    (void)state;
    search_init(&s, 1, 0.9);
    search_add(&s, &(struct probe){.rate = 1, .good = 50, .judged = 50});
    search_add(&s, &(struct probe){.rate = 2, .good = 9, .judged = 10});
    search_add(&s, &(struct probe){.rate = 2.1, .good = 8, .judged = 10});
    search_add(&s, &(struct probe){.rate = 4, .good = 10, .judged = 50});
    a = search_answer(&s);
    assert_true(a.rate == 2);
    assert_true(a.low == 1);
    assert_true(a.high == 4); /* 2.1 failed, but not surely */
}

static void a_server_that_never_holds_ends_the_search(void **state)
{
    struct search_answer a;
    struct search s;
    double rate;

    (void)state;
    search_init(&s, 1, 0.9);
    while (search_next(&rate, &s))
        search_add(&s, &(struct probe){.rate = rate, .saturated = true});
    a = search_answer(&s);
    assert_true(a.rate == 0 && a.low == 0);
    assert_true(a.high < 0.01);
}

static void requests_that_miss_alone_end_the_search(void **state)
{
    struct search s;
    double rate;

    (void)state;
    search_init(&s, 8, 0.9);
    while (search_next(&rate, &s))
        search_add(&s, &(struct probe){.rate = rate, .judged = 30, .alone = rate <= 2});
    assert_int_equal(s.n, 3); /* 8, 4, 2 */
}

static void a_server_that_always_holds_is_not_bounded(void **state)
{
    struct search_answer a;
    struct search s;
    double rate;

    (void)state;
    search_init(&s, 1, 0.9);
    while (search_next(&rate, &s))
        search_add(&s, &(struct probe){.rate = rate, .good = 100, .judged = 100});
    a = search_answer(&s);
    assert_false(a.bounded);
    assert_true(isinf(a.high) && a.low == a.rate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_rate_that_holds_is_found_from_any_start),
        cmocka_unit_test(a_saturated_probe_does_not_hold),
        cmocka_unit_test(few_requests_make_a_wide_interval),
        cmocka_unit_test(a_server_that_never_holds_ends_the_search),
        cmocka_unit_test(requests_that_miss_alone_end_the_search),
        cmocka_unit_test(a_server_that_always_holds_is_not_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
