#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "host/team.h"
#include "host/topo.h"

#define THREADS_MAX 20

struct work {
    struct team *team;
    uint32_t calls[THREADS_MAX]; /* plain on purpose: the team itself must order them */
    uint32_t sum[THREADS_MAX];
    uint32_t rounds;
};

static void count_calls(void *ctx, uint32_t tid, uint32_t n)
{
    struct work *w = ctx;

    w->calls[tid] += n == team_size(w->team); /* cmocka asserts on its own thread only */
}

/* Each round every thread reads what all others wrote in the round before. */
static void exchange(void *ctx, uint32_t tid, uint32_t n)
{
    struct work *w = ctx;

    for (uint32_t r = 1; r <= w->rounds; r++) {
        w->calls[tid] = r;
        team_barrier(w->team, tid);
        for (uint32_t i = 0; i < n; i++)
            w->sum[tid] += w->calls[i] == r;
        team_barrier(w->team, tid);
    }
}

struct chain {
    struct team *team;
    struct team_gate gate;
    uint32_t written[THREADS_MAX], late; /* plain on purpose: the gate must order them */
};

/* Thread tid waits for what those before it add, and adds two and one. */
static void add_in_turn(void *ctx, uint32_t tid, uint32_t n)
{
    struct chain *c = ctx;

    (void)n;
    team_gate_wait(c->team, &c->gate, 3 * tid);
    for (uint32_t i = 0; i < tid; i++)
        c->late += c->written[i] != i + 1;
    c->written[tid] = tid + 1;
    team_gate_add(&c->gate, 2);
    team_gate_add(&c->gate, 1);
}

static struct team *team_or_fail(const uint32_t *pus, uint32_t n)
{
    struct team *t;
    struct err e = {0};

    if (team_new(&t, pus, n, &e) != ERR_OK)
        fail_msg("%s", e.text);
    return t;
}

/* Sizes on both sides of a group of 8, and more threads than any test machine's cores. */
static const uint32_t sizes[] = {1, 2, 3, 7, 8, 9, 16, 17, THREADS_MAX};

static void every_thread_runs_once_a_run(void **state)
{
    (void)state;
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        struct work w = {.team = team_or_fail(NULL, sizes[s])};

        for (uint32_t run = 0; run < 200; run++)
            team_run(w.team, count_calls, &w);
        for (uint32_t i = 0; i < sizes[s]; i++)
            assert_int_equal(w.calls[i], 200);
        team_free(&w.team);
        assert_null(w.team);
    }
}

static void a_barrier_publishes_what_each_wrote(void **state)
{
    (void)state;
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        struct work w = {.team = team_or_fail(NULL, sizes[s]), .rounds = 100};

        team_run(w.team, exchange, &w);
        team_run(w.team, exchange, &w);
        for (uint32_t i = 0; i < sizes[s]; i++)
            assert_int_equal(w.sum[i], 2 * 100 * sizes[s]);
        team_free(&w.team);
    }
}

static void where_am_i(void *ctx, uint32_t tid, uint32_t n)
{
    uint32_t *allowed = ctx;

    (void)n;
    allowed[tid] = topo_allowed_pus();
}

static void threads_are_pinned_and_the_caller_freed_again(void **state)
{
    struct topo *topo;
    uint32_t allowed[2] = {0}, before = topo_allowed_pus(), pus[2];
    struct team *t;

    (void)state;
    assert_int_equal(topo_load(&topo, NULL, NULL), ERR_OK);
    pus[0] = topo->domains[0].cores[0].pu;
    pus[1] = topo->domains[topo->n_domains - 1].cores[0].pu; /* may be the same one */
    t = team_or_fail(pus, 2);
    team_run(t, where_am_i, allowed);
    assert_int_equal(allowed[0], 1);
    assert_int_equal(allowed[1], 1);
    team_free(&t);
    assert_int_equal(topo_allowed_pus(), before);
    topo_free(&topo);
}

static void a_team_that_cannot_start_leaves_nothing(void **state)
{
    uint32_t before = topo_allowed_pus(), pus[3] = {0, 0, 1023};
    struct topo *topo;
    struct team *t;
    struct err e = {0};

    (void)state;
    assert_int_equal(topo_load(&topo, NULL, NULL), ERR_OK);
    pus[0] = pus[1] = topo->domains[0].cores[0].pu;
    topo_free(&topo);
    assert_int_equal(team_new(&t, NULL, 0, &e), ERR_ARG);
    assert_int_equal(team_new(&t, NULL, TEAM_THREADS_MAX + 1, &e), ERR_ARG);
    assert_int_equal(team_new(&t, pus, 3, &e), ERR_ARG); /* after one thread has started */
    assert_non_null(strstr(e.text, "PU 1023"));
    assert_null(t);
    pus[0] = 1u << 30;
    assert_int_equal(team_new(&t, pus, 3, &e), ERR_ARG);
    assert_int_equal(topo_allowed_pus(), before);
}

static void ranges_cover_everything_once_and_evenly(void **state)
{
    static const uint32_t counts[] = {0, 1, 2, 7, 100, 101, UINT32_MAX - 1};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(counts); c++)
        for (uint32_t nt = 1; nt <= 9; nt++) {
            uint32_t at = 0, lo, hi;

            for (uint32_t tid = 0; tid < nt; tid++) {
                team_range(counts[c], tid, nt, &lo, &hi);
                assert_int_equal(lo, at);
                assert_in_range(hi - lo, counts[c] / nt, counts[c] / nt + 1);
                at = hi;
            }
            assert_int_equal(at, counts[c]);
        }
}

static void a_gate_opens_to_those_who_wait_for_its_count(void **state)
{
    (void)state;
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        struct chain c = {.team = team_or_fail(NULL, sizes[s])};

        for (uint32_t run = 0; run < 20; run++) {
            team_gate_reset(&c.gate);
            memset(c.written, 0, sizeof(c.written));
            team_run(c.team, add_in_turn, &c);
            assert_int_equal(c.late, 0);
            assert_int_equal(c.written[sizes[s] - 1], sizes[s]);
        }
        team_free(&c.team);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_runs_once_a_run),
        cmocka_unit_test(a_barrier_publishes_what_each_wrote),
        cmocka_unit_test(a_gate_opens_to_those_who_wait_for_its_count),
        cmocka_unit_test(threads_are_pinned_and_the_caller_freed_again),
        cmocka_unit_test(a_team_that_cannot_start_leaves_nothing),
        cmocka_unit_test(ranges_cover_everything_once_and_evenly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
