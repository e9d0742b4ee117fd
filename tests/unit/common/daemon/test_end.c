/* What a supervisor says of a process that ended, and that it reaches the router. */
#include "daemon/end.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/sock.h"
#include "tests/lib/test.h"

/* The status of a process that really ended so. */
static int status_of(int signo, int code)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        signal(signo, SIG_DFL);
        if (signo)
            raise(signo);
        _exit(code);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void assert_argument(int signo, int code, const char *want)
{
    struct str s = {0};

    end_argument(&s, 4321, status_of(signo, code));
    assert_string_equal(str_text(&s), want);
    assert_null(end_wrong(strchr(str_text(&s), '=') + 1));
    str_fini(&s);
}

static void test_what_programs_do_to_themselves_is_a_crash(void **state)
{
    (void)state;
    assert_argument(SIGILL, 0, "--tell_end=4321,crashed,signal 4 (Illegal instruction)");
    assert_argument(0, 3, "--tell_end=4321,crashed,exit code 3");
    assert_argument(0, 0, "--tell_end=4321,killed,exit code 0");
    assert_argument(SIGKILL, 0, "--tell_end=4321,killed,signal 9 (Killed)");
    assert_argument(SIGTERM, 0, "--tell_end=4321,killed,signal 15 (Terminated)");
}

static void test_other_texts_are_refused(void **state)
{
    static const char *const bad[] = {"x", "0,killed,", "-1,killed,x", "12", "12,", "12,ended,x",
                                      "99999999999,killed,x", "12,killed"};

    (void)state;
    assert_null(end_wrong(""));
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_non_null(end_wrong(bad[i]));
}

static void test_the_router_hears_it(void **state)
{
    char dir[] = "/tmp/tandem-end-XXXXXX", endpoint[64];
    const struct sock_options so = {.kind = SOCK_ROUTER, .lane = SOCK_CONTROL};
    struct sock_ctx *ctx = sock_ctx_new();
    struct sock *router;
    struct node_options o = {.common = {.cluster = (char *)"c", .name = (char *)"decode-1"},
                             .router = endpoint, .tell_end = (char *)"77,crashed,signal 11"};
    struct err e = {0};
    struct msg m;
    int rc = 0;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/nodes", dir);
    assert_int_equal(sock_open(&router, ctx, &so, &e), 0);
    assert_int_equal(sock_bind(router, endpoint, &e), 0);
    assert_int_equal(end_tell(&o, &e), 0);
    while (!(rc = sock_recv(router, NULL, &m, &e)))
        sock_readable(router);
    assert_int_equal(rc, 1);
    assert_int_equal(m.type, MSG_ENDED);
    assert_string_equal(m.u.ended.cluster, "c");
    assert_string_equal(m.u.ended.name, "decode-1");
    assert_int_equal(m.u.ended.pid, 77);
    assert_true(m.u.ended.crashed);
    assert_string_equal(m.u.ended.text, "signal 11");
    msg_fini(&m);
    sock_close(&router);
    sock_ctx_free(&ctx);
    unlink(strchr(endpoint, '/') + 2);
    assert_int_equal(rmdir(dir), 0);
}

static void test_no_router_is_an_error(void **state)
{
    struct node_options o = {.common = {.cluster = (char *)"c", .name = (char *)"decode-1"},
                             .router = (char *)"ipc:///tmp/tandem-end-nobody",
                             .tell_end = (char *)"77,killed,signal 9"};
    struct err e = {0};

    (void)state;
    assert_int_equal(end_tell(&o, &e), ERR_NET);
    assert_string_equal(e.text, "the router was not reached in 2000 ms");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_programs_do_to_themselves_is_a_crash),
        cmocka_unit_test(test_other_texts_are_refused),
        cmocka_unit_test(test_the_router_hears_it),
        cmocka_unit_test(test_no_router_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
