#include "daemon/node.h"

#include <setjmp.h>
#include <stdarg.h>
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
    const struct daemon_options common = {.model = "/nonexistent.gguf", .cpu = "ref"};
    const struct node_options o = {.common = &common, .cores = "", .domain = -1, .rows_max = 32,
                                   .sequences = 1};
    struct node n;
    struct err e;

    (void)state;
    assert_int_not_equal(node_open(&n, &o, &e), 0);
    assert_non_null(strstr(e.text, "/nonexistent.gguf"));
    assert_null(n.compute);
    assert_null(n.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_has_room_for_the_sequences_within_the_memory),
        cmocka_unit_test(a_missing_model_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
