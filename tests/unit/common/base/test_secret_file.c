/* Files of secrets: which are read, which are refused, and which are another than before. */
#include "base/secret_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/test.h"

static char dir[] = "/tmp/tandem-secret-XXXXXX", path[64];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/file", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

/* As an editor that writes a new file. */
static void write_file(const char *text, size_t n, mode_t mode)
{
    char fresh[80];
    FILE *f;

    snprintf(fresh, sizeof(fresh), "%s.new", path);
    f = fopen(fresh, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(fresh, mode), 0);
    assert_int_equal(rename(fresh, path), 0);
}

static void assert_refused(const char *name, int code, const char *sentence)
{
    struct err e = {0};
    char *text;
    size_t n;

    assert_int_equal(secret_file_read(&text, &n, name, &e), code);
    assert_non_null(strstr(e.text, sentence));
    assert_null(text);
    secret_file_free(&text);
}

static void test_all_bytes_come_with_an_end(void **state)
{
    char *text, *most = malloc(SECRET_FILE_MAX + 1);
    struct err e = {0};
    size_t n;

    (void)state;
    assert_non_null(most);
    memset(most, 'x', SECRET_FILE_MAX + 1);
    write_file("a\0b", 3, 0600);
    assert_int_equal(secret_file_read(&text, &n, path, &e), 0);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "a\0b", 4);
    secret_file_free(&text);
    assert_null(text);
    write_file(most, SECRET_FILE_MAX, 0400);
    assert_int_equal(secret_file_read(&text, &n, path, &e), 0);
    assert_int_equal(n, SECRET_FILE_MAX);
    assert_int_equal(strlen(text), SECRET_FILE_MAX);
    secret_file_free(&text);
    write_file(most, SECRET_FILE_MAX + 1, 0600);
    assert_refused(path, ERR_LIMIT, "has more than 1048576 bytes");
    free(most);
}

static void test_what_is_no_secret_file_is_refused(void **state)
{
    char fifo[80];

    (void)state;
    snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    write_file("", 0, 0640);
    assert_refused(path, ERR_CONFIG, "mode 0640 lets others than its owner in; chmod 600 ");
    assert_refused(dir, ERR_CONFIG, "is no regular file");
    assert_refused(fifo, ERR_CONFIG, "is no regular file"); /* and nobody waits for a writer */
    assert_refused("/nonexistent/file", ERR_IO, "No such file");
    assert_int_equal(unlink(fifo), 0);
}

static void test_a_change_is_told_once(void **state)
{
    struct stat seen = {0};

    (void)state;
    unlink(path);
    assert_false(secret_file_changed(&seen, path));
    write_file("a", 1, 0600);
    assert_true(secret_file_changed(&seen, path));
    assert_false(secret_file_changed(&seen, path));
    write_file("b", 1, 0600);
    assert_true(secret_file_changed(&seen, path));
    assert_int_equal(chmod(path, 0640), 0);
    assert_true(secret_file_changed(&seen, path));
    assert_false(secret_file_changed(&seen, path));
    assert_int_equal(unlink(path), 0);
    assert_true(secret_file_changed(&seen, path));
    assert_false(secret_file_changed(&seen, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_bytes_come_with_an_end),
        cmocka_unit_test(test_what_is_no_secret_file_is_refused),
        cmocka_unit_test(test_a_change_is_told_once),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
