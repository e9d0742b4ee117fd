#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "bench/workload.h"

#define DEMO "deploy/demo/austen-5m-q8_0.gguf" /* is part of this repository */

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
    struct err e = {0};

    if (option_set(option_find(&bench_option_table, key), &options, value, NULL, &e) != ERR_OK)
        fail_msg("%s", e.text);
}

/* Opens the dataset of this kind whose file has this text. */
static int open_text(struct workload *w, const char *kind, const char *text, struct err *e)
{
    char path[] = "/tmp/tandem-bench-XXXXXX";
    int fd = mkstemp(path), rc;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    option_is("dataset_name", kind);
    option_is("dataset_path", path);
    rc = workload_open(w, &options, e);
    unlink(path);
    return rc;
}

static void prompt_is(const struct workload *w, uint32_t i, uint32_t turn, const char *text)
{
    struct prompt p = {0};

    assert_int_equal(workload_prompt(&p, w, i, turn, NULL), ERR_OK);
    assert_int_equal(p.n_texts, 1);
    assert_string_equal(str_text(&p.texts[0]), text);
    prompt_fini(&p);
}

static void lines_of_a_file_are_prompts(void **state)
{
    struct workload w;

    (void)state;
    assert_int_equal(open_text(&w, "text", "one\n\n{\"two\"}\r\nthree", NULL), ERR_OK);
    assert_int_equal(w.dataset.n, 3);
    prompt_is(&w, 0, 0, "one");
    prompt_is(&w, 1, 0, "{\"two\"}");
    prompt_is(&w, 5, 0, "three"); /* round and round */
    assert_int_equal(workload_output(&w, 0, 0), OUTPUT_LEN_DEFAULT);
    option_is("output_len", "9");
    assert_int_equal(workload_output(&w, 0, 0), 9);
    workload_close(&w);
}

static void jsonl_gives_prompts_and_turns(void **state)
{
    struct workload w;

    (void)state;
    option_is("turns", "2");
    assert_int_equal(open_text(&w, "custom",
                               "{\"prompt\": \"a\\nb\", \"output_tokens\": 12}\n"
                               "{\"turns\": [\"\\u00e9\", \"and?\", \"so?\"]}\n",
                               NULL),
                     ERR_OK);
    prompt_is(&w, 0, 0, "a\nb");
    assert_int_equal(workload_output(&w, 0, 0), 12);
    assert_int_equal(workload_turns(&w, 0), 1);
    assert_int_equal(workload_turns(&w, 1), 2); /* --turns of three */
    prompt_is(&w, 1, 0, "\xc3\xa9");
    prompt_is(&w, 1, 1, "and?");
    workload_close(&w);
}

static void sharegpt_gives_what_people_said(void **state)
{
    struct workload w;
    struct err e = {0};

    (void)state;
    option_is("turns", "9");
    option_is("tokenizer", DEMO);
    if (open_text(
            &w, "sharegpt",
            "[{\"conversations\": [{\"from\": \"gpt\", \"value\": \"alone\"}]},\n"
            "{\"conversations\": [{\"from\": \"human\", \"value\": \"hi\"}, {\"from\": \"gpt\", "
            "\"value\": \"the man\"}, {\"from\": \"human\", \"value\": \"bye\"}]}]",
            &e) != ERR_OK)
        fail_msg("%s", e.text);
    assert_int_equal(w.dataset.n, 1); /* a chat in which nobody asks is left out */
    assert_int_equal(workload_turns(&w, 0), 2);
    prompt_is(&w, 0, 1, "bye");
    assert_int_equal(workload_output(&w, 0, 0), synth_count(&w.synth, "the man", 7));
    assert_int_equal(workload_output(&w, 0, 1), OUTPUT_LEN_DEFAULT);
    workload_close(&w);
}

static void bad_files_are_refused_with_their_line(void **state)
{
    static const struct {
        const char *kind, *text, *says;
    } cases[] = {
        {"custom", "{\"prompt\": \"a\"}\n\n{\"promt\": \"b\"}\n",
         ":3: not an object with a string"},
        {"custom", "{\"turns\": [\"a\", 3]}\n", ":1: turns[1] is not a string"},
        {"custom", "{\"prompt\": \n", ":1: column"},
        {"text", "\n\n", "holds no prompt"},
        {"sharegpt", "[{\"conversations\":\n]", ":2: column"},
        {"sharegpt", "[]", "holds no prompt"},
        {"mooncake", "{\"timestamp\": 0}\n", ":1: no number \"input_length\""},
    };
    struct workload w;

    (void)state;
    option_is("vocab_size", "512");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};

        assert_int_equal(open_text(&w, cases[i].kind, cases[i].text, &e), ERR_FORMAT);
        if (!strstr(e.text, cases[i].says))
            fail_msg("case %zu: %s", i, e.text);
    }
    assert_int_equal(workload_open(&w, &options, NULL), ERR_IO); /* it is gone */
}

static void random_ids_are_in_range_seeded_and_all_different(void **state)
{
    struct workload w;

    (void)state;
    option_is("random_input_len", "33");
    option_is("vocab_size", "512");
    assert_int_equal(workload_open(&w, &options, NULL), ERR_OK);
    for (uint32_t i = 0; i < 10; i++) {
        struct prompt a = {0}, b = {0}, next = {0};

        assert_int_equal(workload_prompt(&a, &w, i, 0, NULL), ERR_OK);
        assert_int_equal(workload_prompt(&b, &w, i, 0, NULL), ERR_OK);
        assert_int_equal(workload_prompt(&next, &w, i + 1, 0, NULL), ERR_OK);
        assert_int_equal(a.n_tokens, 33);
        assert_memory_equal(a.tokens, b.tokens, 33 * sizeof(uint32_t));
        assert_memory_not_equal(a.tokens, next.tokens, 33 * sizeof(uint32_t));
        for (uint32_t j = 0; j < 33; j++)
            assert_in_range(a.tokens[j], 256, 511);
        prompt_fini(&a);
        prompt_fini(&b);
        prompt_fini(&next);
    }
    workload_close(&w);
}

