#include "rig.h"

#include "router/tenants.h"

static void test_concurrency_is_each_tenants_own(void **state)
{
    struct tenants t = {.limits.concurrent_max = 2};
    int64_t wait = 0;

    (void)state;
    tenants_begin(&t, 1, NULL, 10, 0);
    assert_int_equal(tenants_may(&t, 1, NULL, 0, &wait), TENANT_OK);
    tenants_begin(&t, 1, NULL, 10, 0);
    assert_int_equal(tenants_may(&t, 1, NULL, 0, &wait), TENANT_BUSY);
    assert_int_equal(tenants_may(&t, 2, NULL, 0, &wait), TENANT_OK);
    tenants_end(&t, 1, 5, 0);
    assert_int_equal(tenants_may(&t, 1, NULL, 0, &wait), TENANT_OK);
    tenants_end(&t, 1, 5, 0);
    assert_int_equal(t.all.len, 0); /* forgotten */
    tenants_fini(&t);
}

static void test_limits_of_its_own_stand_above_those_of_all(void **state)
{
    const struct tenant_limits own = {.concurrent_max = 3}, none = {0};
    struct tenants t = {.limits = {.concurrent_max = 1, .tokens_minute = 100}};
    int64_t wait = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tenants_may(&t, 1, &own, 0, &wait), TENANT_OK);
        tenants_begin(&t, 1, &own, 1000, 0);
    }
    assert_int_equal(tenants_may(&t, 1, &own, 0, &wait), TENANT_BUSY);
    assert_int_equal(tenants_may(&t, 1, &none, 0, &wait), TENANT_OK); /* the file was changed */
    tenants_begin(&t, 2, NULL, 200, 0);
    assert_int_equal(tenants_may(&t, 2, NULL, 0, &wait), TENANT_BUSY);
    tenants_end(&t, 2, 0, 0);
    assert_int_equal(tenants_may(&t, 2, NULL, 0, &wait), TENANT_SPENT);
    tenants_fini(&t);
}

static void test_tokens_come_back_by_the_minute(void **state)
{
    struct tenants t = {.limits.tokens_minute = 600}; /* 10 a second */
    int64_t wait = 0;

    (void)state;
    tenants_begin(&t, 1, NULL, 500, 0);
    assert_int_equal(tenants_may(&t, 1, NULL, 0, &wait), TENANT_OK); /* 100 left */
    tenants_begin(&t, 1, NULL, 150, 0);
    assert_int_equal(tenants_may(&t, 1, NULL, 0, &wait), TENANT_SPENT); /* 50 below empty */
    assert_int_equal(wait / CLOCK_MS, 5100);
    tenants_end(&t, 1, 50, 0); /* 100 below */
    tenants_end(&t, 1, 0, 0);
    assert_int_equal(tenants_may(&t, 1, NULL, 10 * CLOCK_S, &wait), TENANT_SPENT);
    assert_int_equal(tenants_may(&t, 1, NULL, 10 * CLOCK_S + wait, &wait), TENANT_OK);
    assert_int_equal(t.all.len, 1);
    assert_int_equal(tenants_may(&t, 1, NULL, 80 * CLOCK_S, &wait), TENANT_OK); /* full again */
    assert_int_equal(t.all.len, 0);
    tenants_fini(&t);
}

static void submit_for(struct rig *r, uint64_t client, const char *tenant)
{
    struct router_event e = {.type = ROUTER_SUBMIT};

    e.submit = (struct router_submit){.client = client, .n_tokens = 40, .max_new = 4};
    snprintf(e.submit.tenant, sizeof(e.submit.tenant), "%s", tenant);
    e.submit.tokens = mem_calloc(40, sizeof(uint32_t));
    rig_step(r, &e);
}

static void test_over_its_limit_a_tenant_gets_429(void **state)
{
    struct router_config config = rig_config();
    const struct router_action *a;
    struct rig r;

    (void)state;
    config.tenant_concurrent = 1;
    config.tenant_tokens_minute = 60;
    rig_init_with(&r, &config);
    rig_register(&r, P1);
    rig_register(&r, D1);
    submit_for(&r, 1, "ann");
    submit_for(&r, 2, "ann");
    a = rig_nth(&r, ROUTER_FAIL, 0);
    assert_non_null(a);
    assert_int_equal(a->status, 429);
    assert_true(a->retry_after_ms > 0);
    assert_string_equal(a->text, "you have 1 requests under way, and may have 1 at a time");
    submit_for(&r, 3, "bob");
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    rig_cancel(&r, 1);
    submit_for(&r, 4, "ann"); /* 20 of 60 tokens are left */
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    rig_cancel(&r, 4);
    submit_for(&r, 5, "ann");
    a = rig_nth(&r, ROUTER_FAIL, 0);
    assert_non_null(a);
    assert_int_equal(a->status, 429);
    assert_string_equal(a->text, "you have used the 60 tokens that you may use in a minute");
    assert_int_equal(a->retry_after_ms, 21000);
    submit_for(&r, 6, ""); /* nobody's have no limits */
    submit_for(&r, 7, "");
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    assert_int_equal(router_core_counters(r.core)->refused_tenant, 2);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_concurrency_is_each_tenants_own),
        cmocka_unit_test(test_limits_of_its_own_stand_above_those_of_all),
        cmocka_unit_test(test_tokens_come_back_by_the_minute),
        cmocka_unit_test(test_over_its_limit_a_tenant_gets_429),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
