#include "rig.h"

#include "kv/kv_layout.h"

static const char *refusal(const struct rig *r, uint64_t node)
{
    const struct msg *m = rig_sent(r, node, MSG_REFUSED);

    return m ? m->u.text.text : NULL;
}

static void check_refused(struct rig *r, uint64_t node, struct msg m, const char *part)
{
    size_t before = router_core_node_count(r->core);

    rig_msg(r, node, m);
    assert_non_null(refusal(r, node));
    if (!strstr(refusal(r, node), part))
        fail_msg("\"%s\" lacks \"%s\"", refusal(r, node), part);
    assert_int_equal(rig_nth(r, ROUTER_DISCONNECT, 0)->node, node);
    assert_int_equal(router_core_node_count(r->core), before);
}

static void test_registration_is_answered(void **state)
{
    struct rig r;
    const struct msg *m;

    (void)state;
    rig_init(&r);
    rig_register(&r, P1);
    assert_non_null(m = rig_sent(&r, P1, MSG_REGISTERED));
    assert_int_equal(m->u.registered.heartbeat_ms, 100);
    assert_int_equal(m->u.registered.dead_ms, 500);
    assert_true(rig_has_note(&r, "node=prefill-1"));
    rig_wait(&r, 20, (uint64_t[]){P1, 0});
    assert_non_null(rig_sent(&r, P1, MSG_HEARTBEAT));
    rig_wait(&r, 20, (uint64_t[]){P1, 0});
    assert_null(rig_sent(&r, P1, MSG_HEARTBEAT)); /* once a period */
    rig_fini(&r);
}

static void test_wrong_registrations_are_refused_with_the_value(void **state)
{
    struct rig r;
    struct msg m;

    (void)state;
    rig_init(&r);
#define BAD(field, value, part)                                                                    \
    m = rig_registration(D1);                                                                      \
    m.u.reg.field = (value);                                                                       \
    check_refused(&r, D1, m, part)
    BAD(protocol, MSG_PROTOCOL + 1, "protocol 7, the router 6");
    BAD(role, 3, "role 3");
    BAD(model_hash, 0x43, "0000000000000043, the cluster's model 000000000000002a");
    BAD(geometry.n_layer, 3, "3 layers, the cluster's model has 2");
    BAD(geometry.n_kv_head, 8, "8 KV heads");
    BAD(geometry.head_dim, 64, "64 dimensions");
    BAD(geometry.page_tokens, 16, "16 tokens a page");
    BAD(ctx_max, 0, "context of 0");
    BAD(slots, 0, "0 slots");
    BAD(pages_total, 0, "0 KV pages");
    BAD(kv_endpoint[0], '\0', "endpoint ''");
    BAD(cluster[0], 'T', "cluster 'Test', the router to 'test'");
    BAD(name[0], '"', "\"ecode-1");
    BAD(name[0], '\0', "''");
#undef BAD
    assert_int_equal(router_core_counters(r.core)->nodes_refused, 14);
    rig_fini(&r);
}

static void test_wire_types_agree(void **state)
{
    struct rig r;
    struct msg m = rig_registration(D1);

    (void)state;
    rig_init(&r);
    m.u.reg.geometry.wire_type = 1;
    rig_register(&r, P1);
    check_refused(&r, D1, m, "as f32, node prefill-1 as f16: kv_wire must agree, as it does with --kv_type=f16 --kv_wire=auto");
    rig_fini(&r);
}

static void test_mixed_kinds_are_named(void **state)
{
    struct rig r;
    struct msg m = rig_registration(D1);

    (void)state;
    rig_init(&r);
    rig_register(&r, P1);
    assert_false(rig_has_note(&r, "several kernel tiers"));
    strcpy(m.u.reg.tier, "ref"); /* which has the bits of avx2 */
    rig_msg(&r, D1, m);
    assert_false(rig_has_note(&r, "several kernel tiers"));
    m = rig_registration(D2);
    strcpy(m.u.reg.tier, "amx");
    rig_msg(&r, D2, m);
    assert_true(rig_has_note(&r, "avx2 with f16 (prefill-1), ref with f16 (decode-1), amx with f16 (decode-2)"));
    rig_fini(&r);

    rig_init(&r);
    rig_register(&r, P1);
    m = rig_registration(D1);
    m.u.reg.kv_type = KV_Q8;
    rig_msg(&r, D1, m);
    assert_true(rig_has_note(&r, "avx2 with f16 (prefill-1), avx2 with q8 (decode-1)"));
    rig_fini(&r);
}

static void test_second_node_of_a_live_name_is_refused(void **state)
{
    struct rig r;
    struct msg m = rig_registration(D1);

    (void)state;
    rig_init(&r);
    rig_register(&r, D1);
    m.u.reg.boot = 999;
    rig_msg(&r, 150, m);
    assert_null(rig_sent(&r, 150, MSG_REGISTERED)); /* undecided */
    assert_null(refusal(&r, 150));
    rig_msg(&r, D1, (struct msg){.type = MSG_HEARTBEAT});
    assert_non_null(strstr(refusal(&r, 150), "'decode-1' is alive"));
    assert_int_equal(router_core_node_count(r.core), 1);
    rig_fini(&r);
}

