/* Real processes: /bin/sh in the place of the daemons. */
#include "deploy/supervisor.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/clock.h"
#include "deploy/child.h"
#include "deploy/control.h"

static char base[] = "/tmp/tandem-supervisor-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(base) && setenv("TANDEM_RUN_DIR", base, 1) == 0 ? 0 : -1;
}

static int teardown(void **state) /* succeeds only if nothing was left */
{
    (void)state;
    return rmdir(base);
}

/* Starts one process of this shell script, under a supervisor. */
static struct supervisor start(struct rundir *d, const char *script)
{
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)(uintptr_t)script, NULL};
    struct launch_process process = {.name = (char *)"node-1", .argv = argv};
    const struct launch l = {.processes = &process, .n = 1};
    struct supervisor s;
    struct err e = {0};

    assert_int_equal(rundir_lock(d, "demo", &e), 0);
    assert_int_equal(supervisor_start(&s, d, &l, &e), 0);
    return s;
}

static bool is_gone(const struct rundir *d)
{
    struct stat st;

    return lstat(d->path, &st) != 0;
}

/* Until the script has written the file NAME n times over; the supervisor works meanwhile. */
static void wait_for(const struct rundir *d, const char *name, long n)
{
    char path[PATH_MAX + 16];
    struct stat st = {0};

    snprintf(path, sizeof(path), "%s/%s", d->path, name);
    for (int i = 0; stat(path, &st) || st.st_size < n; i++) {
        if (i == 30000)
            fail_msg("%s has %ld bytes, not %ld, after a minute", path, (long)st.st_size, n);
        usleep(2000);
    }
}

static void test_a_death_at_start_is_told_with_its_last_words(void **state)
{
    struct rundir d;
    struct supervisor s = start(&d, "echo one >&2; echo two words >&2; exit 3");
    struct err e = {0};

    (void)state;
    assert_true(supervisor_failed(&s, -1, &e));
    assert_string_equal(e.text, "node-1 ended at start, exit code 3: two words");
    assert_int_equal(supervisor_stop(&s), 1);
    assert_true(is_gone(&d));
}

static void test_a_program_that_is_no_program(void **state)
{
    char *argv[] = {(char *)"/nonexistent/tandem-x", NULL};
    struct launch_process process = {.name = (char *)"node-1", .argv = argv};
    const struct launch l = {.processes = &process, .n = 1};
    struct supervisor s;
    struct rundir d;
    struct err e = {0};

    (void)state;
    assert_int_equal(rundir_lock(&d, "demo", &e), 0);
    assert_int_equal(supervisor_start(&s, &d, &l, &e), 0);
    assert_true(supervisor_failed(&s, -1, &e));
    assert_string_equal(e.text, "node-1 ended at start, exit code 127: /nonexistent/tandem-x: No "
                                "such file or directory");
    supervisor_stop(&s);
    assert_true(is_gone(&d));
}

/* Writes a byte a start, and dies once there is a file `die`. */
static const char mortal[] = "cd $TANDEM_RUN_DIR/tandem-$(id -u)/demo; echo >>starts; "
                             "while [ ! -e die ]; do sleep 0.01; done; kill -9 $$";

static void make_file(const struct rundir *d, const char *name)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/%s", d->path, name);
    fclose(fopen(path, "w"));
}

static void test_what_dies_later_is_restarted(void **state)
{
    struct rundir d;
    struct supervisor s = start(&d, mortal);
    struct err e = {0};

    (void)state;
    wait_for(&d, "starts", 1);
    supervisor_tell(&s, SUPERVISOR_READY);
    make_file(&d, "die");
    wait_for(&d, "starts", 2);
    assert_false(supervisor_failed(&s, 0, &e));
    assert_int_equal(supervisor_stop(&s), 0);
    assert_true(is_gone(&d));
}

