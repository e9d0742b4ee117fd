#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

static char values[1024]; /* whose addresses are the values */

static void test_an_empty_map(void **state)
{
    struct map m = {0};
    size_t iter = 0;

    (void)state;
    assert_null(map_get(&m, 1));
    assert_null(map_del(&m, 1));
    assert_null(map_next(&m, &iter));
    map_fini(&m);
}

static void test_put_get_replace_delete(void **state)
{
    struct map m = {0};

    (void)state;
    map_put(&m, 0, &values[1]);
    map_put(&m, UINT64_MAX, &values[2]);
    assert_ptr_equal(map_get(&m, 0), &values[1]);
    assert_ptr_equal(map_get(&m, UINT64_MAX), &values[2]);
    map_put(&m, 0, &values[3]);
    assert_int_equal(m.len, 2);
    assert_ptr_equal(map_get(&m, 0), &values[3]);
    assert_ptr_equal(map_del(&m, 0), &values[3]);
    assert_null(map_get(&m, 0));
    assert_null(map_del(&m, 0));
    assert_int_equal(m.len, 1);
    map_fini(&m);
}

/* Random work on few keys against a plain array. */
static void test_random_work_agrees_with_an_array(void **state)
{
    void *want[256] = {0};
    struct map m = {0};
    size_t len = 0;

    (void)state;
    for (uint64_t i = 0; i < 200000; i++) {
        uint64_t r = rng_u64(7, i), key = (r & 255) * 0x10001;
        void **w = &want[r & 255];

        switch (r >> 60 & 3) {
        case 0:
        case 1:
            len += !*w;
            *w = &values[r >> 20 & 1023];
            map_put(&m, key, *w);
            break;
        case 2:
            assert_ptr_equal(map_del(&m, key), *w);
            len -= *w != NULL;
            *w = NULL;
            break;
        default:
            assert_ptr_equal(map_get(&m, key), *w);
        }
        assert_int_equal(m.len, len);
    }
    map_fini(&m);
}

static void test_churn_does_not_grow_the_table(void **state)
{
    struct map m = {0};

    (void)state;
    for (uint64_t id = 0; id < 100000; id++) { /* ids come and go, 8 at a time */
        map_put(&m, id, &values[id & 1023]);
        if (id >= 8)
            assert_ptr_equal(map_del(&m, id - 8), &values[(id - 8) & 1023]);
    }
    assert_int_equal(m.len, 8);
    assert_true(m.cap <= 64);
    map_fini(&m);
}

static void test_a_walk_sees_each_value_once_and_may_delete(void **state)
{
    unsigned seen[1000] = {0};
    struct map m = {0};
    size_t iter = 0;
    char *v;

    (void)state;
    for (uint64_t i = 0; i < 1000; i++)
        map_put(&m, i << 32, &values[i]);
    while ((v = map_next(&m, &iter)) != NULL) {
        seen[v - values]++;
        assert_true(map_key(&m, iter) == (uint64_t)(v - values) << 32);
        map_del(&m, (uint64_t)(v - values) << 32);
    }
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(m.len, 0);
    map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_map),
        cmocka_unit_test(test_put_get_replace_delete),
        cmocka_unit_test(test_random_work_agrees_with_an_array),
        cmocka_unit_test(test_churn_does_not_grow_the_table),
        cmocka_unit_test(test_a_walk_sees_each_value_once_and_may_delete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
