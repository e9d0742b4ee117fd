/* Decisions that are kept, prefix reports, drain, and the times that a stream is told with. */
#include "rig.h"

#include "base/check.h"
#include "base/hash.h"
#include "kv/prefix.h"

static bool explained(const struct rig *r, uint64_t id, const char *part)
{
    struct str out = {0};
    bool known = router_core_explain(r->core, id, &out), has = known && strstr(out.data, part);

    if (known && !has)
        print_message("%s lacks %s\n", out.data, part);
    str_fini(&out);
    return has;
}

static void submit_for(struct rig *r, uint64_t client, uint32_t n, uint64_t id, const char *tenant)
{
    struct router_event e = {.type = ROUTER_SUBMIT};

    e.submit = (struct router_submit){
        .client = client, .n_tokens = n, .max_new = 4, .ids = {id, id + 1}, .priority = 3};
    snprintf(e.submit.tenant, sizeof(e.submit.tenant), "%s", tenant);
    e.submit.tokens = mem_calloc(n, sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++)
        e.submit.tokens[i] = i + 1;
    rig_step(r, &e);
}

static void pair(struct rig *r)
{
    rig_init(r);
    rig_register(r, P1);
    rig_register(r, P2);
    rig_register(r, D1);
}

static void test_live_and_ended_requests_are_explained(void **state)
{
    struct rig r;
    struct stream_id id = {7000, 1};

    (void)state;
    pair(&r);
    submit_for(&r, 1, 40, 0xabc, "ann");
    assert_true(explained(&r, 0xabc, "\"state\":\"live\""));
    assert_true(explained(&r, 0xabd, "\"tenant\":\"ann\""));
    assert_true(explained(&r, 7000, "\"priority\":3"));
    assert_true(explained(&r, 7000, "\"considered\":2,\"candidates\":[{\"prefill\":\"prefill-1\","
                                    "\"decode\":\"decode-1\",\"local\":false,"));
    assert_true(explained(&r, 7000, "\"prefill_ms\":400.000,\"ship_ms\":3.000,"
                                    "\"ttft_ms\":400.000,\"tpot_ms\":203.129"));
    rig_reserved(&r, D1, id);
    rig_first(&r, P1, id, 0, 500, FINISH_LENGTH);
    assert_true(explained(&r, 0xabc, "\"state\":\"ended\""));
    assert_true(explained(&r, 0xabc, "\"output_tokens\":1"));
    assert_false(router_core_explain(r.core, 0xabe, &(struct str){0}));
    assert_false(router_core_explain(r.core, 0, &(struct str){0}));
    rig_fini(&r);
}

static void test_only_the_last_that_ended_are_kept(void **state)
{
    struct rig r;

    (void)state;
    pair(&r);
    for (uint64_t i = 0; i < EXPLAIN_KEPT + 10; i++) {
        submit_for(&r, i + 1, 8, 1000000 + 2 * i, "");
        rig_cancel(&r, i + 1);
    }
    assert_false(router_core_explain(r.core, 1000000 + 18, &(struct str){0}));
    assert_true(explained(&r, 1000000 + 20, "ended"));
    rig_fini(&r);
}

static void report(struct rig *r, uint64_t node, uint32_t name, bool reset)
{
    struct msg m = {.type = MSG_PREFIX_REPORT};

    m.u.prefix.reset = reset;
    m.u.prefix.added = mem_dup(&name, sizeof(name));
    m.u.prefix.n_added = 1;
    rig_msg(r, node, m);
}

static void test_a_prefix_draws_the_request(void **state)
{
    struct rig r;
    uint32_t tokens[32];
    uint64_t salt = hash64("ann", 3, 0), nobody = hash64("", 0, 0);

    (void)state;
    for (uint32_t i = 0; i < 32; i++)
        tokens[i] = i + 1;
    pair(&r);
    report(&r, P2, (uint32_t)prefix_name(salt, tokens), false);
    submit_for(&r, 1, 40, 0xabc, "ann");
    assert_true(explained(&r, 0xabc, "[{\"prefill\":\"prefill-2\",\"decode\":\"decode-1\","
                                     "\"local\":false,\"cached_prefill\":32"));
    assert_int_equal(router_core_counters(r.core)->prefix_hits, 1);
    assert_int_equal(router_core_counters(r.core)->prefix_hit_tokens, 32);
    rig_cancel(&r, 1);
    /* it is ann's alone */
    submit_for(&r, 2, 40, 0xacc, "bob");
    assert_true(explained(&r, 0xacc, "\"cached_prefill\":0"));
    rig_cancel(&r, 2);
    /* the whole prompt is never cached: one token is computed */
    submit_for(&r, 3, 32, 0xadc, "ann");
    assert_true(explained(&r, 0xadc, "\"cached_prefill\":0"));
    rig_cancel(&r, 3);
    /* a reset forgets; so does the end of the node */
    report(&r, P2, (uint32_t)prefix_name(nobody, tokens), true);
    submit_for(&r, 4, 40, 0xaec, "ann");
    assert_true(explained(&r, 0xaec, "\"cached_prefill\":0"));
    rig_cancel(&r, 4);
    rig_step(&r, &(struct router_event){.type = ROUTER_LOST, .node = P2});
    rig_register(&r, P2);
    submit_for(&r, 5, 40, 0xafc, "");
    assert_true(explained(&r, 0xafc, "\"cached_prefill\":0"));
    rig_fini(&r);
}

