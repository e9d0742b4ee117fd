#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/workload.h"
#include "model/gguf.h"
#include "model/vocab.h"

static struct bench_options options;

static int setup(void **state)
{
    (void)state;
    memset(&options, 0, sizeof(options));
    option_defaults(&bench_option_table, &options);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    option_free(&bench_option_table, &options);
    return 0;
}

static void option_is(const char *key, const char *value)
{
    assert_int_equal(option_set(option_find(&bench_option_table, key), &options, value, NULL, NULL),
                     ERR_OK);
}

/* Writes a file of this name ending and names it in --prompts. */
static void prompts_are(const char *suffix, const char *text)
{
    char path[] = "/tmp/tandem-bench-XXXXXX.jsonl";
    int fd;

    path[sizeof(path) - 7 + strlen(suffix)] = '\0';
    memcpy(path + sizeof(path) - 7, suffix, strlen(suffix));
    fd = mkstemps(path, (int)strlen(suffix));
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    option_is("prompts", path);
}

static void lines_of_a_file_are_prompts(void **state)
{
    struct workload w;

    (void)state;
    prompts_are(".txt", "one\n\n{\"two\"}\r\nthree");
    assert_int_equal(workload_open(&w, &options, NULL), ERR_OK);
    unlink(options.prompts);
    assert_int_equal(w.n, 3);
    assert_string_equal(w.prompts[0].text, "one");
    assert_string_equal(w.prompts[1].text, "{\"two\"}");
    assert_string_equal(workload_prompt(&w, 5)->text, "three"); /* round and round */
    workload_fini(&w);
}

static void jsonl_gives_prompt(void **state)
{
    struct workload w;

    (void)state;
    prompts_are(".jsonl", "{\"prompt\": \"a\\nb\", \"other\": 1}\n{\"prompt\":\"\\u00e9\"}\n");
    assert_int_equal(workload_open(&w, &options, NULL), ERR_OK);
    unlink(options.prompts);
    assert_int_equal(w.n, 2);
    assert_string_equal(w.prompts[0].text, "a\nb");
    assert_int_equal(w.prompts[1].text_bytes, 2);
    workload_fini(&w);
}

static void bad_files_are_refused_with_their_line(void **state)
{
    struct workload w;
    struct err e = {0};

    (void)state;
    prompts_are(".jsonl", "{\"prompt\": \"a\"}\n\n{\"promt\": \"b\"}\n");
    assert_int_equal(workload_open(&w, &options, &e), ERR_FORMAT);
    unlink(options.prompts);
    assert_non_null(strstr(e.text, ".jsonl:3: "));
    assert_int_equal(w.n, 0);
    prompts_are(".txt", "\n\n");
    assert_int_equal(workload_open(&w, &options, &e), ERR_FORMAT);
    unlink(options.prompts);
    assert_int_equal(workload_open(&w, &options, &e), ERR_IO); /* it is gone */
}

static void random_ids_are_in_range_seeded_and_all_different(void **state)
{
    struct workload a, b;

    (void)state;
    option_is("prompt_tokens", "33");
    option_is("vocab", "512");
    option_is("requests", "10");
    option_is("warmup", "3");
    assert_int_equal(workload_open(&a, &options, NULL), ERR_OK);
    assert_int_equal(workload_open(&b, &options, NULL), ERR_OK);
    assert_int_equal(a.n, 13);
    for (uint32_t i = 0; i < a.n; i++) {
        assert_int_equal(a.prompts[i].n_tokens, 33);
        assert_memory_equal(a.prompts[i].tokens, b.prompts[i].tokens, 33 * sizeof(uint32_t));
        assert_memory_not_equal(a.prompts[i].tokens, a.prompts[(i + 1) % a.n].tokens,
                                33 * sizeof(uint32_t));
        for (uint32_t j = 0; j < 33; j++)
            assert_in_range(a.prompts[i].tokens[j], 256, 511);
    }
    workload_fini(&a);
    workload_fini(&b);
    option_is("vocab", "1");
    assert_int_equal(workload_open(&a, &options, NULL), ERR_OK);
    assert_int_equal(a.prompts[0].tokens[32], 0);
    workload_fini(&a);
}

/* The demo model is part of this repository. */
static void synthetic_text_has_exactly_the_tokens_asked_for(void **state)
{
    static const char *const lengths[] = {"2", "17", "500"};
    struct vocab *v;
    struct gguf *g;

    (void)state;
    option_is("model", "deploy/demo/austen-5m-q8_0.gguf");
    option_is("requests", "5");
    assert_int_equal(gguf_open(&g, options.model, NULL), ERR_OK);
    assert_int_equal(vocab_load(&v, g, NULL), ERR_OK);
    for (size_t i = 0; i < 3; i++) {
        struct workload w;
        struct err e = {0};

        option_is("prompt_tokens", lengths[i]);
        if (workload_open(&w, &options, &e) != ERR_OK)
            fail_msg("%s", e.text);
        assert_int_equal(w.n, 5);
        for (uint32_t p = 0; p < w.n; p++) {
            struct token_list ids = {0};

            vocab_tokenize(v, &ids, w.prompts[p].text, w.prompts[p].text_bytes, true, false, NULL);
            assert_int_equal(ids.n, options.prompt_tokens);
            assert_int_equal(w.prompts[p].n_tokens, options.prompt_tokens);
            token_list_fini(&ids);
        }
        workload_fini(&w);
    }
    vocab_free(&v);
    gguf_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_of_a_file_are_prompts, setup, teardown),
        cmocka_unit_test_setup_teardown(jsonl_gives_prompt, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_files_are_refused_with_their_line, setup, teardown),
        cmocka_unit_test_setup_teardown(random_ids_are_in_range_seeded_and_all_different, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(synthetic_text_has_exactly_the_tokens_asked_for, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
