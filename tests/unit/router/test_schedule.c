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
                                  .slots = 4, .pages_total = 32};
}

/* The handle of the decode (or prefill) node picked, 0 if none. */
static uint64_t picked(const struct schedule_node *n, size_t count, uint32_t pages, uint64_t avoid,
                       enum node_role role)
{
    struct schedule_need need = {
        .tokens = pages * 32, .pages = pages, .avoid = avoid, .mode = ROUTER_DISAGGREGATED};
    struct schedule_pair pair;

    if (!schedule_pick(&pair, n, count, &need))
        return 0;
    return n[role == ROLE_PREFILL ? pair.prefill : pair.decode].node;
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
    struct schedule_need need = {.tokens = 32, .pages = 1, .avoid = avoid, .mode = mode};
    struct schedule_pair pair;

    if (!schedule_pick(&pair, n, count, &need))
        return -1;
    *local = pair.prefill == SCHEDULE_LOCAL;
    assert_int_equal(n[pair.decode].role, ROLE_DECODE);
    return (int)pair.rung;
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
    /* a prefill node that is only busy is waited for */
    n[0].running = n[0].slots;
    assert_int_equal(rung(n, 2, ROUTER_AUTO, 0, &local), -1);
    n[0].up = false;
    assert_int_equal(rung(n, 2, ROUTER_AUTO, 0, &local), RUNG_NO_PREFILL);
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
        cmocka_unit_test(test_ctx_is_the_shorter_of_the_longest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