static void test_drained_node_finishes_and_gets_nothing_new(void **state)
{
    struct rig r;
    struct stream_id id = {7000, 1};
    const struct node *node;

    (void)state;
    pair(&r);
    rig_submit(&r, 1, 40, 4);
    rig_step(&r, &(struct router_event){.type = ROUTER_DRAIN, .node = 12345});
    assert_null(rig_nth(&r, ROUTER_SEND, 0));
    rig_step(&r, &(struct router_event){.type = ROUTER_DRAIN, .node = D1});
    assert_non_null(rig_sent(&r, D1, MSG_DRAIN));
    node = router_core_node_named(r.core, "decode-1");
    assert_int_equal(node->state, NODE_DRAINING);
    rig_msg(&r, D1, (struct msg){.type = MSG_HEARTBEAT}); /* was under way: says it is up */
    assert_int_equal(node->state, NODE_DRAINING);
    rig_submit(&r, 2, 40, 4);
    assert_null(rig_sent(&r, D1, MSG_RESERVE));
    rig_register(&r, D2);
    assert_non_null(rig_sent(&r, D2, MSG_RESERVE));
    rig_reserved(&r, D1, id);
    rig_first(&r, P1, id, 0, 500, FINISH_NONE);
    rig_tokens(&r, D1, id, 1, 3, FINISH_LENGTH);
    assert_non_null(rig_nth(&r, ROUTER_FINISH, 0));
    rig_msg(&r, D1, (struct msg){.type = MSG_BYE});
    assert_null(router_core_node_named(r.core, "decode-1"));
    rig_fini(&r);
}

static void test_times_of_a_stream(void **state)
{
    struct rig r;
    struct stream_id id = {7000, 1};
    struct msg m = {.type = MSG_PREFILL_TOKEN};
    const struct router_stats *s;

    (void)state;
    pair(&r);
    rig_submit(&r, 1, 40, 4);
    rig_reserved(&r, D1, id);
    m.u.first = (struct msg_prefill_token){.id = id, .token = 500, .queue_ns = 5, .compute_ns = 6,
                                           .hit_tokens = 32};
    rig_msg(&r, P1, m);
    r.now += 100;
    m = (struct msg){.type = MSG_TOKENS};
    m.u.tokens = (struct msg_tokens){.id = id, .index = 1, .n_tokens = 1, .tokens = {501},
                                     .queue_ns = 30, .step_ns = 20};
    rig_msg(&r, D1, m);
    r.now += 1000;
    rig_tokens(&r, D1, id, 2, 2, FINISH_LENGTH);
    s = &rig_nth(&r, ROUTER_FINISH, 0)->stats;
    assert_int_equal(s->queue_ns, 5);
    assert_int_equal(s->prefill_ns, 6);
    assert_int_equal(s->handoff_ns, 50);
    assert_int_equal(s->decode_queue_ns, 30);
    assert_int_equal(s->decode_ns, 1000);
    assert_int_equal(s->cached_tokens, 32);
    assert_int_equal(router_core_counters(r.core)->cached_tokens, 32);
    rig_fini(&r);
}

/* Times that a node makes up are told as they came, and nothing is computed from them. */
static void test_times_that_cannot_be(void **state)
{
    static const int64_t times[][2] = {{INT64_MAX, 1}, {1, INT64_MAX}, {INT64_MAX, INT64_MAX}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        struct rig r;
        struct stream_id id = {7000, 1};
        struct msg m = {.type = MSG_TOKENS};

        pair(&r);
        rig_submit(&r, 1, 40, 4);
        rig_reserved(&r, D1, id);
        rig_first(&r, P1, id, 0, 500, FINISH_NONE);
        r.now += 100;
        m.u.tokens = (struct msg_tokens){.id = id, .index = 1, .n_tokens = 1, .tokens = {501},
                                         .queue_ns = times[i][0], .step_ns = times[i][1]};
        rig_msg(&r, D1, m);
        rig_tokens(&r, D1, id, 2, 2, FINISH_LENGTH);
        assert_int_equal(rig_nth(&r, ROUTER_FINISH, 0)->stats.decode_queue_ns, times[i][0]);
        assert_int_equal(rig_nth(&r, ROUTER_FINISH, 0)->stats.handoff_ns, 0);
        rig_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_live_and_ended_requests_are_explained),
        cmocka_unit_test(test_only_the_last_that_ended_are_kept),
        cmocka_unit_test(test_a_prefix_draws_the_request),
        cmocka_unit_test(test_drained_node_finishes_and_gets_nothing_new),
        cmocka_unit_test(test_times_of_a_stream),
        cmocka_unit_test(test_times_that_cannot_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
