#include "deploy/commands.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/gguf.h"
#include "tests/lib/gguf_writer.h"
#include "tests/lib/process.h"

static char dir[64];

/* Runs `inspect ARGS...`; text: what it wrote on stdout and stderr. */
static int inspect(char text[65536], const char *arg1, const char *arg2)
{
    const char *const args[] = {"inspect", arg1, arg2, NULL};
    struct str out = {0};
    int rc = process_capture(&out, PROCESS_BOTH, cmd_inspect, args);

    snprintf(text, 65536, "%s", str_text(&out));
    str_fini(&out);
    return rc;
}

static const char *write_model(const struct gguf_writer *w)
{
    static char path[128];
    size_t n;
    uint8_t *file = gguf_writer_finish(w, &n);
    FILE *f;

    snprintf(path, sizeof(path), "%s/m.gguf", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(file, 1, n, f), n);
    fclose(f);
    mem_free(file);
    return path;
}

static void test_a_model_is_shown_in_words_and_tables(void **state)
{
    static const char *const want[] = {
        "m.gguf: GGUF version 3, ",
        "metadata, 13 keys",
        "long                                       string         \"a\\n\\x1b[2J\\\"",
        "... (200 bytes)",
        "many                                       i32[9]         0, 0, 0, 0, 0, 0, ...\n",
        "1 layers of 8 values, vocabulary 5, context 64",
        "2 heads of 4 values over 1 KV heads",
        "4 of 4 values, base 10000, not scaled",
        "blk.0.ffn_down.weight            F32      6 x 8                           192",
        "all          12 tensors",
        "f16        1.25 KiB a page of 32 tokens, 2.50 KiB for a context of 64",
    };
    const int32_t many[9] = {0};
    char text[65536], str[201];
    struct gguf_writer w;

    (void)state;
    memset(str, 'x', 200);
    str[200] = '\0';
    memcpy(str, "a\n\033[2J\"", 7);
    gguf_writer_init(&w);
    gguf_writer_str(&w, "long", str);
    gguf_writer_array(&w, "many", GGUF_I32, many, 9);
    gguf_writer_llama(&w, NULL);
    assert_int_equal(inspect(text, write_model(&w), NULL), 0);
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        if (!strstr(text, want[i]))
            fail_msg("no \"%s\" in\n%s", want[i], text);
    }
    assert_int_equal(inspect(text, "--full", write_model(&w)), 0);
    assert_non_null(strstr(text, "0, 0, 0, 0, 0, 0, 0, 0, 0\n"));
    gguf_writer_fini(&w);
}

static void test_what_cannot_be_run_is_shown_with_the_reason(void **state)
{
    struct gguf_writer w;
    char text[65536];

    (void)state;
    gguf_writer_init(&w);
    gguf_writer_str(&w, "general.architecture", "gpt2");
    w.skip = "general.architecture";
    gguf_writer_llama(&w, NULL);
    assert_int_equal(inspect(text, write_model(&w), NULL), 0);
    assert_non_null(
        strstr(text, "this build cannot run it: architecture \"gpt2\" is not supported"));
    assert_non_null(strstr(text, "blk.0.attn_q.weight"));
    gguf_writer_fini(&w);
}

static void test_errors_are_one_sentence(void **state)
{
    struct gguf_writer w;
    char text[65536];

    (void)state;
    gguf_writer_init(&w);
    assert_int_equal(inspect(text, "/nowhere/m.gguf", NULL), 1);
    assert_string_equal(
        text, "tandem inspect: /nowhere/m.gguf: cannot open: No such file or directory\n");
    w.version = 9;
    assert_int_equal(inspect(text, write_model(&w), NULL), 1);
    assert_string_equal(text,
                        "tandem inspect: m.gguf: has GGUF version 9; versions 2 and 3 are read\n");
    assert_int_equal(inspect(text, "a", "b"), 2);
    assert_string_equal(text, "tandem inspect: 2 files, one is needed\n");
    gguf_writer_fini(&w);
}

static int enter(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/tandem-inspect-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int leave(void **state)
{
    char path[128];

    (void)state;
    snprintf(path, sizeof(path), "%s/m.gguf", dir);
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_is_shown_in_words_and_tables),
        cmocka_unit_test(test_what_cannot_be_run_is_shown_with_the_reason),
        cmocka_unit_test(test_errors_are_one_sentence),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
