#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include "base/rng.h"
#include "base/str.h"
#include "model/detok.h"
#include "model/gguf.h"
#include "base/utf8.h"
#include "tests/lib/data.h"
#include "tests/unit/common/model/vocab_util.h"

#define DEMO_MODEL "deploy/demo/austen-5m-q8_0.gguf"

static struct vocab *load(const char *path)
{
    struct gguf *g = NULL;
    struct vocab *v = NULL;
    struct err e = {0};

    if (gguf_open(&g, path, &e) || vocab_load(&v, g, &e))
        fail_msg("%s: %s", path, e.text);
    gguf_close(&g);
    return v;
}

static char *read_file(const char *path, const char *suffix)
{
    struct str s = {0};
    char name[600], buf[4096];
    FILE *f;
    size_t n;

    snprintf(name, sizeof(name), "%s%s", path, suffix);
    f = fopen(name, "rb");
    assert_non_null(f);
    while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
        str_add(&s, buf, n);
    fclose(f);
    return str_steal(&s);
}

static void same_ids(const struct vocab *v, const char *text, size_t n, bool bos, const char *want)
{
    struct token_list out = {0};
    struct str got = {0};

    assert_int_equal(vocab_tokenize(v, &out, text, n, bos, false, NULL), 0);
    for (size_t i = 0; i < out.n; i++)
        str_addf(&got, "%s%u", i ? " " : "", out.ids[i]);
    while (*want == ' ')
        want++;
    if (strcmp(str_text(&got), want) != 0)
        fail_msg("\"%.*s\": %s, must be %s", (int)n, text, str_text(&got), want);
    str_fini(&got);
    token_list_fini(&out);
}

/* NAME.inp: texts, each followed by a marker line, the 47th empty and at the end of the file;
 * NAME.out: a line of ids for each. */
static unsigned check_truth(const char *path)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    struct vocab *v = load(path);
    char *inp = read_file(path, ".inp"), *ids = read_file(path, ".out"), *line = ids;
    unsigned n = 0;

    for (char *text = inp, *end; text; text = end, n++) {
        char *eol = line + strcspn(line, "\n"), *next = *eol ? eol + 1 : eol;

        end = strstr(text, mark);
        *eol = '\0';
        while (eol > line && eol[-1] == ' ')
            *--eol = '\0';
        same_ids(v, text, end ? (size_t)(end - text) : strlen(text), false, line);
        if (end)
            end += strlen(mark);
        line = next;
    }
    assert_int_equal(*line, '\0');
    mem_free(inp);
    mem_free(ids);
    vocab_free(&v);
    return n;
}

static void llama_2_texts_get_the_reference_ids(void **state)
{
    DATA_OR_SKIP(path, "vocab/ggml-vocab-llama-spm.gguf");

    (void)state;
    assert_int_equal(check_truth(path), 47);
}

static void phi_3_texts_get_the_reference_ids(void **state)
{
    DATA_OR_SKIP(path, "vocab/ggml-vocab-phi-3.gguf");

    (void)state;
    assert_int_equal(check_truth(path), 47);
}

/* model TAB JSON string TAB ids */
static void golden_models_get_the_reference_ids(void **state)
{
    static const char *const models[] = {"llama", "gemma3", "phi3", "stories260K-f32"};
    DATA_OR_SKIP(tsv, "golden/tokenize.tsv");
    unsigned n = 0;

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        char rel[64], *table = read_file(tsv, ""), *save = NULL;
        const char *path;
        struct vocab *v;

        snprintf(rel, sizeof(rel), "golden/%s.gguf", models[m]);
        path = data_path(__func__, rel);
        assert_non_null(path);
        v = load(path);
        for (char *l = strtok_r(table, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
            char *text = strchr(l, '\t'), *ids = text ? strchr(text + 1, '\t') : NULL;
            json_t *j;

            assert_non_null(ids);
            *text++ = *ids++ = '\0';
            if (strcmp(l, models[m]) != 0)
                continue;
            j = json_loads(text, JSON_DECODE_ANY, NULL);
            assert_non_null(j);
            same_ids(v, json_string_value(j), json_string_length(j), true, ids);
            json_decref(j);
            n++;
        }
        mem_free(table);
        vocab_free(&v);
    }
    assert_int_equal(n, 36);
}

static void round_trip(const struct vocab *v, const char *text, size_t n)
{
    struct token_list ids = {0};
    struct str back = {0};
    struct detok d;

    assert_int_equal(vocab_tokenize(v, &ids, text, n, true, false, NULL), 0);
    detok_init(&d, v, DETOK_WHOLE);
    for (size_t i = 0; i < ids.n; i++)
        detok_add(&d, ids.ids[i], &back);
    detok_finish(&d, &back);
    assert_int_equal(back.len, n);
    if (n)
        assert_memory_equal(back.data, text, n);
    token_list_fini(&ids);
    str_fini(&back);
}

/* Random characters of every plane, with many spaces and letters; U+2581 reads as a space. */
static void any_text_comes_back(void **state)
{
    struct vocab *v = load(DEMO_MODEL);

    (void)state;
    for (uint64_t key = 0; key < 2000; key++) {
        char text[256];
        size_t n = 0;

        for (uint64_t c = rng_u64(key, 0) % 60 + 1; c > 0; c--) {
            uint64_t r = rng_u64(key, c);
            uint32_t cp = (uint32_t)(r >> 8);

            switch (r % 4) {
            case 0:
                cp = " etaoin\n\t<>/s"[cp % 13];
                break;
            case 1:
                cp %= 0x80;
                break;
            case 2:
                cp %= 0xD800;
                break;
            default:
                cp = 0xE000 + cp % (0x110000 - 0xE000);
            }
            n += utf8_put(text + n, cp == 0x2581 ? ' ' : cp);
        }
        round_trip(v, text, n);
    }
    vocab_free(&v);
}

