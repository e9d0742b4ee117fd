#include "deploy/rundir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = "/tmp/tandem-rundir-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(base) && setenv("TANDEM_RUN_DIR", base, 1) == 0 ? 0 : -1;
}

/* Succeeds only if the tests left nothing in it. */
static int teardown(void **state)
{
    (void)state;
    return rmdir(base);
}

static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static void test_only_one_holds_a_cluster(void **state)
{
    struct rundir a, b;
    struct err e = {0};
    pid_t pid;

    (void)state;
    assert_int_equal(rundir_lock(&a, "demo", &e), 0);
    assert_true(rundir_running(&a, &pid));
    assert_int_equal(pid, 0);
    assert_int_equal(rundir_write_pid(&a, 4711, &e), 0);
    assert_true(rundir_running(&a, &pid));
    assert_int_equal(pid, 4711);
    assert_int_equal(rundir_lock(&b, "demo", &e), ERR_BUSY);
    assert_string_equal(e.text, "cluster demo is running already; `tandem down demo` ends it");
    assert_int_equal(rundir_lock(&b, "other", &e), 0);
    rundir_remove(&b);
    rundir_remove(&a);
    assert_false(rundir_running(&a, &pid));
    assert_false(exists(a.path));
}

static void test_a_forked_process_keeps_the_lock(void **state)
{
    struct rundir d;
    int fds[2];
    pid_t child, pid;
    char go = 0;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(rundir_lock(&d, "demo", NULL), 0);
    child = fork();
    if (child == 0) {
        close(fds[1]);
        if (read(fds[0], &go, 1) == 0)
            rundir_remove(&d);
        _exit(0);
    }
    rundir_release(&d);
    assert_true(rundir_running(&d, &pid));
    close(fds[1]);
    close(fds[0]);
    waitpid(child, NULL, 0);
    assert_false(rundir_running(&d, &pid));
    assert_false(exists(d.path));
}

static void test_leftovers_of_a_killed_supervisor_go(void **state)
{
    char path[PATH_MAX + 16];
    struct rundir d;
    FILE *f;

    (void)state;
    assert_int_equal(rundir_lock(&d, "demo", NULL), 0);
    snprintf(path, sizeof(path), "%s/nodes.sock", d.path);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    rundir_release(&d); /* as the system does when it is killed */
    assert_true(exists(path));
    assert_int_equal(rundir_lock(&d, "demo", NULL), 0);
    assert_false(exists(path));
    rundir_remove(&d);
}

static void test_state_reads_back(void **state)
{
    const struct rundir_state in = {.cluster = (char *)"demo", .http = (char *)"[::1]:80",
                                    .model = (char *)"/a \"b\".gguf", .file = (char *)""};
    struct rundir_state out = {0};
    struct str text = {0};
    struct rundir d;
    struct err e = {0};

    (void)state;
    assert_int_equal(rundir_lock(&d, "demo", NULL), 0);
    rundir_state_text(&in, &text);
    assert_int_equal(rundir_write_file(&d, RUNDIR_STATE, str_text(&text), &e), 0);
    str_fini(&text);
    assert_int_equal(rundir_read_state(&out, &d, &e), 0);
    assert_string_equal(out.http, in.http);
    assert_string_equal(out.model, in.model);
    assert_string_equal(out.file, "");
    rundir_state_fini(&out);
    rundir_remove(&d);
}

static void test_a_directory_of_others_is_refused(void **state)
{
    struct rundir d;
    struct err e = {0};
    char *slash;

    (void)state;
    assert_int_equal(rundir_locate(&d, "demo", NULL), 0);
    slash = strrchr(d.path, '/');
    *slash = '\0';
    assert_int_equal(mkdir(d.path, 0755), 0);
    assert_int_equal(rundir_lock(&d, "demo", &e), ERR_IO);
    assert_non_null(strstr(e.text, "only its owner"));
    slash = strrchr(d.path, '/');
    *slash = '\0';
    assert_int_equal(rmdir(d.path), 0);
    assert_int_equal(symlink("/tmp", d.path), 0);
    assert_int_equal(rundir_lock(&d, "demo", &e), ERR_IO);
    slash = strrchr(d.path, '/');
    *slash = '\0';
    assert_int_equal(unlink(d.path), 0);
}

static void test_too_long_for_a_socket(void **state)
{
    char name[64], longest[128] = "/tmp/";
    struct rundir d;
    struct err e = {0};

    (void)state;
    memset(name, 'n', 63);
    name[63] = '\0';
    assert_int_equal(rundir_locate(&d, name, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "107"));
    memset(longest + 5, 'd', 100);
    setenv("TANDEM_RUN_DIR", longest, 1);
    assert_int_equal(rundir_locate(&d, "demo", &e), ERR_LIMIT);
    setenv("TANDEM_RUN_DIR", "relative", 1);
    assert_int_equal(rundir_locate(&d, "demo", &e), ERR_CONFIG);
    setenv("TANDEM_RUN_DIR", base, 1);
}

static void count(void *ctx, const char *cluster)
{
    assert_string_equal(cluster, "demo");
    ++*(int *)ctx;
}

static void test_each_names_those_that_run(void **state)
{
    struct rundir running, dead;
    int n = 0;

    (void)state;
    rundir_each(count, &n);
    assert_int_equal(n, 0);
    assert_int_equal(rundir_lock(&running, "demo", NULL), 0);
    assert_int_equal(rundir_lock(&dead, "dead", NULL), 0);
    rundir_release(&dead);
    rundir_each(count, &n);
    assert_int_equal(n, 1);
    assert_int_equal(rundir_lock(&dead, "dead", NULL), 0);
    rundir_remove(&dead);
    rundir_remove(&running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_one_holds_a_cluster),
        cmocka_unit_test(test_a_forked_process_keeps_the_lock),
        cmocka_unit_test(test_leftovers_of_a_killed_supervisor_go),
        cmocka_unit_test(test_state_reads_back),
        cmocka_unit_test(test_a_directory_of_others_is_refused),
        cmocka_unit_test(test_too_long_for_a_socket),
        cmocka_unit_test(test_each_names_those_that_run),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
