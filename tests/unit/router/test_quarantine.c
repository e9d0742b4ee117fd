/* Requests that crash nodes, and targets that cannot be met. */
#include "rig.h"

#define D3 103
#define D4 104
#define D5 105

static uint64_t quarantined(const struct rig *r)
{
    return router_core_counters(r->core)->quarantined;
}

static void aggregated(struct rig *r)
{
    struct router_config config = rig_config();

    config.mode = ROUTER_AGGREGATED;
    config.queue_max = 16;
    rig_init_with(r, &config);
}

#define SUPERVISOR 900

static struct msg ended(uint64_t node, bool crashed)
{
    const struct msg reg = rig_registration(node);
    struct msg m = {.type = MSG_ENDED, .u.ended = {.cluster = "test", .crashed = crashed}};

    m.u.ended.pid = reg.u.reg.pid;
    snprintf(m.u.ended.name, sizeof(m.u.ended.name), "%s", reg.u.reg.name);
    snprintf(m.u.ended.host, sizeof(m.u.ended.host), "%s", reg.u.reg.host);
    snprintf(m.u.ended.text, sizeof(m.u.ended.text), crashed ? "signal 11" : "signal 9");
    return m;
}

static void crash(struct rig *r, uint64_t node) { rig_msg(r, SUPERVISOR, ended(node, true)); }

static void kill_node(struct rig *r, uint64_t node) { rig_msg(r, SUPERVISOR, ended(node, false)); }

static void lose(struct rig *r, uint64_t node)
{
    rig_step(r, &(struct router_event){.type = ROUTER_LOST, .node = node});
}

/* A request that runs on decode-1. */
static void runs(struct rig *r)
{
    rig_register(r, D1);
    rig_submit(r, 1, 40, 100);
    rig_reserved(r, D1, (struct stream_id){7000, 1});
}

/* The request's attempt `epoch` is on a node that registers now, and runs there. */
static void runs_on(struct rig *r, uint64_t node, uint32_t epoch)
{
    r->now += QUARANTINE_WORD; /* no word came */
    rig_register(r, node);
    assert_non_null(rig_sent(r, node, MSG_RESERVE));
    rig_reserved(r, node, (struct stream_id){7000, epoch});
}

static void test_second_crash_ends_the_only_suspect(void **state)
{
    struct rig r;
    const struct router_action *a;
    uint64_t next;

    (void)state;
    aggregated(&r);
    rig_register(&r, D1);
    rig_submit(&r, 1, 40, 100);
    rig_reserved(&r, D1, (struct stream_id){7000, 1});
    rig_register(&r, D2);
    rig_register(&r, D3);
    rig_submit(&r, 2, 40, 100); /* innocent, on another node */
    crash(&r, D1);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    next = rig_sent(&r, D2, MSG_RESERVE) ? D2 : D3;
    rig_reserved(&r, next, (struct stream_id){7000, 2});
    crash(&r, next);
    a = rig_nth(&r, ROUTER_FAIL, 0);
    assert_non_null(a);
    assert_int_equal(a->client, 1);
    assert_int_equal(a->status, 500);
    assert_int_equal(a->retry_after_ms, 0);
    assert_non_null(strstr(a->text, "on 2 nodes when they crashed or were lost, the last of them decode-"));
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 1);
    assert_int_equal(quarantined(&r), 1);
    rig_fini(&r);
}

static void test_clean_ends_and_progress_are_no_strikes(void **state)
{
    struct rig r;
    struct stream_id id = {7000, 1};

    (void)state;
    aggregated(&r);
    rig_register(&r, D1);
    rig_submit(&r, 1, 40, 100);
    rig_reserved(&r, D1, id);
    rig_register(&r, D2);
    rig_msg(&r, D1, (struct msg){.type = MSG_BYE});
    assert_non_null(rig_sent(&r, D2, MSG_RESERVE));
    id.epoch = 2;
    rig_reserved(&r, D2, id);
    rig_register(&r, D3);
    crash(&r, D2);
    assert_non_null(rig_sent(&r, D3, MSG_RESERVE)); /* one strike */
    id.epoch = 3;
    rig_reserved(&r, D3, id);
    rig_tokens(&r, D3, id, 0, QUARANTINE_GOT_ON, FINISH_NONE); /* got on */
    rig_register(&r, D4);
    crash(&r, D3);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    assert_non_null(rig_sent(&r, D4, MSG_RESERVE));
    assert_int_equal(quarantined(&r), 0);
    rig_fini(&r);
}

