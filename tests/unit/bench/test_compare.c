#include "tests/lib/test.h"

#include "base/mem.h"
#include "bench/compare.h"

static json_t *result(double throughput, double ttft_s, size_t n)
{
    json_t *out = json_pack("{s:f, s:f, s:b, s:[]}", "request_throughput", throughput,
                            "p50_ttft_ms", ttft_s * 1000, "valid", 1, "ttfts");

    for (size_t i = 0; i < n; i++) /* 80 to 120 % of it */
        json_array_append_new(json_object_get(out, "ttfts"),
                              json_real(ttft_s * (0.8 + 0.4 * (double)i / (double)n)));
    return out;
}

static void worse_is_seen_and_noise_is_not(void **state)
{
    json_t *a = result(10, 0.1, 100), *same = result(10.2, 0.101, 100),
           *slow = result(10, 0.2, 100);
    struct str text = {0};

    (void)state;
    assert_false(compare_table(&text, a, same, 5));
    assert_non_null(strstr(str_text(&text), "(no difference)"));
    str_clear(&text);
    assert_true(compare_table(&text, a, slow, 5));
    assert_non_null(strstr(str_text(&text), "WORSE"));
    assert_false(compare_table(&text, slow, a, 5)); /* better is no regression */
    assert_false(compare_table(&text, a, slow, 0));
    str_fini(&text);
    json_decref(a);
    json_decref(same);
    json_decref(slow);
}

static void the_interval_holds_the_ratio(void **state)
{
    double a[200], b[200], low, high;

    (void)state;
    for (int i = 0; i < 200; i++) {
        a[i] = 100 + i;
        b[i] = 2 * (100 + i);
    }
    compare_bootstrap(&low, &high, a, 200, b, 200, 50);
    assert_true(low > 1.7 && low < 2 && high > 2 && high < 2.3);
    for (int i = 0; i < 200; i++)
        a[i] = b[i] = 5;
    compare_bootstrap(&low, &high, a, 200, b, 200, 99);
    assert_true(low == 1 && high == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worse_is_seen_and_noise_is_not),
        cmocka_unit_test(the_interval_holds_the_ratio),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