static void the_demo_model_has_its_special_tokens(void **state)
{
    struct vocab *v = load(DEMO_MODEL);
    uint32_t eog[VOCAB_EOG_MAX];

    (void)state;
    assert_int_equal(vocab_size(v), 2048);
    assert_int_equal(vocab_bos(v), 1);
    assert_int_equal(vocab_eos(v), 2);
    assert_true(vocab_add_bos(v));
    assert_true(vocab_is_eog(v, 2));
    assert_false(vocab_is_eog(v, 1));
    assert_false(vocab_is_eog(v, UINT32_MAX));
    assert_int_equal(vocab_eog_list(v, eog), 1);
    assert_int_equal(eog[0], 2);
    vocab_free(&v);
}

static void turn_markers_end_generation(void **state)
{
    DATA_OR_SKIP(path, "vocab/ggml-vocab-phi-3.gguf");
    struct vocab *v = load(path);
    uint32_t eog[VOCAB_EOG_MAX];

    (void)state;
    assert_int_equal(vocab_eog_list(v, eog), 3); /* </s>, <|endoftext|>, <|end|> */
    assert_int_equal(eog[0], 2);
    assert_int_equal(eog[1], 32000);
    assert_int_equal(eog[2], 32007);
    vocab_free(&v);
}

static void another_tokenizer_is_refused_by_name(void **state)
{
    DATA_OR_SKIP(path, "vocab/ggml-vocab-gpt-2.gguf");
    struct gguf *g = NULL;
    struct vocab *v;
    struct err e = {0};

    (void)state;
    assert_int_equal(gguf_open(&g, path, &e), 0);
    assert_int_equal(vocab_load(&v, g, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "gpt2"));
    assert_null(v);
    gguf_close(&g);
}

static void refused(struct toy *t, const struct vocab_spec *spec, int code, const char *says)
{
    struct vocab *v;
    struct err e = {0};

    (void)t;
    assert_int_equal(vocab_new(&v, spec, &e), code);
    assert_null(v);
    if (!strstr(e.text, says))
        fail_msg("\"%s\" does not say \"%s\"", e.text, says);
}

static void malformed_vocabularies_are_refused_with_the_number(void **state)
{
    struct toy t = toy_new();
    struct vocab_spec s = toy_spec(&t);

    (void)state;
    s.bos = 259;
    refused(&t, &s, ERR_FORMAT, "bos token 259 is out of range, there are 259 tokens");
    s.bos = -2;
    refused(&t, &s, ERR_FORMAT, "-2");
    s = toy_spec(&t);
    s.n = 0;
    refused(&t, &s, ERR_LIMIT, "0 tokens");
    s = toy_spec(&t);
    t.entries[7].score = (float)strtod("nan", NULL);
    refused(&t, &s, ERR_FORMAT, "score of token 7");
    t.entries[7].score = 0;
    t.entries[8].type = 7;
    refused(&t, &s, ERR_FORMAT, "token 8 has type 7");
    t.entries[8].type = TOKEN_BYTE;
    t.entries[8].n = 5;
    refused(&t, &s, ERR_FORMAT, "byte token 8");
    t.entries[8].n = 6;
    s.n = 258;
    s.unk = -1;
    refused(&t, &s, ERR_FORMAT, "255 of 256 byte tokens");
    s.n = 259;
    t.entries[0].n = VOCAB_TOKEN_BYTES_MAX + 1;
    refused(&t, &s, ERR_LIMIT, "token 0 has 4097 bytes");
    t.entries[0].n = 5;
    toy_fini(&t);
}

/* Tokens may hold anything: NUL, ill-formed UTF-8, nothing at all, and each other's text. */
static void odd_token_texts_are_tolerated(void **state)
{
    struct toy t = toy_new();
    struct vocab_spec s;
    struct vocab *v;
    struct token_list ids = {0};
    struct str piece = {0};

    (void)state;
    toy_add(&t, "a_b", 0, TOKEN_NORMAL);
    ((char *)t.entries[259].text)[1] = '\0';
    toy_add(&t, "\xE2\x28", 0, TOKEN_NORMAL);
    toy_add(&t, "", 0, TOKEN_NORMAL);
    toy_add(&t, "", 0, TOKEN_CONTROL);
    toy_add(&t, "x", 0, TOKEN_NORMAL);
    toy_add(&t, "x", 0, TOKEN_NORMAL);
    s = toy_spec(&t);
    s.add_space_prefix = false;
    assert_int_equal(vocab_new(&v, &s, NULL), 0);
    toy_fini(&t);
    assert_int_equal(vocab_tokenize(v, &ids, "x", 1, false, true, NULL), 0);
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.ids[0], 264); /* the last of equals */
    vocab_piece(v, 259, &piece);
    assert_int_equal(piece.len, 3);
    assert_int_equal(piece.data[1], '\0');
    str_fini(&piece);
    token_list_fini(&ids);
    vocab_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_2_texts_get_the_reference_ids),
        cmocka_unit_test(phi_3_texts_get_the_reference_ids),
        cmocka_unit_test(golden_models_get_the_reference_ids),
        cmocka_unit_test(any_text_comes_back),
        cmocka_unit_test(the_demo_model_has_its_special_tokens),
        cmocka_unit_test(turn_markers_end_generation),
        cmocka_unit_test(another_tokenizer_is_refused_by_name),
        cmocka_unit_test(malformed_vocabularies_are_refused_with_the_number),
        cmocka_unit_test(odd_token_texts_are_tolerated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
