#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/schedule.h"

static struct schedule_node prefill(uint64_t node)
{
    return (struct schedule_node){
        .node = node, .role = ROLE_PREFILL, .up = true, .open = true, .ctx_max = 1000, .slots = 8};
}

static struct schedule_node decode(uint64_t node)
{
    return (struct schedule_node){.node = node, .role = ROLE_DECODE, .up = true, .open = true, .ctx_max = 1000,
                                  .slots = 4, .pages_total = 32, .cost.token_s = 1};
}

/* The handle of the decode (or prefill) node picked, 0 if none. */
static uint64_t picked(const struct schedule_node *n, size_t count, uint32_t pages, uint64_t avoid,
                       enum node_role role)
{
    struct schedule_need need = {
        .tokens = pages * 32, .n = 8, .max_new = 8, .pages = pages, .avoid = avoid, .mode = ROUTER_DISAGGREGATED};
    struct schedule_choice c;

    if (!schedule_pick(&c, n, count, &need))
        return 0;
    return n[role == ROLE_PREFILL ? c.best[0].prefill : c.best[0].decode].node;
}

static void test_both_roles_are_needed(void **state)
{
    struct schedule_node n[] = {prefill(1), decode(2)};

    (void)state;
    assert_int_equal(picked(n, 2, 1, 0, ROLE_DECODE), 2);
    assert_int_equal(picked(n, 2, 1, 0, ROLE_PREFILL), 1);
    assert_int_equal(picked(n, 1, 1, 0, ROLE_DECODE), 0);
    assert_int_equal(picked(n + 1, 1, 1, 0, ROLE_DECODE), 0);
    assert_int_equal(picked(n, 0, 1, 0, ROLE_DECODE), 0);
}

static void test_fewest_running_wins(void **state)
{
    struct schedule_node n[] = {prefill(1), decode(2), decode(3), decode(4)};

    (void)state;
    n[1].running = 2, n[2].running = 1, n[3].running = 3;
    assert_int_equal(picked(n, 4, 1, 0, ROLE_DECODE), 3);
}

static void test_full_closed_and_small_nodes_are_passed_over(void **state)
{
    struct schedule_node n[] = {prefill(1), decode(2), decode(3), decode(4), decode(5)};

    (void)state;
    n[1].running = 4;                        /* no slot */
    n[2].open = false;                       /* drains */
    n[3].pages_taken = 30;                   /* two pages left */
    n[4].running = 3;
    assert_int_equal(picked(n, 5, 3, 0, ROLE_DECODE), 5);
    n[4].ctx_max = 95;                       /* 96 wanted */
    assert_int_equal(picked(n, 5, 3, 0, ROLE_DECODE), 0);
}

static void test_ties_go_to_free_pages_then_to_the_longest_unused(void **state)
{
    struct schedule_node n[] = {prefill(1), decode(2), decode(3), decode(4)};

    (void)state;
    n[1].last_used = 5, n[2].last_used = 3, n[3].last_used = 4;
    assert_int_equal(picked(n, 4, 1, 0, ROLE_DECODE), 3);
    n[3].pages_total = 33;
    assert_int_equal(picked(n, 4, 1, 0, ROLE_DECODE), 4);
}

static void test_fewest_queued_tokens_wins(void **state)
{
    struct schedule_node n[] = {prefill(1), prefill(2), prefill(3), decode(4)};

    (void)state;
    n[0].queued_tokens = 500, n[1].queued_tokens = 100, n[2].queued_tokens = 50;
    n[1].running = 1, n[2].running = 8; /* its queue is full */
    assert_int_equal(picked(n, 4, 1, 0, ROLE_PREFILL), 2);
}

static void test_avoided_node_is_the_last_choice(void **state)
{
    struct schedule_node n[] = {prefill(1), prefill(5), decode(2), decode(3)};

    (void)state;
    n[3].running = 3;
    assert_int_equal(picked(n, 4, 1, 2, ROLE_DECODE), 3);
    n[3].running = 4;
    assert_int_equal(picked(n, 4, 1, 2, ROLE_DECODE), 2);
    assert_int_equal(picked(n, 4, 1, 1, ROLE_PREFILL), 5);
}