/* Two streams run on decode-1, which crashes: both go to decode-2. */
static void two_lose_the_first(struct rig *r)
{
    aggregated(r);
    rig_register(r, D1);
    rig_submit(r, 1, 40, 100);
    rig_submit(r, 2, 40, 100);
    rig_reserved(r, D1, (struct stream_id){7000, 1});
    rig_reserved(r, D1, (struct stream_id){7001, 1});
    rig_register(r, D2);
    crash(r, D1);
}

static void test_many_on_both_nodes_are_tried_alone(void **state)
{
    struct rig r;
    uint64_t on[2] = {0};

    (void)state;
    two_lose_the_first(&r);
    assert_int_equal(router_core_running(r.core), 2);
    rig_reserved(&r, D2, (struct stream_id){7000, 2});
    rig_reserved(&r, D2, (struct stream_id){7001, 2});
    crash(&r, D2); /* two strikes each: none is blamed */
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    assert_int_equal(router_core_queued(r.core), 2);
    rig_register(&r, D3);
    assert_int_equal(router_core_running(r.core), 1); /* one at a time, though there is room */
    assert_int_equal(router_core_queued(r.core), 1);
    on[0] = rig_sent(&r, D3, MSG_RESERVE)->u.reserve.id.request;
    rig_submit(&r, 3, 40, 100); /* who is no suspect is not held up */
    assert_non_null(rig_sent(&r, D3, MSG_RESERVE));
    /* the first gets on: the second has its turn there */
    rig_cancel(&r, 3);
    rig_reserved(&r, D3, (struct stream_id){on[0], 3});
    rig_tokens(&r, D3, (struct stream_id){on[0], 3}, 0, 8, FINISH_NONE);
    assert_non_null(rig_sent(&r, D3, MSG_RESERVE));
    on[1] = rig_sent(&r, D3, MSG_RESERVE)->u.reserve.id.request;
    assert_true(on[1] != on[0]);
    rig_reserved(&r, D3, (struct stream_id){on[1], 3});
    rig_register(&r, D4);
    crash(&r, D3); /* and is the one */
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 1);
    assert_int_equal(rig_nth(&r, ROUTER_FAIL, 0)->status, 500);
    assert_int_equal(rig_nth(&r, ROUTER_FAIL, 0)->stats.request, on[1]);
    assert_non_null(rig_sent(&r, D4, MSG_RESERVE));
    assert_int_equal(rig_sent(&r, D4, MSG_RESERVE)->u.reserve.id.request, on[0]);
    rig_fini(&r);
}

static void test_node_that_was_only_stopped_takes_its_strike_back(void **state)
{
    struct rig r;
    struct msg m;

    (void)state;
    aggregated(&r);
    rig_register(&r, D1);
    rig_submit(&r, 1, 40, 100);
    rig_reserved(&r, D1, (struct stream_id){7000, 1});
    rig_register(&r, D2);
    lose(&r, D1);
    assert_non_null(rig_sent(&r, D2, MSG_RESERVE));
    rig_reserved(&r, D2, (struct stream_id){7000, 2});
    for (uint32_t epoch = 3; epoch < 5; epoch++) { /* and two more that nobody explains */
        lose(&r, D1 + epoch - 2);
        runs_on(&r, D1 + epoch - 1, epoch);
    }
    m = rig_registration(D5); /* the process of decode-1, over another connection */
    m.u.reg.boot = D1;
    snprintf(m.u.reg.name, sizeof(m.u.reg.name), "decode-1");
    rig_msg(&r, D5, m);
    lose(&r, D4);
    assert_int_equal(quarantined(&r), 0);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    assert_null(rig_sent(&r, D5, MSG_RESERVE)); /* two nobody explained: a word may come */
    rig_wait(&r, QUARANTINE_WORD / CLOCK_MS, (uint64_t[]){D5, 0});
    assert_non_null(rig_sent(&r, D5, MSG_RESERVE));
    rig_fini(&r);
}

