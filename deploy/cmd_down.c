/* tandem down: ends a cluster and sees to it that nothing is left. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/rundir.h"

#define DOWN_PATIENCE (10 * CLOCK_S) /* the supervisor itself kills after 3 s */
#define DOWN_POLL_MS 10

static const struct option_table down_option_table = {
    .program = "tandem down",
    .usage = "[FILE|CLUSTER]",
    .summary = "Ends the cluster that FILE describes, that has this name, or the only one that runs",
};

/* Whether the cluster's lock is free within the time. */
static bool down_wait(const struct rundir *d, int64_t patience)
{
    const struct timespec pause = {.tv_nsec = DOWN_POLL_MS * 1000000L};
    int64_t until = clock_now() + patience;
    pid_t pid;

    while (rundir_running(d, &pid)) {
        if (clock_now() >= until)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

/* Asks, then insists: children of a killed supervisor are killed by the system. */
static int down_supervisor(const struct rundir *d, const char *name, pid_t pid, struct err *e)
{
    if (!pid)
        return err_set(e, ERR_BUSY, "cluster %s is just being started or ended; try again", name);
    if (kill(pid, SIGTERM) == 0 && down_wait(d, DOWN_PATIENCE))
        return 0;
    kill(pid, SIGKILL);
    if (down_wait(d, DOWN_PATIENCE))
        return 0;
    return err_set(e, ERR_TIMEOUT, "cluster %s: supervisor %ld does not end", name, (long)pid);
}

static int down_run(const void *options, const struct option_args *args, struct err *e)
{
    struct rundir d;
    const char *name;
    pid_t pid;
    int rc;

    (void)options;
    if (args->n > 1)
        return err_set(e, ERR_ARG, "one cluster at a time, got %d arguments", args->n);
    rc = target_locate(&d, args->n ? args->argv[0] : NULL, e);
    if (rc)
        return rc;
    name = strrchr(d.path, '/') + 1;
    if (rundir_running(&d, &pid)) {
        rc = down_supervisor(&d, name, pid, e);
        if (rc)
            return rc;
    } else if (access(d.path, F_OK)) {
        return err_set(e, ERR_NOT_FOUND, "cluster %s is not running", name);
    }
    /* A supervisor that was killed, now or earlier, has left its directory. */
    if (access(d.path, F_OK) == 0 && rundir_lock(&d, name, e) == 0)
        rundir_remove(&d);
    printf("cluster %s is down\n", name);
    return 0;
}

int cmd_down(int argc, char **argv)
{
    char none = 0;

    return command_main(&down_option_table, &none, argc, argv, down_run);
}
