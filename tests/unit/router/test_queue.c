#include "rig.h"

#include "base/check.h"
#include "router/queue.h"

#define AGE (100 * CLOCK_MS)

/* A waiting request of a tenant: 100 * n tokens of KV. */
static struct session *waits(struct queue *q, uint64_t request, uint64_t tenant, uint32_t priority,
                             uint32_t n, int64_t now)
{
    struct session *s = mem_zalloc(sizeof(*s));

    s->id.request = request;
    s->tenant_id = tenant;
    s->priority = priority;
    s->n_prompt = 60 * n;
    s->max_new = 40 * n;
    s->queued_at = now;
    queue_add(q, s, now);
    return s;
}

/* Places whose turn it is; returns its number, 0 if nobody waits. */
static uint64_t served(struct queue *q, int64_t now, uint64_t *tenant)
{
    struct session *s = queue_next(q, now);
    uint64_t request;

    if (!s)
        return 0;
    assert_ptr_equal(queue_next(q, now), s); /* asking changes nothing */
    request = s->id.request;
    if (tenant)
        *tenant = s->tenant_id;
    queue_take(q, s, now);
    mem_free(s);
    return request;
}

static void test_one_tenant_is_served_in_order(void **state)
{
    struct queue q = {.age_ns = AGE};

    (void)state;
    assert_null(queue_next(&q, 0));
    waits(&q, 11, 1, 0, 50, 1);
    waits(&q, 12, 1, 0, 900, 1); /* 90,000 tokens: many turns of credit, and still in order */
    waits(&q, 13, 1, 0, 1, 1);
    assert_int_equal(q.n, 3);
    assert_int_equal(q.tokens, 60 * 951);
    assert_int_equal(q.reserve, 100 * 951);
    for (uint64_t i = 11; i <= 13; i++)
        assert_int_equal(served(&q, 2, NULL), i);
    assert_int_equal(served(&q, 2, NULL), 0);
    assert_int_equal(q.n + q.tokens + q.reserve, 0);
    queue_fini(&q);
}

static void test_tenants_share_by_tokens(void **state)
{
    struct queue q = {.age_ns = AGE};
    uint64_t tokens[3] = {0}, tenant = 0;

    (void)state;
    /* tenant 1 sends 200 requests of 3000 tokens, tenant 2 as many of 1000 */
    for (uint64_t i = 0; i < 200; i++) {
        waits(&q, 1000 + i, 1, 0, 30, 0);
        waits(&q, 2000 + i, 2, 0, 10, 0);
    }
    for (int i = 0; i < 160; i++) {
        assert_true(served(&q, 1, &tenant));
        tokens[tenant] += tenant == 1 ? 3000 : 1000;
    }
    /* equal but for a turn and the size of a request */
    assert_in_range(tokens[1], tokens[2] - 2 * QUEUE_QUANTUM - 3000, tokens[2] + 2 * QUEUE_QUANTUM + 3000);
    assert_true(tokens[1] + tokens[2] > 200000);
    while (served(&q, 1, NULL))
        ;
    queue_fini(&q);
}

/* Another tenant's turn comes behind two requests, large or small. */
static void test_flood_does_not_delay_another_tenant(void **state)
{
    static const uint32_t sizes[] = {1, 3, 30, 900}; /* hundreds of tokens */

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        uint32_t before = 0;
        struct queue q = {.age_ns = AGE};

        for (uint64_t i = 0; i < 1000; i++)
            waits(&q, 1 + i, 1, 0, sizes[k], 0);
        for (int i = 0; i < 7; i++)
            served(&q, 1, NULL);
        waits(&q, 5000, 2, 0, sizes[k], 1);
        while (served(&q, 1, NULL) != 5000)
            before++;
        assert_in_range(before, 0, 2);
        while (served(&q, 1, NULL))
            ;
        queue_fini(&q);
    }
}

static void test_lower_bands_wait_until_they_age(void **state)
{
    struct queue q = {.age_ns = AGE};
    int64_t now = 0;

    (void)state;
    waits(&q, 21, 1, 2, 1, now);
    waits(&q, 22, 1, 2, 1, now);
    for (uint64_t i = 0; i < 10; i++)
        waits(&q, 1 + i, 1, 0, 1, now);
    assert_int_equal(served(&q, now, NULL), 1);
    now += 2 * AGE - 1; /* band 2 counts as 1 */
    assert_int_equal(served(&q, now, NULL), 2);
    now += 1; /* as 0, and has waited longer */
    assert_int_equal(served(&q, now, NULL), 21);
    assert_int_equal(served(&q, now + 1, NULL), 3); /* 22 waits anew */
    now += 2 * AGE;
    assert_int_equal(served(&q, now, NULL), 22);
    while (served(&q, now, NULL))
        ;
    queue_fini(&q);
}

static void test_restarted_go_first_and_pay_once(void **state)
{
    struct queue q = {.age_ns = AGE};
    struct session *s;

    (void)state;
    waits(&q, 1, 1, 0, 1, 0);
    s = waits(&q, 9, 1, 7, 1, 0);
    queue_take(&q, s, 0);
    s->id.epoch = 1;
    queue_add(&q, s, 1);
    assert_ptr_equal(queue_next(&q, 1), s);
    queue_park(&q, s); /* has no turn, but waits */
    assert_int_equal(queue_next(&q, 1)->id.request, 1);
    assert_int_equal(q.n, 2);
    queue_unpark(&q, 1);
    assert_int_equal(served(&q, 1, NULL), 9);
    s = waits(&q, 2, 1, 0, 1, 0);
    queue_park(&q, s);
    queue_remove(&q, s);
    mem_free(s);
    assert_int_equal(served(&q, 1, NULL), 1);
    assert_int_equal(q.n, 0);
    queue_fini(&q);
}

static void test_the_oldest_is_known(void **state)
{
    struct queue q = {.age_ns = AGE};
    struct session *a = waits(&q, 1, 1, 5, 1, 10), *b = waits(&q, 2, 2, 0, 1, 20);
    struct session *c = waits(&q, 3, 3, 0, 1, 5); /* was waiting before: came back */

    (void)state;
    assert_ptr_equal(q.oldest, c);
    queue_remove(&q, c);
    assert_ptr_equal(q.oldest, a);
    queue_remove(&q, b);
    assert_ptr_equal(q.newest, a);
    queue_remove(&q, a);
    assert_null(q.oldest);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    queue_fini(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_tenant_is_served_in_order),
        cmocka_unit_test(test_tenants_share_by_tokens),
        cmocka_unit_test(test_flood_does_not_delay_another_tenant),
        cmocka_unit_test(test_lower_bands_wait_until_they_age),
        cmocka_unit_test(test_restarted_go_first_and_pay_once),
        cmocka_unit_test(test_the_oldest_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