/* kill -9 is nobody's fault, however often it hits the same request. */
static void test_killed_nodes_are_no_strikes(void **state)
{
    struct rig r;

    (void)state;
    aggregated(&r);
    runs(&r);
    for (uint32_t i = 1; i < 12; i++) {
        kill_node(&r, D1 + i - 1);
        assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
        assert_true(rig_has_note(&r, "lost: signal 9"));
        assert_int_equal(router_core_node_count(r.core), 0); /* at once, not after dead_ms */
        runs_on(&r, D1 + i, i + 1);
    }
    assert_int_equal(quarantined(&r), 0);
    crash(&r, D1 + 11);
    runs_on(&r, D1 + 12, 13);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    crash(&r, D1 + 12); /* these two are its own */
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 1);
    assert_int_equal(quarantined(&r), 1);
    rig_fini(&r);
}

static void test_losses_that_nobody_explains_count_half(void **state)
{
    struct rig r;

    (void)state;
    aggregated(&r);
    runs(&r);
    for (uint32_t i = 1; i < QUARANTINE_GUILTY; i++) {
        lose(&r, D1 + i - 1);
        assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
        runs_on(&r, D1 + i, i + 1);
    }
    lose(&r, D1 + QUARANTINE_GUILTY - 1);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 1);
    assert_int_equal(rig_nth(&r, ROUTER_FAIL, 0)->status, 500);
    assert_non_null(strstr(rig_nth(&r, ROUTER_FAIL, 0)->text, "on 4 nodes"));
    rig_fini(&r);
}

/* The node was silent for long before its supervisor could say why. */
static void test_word_that_comes_late_counts(void **state)
{
    struct rig r;

    (void)state;
    aggregated(&r);
    runs(&r);
    for (uint32_t i = 1; i < 9; i++) { /* of eight that fall silent, all were killed */
        lose(&r, D1 + i - 1);
        runs_on(&r, D1 + i, i + 1);
        if (i >= 2)
            kill_node(&r, D1 + i - 2);
        assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    }
    kill_node(&r, D1 + 7);
    lose(&r, D1 + 8);
    runs_on(&r, D1 + 9, 10);
    crash(&r, D1 + 8); /* the word for the loss before */
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    crash(&r, D1 + 9);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 1);
    assert_int_equal(quarantined(&r), 1);
    rig_fini(&r);
}

/* Which of two that were on both nodes it is shows when one of them leaves, or has more. */
static void test_the_others_are_cleared_when_the_guilty_one_is_found(void **state)
{
    struct rig r;

    (void)state;
    aggregated(&r);
    runs(&r);
    crash(&r, D1);
    r.now += QUARANTINE_WORD;
    rig_register(&r, D2);
    rig_submit(&r, 2, 40, 100);
    rig_reserved(&r, D2, (struct stream_id){7001, 1}); /* and 7000 is about to be reserved there */
    lose(&r, D2);
    crash(&r, D2); /* the word: 7000 has two, 7001 one */
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 1);
    assert_int_equal(rig_nth(&r, ROUTER_FAIL, 0)->client, 1);
    r.now += QUARANTINE_WORD;
    rig_register(&r, D3);
    assert_non_null(rig_sent(&r, D3, MSG_RESERVE));
    rig_reserved(&r, D3, (struct stream_id){7001, 2});
    crash(&r, D3); /* had it kept the strike of decode-2, this would be its second */
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    rig_fini(&r);
}

static void test_what_leaves_takes_its_strikes_with_it(void **state)
{
    struct rig r;

    (void)state;
    aggregated(&r);
    runs(&r);
    rig_submit(&r, 2, 40, 100);
    rig_reserved(&r, D1, (struct stream_id){7001, 1});
    crash(&r, D1);
    r.now += QUARANTINE_WORD;
    rig_register(&r, D2);
    rig_reserved(&r, D2, (struct stream_id){7000, 2});
    rig_reserved(&r, D2, (struct stream_id){7001, 2});
    lose(&r, D2); /* both may be guilty, and both wait for a word */
    rig_cancel(&r, 2);
    crash(&r, D2);
    assert_int_equal(quarantined(&r), 0);
    rig_register(&r, D3);
    assert_non_null(rig_sent(&r, D3, MSG_RESERVE));
    rig_fini(&r);
}

