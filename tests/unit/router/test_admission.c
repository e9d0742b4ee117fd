/* What waits, as predicted, and the refusal of more. */
#include "rig.h"

#include <math.h>

#include "router/admission.h"

/* Prompt tokens take 10 ms on a prefill node, 100 ms on a decode node (rig.h). */
static void rates(struct schedule_node *n, enum node_role role, double token_s)
{
    *n = (struct schedule_node){.role = role, .up = true, .pages_total = 10,
                                .cost = {.token_s = token_s, .kv_token_bytes = 1000, .known = true}};
}

static void test_prompts_are_shared_out_among_those_that_compute_them(void **state)
{
    struct schedule_node n[3];
    struct admission a;

    (void)state;
    rates(&n[0], ROLE_PREFILL, 0.01);
    rates(&n[1], ROLE_PREFILL, 0.01);
    rates(&n[2], ROLE_DECODE, 0.1);
    n[0].queued_tokens = 100;
    n[2].queued_tokens = 5000; /* no matter: prompts go to prefill nodes */
    a = admission_predict(n, 3, ROUTER_AUTO, 300, 50);
    assert_true(a.known);
    assert_true(fabs(a.prefill_s - 2) < 1e-9);
    assert_true(fabs(a.kv_bytes - 50000) < 1e-9);
    assert_true(fabs(a.pool_bytes - 320000) < 1e-9);
    a = admission_predict(n, 3, ROUTER_AGGREGATED, 300, 50);
    assert_true(fabs(a.prefill_s - 530) < 1e-9);
    n[0].up = n[1].up = false;
    a = admission_predict(n, 3, ROUTER_AUTO, 300, 50);
    assert_true(fabs(a.prefill_s - 530) < 1e-9);
    n[2].cost.known = false;
    assert_false(admission_predict(n, 3, ROUTER_AUTO, 300, 50).known);
    n[2].up = false;
    assert_false(admission_predict(n, 3, ROUTER_AUTO, 300, 50).known);
}

/* A prefill node with two slots, both taken; requests of 100 tokens wait, 1 s each. */
static void busy(struct rig *r, uint32_t prefill_ms, uint64_t kv)
{
    struct router_config config = rig_config();

    config.queue_max = 100;
    config.queue_prefill_ms = prefill_ms;
    config.queue_kv = kv;
    rig_init_with(r, &config);
    rig_register(r, P1);
    rig_register(r, D1);
    rig_submit(r, 1, 100, 50);
    rig_submit(r, 2, 100, 50);
    assert_int_equal(router_core_queued(r->core), 0);
}

static void test_prompts_over_the_bound_are_refused_with_when_to_come(void **state)
{
    struct rig r;
    const struct router_action *a;

    (void)state;
    busy(&r, 3500, 0);
    rig_submit(&r, 3, 100, 50);
    rig_submit(&r, 4, 100, 50);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0); /* 3 s waited when it came */
    rig_submit(&r, 5, 100, 50);
    a = rig_nth(&r, ROUTER_FAIL, 0);
    assert_non_null(a);
    assert_int_equal(a->status, 503);
    assert_string_equal(a->text, "the prompts of 2 waiting requests take 4000.0 ms to compute, as predicted, "
                                 "and the bound is 3500 ms");
    assert_in_range(a->retry_after_ms, 1000, 1250);
    rig_fini(&r);
    busy(&r, 100, 0);
    rig_submit(&r, 3, 100, 50);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0); /* nobody waited */
    for (uint64_t i = 4; i < 6; i++)
        rig_submit(&r, i, 400, 50);
    a = rig_nth(&r, ROUTER_FAIL, 0);
    assert_non_null(a);
    assert_int_equal(a->retry_after_ms, 2900); /* 3 s wait, and 0.1 s may */
    assert_int_equal(router_core_counters(r.core)->refused_cost, 2);
    rig_fini(&r);
}

static void test_kv_over_the_bound_is_refused(void **state)
{
    struct rig r;

    (void)state;
    busy(&r, 0, 200000); /* 1,000 bytes a token */
    rig_submit(&r, 3, 100, 50);
    rig_submit(&r, 4, 100, 50);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    rig_submit(&r, 5, 10, 5);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 1);
    assert_string_equal(rig_nth(&r, ROUTER_FAIL, 0)->text,
                        "2 waiting requests may need 0.3 MiB of KV, and the bound is 0.2 MiB");
    assert_int_equal(rig_nth(&r, ROUTER_FAIL, 0)->status, 503);
    rig_fini(&r);
}

/* A job that never arrived: the node says that it has none, dead_ms after it was given one. */
static void test_a_lost_job_is_given_again(void **state)
{
    struct rig r;
    const struct msg *m;

    (void)state;
    rig_init(&r);
    rig_register(&r, P1);
    rig_register(&r, D1);
    rig_submit(&r, 1, 40, 10);
    rig_reserved(&r, D1, (struct stream_id){7000, 1});
    assert_non_null(rig_sent(&r, P1, MSG_PREFILL_JOB));
    rig_wait(&r, 480, (uint64_t[]){P1, D1, 0}); /* it may be on its way */
    assert_null(rig_sent(&r, D1, MSG_RESERVE));
    assert_int_equal(router_core_running(r.core), 1);
    r.now += 40 * CLOCK_MS;
    rig_msg(&r, P1, (struct msg){.type = MSG_HEARTBEAT, .u.heartbeat.running = 1});
    assert_null(rig_sent(&r, D1, MSG_RESERVE)); /* it has one */
    rig_msg(&r, P1, (struct msg){.type = MSG_HEARTBEAT});
    m = rig_sent(&r, D1, MSG_RESERVE);
    assert_non_null(m);
    assert_int_equal(m->u.reserve.id.epoch, 2);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts_are_shared_out_among_those_that_compute_them),
        cmocka_unit_test(test_prompts_over_the_bound_are_refused_with_when_to_come),
        cmocka_unit_test(test_kv_over_the_bound_is_refused),
        cmocka_unit_test(test_a_lost_job_is_given_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
