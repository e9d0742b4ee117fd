/* Requests whose prompt the decode node computes itself. */
#include "rig.h"

static void rig_mode(struct rig *r, enum router_mode mode)
{
    struct router_config config = rig_config();

    config.mode = mode;
    rig_init_with(r, &config);
}

static uint64_t placed(const struct rig *r, enum schedule_rung rung)
{
    return router_core_counters(r->core)->placed[rung];
}

static const struct node *the_node(const struct rig *r, size_t i)
{
    return router_core_node(r->core, i);
}

static void test_aggregated_needs_no_prefill_node(void **state)
{
    struct rig r;
    struct stream_id id = {7000, 1};
    const struct msg *m;
    const struct router_action *a;

    (void)state;
    rig_mode(&r, ROUTER_AGGREGATED);
    assert_false(router_core_ready(r.core));
    rig_register(&r, D1);
    assert_true(router_core_ready(r.core));
    rig_submit(&r, 1, 40, 8);
    m = rig_sent(&r, D1, MSG_RESERVE);
    assert_non_null(m);
    assert_true(m->u.reserve.local);
    assert_int_equal(m->u.reserve.n_tokens, 40);
    assert_int_equal(m->u.reserve.first_index, 0);
    assert_int_equal(the_node(&r, 0)->queued_tokens, 40);
    rig_reserved(&r, D1, id);
    assert_int_equal(r.out.n, 0); /* no job for anybody */
    rig_tokens(&r, D1, id, 0, 3, FINISH_NONE);
    a = rig_nth(&r, ROUTER_DELIVER, 0);
    assert_non_null(a);
    assert_int_equal(a->index, 0);
    assert_int_equal(a->n_tokens, 3);
    assert_int_equal(the_node(&r, 0)->queued_tokens, 0);
    rig_tokens(&r, D1, id, 3, 5, FINISH_LENGTH);
    a = rig_nth(&r, ROUTER_FINISH, 0);
    assert_non_null(a);
    assert_int_equal(a->finish, FINISH_LENGTH);
    assert_true(a->stats.local);
    assert_string_equal(a->stats.prefill, "decode-1");
    assert_string_equal(a->stats.decode, "decode-1");
    assert_null(rig_sent(&r, D1, MSG_CANCEL));
    assert_int_equal(the_node(&r, 0)->running, 0);
    assert_int_equal(placed(&r, RUNG_LOCAL), 1);
    rig_fini(&r);
}

static void test_aggregated_leaves_prefill_nodes_alone(void **state)
{
    struct rig r;

    (void)state;
    rig_mode(&r, ROUTER_AGGREGATED);
    rig_register(&r, P1);
    assert_false(router_core_ready(r.core));
    rig_register(&r, D1);
    rig_submit(&r, 1, 40, 8);
    assert_true(rig_sent(&r, D1, MSG_RESERVE)->u.reserve.local);
    rig_reserved(&r, D1, (struct stream_id){7000, 1});
    assert_null(rig_sent(&r, P1, MSG_PREFILL_JOB));
    rig_fini(&r);
}

static void test_first_token_that_stops(void **state)
{
    struct rig r;
    struct stream_id id = {7000, 1};

    (void)state;
    rig_mode(&r, ROUTER_AGGREGATED);
    rig_register(&r, D1);
    rig_submit(&r, 1, 40, 8);
    rig_reserved(&r, D1, id);
    rig_tokens(&r, D1, id, 0, 0, FINISH_STOP);
    assert_null(rig_nth(&r, ROUTER_DELIVER, 0));
    assert_int_equal(rig_nth(&r, ROUTER_FINISH, 0)->finish, FINISH_STOP);
    rig_fini(&r);
}

static void test_auto_prefers_a_pair_and_does_without(void **state)
{
    struct rig r;
    struct stream_id id = {7000, 1};
    const struct msg *m;

    (void)state;
    rig_mode(&r, ROUTER_AUTO);
    rig_register(&r, D1);
    rig_register(&r, P1);
    rig_submit(&r, 1, 40, 8);
    assert_false(rig_sent(&r, D1, MSG_RESERVE)->u.reserve.local);
    rig_reserved(&r, D1, id);
    rig_first(&r, P1, id, 0, 500, FINISH_NONE);
    rig_tokens(&r, D1, id, 1, 1, FINISH_NONE);
    /* prefill-1 leaves, then the decode node fails the stream: it goes on there, prompt and journal */
    rig_msg(&r, P1, (struct msg){.type = MSG_BYE});
    assert_true(router_core_ready(r.core));
    rig_failed(&r, D1, MSG_DECODE_FAILED, id, true);
    rig_wait(&r, 200, (uint64_t[]){D1, 0});
    id.epoch = 2;
    rig_reserved(&r, D1, id);
    rig_tokens(&r, D1, id, 2, 6, FINISH_LENGTH);
    assert_int_equal(rig_nth(&r, ROUTER_DELIVER, 0)->index, 2);
    assert_non_null(rig_nth(&r, ROUTER_FINISH, 0));
    assert_int_equal(placed(&r, RUNG_PAIR), 1);
    assert_int_equal(placed(&r, RUNG_NO_PREFILL), 1);
    rig_submit(&r, 2, 40, 8);
    m = rig_sent(&r, D1, MSG_RESERVE);
    assert_non_null(m);
    assert_true(m->u.reserve.local);
    rig_fini(&r);
}

static void test_node_that_dies_restarts_a_local_stream(void **state)
{
    struct rig r;
    struct stream_id id = {7000, 1};
    const struct msg *m;

    (void)state;
    rig_mode(&r, ROUTER_AGGREGATED);
    rig_register(&r, D1);
    rig_register(&r, D2);
    rig_submit(&r, 1, 40, 8);
    rig_reserved(&r, D1, id);
    rig_tokens(&r, D1, id, 0, 2, FINISH_NONE);
    rig_step(&r, &(struct router_event){.type = ROUTER_LOST, .node = D1});
    m = rig_sent(&r, D2, MSG_RESERVE);
    assert_non_null(m);
    assert_true(m->u.reserve.local);
    assert_int_equal(m->u.reserve.id.epoch, 2);
    assert_int_equal(m->u.reserve.n_tokens, 42);
    assert_int_equal(m->u.reserve.first_index, 2);
    assert_int_equal(m->u.reserve.tokens[41], 501);
    rig_cancel(&r, 1);
    assert_non_null(rig_sent(&r, D2, MSG_CANCEL));
    assert_int_equal(the_node(&r, 0)->queued_tokens, 0);
    assert_int_equal(the_node(&r, 0)->pages_taken, 0);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aggregated_needs_no_prefill_node),
        cmocka_unit_test(test_aggregated_leaves_prefill_nodes_alone),
        cmocka_unit_test(test_first_token_that_stops),
        cmocka_unit_test(test_auto_prefers_a_pair_and_does_without),
        cmocka_unit_test(test_node_that_dies_restarts_a_local_stream),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
