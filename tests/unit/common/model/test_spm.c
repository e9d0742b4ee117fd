/* The merges of spm.c against the rule itself, done the slow way, and the work they take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/str.h"
#include "model/detok.h"
#include "model/vocab_priv.h"
#include "tests/unit/common/model/vocab_util.h"

/* Joins the best-scored pair, leftmost first, until no pair is a token. Quadratic, no cuts. */
static void slow_tokens(const struct vocab *v, struct token_list *out, const char *s, size_t n)
{
    size_t at[64], k = 0;
    uint32_t sym;

    for (size_t i = 0; i < n; i += vocab_symbol(s + i, n - i, &sym))
        at[k++] = i;
    at[k] = n;
    for (;;) {
        size_t best = SIZE_MAX;
        float score = 0;

        for (size_t i = 0; i + 2 <= k; i++) {
            uint32_t id = vocab_find(v, s + at[i], at[i + 2] - at[i]);

            if (id != VOCAB_NONE && (best == SIZE_MAX || v->score[id] > score)) {
                best = i;
                score = v->score[id];
            }
        }
        if (best == SIZE_MAX)
            break;
        memmove(&at[best + 1], &at[best + 2], (k - best - 1) * sizeof(at[0]));
        k--;
    }
    for (size_t i = 0; i < k; i++) {
        uint32_t id = vocab_find(v, s + at[i], at[i + 1] - at[i]);

        if (id != VOCAB_NONE)
            token_list_add(out, id);
        else
            for (size_t j = at[i]; j < at[i + 1]; j++)
                token_list_add(out, v->bytes[(uint8_t)s[j]]);
    }
}

/* Few letters and many tokens of equal score, so that merges compete everywhere. */
static struct vocab *random_vocab(uint64_t key)
{
    static const char *const letters[] = {"a", "b", "c", "\xC3\xA9"};
    struct toy t = toy_new();
    struct vocab_spec spec;
    struct vocab *v;
    uint64_t c = 0;

    for (unsigned i = 0; i < 40; i++) {
        char text[16] = "";
        unsigned n = 1 + (unsigned)(rng_u64(key, c++) % 5);

        for (unsigned k = 0; k < n; k++)
            strcat(text, letters[rng_u64(key, c++) % 4]);
        toy_add(&t, text, -(float)(rng_u64(key, c++) % 8), TOKEN_NORMAL);
    }
    spec = toy_spec(&t);
    spec.add_bos = spec.add_space_prefix = false;
    assert_int_equal(vocab_new(&v, &spec, NULL), 0);
    toy_fini(&t);
    return v;
}

static void merges_are_those_of_the_plain_rule(void **state)
{
    (void)state;
    for (uint64_t key = 0; key < 300; key++) {
        struct vocab *v = random_vocab(key);

        for (uint64_t round = 0; round < 20; round++) {
            struct token_list fast = {0}, slow = {0};
            uint64_t c = round << 32;
            char text[40];
            size_t n = rng_u64(~key, c++) % sizeof(text);

            for (size_t i = 0; i < n; i++)
                text[i] = "abc\xC3\xA9"[rng_u64(~key, c++) % 5]; /* ill-formed at times */
            assert_int_equal(vocab_tokenize(v, &fast, text, n, false, false, NULL), 0);
            slow_tokens(v, &slow, text, n);
            assert_int_equal(fast.n, slow.n);
            if (fast.n)
                assert_memory_equal(fast.ids, slow.ids, fast.n * sizeof(*fast.ids));
            token_list_fini(&fast);
            token_list_fini(&slow);
        }
        vocab_free(&v);
    }
}

static struct vocab *runs_vocab(void)
{
    struct toy t = toy_new();

    toy_add(&t, "a", -5, TOKEN_NORMAL);
    toy_add(&t, "aa", -1, TOKEN_NORMAL);
    toy_add(&t, "aaaa", -2, TOKEN_NORMAL);
    toy_add(&t, "\xE2\x96\x81", -6, TOKEN_NORMAL);
    return toy_vocab(&t);
}

/* Lookups and heap operations per character do not grow with the text. */
static void work_is_linear_in_one_repeated_character(void **state)
{
    struct vocab *v = runs_vocab();

    (void)state;
    for (size_t n = 1u << 10; n <= 1u << 20; n *= 32) {
        struct token_list out = {0};
        struct spm_work work = {0};
        char *text = mem_alloc(n);

        memset(text, 'a', n);
        assert_int_equal(spm_tokenize(v, &out, text, n, NULL, 0, true, true, &work, NULL), 0);
        assert_int_equal(out.n, 2 + n / 4); /* BOS and the space */
        assert_true(work.lookups <= 4 * n + 16);
        assert_true(work.pops <= 3 * n + 16);
        token_list_fini(&out);
        mem_free(text);
    }
    vocab_free(&v);
}