/* Both are there when it looks: that all are ready, and then that one has died. */
static void test_what_dies_once_all_are_ready_is_restarted(void **state)
{
    struct rundir d;
    struct supervisor s = start(&d, mortal);
    struct err e = {0};
    int status;

    (void)state;
    wait_for(&d, "starts", 1);
    kill(s.pid, SIGSTOP);
    assert_int_equal(waitpid(s.pid, &status, WUNTRACED), s.pid); /* it has stopped */
    supervisor_tell(&s, SUPERVISOR_READY);
    make_file(&d, "die");
    usleep(200000);
    kill(s.pid, SIGCONT);
    wait_for(&d, "starts", 2);
    assert_false(supervisor_failed(&s, 0, &e));
    assert_int_equal(supervisor_stop(&s), 0);
    assert_true(is_gone(&d));
}

/* However early it is told to: also before it does anything of its own. */
static void test_stop_at_once_leaves_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct rundir d;
        struct supervisor s = start(&d, "exec sleep 1000");

        supervisor_stop(&s);
        assert_true(is_gone(&d));
    }
}

static void test_the_end_of_up_is_the_end_of_all(void **state)
{
    struct rundir d;
    struct supervisor s = start(&d, "echo >run; exec sleep 1000");
    int status;

    (void)state;
    close(s.fd); /* as the system does when `up` is killed */
    assert_int_equal(waitpid(s.pid, &status, 0), s.pid);
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_true(is_gone(&d));
}

static void test_it_goes_on_once_up_has_detached(void **state)
{
    struct rundir d;
    struct supervisor s = start(&d, mortal);
    int status;
    pid_t pid;

    (void)state;
    wait_for(&d, "starts", 1);
    supervisor_tell(&s, SUPERVISOR_READY);
    supervisor_tell(&s, SUPERVISOR_DETACH);
    close(s.fd);
    make_file(&d, "die");
    wait_for(&d, "starts", 2); /* it works on */
    assert_true(rundir_running(&d, &pid));
    assert_int_equal(pid, s.pid);
    kill(s.pid, SIGTERM);
    assert_int_equal(waitpid(s.pid, &status, 0), s.pid);
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(is_gone(&d));
}

static void test_children_die_with_a_killed_supervisor(void **state)
{
    struct rundir d;
    struct supervisor s;
    int fds[2];
    char byte;

    (void)state;
    assert_int_equal(pipe(fds), 0); /* its processes inherit the write end: their death is our EOF */
    s = start(&d, mortal);
    close(fds[1]);
    wait_for(&d, "starts", 1);
    kill(s.pid, SIGKILL);
    assert_int_equal(read(fds[0], &byte, 1), 0);
    waitpid(s.pid, NULL, 0);
    close(s.fd);
    close(fds[0]);
    assert_int_equal(rundir_lock(&d, "demo", NULL), 0); /* its directory is there, and free */
    rundir_remove(&d);
    assert_true(is_gone(&d));
}

static void test_restarts_slow_down_and_recover(void **state)
{
    char *argv[] = {(char *)"/bin/true", NULL};
    const struct launch_process process = {.name = (char *)"node-1", .argv = argv};
    struct child c;

    (void)state;
    child_init(&c, &process);
    c.started = 0;
    child_ended(&c, 0);
    assert_true(c.restart_at == 200 * CLOCK_MS);
    child_ended(&c, 0);
    assert_true(c.restart_at == 400 * CLOCK_MS);
    for (int i = 0; i < 10; i++)
        child_ended(&c, 0);
    assert_true(c.restart_at == 5 * CLOCK_S);
    child_ended(&c, 10 * CLOCK_S); /* it ran for ten seconds */
    assert_true(c.restart_at == 10 * CLOCK_S + 200 * CLOCK_MS);
    child_fini(&c);
}

/* The supervisor's answer to one line of JSON: a new object. */
static json_t *ask(const struct rundir *d, const char *request)
{
    struct err e = {0};
    json_t *reply;

    if (control_ask(&reply, d, json_loads(request, 0, NULL), &e)) {
        assert_int_equal(e.code, ERR_PEER);
        return json_string(e.text);
    }
    return reply;
}

