#include "router/roles.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* 1 ms a prompt token; a step of 16 at short context reads 1 GB in 0.1 s. */
static struct roles_pool pool(uint32_t n)
{
    return (struct roles_pool){.n = n, .slots = 16,
                               .cost = {.flops_token = 1e9, .weight_bytes = 1e9,
                                        .kv_token_bytes = 1e3, .flops_s = 1e12,
                                        .read_bytes_s = 1e10}};
}

/* One period of n requests of that shape; true if a move to *to was due at its end. */
static bool period(struct roles *r, int64_t *now, uint32_t p, uint32_t d, uint32_t n,
                   uint32_t prompt, uint32_t output, enum node_role *to)
{
    struct roles_pool prefill = pool(p), decode = pool(d);

    for (uint32_t i = 0; i < n; i++)
        roles_request(r, prompt, 0, output);
    *now += ROLES_PERIOD;
    return roles_due(r, &prefill, &decode, 0, *now, to);
}

static void the_mix_follows_the_last_requests(void **state)
{
    struct roles r = {0};

    (void)state;
    roles_request(&r, 100, 0, 10);
    roles_request(&r, 300, 100, 30);
    assert_true(fabs(r.mix.prompt - 200) < 1e-9 && fabs(r.mix.cached - 50) < 1e-9 &&
                fabs(r.mix.output - 20) < 1e-9);
    for (int i = 0; i < 1000; i++)
        roles_request(&r, 1000, 0, 1);
    assert_true(fabs(r.mix.prompt - 1000) < 1 && r.mix.output < 1.1);
}

static void a_lasting_shift_moves_one_node_and_then_rests(void **state)
{
    struct roles r = {0};
    enum node_role to = ROLE_DECODE;
    int64_t now = CLOCK_S;
    int moves = 0;

    (void)state;
    /* Long prompts, short answers on 1 + 3 nodes: 20 requests of 1 s in 5 s, one prefill node. */
    assert_false(period(&r, &now, 1, 3, 20, 1000, 2, &to)); /* the first only starts the clock */
    assert_false(period(&r, &now, 1, 3, 20, 1000, 2, &to));
    assert_false(period(&r, &now, 1, 3, 20, 1000, 2, &to));
    assert_true(period(&r, &now, 1, 3, 20, 1000, 2, &to));
    assert_int_equal(to, ROLE_PREFILL);
    for (int i = 0; i < 11; i++) /* still wanted, but it rests */
        moves += period(&r, &now, 2, 2, 20, 1000, 2, &to);
    assert_int_equal(moves, 0);
    assert_true(period(&r, &now, 2, 2, 20, 1000, 2, &to));
    assert_int_equal(to, ROLE_PREFILL);
}

static void bursts_idle_times_and_last_nodes_move_nothing(void **state)
{
    struct roles r = {0};
    enum node_role to;
    int64_t now = CLOCK_S;

    (void)state;
    for (int i = 0; i < 40; i++) { /* two rounds of long prompts, then enough short ones */
        uint32_t prompt = i % 3 == 2 ? 1 : 1000;

        assert_false(period(&r, &now, 1, 3, 64, prompt, prompt == 1 ? 400 : 2, &to));
    }
    r = (struct roles){0};
    for (int i = 0; i < 40; i++) /* one request of 1 s in 5 s: half the node's time is not asked for */
        assert_false(period(&r, &now, 1, 3, 1, 1000, 2, &to));
    for (int i = 0; i < 40; i++) /* the only decode node stays one */
        assert_false(period(&r, &now, 1, 1, 20, 1000, 2, &to));
    for (int i = 0; i < 40; i++) /* nothing is known of their machines */
        assert_false(roles_due(&r, &(struct roles_pool){.n = 1}, &(struct roles_pool){.n = 3}, 0,
                               now += ROLES_PERIOD, &to));
}

/* The way back is not wanted after a move: for many shapes, moves on an unchanging load end. */
static void moves_end_and_never_swing(void **state)
{
    (void)state;
    for (uint32_t prompt = 10; prompt < 20000; prompt *= 2)
        for (uint32_t output = 1; output < 5000; output *= 3) {
            struct roles r = {0};
            enum node_role to, last = (enum node_role)0;
            uint32_t p = 4, d = 4;
            int64_t now = CLOCK_S;
            int moves = 0;

            for (int i = 0; i < 400; i++) {
                if (!period(&r, &now, p, d, 2000, prompt, output, &to))
                    continue;
                assert_true(!last || to == last);
                last = to;
                moves++;
                p += to == ROLE_PREFILL ? 1 : -1u;
                d += to == ROLE_DECODE ? 1 : -1u;
                assert_true(p >= 1 && d >= 1);
            }
            assert_true(moves <= 3);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mix_follows_the_last_requests),
        cmocka_unit_test(a_lasting_shift_moves_one_node_and_then_rests),
        cmocka_unit_test(bursts_idle_times_and_last_nodes_move_nothing),
        cmocka_unit_test(moves_end_and_never_swing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