static void test_word_of_another_process_is_not_believed(void **state)
{
    struct rig r;
    struct msg m = ended(D1, true);

    (void)state;
    aggregated(&r);
    runs(&r);
    snprintf(m.u.ended.cluster, sizeof(m.u.ended.cluster), "other");
    rig_msg(&r, SUPERVISOR, m);
    assert_true(rig_has_note(&r, "of cluster other is none of ours"));
    m = ended(D1, true);
    m.u.ended.pid++;
    rig_msg(&r, SUPERVISOR, m);
    m = ended(D1, true);
    snprintf(m.u.ended.host, sizeof(m.u.ended.host), "elsewhere");
    rig_msg(&r, SUPERVISOR, m);
    assert_non_null(rig_nth(&r, ROUTER_DISCONNECT, 0));
    assert_int_equal(rig_nth(&r, ROUTER_DISCONNECT, 0)->node, SUPERVISOR);
    assert_int_equal(router_core_node_count(r.core), 1);
    rig_msg(&r, D1, ended(D1, true)); /* nodes do not say that of themselves */
    assert_int_equal(router_core_counters(r.core)->protocol_faults, 1);
    assert_int_equal(router_core_node_count(r.core), 1);
    rig_fini(&r);
}

static void slo(struct rig *r, uint32_t ttft_ms, uint32_t tpot_ms)
{
    struct router_config config = rig_config();

    config.slo_ttft_ms = ttft_ms;
    config.slo_tpot_ms = tpot_ms;
    rig_init_with(r, &config);
    rig_register(r, P1);
    rig_register(r, D1);
}

/* As rig.h's registrations say: 40 tokens take 400 ms; one row's step takes 203 ms. */
static void test_targets_refuse_early(void **state)
{
    struct rig r;
    const struct router_action *a;

    (void)state;
    slo(&r, 500, 250);
    rig_submit(&r, 1, 40, 8);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    rig_submit(&r, 2, 40, 8); /* behind the first one's 400 ms */
    a = rig_nth(&r, ROUTER_FAIL, 0);
    assert_non_null(a);
    assert_int_equal(a->status, 503);
    assert_true(a->retry_after_ms > 0);
    assert_string_equal(a->text,
                        "the first token is predicted after 800 ms, and the target is 500 ms");
    assert_null(rig_sent(&r, D1, MSG_RESERVE));
    assert_int_equal(router_core_counters(r.core)->refused_slo, 1);
    assert_int_equal(router_core_queued(r.core), 0);
    rig_fini(&r);

    slo(&r, 0, 100);
    rig_submit(&r, 1, 40, 8);
    a = rig_nth(&r, ROUTER_FAIL, 0);
    assert_non_null(a);
    assert_string_equal(a->text,
                        "a token is predicted to take 203.1 ms, and the target is 100 ms");
    rig_fini(&r);
}

/* Two suspects find no room at all: who ends makes it for the first of them. */
static void test_suspects_without_room_get_the_next(void **state)
{
    struct rig r;

    (void)state;
    two_lose_the_first(&r);
    rig_reserved(&r, D2, (struct stream_id){7000, 2});
    rig_reserved(&r, D2, (struct stream_id){7001, 2});
    rig_register(&r, D3);
    rig_submit(&r, 3, 40, 100);
    rig_submit(&r, 4, 40, 100);
    rig_reserved(&r, D3, (struct stream_id){7002, 1});
    rig_reserved(&r, D3, (struct stream_id){7003, 1});
    assert_int_equal(router_core_running(r.core), 4);
    crash(&r, D2);
    assert_int_equal(router_core_queued(r.core), 2);
    rig_tokens(&r, D3, (struct stream_id){7002, 1}, 0, 1, FINISH_STOP);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    assert_non_null(rig_sent(&r, D3, MSG_RESERVE));
    assert_int_equal(router_core_queued(r.core), 1);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_crash_ends_the_only_suspect),
        cmocka_unit_test(test_clean_ends_and_progress_are_no_strikes),
        cmocka_unit_test(test_many_on_both_nodes_are_tried_alone),
        cmocka_unit_test(test_suspects_without_room_get_the_next),
        cmocka_unit_test(test_node_that_was_only_stopped_takes_its_strike_back),
        cmocka_unit_test(test_killed_nodes_are_no_strikes),
        cmocka_unit_test(test_losses_that_nobody_explains_count_half),
        cmocka_unit_test(test_word_that_comes_late_counts),
        cmocka_unit_test(test_the_others_are_cleared_when_the_guilty_one_is_found),
        cmocka_unit_test(test_what_leaves_takes_its_strikes_with_it),
        cmocka_unit_test(test_word_of_another_process_is_not_believed),
        cmocka_unit_test(test_targets_refuse_early),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