static void test_node_started_again_takes_its_name(void **state)
{
    struct rig r;
    struct msg m = rig_registration(D1);
    bool welcome = false;

    (void)state;
    rig_init(&r);
    rig_register(&r, D1);
    m.u.reg.boot = 999;
    rig_msg(&r, 150, m);
    for (int i = 0; i < 40 && !welcome; i++) { /* the old one is silent */
        rig_wait(&r, 20, NULL);
        welcome = rig_sent(&r, 150, MSG_REGISTERED);
    }
    assert_true(welcome);
    assert_int_equal(router_core_node_count(r.core), 1);
    assert_int_equal(router_core_node(r.core, 0)->handle, 150);
    rig_fini(&r);
}

static void test_waiting_process_may_change_its_connection(void **state)
{
    struct rig r;
    struct msg m = rig_registration(D1);
    bool welcome = false;

    (void)state;
    rig_init(&r);
    rig_register(&r, D1);
    m.u.reg.boot = 999;
    rig_msg(&r, 150, m);
    rig_msg(&r, 151, m);
    assert_int_equal(router_core_node_count(r.core), 2);
    for (int i = 0; i < 40 && !welcome; i++) {
        rig_wait(&r, 20, NULL);
        welcome = rig_sent(&r, 151, MSG_REGISTERED);
    }
    assert_true(welcome);
    rig_fini(&r);
}

static void test_same_process_on_a_new_connection_takes_over(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r);
    rig_register(&r, P1);
    rig_register(&r, D1);
    rig_submit(&r, 1, 40, 8);
    rig_msg(&r, 150, rig_registration(D1)); /* the same boot */
    assert_non_null(rig_sent(&r, 150, MSG_REGISTERED));
    assert_int_equal(rig_nth(&r, ROUTER_DISCONNECT, 0)->node, D1);
    assert_int_equal(rig_sent(&r, 150, MSG_RESERVE)->u.reserve.id.epoch, 2);
    rig_fini(&r);
}

static void test_node_that_registers_again_loses_its_streams(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r);
    rig_register(&r, P1);
    rig_register(&r, D1);
    rig_submit(&r, 1, 40, 8);
    rig_register(&r, D1);
    assert_non_null(rig_sent(&r, D1, MSG_CANCEL));
    assert_non_null(rig_sent(&r, D1, MSG_REGISTERED));
    assert_int_equal(rig_sent(&r, D1, MSG_RESERVE)->u.reserve.id.epoch, 2);
    rig_fini(&r);
}

static void test_draining_node_gets_nothing_new(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r);
    rig_register(&r, P1);
    rig_register(&r, D1);
    rig_register(&r, D2);
    rig_msg(&r, D1, (struct msg){.type = MSG_HEARTBEAT, .u.heartbeat.draining = true});
    assert_int_equal(router_core_node(r.core, 1)->state, NODE_DRAINING);
    for (uint64_t c = 1; c <= 2; c++) {
        rig_submit(&r, c, 10, 4);
        assert_non_null(rig_sent(&r, D2, MSG_RESERVE));
    }
    rig_submit(&r, 3, 10, 4);
    assert_int_equal(router_core_queued(r.core), 1);
    rig_fini(&r);
}

static void test_stranger_is_told_to_register_again(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r);
    rig_msg(&r, 77, (struct msg){.type = MSG_HEARTBEAT});
    assert_int_equal(r.out.n, 2);
    assert_string_equal(rig_sent(&r, 77, MSG_REFUSED)->u.text.text,
                        "not registered: register again");
    assert_int_equal(r.out.items[1].type, ROUTER_DISCONNECT);
    rig_msg(&r, 77, (struct msg){.type = MSG_BYE});
    assert_int_equal(r.out.n, 1); /* it leaves: nothing to say */
    assert_int_equal(r.out.items[0].type, ROUTER_DISCONNECT);
    rig_fini(&r);
}

static void test_nodes_are_bounded(void **state)
{
    struct rig r;
    struct msg m;
    char bound[32];

    (void)state;
    rig_init(&r);
    snprintf(bound, sizeof(bound), "has %d nodes", NODES_MAX);
    for (uint64_t i = 0; i <= NODES_MAX; i++) {
        m = rig_registration(D1);
        snprintf(m.u.reg.name, sizeof(m.u.reg.name), "decode-%d", (int)i);
        m.u.reg.boot = i + 1;
        rig_msg(&r, 1000 + i, m);
    }
    assert_non_null(strstr(refusal(&r, 1000 + NODES_MAX), bound));
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registration_is_answered),
        cmocka_unit_test(test_wrong_registrations_are_refused_with_the_value),
        cmocka_unit_test(test_wire_types_agree),
        cmocka_unit_test(test_mixed_kinds_are_named),
        cmocka_unit_test(test_second_node_of_a_live_name_is_refused),
        cmocka_unit_test(test_node_started_again_takes_its_name),
        cmocka_unit_test(test_waiting_process_may_change_its_connection),
        cmocka_unit_test(test_same_process_on_a_new_connection_takes_over),
        cmocka_unit_test(test_node_that_registers_again_loses_its_streams),
        cmocka_unit_test(test_draining_node_gets_nothing_new),
        cmocka_unit_test(test_stranger_is_told_to_register_again),
        cmocka_unit_test(test_nodes_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
