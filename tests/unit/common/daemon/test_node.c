#include "daemon/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void a_pool_has_room_for_the_sequences_within_the_memory(void **state)
{
    struct kv_layout l;
    uint64_t page;

    (void)state;
    kv_layout_init(&l, KV_F16, 2, 2, 16);
    page = l.page_bytes;
    assert_int_equal(node_pool_pages(&l, 4, 100, 1000 * page), 16); /* 4 pages each */
    assert_int_equal(node_pool_pages(&l, 4, 100, 10 * page), 10);
    assert_int_equal(node_pool_pages(&l, 4, 100, 0), 4); /* one sequence always fits */
    assert_int_equal(node_pool_pages(&l, 1u << 31, 1u << 20, UINT64_MAX), UINT32_MAX);
}

/* A failure leaves nothing to close, and says which file. */
static void a_missing_model_is_named(void **state)
{
    const struct node_options o = {.common = {.model = (char *)"/nonexistent.gguf",
                                              .cpu = (char *)"ref"},
                                   .router = (char *)"ipc:///x", .cores = (char *)"", .domain = -1};
    struct node n;
    struct err e;

    (void)state;
    assert_int_not_equal(node_open(&n, &o, 32, 1, false, &e), 0);
    assert_non_null(strstr(e.text, "/nonexistent.gguf"));
    assert_null(n.compute);
    assert_null(n.pool);
}

/* Adds n blocks of a tenant to the cache of a node. */
static void learn(struct node *n, uint32_t blocks, uint64_t salt)
{
    uint32_t *tokens = calloc((size_t)blocks * KV_PAGE_TOKENS, sizeof(*tokens));
    uint32_t *ids = calloc(blocks, sizeof(*ids));

    assert_true(prefix_take(n->prefix, ids, blocks));
    prefix_insert(n->prefix, salt, tokens, blocks * KV_PAGE_TOKENS, ids);
    for (uint32_t i = 0; i < blocks; i++)
        kv_pool_unref(n->pool, ids[i]);
    free(tokens);
    free(ids);
}

static void a_report_is(struct node *n, bool reset, uint32_t added, uint32_t removed)
{
    struct msg m;

    assert_true(node_prefix_report(n, &m));
    assert_int_equal(m.type, MSG_PREFIX_REPORT);
    assert_int_equal(m.u.prefix.reset, reset);
    assert_int_equal(m.u.prefix.n_added, added);
    assert_int_equal(m.u.prefix.n_removed, removed);
    msg_fini(&m);
}

static void the_router_hears_of_prefixes_in_pieces(void **state)
{
    const uint32_t pages = MSG_PREFIX_MAX + 10;
    struct kv_layout l;
    struct node n = {0};
    struct msg m;

    (void)state;
    kv_layout_init(&l, KV_F16, 1, 1, 8);
    assert_int_equal(kv_pool_open(&n.pool, &l, pages, NULL), 0);
    n.prefix = prefix_new(n.pool, pages);
    node_joined(&n);
    assert_false(node_prefix_report(&n, &m));
    learn(&n, pages, 1);
    a_report_is(&n, true, MSG_PREFIX_MAX, 0);
    a_report_is(&n, false, 10, 0);
    assert_false(node_prefix_report(&n, &m));
    learn(&n, 20, 2);
    a_report_is(&n, false, 20, 20);
    node_joined(&n); /* again: the router has forgotten */
    a_report_is(&n, true, MSG_PREFIX_MAX, 0);
    a_report_is(&n, false, 10, 0);
    assert_false(node_prefix_report(&n, &m));
    node_close(&n);
}

/* What travels is what pools hold, or f32 around a type that f32 holds. */
static void a_wire_that_rounds_is_refused(void **state)
{
    static const char want[] = "kv_wire: q8 does not carry a kv_type of f16 bit for bit, and a stream "
                               "that starts again would get other tokens; use kv_wire: auto or kv_type: q8";
    enum kv_type wire;
    struct err e;

    (void)state;
    for (int pool = 0; pool < KV_TYPE_COUNT; pool++) {
        assert_int_equal(node_wire(&wire, KV_AUTO, (enum kv_type)pool, &e), 0);
        assert_int_equal(wire, pool);
        for (int asked = 0; asked < KV_TYPE_COUNT; asked++) {
            bool exact = asked == pool || (asked == KV_F32 && pool != KV_Q8);

            assert_int_equal(node_wire(&wire, asked, (enum kv_type)pool, &e), exact ? 0 : ERR_CONFIG);
        }
    }
    assert_int_equal(node_wire(&wire, KV_Q8, KV_F16, &e), ERR_CONFIG);
    assert_string_equal(e.text, want);
}

static void nodes_of_another_machines_router_have_one_type(void **state)
{
    (void)state;
    assert_int_equal(node_kv_type(KV_AUTO, "ipc:///run/a:1"), KV_AUTO);
    assert_int_equal(node_kv_type(KV_AUTO, "tcp://127.0.0.1:8100"), KV_AUTO);
    assert_int_equal(node_kv_type(KV_AUTO, "tcp://10.0.0.1:5555"), KV_F16);
    assert_int_equal(node_kv_type(KV_AUTO, "tcp://head:5555"), KV_F16);
    assert_int_equal(node_kv_type(KV_BF16, "tcp://head:5555"), KV_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_has_room_for_the_sequences_within_the_memory),
        cmocka_unit_test(a_missing_model_is_named),
        cmocka_unit_test(the_router_hears_of_prefixes_in_pieces),
        cmocka_unit_test(a_wire_that_rounds_is_refused),
        cmocka_unit_test(nodes_of_another_machines_router_have_one_type),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
