#include "config/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"

static const char *nearest_of(const char *word)
{
    static const char *const known[] = {"slots", "chunk_tokens", "kv_pages", "http", "up", "down"};
    struct nearest n;

    nearest_init(&n, word);
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        nearest_try(&n, known[i]);
    return n.best;
}

static void test_typing_errors_find_the_word(void **state)
{
    (void)state;
    assert_string_equal(nearest_of("slotz"), "slots");   /* changed */
    assert_string_equal(nearest_of("slot"), "slots");    /* lost */
    assert_string_equal(nearest_of("slotts"), "slots");  /* added */
    assert_string_equal(nearest_of("solts"), "slots");   /* swapped */
    assert_string_equal(nearest_of("pu"), "up");
    assert_string_equal(nearest_of("kv-pages"), "kv_pages");
    assert_string_equal(nearest_of("chunktoken"), "chunk_tokens");
}

static void test_far_words_find_nothing(void **state)
{
    char word[200];

    (void)state;
    assert_null(nearest_of("something"));
    assert_null(nearest_of("x"));
    assert_null(nearest_of(""));
    memset(word, 's', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    assert_null(nearest_of(word));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_typing_errors_find_the_word),
        cmocka_unit_test(test_far_words_find_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