/* The rung, or -1 if there is no place; *local: without a prefill node. */
static int rung(const struct schedule_node *n, size_t count, enum router_mode mode, uint64_t avoid,
                bool *local)
{
    struct schedule_need need = {.tokens = 32, .n = 8, .max_new = 8, .pages = 1, .avoid = avoid, .mode = mode};
    struct schedule_choice c;

    if (!schedule_pick(&c, n, count, &need))
        return -1;
    *local = c.best[0].prefill == SCHEDULE_LOCAL;
    assert_int_equal(n[c.best[0].decode].role, ROLE_DECODE);
    return (int)c.rung;
}

static void test_modes_and_the_ladder(void **state)
{
    struct schedule_node n[] = {prefill(1), decode(2), prefill(3)};
    bool local = false;

    (void)state;
    assert_int_equal(rung(n, 2, ROUTER_AUTO, 0, &local), RUNG_PAIR);
    assert_false(local);
    assert_int_equal(rung(n, 3, ROUTER_AUTO, 1, &local), RUNG_OTHER_PAIR);
    assert_false(local);
    /* the only prefill node failed it: without one, if the mode lets it */
    assert_int_equal(rung(n, 2, ROUTER_AUTO, 1, &local), RUNG_NO_PREFILL);
    assert_true(local);
    assert_int_equal(rung(n, 2, ROUTER_DISAGGREGATED, 1, &local), RUNG_OTHER_PAIR);
    assert_false(local);
    assert_int_equal(rung(n + 1, 1, ROUTER_AUTO, 0, &local), RUNG_NO_PREFILL);
    assert_int_equal(rung(n + 1, 1, ROUTER_DISAGGREGATED, 0, &local), -1);
    assert_int_equal(rung(n, 2, ROUTER_AGGREGATED, 0, &local), RUNG_LOCAL);
    assert_true(local);
    /* a prefill node with a full queue is passed by */
    n[0].running = n[0].slots;
    assert_int_equal(rung(n, 2, ROUTER_DISAGGREGATED, 0, &local), -1);
    assert_int_equal(rung(n, 2, ROUTER_AUTO, 0, &local), RUNG_NO_PREFILL);
}

/* Numbers by hand from the formulas in schedule.h. */
static struct schedule_node slow_decode(void)
{
    struct schedule_node d = decode(2);

    d.running = 3;
    d.kv_tokens = 500;
    d.hit_tokens = 32;
    d.queued_tokens = 50;
    d.cost = (struct cost_rates){.token_s = 0.002, .step_s = 0.01, .step_row_s = 0.001,
                                 .step_kv_s = 1e-6, .kv_token_bytes = 1000};
    return d;
}

static struct schedule_node fast_prefill(void)
{
    struct schedule_node p = prefill(1);

    p.queued_tokens = 100;
    p.hit_tokens = 64;
    p.cost.token_s = 0.001;
    return p;
}

#define NEAR(a, b) assert_float_equal(a, b, 1e-6)

static void test_score_of_a_pair(void **state)
{
    struct schedule_node n[] = {fast_prefill(), slow_decode()};
    struct schedule_need need = {.tokens = 210, .pages = 7, .n = 200, .max_new = 10};
    struct schedule_score s;

    (void)state;
    schedule_score(&s, n, 0, 1, &need);
    NEAR(s.queue_s, 0.1);
    NEAR(s.prefill_s, 0.136); /* 64 of 200 are cached */
    NEAR(s.ttft_s, 0.236);
    NEAR(s.ship_s, 0.003); /* 168 KB take 0.168 ms, hidden by 136 ms of computing */
    NEAR(s.tpot_s, 0.0147);
    NEAR(s.others_s, 0.036); /* 10 steps, each of 3 waits 1.2 ms */
    NEAR(s.score_s, 0.422);
    n[0].host = n[1].host = 7;
    n[1].domain = 1;
    schedule_score(&s, n, 0, 1, &need);
    NEAR(s.ship_s, 0.001);
    n[1].cost.kv_token_bytes = 10e6; /* 1.68 GB at 4 GB/s */
    schedule_score(&s, n, 0, 1, &need);
    NEAR(s.ship_s, 0.42 - 0.136 + 0.001);
}

