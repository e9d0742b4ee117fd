#include <fcntl.h>
#include <unistd.h>

#include "base/check.h"
#include "engine/engine.h"
#include "tests/lib/test.h"

/* What engine_open writes to stderr. */
static void log_of_load(char *text, size_t cap, const char *model)
{
    struct engine_options o = {.model = model, .tier = CPU_REF, .n_threads = 2, .rows_max = 32,
                               .kv_type = KV_F16};
    int ends[2], saved = dup(STDERR_FILENO);
    struct engine *en;
    struct err e = {0};
    ssize_t n;

    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    dup2(ends[1], STDERR_FILENO);
    if (engine_open(&en, &o, &e))
        fail_msg("%s", e.text);
    engine_close(&en);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    n = read(ends[0], text, cap - 1);
    text[n > 0 ? n : 0] = '\0';
    close(ends[0]);
}

static uint32_t times(const char *text, const char *words)
{
    uint32_t n = 0;

    for (const char *at = text; (at = strstr(at, words)); at++)
        n++;
    return n;
}

/* Nine matrices are Q2_K, six Q3_K, one Q6_K. */
static void types_without_kernels_say_once_as_what_they_run(void **state)
{
    char text[8192];

    (void)state;
    DATA_OR_SKIP(model, "golden/llama256-q2_k.gguf");
    log_of_load(text, sizeof(text), model);
    assert_int_equal(times(text, "type=Q2_K has no kernels and runs as Q8_0"), 1);
    assert_int_equal(times(text, "type=Q3_K has no kernels and runs as Q6_K"), 1);
    assert_int_equal(times(text, "has no kernels"), 2);
}

static void types_with_kernels_say_nothing(void **state)
{
    char text[8192];

    (void)state;
    log_of_load(text, sizeof(text), "deploy/demo/austen-5m-q8_0.gguf");
    assert_int_equal(times(text, "has no kernels"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_without_kernels_say_once_as_what_they_run),
        cmocka_unit_test(types_with_kernels_say_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
