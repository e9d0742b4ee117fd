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
#include <jansson.h>

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

/* What a line of log_info in JSON says, parsed; the caller lets it go. */
static json_t *json_line(const char *text)
{
    json_error_t e;
    json_t *line;

    log_init("decode-1", LOG_INFO);
    log_set_format(LOG_JSON);
    capture();
    log_info("kv", "%s", text);
    log_set_format(LOG_TEXT);
    text = captured();
    line = json_loads(text, JSON_REJECT_DUPLICATES, &e);
    if (!line)
        fail_msg("%s: %s", e.text, text);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_int_equal(strlen(json_string_value(json_object_get(line, "time"))), 24);
    assert_string_equal(json_string_value(json_object_get(line, "level")), "info");
    assert_string_equal(json_string_value(json_object_get(line, "process")), "decode-1");
    assert_string_equal(json_string_value(json_object_get(line, "module")), "kv");
    return line;
}

static void test_leading_words_become_members(void **state)
{
    json_t *l = json_line("request=18446744073709551615 status=200 ttft_ms=-3.50 hash=007 x=1e9 "
                          "gone=: the node said k=v");

    (void)state;
    assert_string_equal(json_string_value(json_object_get(l, "request")), "18446744073709551615");
    assert_int_equal(json_integer_value(json_object_get(l, "status")), 200);
    assert_true(json_real_value(json_object_get(l, "ttft_ms")) == -3.5);
    assert_string_equal(json_string_value(json_object_get(l, "hash")), "007");
    assert_string_equal(json_string_value(json_object_get(l, "x")), "1e9");
    assert_string_equal(json_string_value(json_object_get(l, "gone")), "");
    assert_string_equal(json_string_value(json_object_get(l, "msg")), "the node said k=v");
    assert_null(json_object_get(l, "k"));
    json_decref(l);
}

static void test_members_do_not_take_the_place_of_others(void **state)
{
    json_t *l = json_line("a=1 level=error b=2");

    (void)state;
    assert_string_equal(json_string_value(json_object_get(l, "msg")), "level=error b=2");
    json_decref(l);
    l = json_line("a=1 a=2");
    assert_int_equal(json_integer_value(json_object_get(l, "a")), 1);
    assert_string_equal(json_string_value(json_object_get(l, "msg")), "a=2");
    json_decref(l);
    l = json_line("stopped");
    assert_string_equal(json_string_value(json_object_get(l, "msg")), "stopped");
    json_decref(l);
    l = json_line("a=1");
    assert_null(json_object_get(l, "msg"));
    json_decref(l);
}

static void test_a_line_is_json_whatever_is_logged(void **state)
{
    char many[3000];
    json_t *l = json_line("why=\"\\\n\x01 \xff\xc3(\xe2\x82\xac\xf0\x9f");

    (void)state;
    assert_string_equal(json_string_value(json_object_get(l, "msg")),
                        "why=\"\\\n\x01 \xef\xbf\xbd\xef\xbf\xbd(\xe2\x82\xac\xef\xbf\xbd");
    json_decref(l);
    for (int c = 1; c < 256; c++) { /* the worst of them takes six bytes for each */
        memset(many, c, sizeof(many) - 1);
        many[sizeof(many) - 1] = '\0';
        json_decref(json_line(many));
    }
    memset(many, 'x', sizeof(many));
    many[sizeof(many) - 1] = '\0';
    memcpy(many, "k=\xc3", 3);
    json_decref(json_line(many));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_has_time_level_role_module_and_text),
        cmocka_unit_test(test_levels_above_the_maximum_cost_nothing),
        cmocka_unit_test(test_a_long_line_is_cut_and_ends),
        cmocka_unit_test(test_what_is_logged_cannot_forge_a_line),
        cmocka_unit_test(test_leading_words_become_members),
        cmocka_unit_test(test_members_do_not_take_the_place_of_others),
        cmocka_unit_test(test_a_line_is_json_whatever_is_logged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
