#include "net/credit.h"

#include "base/rng.h"
#include "tests/lib/test.h"

#define WINDOW (4 * (uint64_t)MSG_BULK_MAX)

/* Any mixture of frames, sent when credit allows and used up in any order of events, goes through:
 * never more than the window is under way, and the two sides never wait for each other. */
static void test_flows_without_deadlock(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct credit_out out = {0};
        struct credit_in in;
        uint64_t queue[1024], head = 0, tail = 0, under_way = 0, sent = 0;

        credit_in_init(&in, WINDOW);
        assert_true(credit_out_grant(&out, in.window));
        for (uint64_t step = 0; sent < 500; step++) {
            uint64_t bytes = 1 + rng_u64(seed, 2 * sent) % MSG_BULK_MAX;
            bool can = credit_out_can_send(&out, bytes) && tail - head < 1024;

            if (can && rng_u64(seed, 2 * step + 1) % 2) {
                credit_out_sent(&out, bytes);
                queue[tail++ % 1024] = bytes;
                under_way += bytes;
                sent++;
                assert_true(under_way <= WINDOW);
                assert_true(credit_in_received(&in, bytes));
            } else if (head < tail) {
                uint64_t done = queue[head++ % 1024], grant = credit_in_consumed(&in, done);

                under_way -= done;
                assert_true(credit_out_grant(&out, grant));
            } else {
                assert_true(can); /* nothing under way and no credit: stuck for ever */
            }
        }
    }
}

static void test_broken_peers(void **state)
{
    struct credit_out out = {.granted = UINT64_MAX - 1};
    struct credit_in in;

    (void)state;
    assert_true(credit_out_grant(&out, 1));
    assert_false(credit_out_grant(&out, 1)); /* overflow */
    credit_in_init(&in, WINDOW);
    assert_true(credit_in_received(&in, WINDOW));
    assert_false(credit_in_received(&in, 1)); /* more than granted */
    assert_int_equal(credit_in_consumed(&in, WINDOW / 4 - 1), 0);
    assert_int_equal(credit_in_consumed(&in, 1), WINDOW / 4);
    assert_true(credit_in_received(&in, WINDOW / 4));
    assert_false(credit_in_received(&in, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flows_without_deadlock),
        cmocka_unit_test(test_broken_peers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