static void test_score_of_a_local_prompt(void **state)
{
    struct schedule_node n[] = {slow_decode()};
    struct schedule_need need = {.tokens = 210, .pages = 7, .n = 200, .max_new = 10};
    struct schedule_score s;

    (void)state;
    schedule_score(&s, n, SCHEDULE_LOCAL, 0, &need);
    NEAR(s.prefill_s, 0.336 + 6 * 0.0135); /* 168 tokens in 6 chunks, each with a step of three */
    NEAR(s.ttft_s, 0.1 + 0.417);
    NEAR(s.others_s, 3 * 0.336 + 0.036);
    NEAR(s.score_s, 0.517 + 1.044 + 0.147);
    need.tpot_s = 0.05; /* leaves room for 18 tokens in a step */
    schedule_score(&s, n, SCHEDULE_LOCAL, 0, &need);
    NEAR(s.prefill_s, 0.336 + 10 * 0.0135);
    assert_false(s.misses);
    need.tpot_s = 0.015; /* less than a step and a token */
    schedule_score(&s, n, SCHEDULE_LOCAL, 0, &need);
    assert_true(s.misses);
    n[0].running = 0;
    n[0].kv_tokens = 0;
    need.tpot_s = 0;
    schedule_score(&s, n, SCHEDULE_LOCAL, 0, &need);
    NEAR(s.ttft_s, 0.1 + 0.336);
    NEAR(s.others_s, 0.336); /* one that may come */
}

static void test_short_prompts_are_computed_where_they_are_decoded(void **state)
{
    struct schedule_node n[] = {prefill(1), decode(2)};
    struct schedule_need need = {.tokens = 512, .pages = 16, .max_new = 10, .mode = ROUTER_AUTO};
    struct schedule_choice c;

    (void)state;
    /* 1 ms a token on both; shipping costs 3 ms, a local prompt costs others as much as itself: up to
     * 3 tokens are cheaper here */
    n[0].cost.token_s = n[1].cost.token_s = 0.001;
    need.n = 2;
    assert_true(schedule_pick(&c, n, 2, &need));
    assert_int_equal(c.rung, RUNG_CHEAPER);
    assert_int_equal(c.best[0].prefill, SCHEDULE_LOCAL);
    assert_int_equal(c.considered, 2);
    need.n = 4;
    assert_true(schedule_pick(&c, n, 2, &need));
    assert_int_equal(c.rung, RUNG_PAIR);
    /* what the node has cached counts as computed */
    need.n = 34;
    n[1].hit_tokens = 32;
    assert_true(schedule_pick(&c, n, 2, &need));
    assert_int_equal(c.rung, RUNG_CHEAPER);
    need.mode = ROUTER_DISAGGREGATED;
    assert_true(schedule_pick(&c, n, 2, &need));
    assert_int_equal(c.rung, RUNG_PAIR);
}