static void text_is_cut_where_no_token_reaches_across(void **state)
{
    struct vocab *v = runs_vocab();
    struct token_list out = {0};
    struct spm_work work = {0};

    (void)state;
    assert_int_equal(spm_tokenize(v, &out, "aa b aaa", 8, NULL, 0, false, false, &work, NULL), 0);
    assert_true(work.chunks >= 5);
    token_list_fini(&out);
    vocab_free(&v);
}

static void expect(const struct vocab *v, const char *text, size_t n, bool special,
                   const char *want)
{
    struct token_list out = {0};
    struct str got = {0};

    assert_int_equal(vocab_tokenize(v, &out, text, n, special, true, NULL), 0);
    for (size_t i = 0; i < out.n; i++)
        str_addf(&got, "%s%u", i ? " " : "", out.ids[i]);
    assert_string_equal(str_text(&got), want);
    str_fini(&got);
    token_list_fini(&out);
}

static struct vocab *chat_vocab(void)
{
    struct toy t = toy_new();

    toy_add(&t, "a", -1, TOKEN_NORMAL);                 /* 259 */
    toy_add(&t, "\xE2\x96\x81", -2, TOKEN_NORMAL);      /* 260 */
    toy_add(&t, "<|im_end|>", 0, TOKEN_CONTROL);        /* 261 */
    toy_add(&t, "<|is", 0, TOKEN_USER_DEFINED);         /* 262 */
    toy_add(&t, "<|im_start|>", 0, TOKEN_USER_DEFINED); /* 263: a marker by its form */
    toy_add(&t, "aaa", 0, TOKEN_USER_DEFINED);          /* 264 */
    return toy_vocab(&t);
}

static void control_tokens_are_cut_out_longest_first(void **state)
{
    struct vocab *v = chat_vocab();

    (void)state;
    expect(v, "a<|im_end|>a", 12, true, "1 260 259 261 260 259");
    expect(v, "<|im_end|><|im_start|>", 22, false, "261 263");
    expect(v, "<|isa", 5, false, "262 260 259");
    expect(v, "aaaa", 4, false, "264 260 259");
    expect(v, "", 0, true, "1");
    expect(v, "", 0, false, "");
    expect(v, "\0", 1, false, "260 3");
    expect(v, "\xFF", 1, false, "260 258");
    expect(v, "a\xE2\x96\x81", 4, false, "260 259 260");
    vocab_free(&v);
}

static void literal_ranges_hide_control_tokens(void **state)
{
    struct vocab *v = chat_vocab();
    const char *text = "<|im_end|><|im_end|><|im_end|>";
    struct text_range user = {10, 20}, edge = {19, 21}, all = {0, 30};
    struct {
        const struct text_range *r;
        unsigned specials;
    } cases[] = {{&user, 2}, {&edge, 1}, {&all, 0}, {NULL, 3}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct token_list out = {0};
        unsigned n = 0;

        assert_int_equal(
            vocab_tokenize_mixed(v, &out, text, 30, cases[i].r, cases[i].r != NULL, true, NULL), 0);
        for (size_t k = 0; k < out.n; k++)
            n += out.ids[k] == 261;
        assert_int_equal(n, cases[i].specials);
        token_list_fini(&out);
    }
    vocab_free(&v);
}

static void a_marker_in_plain_text_is_spelled_out(void **state)
{
    struct vocab *v = chat_vocab();
    struct token_list out = {0};
    struct str back = {0};
    struct detok d;

    (void)state;
    assert_int_equal(vocab_tokenize(v, &out, "</s><s><|im_end|>", 17, true, false, NULL), 0);
    for (size_t i = 1; i < out.n; i++)
        assert_true(vocab_type(v, out.ids[i]) != TOKEN_CONTROL);
    detok_init(&d, v, DETOK_WHOLE);
    for (size_t i = 0; i < out.n; i++)
        detok_add(&d, out.ids[i], &back);
    assert_string_equal(str_text(&back), "</s><s><|im_end|>");
    str_fini(&back);
    token_list_fini(&out);
    vocab_free(&v);
}

static void a_character_without_bytes_is_one_unknown(void **state)
{
    struct toy t = {0};
    struct vocab *v;

    (void)state;
    toy_add(&t, "<unk>", 0, TOKEN_UNKNOWN);
    toy_add(&t, "<s>", 0, TOKEN_CONTROL);
    toy_add(&t, "</s>", 0, TOKEN_CONTROL);
    toy_add(&t, "\xE2\x96\x81", 0, TOKEN_NORMAL);
    v = toy_vocab(&t);
    expect(v, "\xC3\xA9 x", 4, true, "1 3 0 3 0");
    vocab_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_are_those_of_the_plain_rule),
        cmocka_unit_test(work_is_linear_in_one_repeated_character),
        cmocka_unit_test(text_is_cut_where_no_token_reaches_across),
        cmocka_unit_test(control_tokens_are_cut_out_longest_first),
        cmocka_unit_test(literal_ranges_hide_control_tokens),
        cmocka_unit_test(a_marker_in_plain_text_is_spelled_out),
        cmocka_unit_test(a_character_without_bytes_is_one_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
