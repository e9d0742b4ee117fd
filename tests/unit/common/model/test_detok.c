#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "model/detok.h"
#include "base/utf8.h"
#include "tests/unit/common/model/vocab_util.h"

#define BYTE(b) (3u + (b))

static struct vocab *words(uint32_t first_word)
{
    struct toy t = toy_new();

    ASSERT(t.n == first_word);
    toy_add(&t, "\xE2\x96\x81Hi", -1, TOKEN_NORMAL);
    toy_add(&t, "\xE2\x96\x81there", -2, TOKEN_NORMAL);
    toy_add(&t, "\xF0\x9F\x99\x82", -3, TOKEN_NORMAL);
    return toy_vocab(&t);
}

static void a_character_is_held_until_it_is_whole(void **state)
{
    struct vocab *v = words(259);
    struct str out = {0};
    struct detok d;

    (void)state;
    detok_init(&d, v, 0);
    detok_add(&d, BYTE(0xF0), &out);
    detok_add(&d, BYTE(0x9F), &out);
    detok_add(&d, BYTE(0x99), &out);
    assert_int_equal(out.len, 0);
    assert_int_equal(d.n_held, 3);
    detok_add(&d, BYTE(0x82), &out);
    assert_string_equal(str_text(&out), "\xF0\x9F\x99\x82");
    assert_int_equal(d.n_held, 0);
    str_fini(&out);
    vocab_free(&v);
}

static void what_cannot_become_a_character_is_replaced(void **state)
{
    struct vocab *v = words(259);
    struct str out = {0};
    struct detok d;

    (void)state;
    detok_init(&d, v, 0);
    detok_add(&d, BYTE(0xF0), &out);
    detok_add(&d, BYTE(0x9F), &out);
    detok_add(&d, 259, &out); /* the held two are one subpart */
    assert_string_equal(str_text(&out), UTF8_REPLACEMENT " Hi");
    detok_add(&d, BYTE(0xFF), &out);
    assert_string_equal(str_text(&out), UTF8_REPLACEMENT " Hi" UTF8_REPLACEMENT);
    str_clear(&out);
    detok_add(&d, BYTE(0xE2), &out);
    detok_add(&d, BYTE(0x96), &out);
    assert_int_equal(out.len, 0);
    detok_finish(&d, &out);
    assert_string_equal(str_text(&out), UTF8_REPLACEMENT);
    detok_finish(&d, &out);
    assert_int_equal(out.len, 3);
    str_fini(&out);
    vocab_free(&v);
}

static void the_leading_space_stays_in_a_continuation_and_goes_in_a_whole_text(void **state)
{
    struct vocab *v = words(259);
    struct str out = {0};
    struct detok d;

    (void)state;
    detok_init(&d, v, 0);
    detok_add(&d, 259, &out);
    detok_add(&d, 260, &out);
    assert_string_equal(str_text(&out), " Hi there");
    str_clear(&out);
    detok_init(&d, v, DETOK_WHOLE);
    detok_add(&d, 1, &out); /* BOS is no text */
    detok_add(&d, 259, &out);
    detok_add(&d, 260, &out);
    detok_finish(&d, &out);
    assert_string_equal(str_text(&out), "Hi there");
    str_clear(&out);
    detok_add(&d, 259, &out); /* a second text with the same detok */
    assert_string_equal(str_text(&out), "Hi");
    str_fini(&out);
    vocab_free(&v);
}

static void control_tokens_are_shown_on_request_only(void **state)
{
    struct vocab *v = words(259);
    struct str out = {0};
    struct detok d;

    (void)state;
    detok_init(&d, v, 0);
    detok_add(&d, 1, &out);
    detok_add(&d, 0, &out);
    detok_add(&d, 1u << 30, &out); /* no such token */
    assert_int_equal(out.len, 0);
    detok_init(&d, v, DETOK_SPECIAL | DETOK_WHOLE);
    detok_add(&d, 1, &out);
    detok_add(&d, 259, &out);
    detok_add(&d, 2, &out);
    assert_string_equal(str_text(&out), "<s>Hi</s>");
    str_fini(&out);
    vocab_free(&v);
}

/* However random bytes are cut into pieces, each step's output is well-formed, and all together is
 * what a decoder says of the whole. */
static void any_cut_of_any_bytes_gives_the_same_text(void **state)
{
    struct vocab *v = words(259);

    (void)state;
    for (uint64_t key = 0; key < 2000; key++) {
        struct str whole = {0}, parts = {0};
        struct detok a, b;
        char text[40];
        size_t n = rng_u64(key, 0) % sizeof(text), i = 0;
        uint64_t c = 1;

        for (size_t k = 0; k < n; k++) { /* mostly pieces of multi-byte characters */
            static const uint8_t pool[] = {0xF0, 0x9F, 0x99, 0x82, 0xE2, 0x96, 0x81, 0xC3,
                                           0xA9, 0xED, 0xA0, 0x80, 'a',  0xFF, 0xF4, 0x90};
            text[k] = (char)pool[rng_u64(key, c++) % sizeof(pool)];
        }
        detok_init(&a, v, 0);
        detok_init(&b, v, 0);
        detok_add_bytes(&a, text, n, &whole);
        detok_finish(&a, &whole);
        while (i < n) {
            size_t k = size_min(n - i, 1 + rng_u64(key, c++) % 4);

            detok_add_bytes(&b, text + i, k, &parts);
            assert_true(utf8_valid(str_text(&parts), parts.len));
            assert_true(b.n_held <= 3);
            i += k;
        }
        detok_finish(&b, &parts);
        assert_string_equal(str_text(&whole), str_text(&parts));
        str_fini(&whole);
        str_fini(&parts);
    }
    vocab_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_character_is_held_until_it_is_whole),
        cmocka_unit_test(what_cannot_become_a_character_is_replaced),
        cmocka_unit_test(the_leading_space_stays_in_a_continuation_and_goes_in_a_whole_text),
        cmocka_unit_test(control_tokens_are_shown_on_request_only),
        cmocka_unit_test(any_cut_of_any_bytes_gives_the_same_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
