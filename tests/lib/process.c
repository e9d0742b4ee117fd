#include "tests/lib/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

int process_capture(struct str *out, enum process_output from, int (*command)(int, char **),
                    const char *const *args)
{
    char *argv[17] = {NULL}, buf[4096];
    int argc = 0, rc, saved[3];
    FILE *f = tmpfile();
    size_t n;

    assert_non_null(f);
    for (; args[argc]; argc++) {
        assert_in_range(argc, 0, 15);
        argv[argc] = (char *)args[argc];
    }
    fflush(NULL);
    for (int fd = 1; fd < 3; fd++) {
        saved[fd] = dup(fd);
        if (from & fd)
            assert_true(dup2(fileno(f), fd) >= 0);
    }
    rc = command(argc, argv);
    fflush(NULL);
    for (int fd = 1; fd < 3; fd++) {
        assert_true(dup2(saved[fd], fd) >= 0);
        close(saved[fd]);
    }
    rewind(f);
    str_clear(out);
    while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
        str_add(out, buf, n);
    fclose(f);
    return rc;
}

void process_succeeds(pid_t pid)
{
    int status;

    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