static void assert_answer(const struct rundir *d, const char *request, const char *sentence)
{
    json_t *reply = ask(d, request);

    assert_true(json_is_string(reply));
    assert_string_equal(json_string_value(reply), sentence);
    json_decref(reply);
}

static size_t count_processes(const struct rundir *d)
{
    json_t *reply = ask(d, "{\"op\": \"list\"}");
    size_t n = json_array_size(json_object_get(reply, "processes"));

    json_decref(reply);
    return n;
}

static void test_processes_are_added_and_removed_while_it_runs(void **state)
{
    static const char add[] = "{\"op\": \"add\", \"name\": \"node-2\", \"argv\": [\"/bin/sh\", \"-c\","
                              " \"cd $TANDEM_RUN_DIR/tandem-$(id -u)/demo; echo >>more; exec sleep"
                              " 1000\"]}";
    static const char replace[] = "{\"op\": \"replace\", \"name\": \"node-1\", \"argv\": [\"/bin/sh\","
                                  " \"-c\", \"cd $TANDEM_RUN_DIR/tandem-$(id -u)/demo; echo >>other;"
                                  " exec sleep 1000\"]}";
    struct rundir d;
    struct supervisor s = start(&d, mortal);

    (void)state;
    wait_for(&d, "starts", 1);
    supervisor_tell(&s, SUPERVISOR_READY);
    json_decref(ask(&d, "{\"op\": \"list\"}")); /* READY was read before */
    json_decref(ask(&d, add));
    wait_for(&d, "more", 1);
    assert_int_equal(count_processes(&d), 2);
    assert_answer(&d, add, "there is a process node-2 already");
    assert_answer(&d, "{\"op\": \"add\", \"name\": \"../x\"}",
                  "name: \"../x\" is not a name: 1 to 63 letters, digits, '.', '_' or '-', not "
                  "starting with '.' or '-'");
    assert_answer(&d, "{\"op\": \"add\", \"name\": \"x\", \"argv\": [\"/bin/true\", 5]}",
                  "argv: a list of texts is needed, the first an absolute path");
    assert_answer(&d, "{\"op\": \"replace\", \"name\": \"node-9\", \"argv\": [\"/bin/true\"]}",
                  "there is no process \"node-9\"");
    json_decref(ask(&d, replace));
    wait_for(&d, "other", 1); /* though the first one ended with exit code 0, or by our signal */
    assert_answer(&d, "{\"op\": \"remove\", \"name\": \"node-9\"}", "there is no process \"node-9\"");
    json_decref(ask(&d, "{\"op\": \"add\", \"name\": \"router\", \"argv\": [\"/bin/sleep\", \"1000\"]}"));
    assert_answer(&d, "{\"op\": \"remove\", \"name\": \"router\"}",
                  "the router is not removed; `tandem down` ends the cluster");
    assert_answer(&d, "{\"op\": \"fly\"}", "op: \"fly\" is none of list, add, remove, replace");
    json_decref(ask(&d, "{\"op\": \"remove\", \"name\": \"node-2\", \"stop\": true}"));
    while (count_processes(&d) > 2)
        usleep(2000);
    assert_int_equal(supervisor_stop(&s), 0);
    assert_true(is_gone(&d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_death_at_start_is_told_with_its_last_words),
        cmocka_unit_test(test_a_program_that_is_no_program),
        cmocka_unit_test(test_what_dies_later_is_restarted),
        cmocka_unit_test(test_what_dies_once_all_are_ready_is_restarted),
        cmocka_unit_test(test_stop_at_once_leaves_nothing),
        cmocka_unit_test(test_the_end_of_up_is_the_end_of_all),
        cmocka_unit_test(test_it_goes_on_once_up_has_detached),
        cmocka_unit_test(test_children_die_with_a_killed_supervisor),
        cmocka_unit_test(test_restarts_slow_down_and_recover),
        cmocka_unit_test(test_processes_are_added_and_removed_while_it_runs),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
