#include "tests/lib/test.h"

#include "base/check.h"
#include "base/str.h"
#include "daemon/daemon.h"
#include "deploy/commands.h"
#include "tests/lib/process.h"

#define MODEL "--model=deploy/demo/austen-5m-q8_0.gguf"

#define RUN(out, from, command, ...)                                                               \
    process_capture(out, from, command, (const char *const[]){#command, __VA_ARGS__, NULL})

static void a_text_becomes_ids_and_ids_the_text(void **state)
{
    struct str ids = {0}, text = {0};
    const char *args[16] = {"detokenize", MODEL};
    size_t n = 2;

    (void)state;
    assert_int_equal(RUN(&ids, PROCESS_OUT, cmd_tokenize, MODEL, "It is a truth"), EXIT_OK);
    assert_int_equal(strncmp(str_text(&ids), "1 ", 2), 0);
    for (char *w = strtok(ids.data, " \n"); w; w = strtok(NULL, " \n"))
        args[n++] = w;
    assert_true(n < ARRAY_LEN(args));
    assert_int_equal(process_capture(&text, PROCESS_OUT, cmd_detokenize, args), EXIT_OK);
    assert_string_equal(str_text(&text), "It is a truth\n");
    str_fini(&ids);
    str_fini(&text);
}

static void special_tokens_are_a_matter_of_flags(void **state)
{
    struct str out = {0};

    (void)state;
    assert_int_equal(RUN(&out, PROCESS_OUT, cmd_tokenize, MODEL, "--no-special", ""), EXIT_OK);
    assert_string_equal(str_text(&out), "\n");
    assert_int_equal(RUN(&out, PROCESS_OUT, cmd_tokenize, MODEL, "--pieces", "--parse-special", "</s>"),
                     EXIT_OK);
    assert_string_equal(str_text(&out), "1 \"<s>\"\n2 \"</s>\"\n");
    assert_int_equal(RUN(&out, PROCESS_OUT, cmd_tokenize, MODEL, "--pieces", "--no-special", "\n"), EXIT_OK);
    assert_non_null(strstr(str_text(&out), "13 \"\\x0A\"\n"));
    assert_int_equal(RUN(&out, PROCESS_OUT, cmd_detokenize, MODEL, "--special", "1", "2"), EXIT_OK);
    assert_string_equal(str_text(&out), "<s></s>\n");
    assert_int_equal(RUN(&out, PROCESS_OUT, cmd_detokenize, MODEL, "1", "2"), EXIT_OK);
    assert_string_equal(str_text(&out), "\n");
    str_fini(&out);
}

static void what_is_wrong_is_said_in_one_sentence(void **state)
{
    struct str out = {0};

    (void)state;
    assert_int_equal(RUN(&out, PROCESS_ERR, cmd_detokenize, MODEL, "2048"), EXIT_USAGE);
    assert_non_null(
        strstr(str_text(&out), "token 2048 is out of range, the model has 2048 tokens"));
    assert_int_equal(RUN(&out, PROCESS_ERR, cmd_detokenize, MODEL, "7x"), EXIT_USAGE);
    assert_non_null(strstr(str_text(&out), "\"7x\" is not a token id"));
    assert_int_equal(RUN(&out, PROCESS_ERR, cmd_detokenize, MODEL, "-1"), EXIT_USAGE);
    assert_int_equal(RUN(&out, PROCESS_ERR, cmd_tokenize, "text"), EXIT_USAGE);
    assert_non_null(strstr(str_text(&out), "--model"));
    assert_int_equal(RUN(&out, PROCESS_ERR, cmd_tokenize, "--model=absent.gguf", "text"), EXIT_FAILED);
    assert_non_null(strstr(str_text(&out), "absent.gguf"));
    assert_int_equal(RUN(&out, PROCESS_ERR, cmd_tokenize, MODEL, "two", "texts"), EXIT_USAGE);
    str_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_becomes_ids_and_ids_the_text),
        cmocka_unit_test(special_tokens_are_a_matter_of_flags),
        cmocka_unit_test(what_is_wrong_is_said_in_one_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
