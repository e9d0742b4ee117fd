#include "kv/kv_pool.h"

#include <sys/mman.h>

#include "tests/lib/test.h"

static void pages_are_disjoint_and_all_come_back(void **state)
{
    struct kv_layout l;
    struct kv_pool *p;
    uint32_t ids[7], more;

    (void)state;
    kv_layout_init(&l, KV_F16, 2, 3, 24);
    assert_int_equal(kv_pool_open(&p, &l, 7, NULL), 0);
    assert_true(kv_pool_take(p, ids, 7));
    assert_false(kv_pool_take(p, &more, 1));
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal((uintptr_t)kv_pool_page(p, ids[i]) % 64, 0);
        for (size_t b = 0; b < l.page_bytes; b++)
            kv_pool_page(p, ids[i])[b] = (uint8_t)ids[i];
    }
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(kv_pool_page(p, ids[i])[0], ids[i]);
        assert_int_equal(kv_pool_page(p, ids[i])[l.page_bytes - 1], ids[i]);
        kv_pool_unref(p, ids[i]);
    }
    assert_int_equal(kv_pool_free_count(p), 7);
    kv_pool_close(&p);
    assert_null(p);
}

static void a_take_is_all_or_nothing(void **state)
{
    struct kv_layout l;
    struct kv_pool *p;
    uint32_t ids[4];

    (void)state;
    kv_layout_init(&l, KV_F32, 1, 1, 8);
    assert_int_equal(kv_pool_open(&p, &l, 3, NULL), 0);
    assert_false(kv_pool_take(p, ids, 4));
    assert_int_equal(kv_pool_free_count(p), 3);
    assert_true(kv_pool_take(p, ids, 0));
    kv_pool_close(&p);
}

static void a_shared_page_is_free_after_its_last_reference(void **state)
{
    struct kv_layout l;
    struct kv_pool *p;
    uint32_t id;

    (void)state;
    kv_layout_init(&l, KV_F16, 1, 1, 8);
    assert_int_equal(kv_pool_open(&p, &l, 1, NULL), 0);
    assert_true(kv_pool_take(p, &id, 1));
    kv_pool_ref(p, id);
    kv_pool_unref(p, id);
    assert_int_equal(kv_pool_free_count(p), 0);
    kv_pool_unref(p, id);
    assert_int_equal(kv_pool_free_count(p), 1);
    kv_pool_close(&p);
}

static void an_impossible_pool_is_refused_with_its_size(void **state)
{
    struct kv_layout l;
    struct kv_pool *p;
    struct err e;

    (void)state;
    kv_layout_init(&l, KV_F16, 128, 128, 256);
    assert_int_equal(kv_pool_open(&p, &l, 0, &e), ERR_LIMIT);
    assert_int_equal(kv_pool_open(&p, &l, UINT32_MAX, &e), ERR_MEMORY);
    assert_non_null(strstr(e.text, "4294967295 pages"));
    assert_null(p);
}

static void others_can_map_a_shared_pool(void **state)
{
    struct kv_layout l;
    struct kv_pool *p;
    uint32_t ids[3];
    uint8_t *seen;
    size_t bytes;

    (void)state;
    kv_layout_init(&l, KV_F16, 1, 1, 8);
    assert_int_equal(kv_pool_open(&p, &l, 3, NULL), 0);
    assert_int_equal(kv_pool_fd(p), -1);
    kv_pool_close(&p);
    assert_int_equal(kv_pool_open_shared(&p, &l, 3, NULL), 0);
    assert_true(kv_pool_take(p, ids, 3));
    assert_ptr_equal(kv_pool_memory(p, &bytes), kv_pool_page(p, ids[0]));
    seen = mmap(NULL, bytes, PROT_READ, MAP_SHARED, kv_pool_fd(p), 0);
    assert_true(seen != MAP_FAILED);
    for (uint32_t i = 0; i < 3; i++) {
        memset(kv_pool_page(p, ids[i]), 1 + (int)i, l.page_bytes);
        assert_int_equal(seen[kv_pool_offset(p, ids[i])], 1 + i);
        assert_int_equal(seen[kv_pool_offset(p, ids[i]) + l.page_bytes - 1], 1 + i);
    }
    kv_pool_clear(p, ids[1]);
    for (size_t i = 0; i < 3 * l.page_bytes; i++)
        assert_int_equal(seen[i], i / l.page_bytes == 1 ? 0 : 1 + i / l.page_bytes);
    kv_pool_close(&p);
    assert_int_equal(seen[0], 1); /* the mapping outlives it */
    munmap(seen, bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_disjoint_and_all_come_back),
        cmocka_unit_test(a_take_is_all_or_nothing),
        cmocka_unit_test(a_shared_page_is_free_after_its_last_reference),
        cmocka_unit_test(an_impossible_pool_is_refused_with_its_size),
        cmocka_unit_test(others_can_map_a_shared_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
