#include "base/hist.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"

#define N 20000

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Values over many octaves, as latencies in nanoseconds are. */
static int64_t *draw(uint64_t seed, double scale)
{
    int64_t *v = mem_calloc(N, sizeof(*v));

    for (uint64_t i = 0; i < N; i++)
        v[i] = (int64_t)exp(rng_f64(seed, i) * scale);
    return v;
}

static void test_an_empty_histogram(void **state)
{
    struct hist *h = mem_zalloc(sizeof(*h));

    (void)state;
    assert_int_equal(hist_percentile(h, 50), 0);
    assert_int_equal(hist_percentile(h, 100), 0);
    assert_true(hist_mean(h) == 0);
    assert_int_equal(hist_count_le(h, INT64_MAX), 0);
    mem_free(h);
}

static void test_percentiles_agree_with_sorting(void **state)
{
    static const double ps[] = {0, 0.001, 1, 10, 25, 50, 75, 90, 95, 99, 99.9, 99.999, 100};

    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++) {
        struct hist *h = mem_zalloc(sizeof(*h));
        int64_t *v = draw(seed, (double)(seed * 10 + 3));

        for (size_t i = 0; i < N; i++)
            hist_add(h, v[i]);
        qsort(v, N, sizeof(*v), compare);
        assert_int_equal(h->count, N);
        assert_int_equal(h->min, v[0]);
        assert_int_equal(h->max, v[N - 1]);
        for (size_t i = 0; i < sizeof(ps) / sizeof(ps[0]); i++) {
            size_t rank = (size_t)ceil(N * ps[i] / 100);
            int64_t want = v[rank ? rank - 1 : 0], got = hist_percentile(h, ps[i]);

            assert_true(got >= want && (double)got <= (double)want * (1 + 1.0 / 64));
        }
        assert_int_equal(hist_percentile(h, 0), v[0]);
        assert_int_equal(hist_percentile(h, 100), v[N - 1]);
        mem_free(h);
        mem_free(v);
    }
}

static void test_values_below_128_are_exact(void **state)
{
    struct hist *h = mem_zalloc(sizeof(*h));

    (void)state;
    for (int64_t v = 0; v < 128; v++)
        hist_add(h, v);
    for (int64_t v = 0; v < 128; v++) {
        assert_int_equal(hist_percentile(h, (double)(v + 1) * 100 / 128), v);
        assert_int_equal(hist_count_le(h, v), v + 1);
    }
    assert_int_equal(hist_count_le(h, -1), 0);
    assert_true(hist_mean(h) == 63.5);
    mem_free(h);
}

static void test_extremes(void **state)
{
    struct hist *h = mem_zalloc(sizeof(*h));

    (void)state;
    hist_add(h, -5); /* counts as 0 */
    hist_add(h, INT64_MIN);
    hist_add(h, INT64_MAX);
    assert_int_equal(h->min, 0);
    assert_int_equal(h->max, INT64_MAX);
    assert_int_equal(hist_percentile(h, 50), 0);
    assert_int_equal(hist_percentile(h, 99), INT64_MAX);
    assert_int_equal(hist_count_le(h, INT64_MAX), 3);
    mem_free(h);
}

static void test_merging_is_adding_all(void **state)
{
    struct hist *a = mem_zalloc(sizeof(*a)), *b = mem_zalloc(sizeof(*b));
    struct hist *all = mem_zalloc(sizeof(*all)), *empty = mem_zalloc(sizeof(*empty));
    int64_t *v = draw(9, 20);

    (void)state;
    for (size_t i = 0; i < N; i++) {
        hist_add(i % 3 ? a : b, v[i]);
        hist_add(all, v[i]);
    }
    hist_merge(a, b);
    hist_merge(a, empty);
    hist_merge(empty, a);
    assert_int_equal(a->count, all->count);
    assert_int_equal(empty->min, all->min);
    assert_int_equal(a->max, all->max);
    assert_memory_equal(a->buckets, all->buckets, sizeof(all->buckets));
    assert_memory_equal(empty->buckets, all->buckets, sizeof(all->buckets));
    assert_true(fabs(hist_mean(a) / hist_mean(all) - 1) < 1e-12);
    mem_free(a);
    mem_free(b);
    mem_free(all);
    mem_free(empty);
    mem_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_histogram),
        cmocka_unit_test(test_percentiles_agree_with_sorting),
        cmocka_unit_test(test_values_below_128_are_exact),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_merging_is_adding_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