static void test_prefixes_hosts_and_targets_decide(void **state)
{
    struct schedule_node n[] = {prefill(1), prefill(2), decode(3), decode(4)};
    struct schedule_need need = {
        .tokens = 512, .pages = 16, .n = 100, .max_new = 10, .mode = ROUTER_DISAGGREGATED};
    struct schedule_choice c;

    (void)state;
    n[0].cost.token_s = n[1].cost.token_s = 0.001;
    n[0].host = n[2].host = 1, n[1].host = n[3].host = 2;
    n[1].hit_tokens = 96;
    assert_true(schedule_pick(&c, n, 4, &need));
    assert_int_equal(c.best[0].prefill, 1); /* has most of it */
    assert_int_equal(c.best[0].decode, 3);  /* is on its host */
    assert_int_equal(c.considered, 4);
    n[3].cost.step_s = 0.1; /* the near one is slow: 1 s for 10 tokens */
    assert_true(schedule_pick(&c, n, 4, &need));
    assert_int_equal(c.best[0].decode, 2);
    /* one that meets the target comes before one with a better score */
    n[2].cost.step_s = 0.06;
    n[3].cost.step_s = 0.05;
    n[3].running = 1;
    n[3].cost.step_row_s = 0.001;
    need.tpot_s = 0.0515;
    n[2].cost.step_s = 0.0514;
    n[2].running = 2;
    n[2].cost.kv_token_bytes = 1e7;
    assert_true(schedule_pick(&c, n, 4, &need));
    assert_int_equal(c.best[0].decode, 2);
    assert_false(c.best[0].misses);
}

static void test_many_nodes_are_scored_in_bounded_time(void **state)
{
    static struct schedule_node n[1000];
    struct schedule_need need = {
        .tokens = 512, .pages = 16, .n = 100, .max_new = 10, .mode = ROUTER_AUTO};
    struct schedule_choice c;

    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        n[i] = i % 2 ? decode(i + 1) : prefill(i + 1);
        n[i].cost.token_s = 0.001;
        n[i].queued_tokens = i == 700 ? 10 : 100;
        n[i].running = i == 801 ? 0 : 1;
        n[i].cost.step_row_s = 0.001;
    }
    assert_true(schedule_pick(&c, n, 1000, &need));
    assert_int_equal(c.considered, SCHEDULE_BEST * (SCHEDULE_BEST + 1));
    assert_int_equal(c.n, SCHEDULE_SHOWN);
    assert_int_equal(c.best[0].prefill, 700);
    assert_int_equal(c.best[0].decode, 801);
}

static void test_ctx_is_the_shorter_of_the_longest(void **state)
{
    struct schedule_node n[] = {prefill(1), decode(2), decode(3)};

    (void)state;
    assert_int_equal(schedule_ctx(n, 3, ROUTER_DISAGGREGATED), 1000);
    n[1].ctx_max = n[2].ctx_max = 4000;
    assert_int_equal(schedule_ctx(n, 3, ROUTER_DISAGGREGATED), 1000);
    n[0].ctx_max = 5000;
    assert_int_equal(schedule_ctx(n, 3, ROUTER_DISAGGREGATED), 1024); /* 32 pages */
    n[2].pages_total = 64;
    n[2].open = false; /* drains, but may come back */
    assert_int_equal(schedule_ctx(n, 3, ROUTER_DISAGGREGATED), 2048);
    assert_int_equal(schedule_ctx(n, 1, ROUTER_DISAGGREGATED), 0);
    n[0].ctx_max = 64; /* no hindrance to decode nodes alone */
    assert_int_equal(schedule_ctx(n, 3, ROUTER_AGGREGATED), 2048);
    assert_int_equal(schedule_ctx(n, 3, ROUTER_AUTO), 64);
    assert_int_equal(schedule_ctx(n + 1, 2, ROUTER_AUTO), 2048);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_roles_are_needed),
        cmocka_unit_test(test_fewest_running_wins),
        cmocka_unit_test(test_full_closed_and_small_nodes_are_passed_over),
        cmocka_unit_test(test_ties_go_to_free_pages_then_to_the_longest_unused),
        cmocka_unit_test(test_fewest_queued_tokens_wins),
        cmocka_unit_test(test_avoided_node_is_the_last_choice),
        cmocka_unit_test(test_modes_and_the_ladder),
        cmocka_unit_test(test_score_of_a_pair),
        cmocka_unit_test(test_score_of_a_local_prompt),
        cmocka_unit_test(test_short_prompts_are_computed_where_they_are_decoded),
        cmocka_unit_test(test_prefixes_hosts_and_targets_decide),
        cmocka_unit_test(test_many_nodes_are_scored_in_bounded_time),
        cmocka_unit_test(test_ctx_is_the_shorter_of_the_longest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