static void random_text_has_exactly_the_tokens_asked_for(void **state)
{
    static const char *const lengths[] = {"2", "17", "500"};

    (void)state;
    option_is("tokenizer", DEMO);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct workload w;
        struct err e = {0};

        option_is("random_input_len", lengths[i]);
        if (workload_open(&w, &options, &e) != ERR_OK)
            fail_msg("%s", e.text);
        for (uint32_t n = 0; n < 5; n++) {
            struct prompt p = {0};

            assert_int_equal(workload_prompt(&p, &w, n, 0, NULL), ERR_OK);
            assert_int_equal(p.n_tokens, options.random_input_len);
            assert_int_equal(synth_count(&w.synth, str_text(&p.texts[0]), p.texts[0].len),
                             options.random_input_len);
            prompt_fini(&p);
        }
        workload_close(&w);
    }
}

/* 100 (1 - 0.5) to 100 (1 + 0.5), ends included. */
static void lengths_are_uniform_in_their_range(void **state)
{
    uint32_t low = UINT32_MAX, high = 0;
    double sum = 0;
    struct workload w;

    (void)state;
    option_is("random_output_len", "100");
    option_is("random_range_ratio", "0.5");
    option_is("vocab_size", "512");
    assert_int_equal(workload_open(&w, &options, NULL), ERR_OK);
    for (uint32_t i = 0; i < 10000; i++) {
        uint32_t n = workload_output(&w, i, 0);

        low = n < low ? n : low;
        high = n > high ? n : high;
        sum += n;
    }
    assert_int_equal(low, 50);
    assert_int_equal(high, 150);
    assert_true(sum / 10000 > 99 && sum / 10000 < 101); /* 29.2 / sqrt(10000) is a standard error */
    workload_close(&w);
}

static void a_prefix_is_shared_and_comes_on_top(void **state)
{
    struct prompt a = {0}, b = {0};
    struct workload w;

    (void)state;
    option_is("random_input_len", "10");
    option_is("random_prefix_len", "20");
    option_is("vocab_size", "512");
    assert_int_equal(workload_open(&w, &options, NULL), ERR_OK);
    assert_int_equal(workload_prompt(&a, &w, 0, 0, NULL), ERR_OK);
    assert_int_equal(workload_prompt(&b, &w, 1, 0, NULL), ERR_OK);
    assert_int_equal(a.n_tokens, 30);
    assert_memory_equal(a.tokens, b.tokens, 20 * sizeof(uint32_t));
    assert_memory_not_equal(a.tokens + 20, b.tokens + 20, 10 * sizeof(uint32_t));
    prompt_fini(&a);
    prompt_fini(&b);
    workload_close(&w);
}

static void blocks_of_one_hash_are_the_same_text(void **state)
{
    static const char trace[] = "{\"timestamp\": 0, \"input_length\": 1030, \"output_length\": 3, "
                                "\"hash_ids\": [7, 8, 9]}\n"
                                "{\"timestamp\": 9, \"input_length\": 1030, \"output_length\": 4, "
                                "\"hash_ids\": [7, 6, 9]}\n";
    struct prompt a = {0}, b = {0};
    struct workload w;

    (void)state;
    option_is("vocab_size", "512");
    assert_int_equal(open_text(&w, "mooncake", trace, NULL), ERR_OK);
    assert_int_equal(workload_prompt(&a, &w, 0, 0, NULL), ERR_OK);
    assert_int_equal(workload_prompt(&b, &w, 1, 0, NULL), ERR_OK);
    assert_int_equal(a.n_tokens, 1030);
    assert_int_equal(workload_output(&w, 1, 0), 4);
    assert_memory_equal(a.tokens, b.tokens, 512 * sizeof(uint32_t));
    assert_memory_not_equal(a.tokens + 512, b.tokens + 512, 512 * sizeof(uint32_t));
    assert_memory_equal(a.tokens + 1024, b.tokens + 1024, 6 * sizeof(uint32_t));
    prompt_fini(&a);
    prompt_fini(&b);
    workload_close(&w);
    option_is("tokenizer", DEMO); /* as text, too */
    assert_int_equal(open_text(&w, "mooncake", trace, NULL), ERR_OK);
    assert_int_equal(workload_prompt(&a, &w, 0, 0, NULL), ERR_OK);
    assert_int_equal(workload_prompt(&b, &w, 1, 0, NULL), ERR_OK);
    assert_int_equal(synth_count(&w.synth, str_text(&a.texts[0]), a.texts[0].len), 1030);
    assert_memory_equal(str_text(&a.texts[0]), str_text(&b.texts[0]), 512);
    prompt_fini(&a);
    prompt_fini(&b);
    workload_close(&w);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(lines_of_a_file_are_prompts),
        T(jsonl_gives_prompts_and_turns),
        T(sharegpt_gives_what_people_said),
        T(bad_files_are_refused_with_their_line),
        T(random_ids_are_in_range_seeded_and_all_different),
        T(random_text_has_exactly_the_tokens_asked_for),
        T(lengths_are_uniform_in_their_range),
        T(a_prefix_is_shared_and_comes_on_top),
        T(blocks_of_one_hash_are_the_same_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
