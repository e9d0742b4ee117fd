#include "rig.h"
#include "router/live.h"

static void beat(struct rig *r, uint64_t node, struct msg_heartbeat h)
{
    rig_msg(r, node, (struct msg){.type = MSG_HEARTBEAT, .u.heartbeat = h});
}

static struct live_node_rates rates_of(const struct live *l, const struct rig *r, const char *name)
{
    return live_node_rates(l, router_core_node_named(r->core, name));
}

/* Rates are what counters grew by in the last seconds, and shares are of the node's own peaks. */
static void test_rates_are_of_the_last_seconds(void **state)
{
    struct live *l = mem_zalloc(sizeof(*l));
    struct live_totals t = {0};
    struct msg m = rig_registration(D1);
    struct rig r;

    (void)state;
    rig_init(&r);
    m.u.reg.read_bytes_s = 1000;
    m.u.reg.flops_s = 4000;
    rig_msg(&r, D1, m);
    live_tick(l, r.core, &t, r.now);
    assert_true(live_rates(l).output_tokens == 0 && rates_of(l, &r, "decode-1").tokens == 0);
    for (uint64_t i = 1; i <= 10; i++) {
        r.now += CLOCK_S;
        t = (struct live_totals){.requests = i, .prompt_tokens = 7 * i, .output_tokens = i * i};
        beat(&r, D1, (struct msg_heartbeat){.tokens = 30 * i, .steps = 10 * i, .kv_bytes = 100 * i,
                                            .busy_ns = i * CLOCK_S / 2, .flops = 1000 * i,
                                            .read_bytes = 900 * i});
        live_tick(l, r.core, &t, r.now);
    }
    assert_true(live_rates(l).requests == 1 && live_rates(l).prompt_tokens == 7);
    assert_true(live_rates(l).output_tokens == 15); /* 100 - 25 in 5 s */
    assert_true(live_rates(l).kv_bytes == 100);
    assert_true(rates_of(l, &r, "decode-1").tokens == 30 && rates_of(l, &r, "decode-1").steps == 10);
    assert_true(rates_of(l, &r, "decode-1").mfu == 0.25 && rates_of(l, &r, "decode-1").mbu == 0.9);
    assert_true(rates_of(l, &r, "decode-1").busy == 0.5);
    live_fini(l);
    mem_free(l);
    rig_fini(&r);
}

/* A node that leaves takes no bytes out of what was moved, and one that began anew is no rate below 0. */
static void test_nodes_come_and_go(void **state)
{
    struct live *l = mem_zalloc(sizeof(*l));
    const struct live_totals t = {0};
    struct rig r;

    (void)state;
    rig_init(&r);
    rig_register(&r, D1);
    rig_register(&r, D2);
    beat(&r, D1, (struct msg_heartbeat){.kv_bytes = 1000});
    beat(&r, D2, (struct msg_heartbeat){.kv_bytes = 500, .tokens = 9});
    live_tick(l, r.core, &t, r.now);
    rig_msg(&r, D1, (struct msg){.type = MSG_BYE});
    r.now += CLOCK_S;
    beat(&r, D2, (struct msg_heartbeat){.kv_bytes = 600, .tokens = 3});
    live_tick(l, r.core, &t, r.now);
    assert_true(live_rates(l).kv_bytes == 100);
    assert_true(rates_of(l, &r, "decode-2").tokens == 0);
    assert_int_equal(l->nodes.len, 1);
    rig_register(&r, D1); /* the same process again, its counters as they were */
    beat(&r, D1, (struct msg_heartbeat){.kv_bytes = 1000});
    r.now += CLOCK_S;
    live_tick(l, r.core, &t, r.now);
    assert_true(live_rates(l).kv_bytes == 50);
    live_fini(l);
    mem_free(l);
    rig_fini(&r);
}

static void test_percentiles_forget_after_a_minute(void **state)
{
    struct live *l = mem_zalloc(sizeof(*l));
    struct hist *h = mem_zalloc(sizeof(*h));
    const struct live_totals t = {0};
    struct rig r;

    (void)state;
    rig_init(&r);
    live_time(l, LIVE_TTFT, 5 * CLOCK_MS);
    for (int i = 0; i < LIVE_SLOTS * LIVE_SLOT_S; i++) {
        live_window(l, LIVE_TTFT, h);
        assert_int_equal(h->count, 1);
        r.now += CLOCK_S;
        live_tick(l, r.core, &t, r.now);
    }
    live_window(l, LIVE_TTFT, h);
    assert_int_equal(h->count, 0);
    assert_true(l->history[0].ttft_p50 == 5);
    assert_true(l->history[l->n_history - 1].ttft_p50 < 0);
    live_fini(l);
    mem_free(l);
    mem_free(h);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates_are_of_the_last_seconds),
        cmocka_unit_test(test_nodes_come_and_go),
        cmocka_unit_test(test_percentiles_forget_after_a_minute),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
