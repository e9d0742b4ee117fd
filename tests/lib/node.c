#include "tests/lib/node.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

pid_t node_fork(const struct option_table *table, const struct role *role, const char *const *options)
{
    struct node_options o = {0};
    struct err e = {0};
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_level_max = LOG_ERROR;
    option_defaults(table, &o);
    for (; options[0]; options += 2)
        if (option_set(option_find(table, options[0]), &o, options[1], NULL, &e))
            break;
    if (e.code || role_run(&o, role, role, &e))
        fprintf(stderr, "%s\n", e.text);
    _exit(0);
}
