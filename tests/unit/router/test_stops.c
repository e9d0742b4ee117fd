#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"
#include "router/stops.h"

struct row {
    const char *stops[3];
    const char *text, *shown;
    bool hit;
};

static const struct row rows[] = {
    {{"END"}, "all that END there was", "all that ", true},
    {{"END"}, "no end of it", "no end of it", false},
    {{"END"}, "ends in EN", "ends in EN", false},
    {{"END"}, "END", "", true},
    {{"END"}, "EEND", "E", true},
    {{"aab"}, "aaaab!", "aa", true},
    {{"abab"}, "abaabab", "aba", true},
    {{"\n\n"}, "one\n\ntwo", "one", true},
    {{"\n\n"}, "one\ntwo\n", "one\ntwo\n", false},
    {{"b", "abc"}, "xabc", "xa", true},         /* b is complete first */
    {{"bc", "abc"}, "xabc", "x", true},         /* both at once: the longer */
    {{"abc", "x"}, "abx", "ab", true},
    {{"\xc3\xa9"}, "caf\xc3\xa9!", "caf", true},
    {{NULL}, "nothing to stop it", "nothing to stop it", false},
    {{"aaa"}, "aabaabaaa", "aabaab", true},
    {{"stop", "op!"}, "stoop!", "sto", true},
};

static void stops_of(struct stops *s, const struct row *row)
{
    char strings[MSG_STOPS_MAX][MSG_STOP_BYTES_MAX] = {0};
    uint32_t n = 0;

    for (size_t i = 0; i < 3 && row->stops[i]; i++)
        strcpy(strings[n++], row->stops[i]);
    stops_init(s, strings, n);
}

/* Feeds the text in pieces whose lengths come from the seed. */
static void check_row(const struct row *row, uint64_t seed)
{
    struct stops s;
    struct str out = {0};
    size_t n = strlen(row->text), at = 0;
    bool hit = false;

    stops_of(&s, row);
    for (uint64_t i = 0; at < n; i++) {
        size_t piece = size_min(n - at, 1 + rng_u64(seed, i) % 5);

        hit = stops_feed(&s, row->text + at, piece, &out);
        at += piece;
        assert_true(out.len <= strlen(row->shown)); /* nothing is shown and regretted */
    }
    if (!hit)
        stops_finish(&s, &out);
    assert_int_equal(hit, row->hit);
    assert_string_equal(str_text(&out), row->shown);
    str_fini(&out);
    stops_fini(&s);
}

static void test_result_does_not_depend_on_the_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (uint64_t seed = 0; seed < 200; seed++)
            check_row(&rows[i], seed);
    }
}

static void test_only_what_may_become_a_stop_is_held(void **state)
{
    const struct row row = {{"END"}, "", "", false};
    struct stops s;
    struct str out = {0};

    (void)state;
    stops_of(&s, &row);
    assert_false(stops_feed(&s, "the E", 5, &out));
    assert_string_equal(str_text(&out), "the ");
    assert_false(stops_feed(&s, "N", 1, &out));
    assert_string_equal(str_text(&out), "the ");
    assert_false(stops_feed(&s, "E", 1, &out));
    assert_string_equal(str_text(&out), "the EN");
    stops_finish(&s, &out);
    assert_string_equal(str_text(&out), "the ENE");
    str_fini(&out);
    stops_fini(&s);
}

static void test_after_a_stop_nothing_is_shown(void **state)
{
    const struct row row = {{"."}, "", "", false};
    struct stops s;
    struct str out = {0};

    (void)state;
    stops_of(&s, &row);
    assert_true(stops_feed(&s, "a.b", 3, &out));
    assert_true(stops_feed(&s, "c", 1, &out));
    stops_finish(&s, &out);
    assert_string_equal(str_text(&out), "a");
    str_fini(&out);
    stops_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_result_does_not_depend_on_the_pieces),
        cmocka_unit_test(test_only_what_may_become_a_stop_is_held),
        cmocka_unit_test(test_after_a_stop_nothing_is_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
