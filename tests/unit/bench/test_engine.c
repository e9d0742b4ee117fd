#include <jansson.h>

#include "bench/engine_case.h"
#include "bench/engine_report.h"
#include "tests/lib/test.h"

#define MODEL "deploy/demo/austen-5m-q8_0.gguf"

static void a_list_is_numbers_between_commas(void **state)
{
    static const char *const bad[] = {",", "1,", ",1", "1,,2", "1 ,2", "x", "-1", "+1", "1.5",
                                      "1048577", "99999999999999999999"};
    uint32_t list[ENGINE_LIST_MAX];
    char many[2 * ENGINE_LIST_MAX + 2] = "0";

    (void)state;
    assert_int_equal(engine_list(list, ""), 0);
    assert_int_equal(engine_list(list, "0"), 1);
    assert_int_equal(engine_list(list, "64,128,1048576"), 3);
    assert_int_equal(list[0], 64);
    assert_int_equal(list[2], 1048576);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(engine_list(list, bad[i]), -1);
    for (int i = 1; i < ENGINE_LIST_MAX; i++)
        strcat(many, ",0");
    assert_int_equal(engine_list(list, many), ENGINE_LIST_MAX);
    strcat(many, ",0");
    assert_int_equal(engine_list(list, many), -1);
}

static void set(struct engine_bench_options *o, const char *key, const char *value)
{
    assert_int_equal(option_set(option_find(&engine_bench_table, key), o, value, NULL, NULL), 0);
}

/* Defaults, but small and of the demo model. */
static void options_make(struct engine_bench_options *o)
{
    memset(o, 0, sizeof(*o));
    option_defaults(&engine_bench_table, o);
    set(o, "model", MODEL);
    set(o, "pp", "3,600");
    set(o, "tg", "2");
    set(o, "batch", "1,5");
    set(o, "ctx", "0,40");
    set(o, "loads", "2");
}

static void tests_are_named_after_what_they_do(void **state)
{
    static const char *const names[] = {"pp3", "pp600", "tg2@b1c0", "tg2@b5c0", "tg2@b1c40",
                                        "tg2@b5c40"};
    struct engine_bench_options o;
    struct engine_cases c;

    (void)state;
    options_make(&o);
    engine_cases_init(&c, &o);
    assert_int_equal(c.n, 6);
    for (size_t i = 0; i < c.n; i++)
        assert_string_equal(c.items[i].name, names[i]);
    engine_cases_fini(&c);
    set(&o, "tg", "0");
    engine_cases_init(&c, &o);
    assert_int_equal(c.n, 2);
    engine_cases_fini(&c);
    option_free(&engine_bench_table, &o);
}

static void check_loads(json_t *loads)
{
    const char *model, *types, *tier;
    int threads;
    double file_gb, ratio, gb_s[3], copy_gb_s[3];

    assert_int_equal(json_array_size(loads), 1);
    assert_int_equal(json_unpack(json_array_get(loads, 0),
                                 "{s:s, s:s, s:s, s:i, s:F, s:F, s:{s:F, s:F, s:F}, s:{s:F, s:F, s:F}}",
                                 "model", &model, "types", &types, "tier", &tier, "threads", &threads,
                                 "file_gb", &file_gb, "memory_ratio", &ratio, "gb_s", "min", &gb_s[0],
                                 "median", &gb_s[1], "max", &gb_s[2], "copy_gb_s", "min",
                                 &copy_gb_s[0], "median", &copy_gb_s[1], "max", &copy_gb_s[2]),
                     0);
    assert_true(file_gb > 0.004 && file_gb < 0.006);
    assert_true(ratio >= 1 && ratio <= 1.07);
    assert_true(gb_s[0] > 0 && gb_s[0] <= gb_s[1] && gb_s[1] <= gb_s[2]);
    assert_true(copy_gb_s[0] > 0 && copy_gb_s[1] <= copy_gb_s[2]);
}

static void every_test_gives_every_number(void **state)
{
    struct engine_bench_options o;
    struct engine_cases c;
    struct engine_rig rig;
    json_t *root, *results;
    struct str table = {0};

    (void)state;
    options_make(&o);
    engine_cases_init(&c, &o);
    assert_int_equal(engine_rig_open(&rig, &o, NULL, 2, &c, NULL), 0);
    for (int r = 0; r < 2; r++)
        for (size_t i = 0; i < c.n; i++)
            engine_case_run(&c.items[i], &rig);
    root = engine_report_json(&o);
    engine_report_json_add(root, &o, &rig, &c);
    results = json_object_get(root, "results");
    assert_int_equal(json_array_size(results), c.n);
    for (size_t i = 0; i < c.n; i++) {
        const char *model, *types, *tier, *test;
        double min, median, max, gflop_s, mbu;
        json_t *mfu;
        int threads;

        assert_int_equal(json_unpack(json_array_get(results, i),
                                     "{s:s, s:s, s:s, s:i, s:s, s:{s:F, s:F, s:F}, s:F, s:o, s:F}",
                                     "model", &model, "types", &types, "tier", &tier, "threads", &threads, "test",
                                     &test, "tok_s", "min", &min, "median", &median, "max", &max,
                                     "gflop_s", &gflop_s, "mfu", &mfu, "mbu", &mbu),
                         0);
        assert_string_equal(model, MODEL);
        assert_string_equal(types, "Q8_0");
        assert_int_equal(threads, 2);
        assert_string_equal(test, c.items[i].name);
        assert_true(min > 0 && min <= median && median <= max);
        assert_true(gflop_s > 0 && mbu > 0);
        assert_true(json_is_null(mfu) ? strcmp(tier, "ref") == 0 : json_real_value(mfu) > 0);
    }
    check_loads(json_object_get(root, "loads"));
    engine_report_table(&table, &o, &rig, &c);
    assert_non_null(strstr(str_text(&table), "best of 2"));
    assert_non_null(strstr(str_text(&table), "\ntg2@b5c40 "));
    str_fini(&table);
    json_decref(root);
    engine_rig_close(&rig);
    engine_cases_fini(&c);
    option_free(&engine_bench_table, &o);
}

static void a_test_longer_than_the_context_is_refused(void **state)
{
    struct engine_bench_options o;
    struct engine_cases c;
    struct engine_rig rig;
    struct err e;

    (void)state;
    options_make(&o);
    set(&o, "ctx", "1023");
    engine_cases_init(&c, &o);
    assert_int_equal(engine_rig_open(&rig, &o, NULL, 1, &c, &e), ERR_LIMIT);
    assert_string_equal(e.text, "tg2@b1c1023 needs a context of 1025 tokens, the model has 1024");
    engine_cases_fini(&c);
    option_free(&engine_bench_table, &o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_is_numbers_between_commas),
        cmocka_unit_test(tests_are_named_after_what_they_do),
        cmocka_unit_test(every_test_gives_every_number),
        cmocka_unit_test(a_test_longer_than_the_context_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
