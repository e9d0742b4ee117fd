#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "engine/sample.h"
#include "tests/lib/test.h"

#define N 50

static struct sample_item items[N];

static void make_logits(float *l, uint64_t key)
{
    for (uint32_t i = 0; i < N; i++)
        l[i] = (float)(8 * rng_f64(key, i));
}

static const float *order_by;
static int by_logit(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    if (order_by[x] != order_by[y])
        return order_by[x] < order_by[y] ? 1 : -1;
    return x < y ? -1 : 1;
}

/* The distribution by the definition: sort everything, cut, normalise. */
static void expected(double *prob, const float *l, const struct sample_params *p)
{
    uint32_t ids[N], keep = p->top_k && p->top_k < N ? p->top_k : N;
    double total = 0, mass = 0;

    for (uint32_t i = 0; i < N; i++) {
        ids[i] = i;
        prob[i] = 0;
    }
    order_by = l;
    qsort(ids, N, sizeof(*ids), by_logit);
    for (uint32_t i = 0; i < keep; i++)
        total += exp((l[ids[i]] - l[ids[0]]) / (double)p->temperature);
    for (uint32_t i = 0; i < keep && (i == 0 || mass < (double)p->top_p * total); i++) {
        prob[ids[i]] = exp((l[ids[i]] - l[ids[0]]) / (double)p->temperature);
        mass += prob[ids[i]];
    }
    for (uint32_t i = 0; i < N; i++)
        prob[i] /= mass;
}

static void greedy_takes_the_largest_and_the_lowest_id_on_a_tie(void **state)
{
    struct sample_params p = {.temperature = 0, .top_p = 1};
    float l[4] = {1, 3, NAN, 3};

    (void)state;
    assert_int_equal(sample_token(l, 4, &p, 0, items), 1);
}

static void draws_follow_the_distribution(void **state)
{
    static const struct sample_params cases[] = {
        {1.0f, 1.0f, 0, 0}, {0.7f, 1.0f, 5, 0}, {1.3f, 0.8f, 0, 0}, {0.9f, 0.6f, 12, 0}, {1.0f, 1e-6f, 0, 0},
    };
    enum { DRAWS = 20000 };

    (void)state;
    for (size_t c = 0; c < 5; c++) {
        struct sample_params p = cases[c];
        uint32_t count[N] = {0};
        double prob[N];
        float l[N];

        make_logits(l, 77 + c);
        expected(prob, l, &p);
        p.seed = 1234 + c;
        for (uint32_t i = 0; i < DRAWS; i++)
            count[sample_token(l, N, &p, i, items)]++;
        for (uint32_t i = 0; i < N; i++) {
            /* five standard deviations of a binomial; never at all where the cut excludes it */
            double sd = sqrt(prob[i] * (1 - prob[i]) * DRAWS);

            assert_true(fabs(count[i] - prob[i] * DRAWS) <= 5 * sd + 1e-9);
        }
    }
}

static void the_draw_depends_on_seed_and_index_alone(void **state)
{
    struct sample_params p = {1.0f, 0.9f, 20, 42}, q = {1.0f, 0.9f, 20, 43};
    uint32_t a[64], differ = 0;
    float l[N];

    (void)state;
    make_logits(l, 5);
    for (uint32_t i = 0; i < 64; i++)
        a[i] = sample_token(l, N, &p, i, items);
    for (uint32_t i = 64; i-- > 0;) { /* in another order */
        assert_int_equal(sample_token(l, N, &p, i, items), a[i]);
        differ += sample_token(l, N, &q, i, items) != a[i];
    }
    assert_true(differ > 10);
}

static void odd_logits_give_a_token_of_the_vocabulary(void **state)
{
    struct sample_params p = {1.0f, 0.9f, 0, 1};
    float l[N];

    (void)state;
    for (uint32_t i = 0; i < N; i++)
        l[i] = -INFINITY;
    assert_in_range(sample_token(l, N, &p, 0, items), 0, N - 1);
    l[7] = INFINITY;
    assert_int_equal(sample_token(l, N, &p, 0, items), 7);
    for (uint32_t i = 0; i < N; i++)
        l[i] = NAN;
    l[9] = 0;
    for (uint32_t i = 0; i < 50; i++)
        assert_int_equal(sample_token(l, N, &p, i, items), 9);
    assert_int_equal(sample_token(l, 1, &p, 0, items), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_largest_and_the_lowest_id_on_a_tie),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(the_draw_depends_on_seed_and_index_alone),
        cmocka_unit_test(odd_logits_give_a_token_of_the_vocabulary),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
