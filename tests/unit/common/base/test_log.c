#include "base/log.h"

#include <fcntl.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int pipe_ends[2], saved_stderr;

/* From here until captured(), stderr goes to a pipe. */
static void capture(void)
{
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(pipe_ends[1], STDERR_FILENO);
}

static const char *captured(void)
{
    static char text[8192];
    ssize_t n;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(pipe_ends[1]);
    n = read(pipe_ends[0], text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    close(pipe_ends[0]);
    return text;
}

static void test_a_line_has_time_level_role_module_and_text(void **state)
{
    const char *text;
    regex_t re;

    (void)state;
    log_init("decode-1", LOG_INFO);
    capture();
    log_info("kv", "session=%d pages=%s", 7, "all");
    text = captured();
    assert_int_equal(regcomp(&re,
                             "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
                             "info decode-1 kv session=7 pages=all\n$",
                             REG_EXTENDED | REG_NOSUB),
                     0);
    assert_int_equal(regexec(&re, text, 0, NULL, 0), 0);
    regfree(&re);
}

static void test_levels_above_the_maximum_cost_nothing(void **state)
{
    int evaluated = 0;
    const char *text;

    (void)state;
    log_init("router", LOG_WARN);
    capture();
    log_debug("m", "n=%d", ++evaluated);
    log_info("m", "n=%d", ++evaluated);
    log_warn("m", "n=%d", ++evaluated);
    log_error("m", "n=%d", ++evaluated);
    text = captured();
    assert_int_equal(evaluated, 2);
    assert_non_null(strstr(text, " warn router m n=1\n"));
    assert_non_null(strstr(text, " error router m n=2\n"));
    assert_null(strstr(text, "debug"));
}

static void test_a_long_line_is_cut_and_ends(void **state)
{
    char many[5000];
    const char *text;

    (void)state;
    memset(many, 'x', sizeof(many) - 1);
    many[sizeof(many) - 1] = '\0';
    log_init("a-role-that-is-longer-than-thirty-one-bytes", LOG_INFO);
    capture();
    log_info(many, "%s", many);
    log_info("m", "%s", many);
    log_info("m", "short");
    text = captured();
    for (int line = 0; line < 2; line++) {
        const char *end = strchr(text, '\n');

        assert_non_null(end);
        assert_in_range(end - text, 900, 1023);
        assert_non_null(strstr(text, " info a-role-that-is-longer-than-thir "));
        text = end + 1;
    }
    assert_non_null(strstr(text, " m short\n"));
}

static void test_what_is_logged_cannot_forge_a_line(void **state)
{
    const char *text;

    (void)state;
    log_init("router", LOG_INFO);
    capture();
    log_info("http", "model=%s", "x\n2026 error router all is lost\r\033[2J\177");
    text = captured();
    assert_non_null(strstr(text, "model=x?2026 error router all is lost??[2J?\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_has_time_level_role_module_and_text),
        cmocka_unit_test(test_levels_above_the_maximum_cost_nothing),
        cmocka_unit_test(test_a_long_line_is_cut_and_ends),
        cmocka_unit_test(test_what_is_logged_cannot_forge_a_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
