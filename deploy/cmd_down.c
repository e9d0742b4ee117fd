/* tandem down: ends a cluster and sees to it that nothing is left. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/check.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/rundir.h"

#define DOWN_PATIENCE_MS 10000 /* the supervisor itself kills after 3 s */

static const struct option_table down_option_table = {
    .program = "tandem down",
    .usage = "[FILE|CLUSTER]",
    .summary = "Ends the cluster that FILE describes, that has this name, or the only one that runs",
};

static bool down_ended(int process)
{
    struct pollfd fd = {.fd = process, .events = POLLIN};

    return poll(&fd, 1, DOWN_PATIENCE_MS) == 1;
}

/* Asks, then insists: children of a killed supervisor are killed by the system. The descriptor stands
 * for this one process, whoever gets its number later. */
static int down_supervisor(const struct rundir *d, const char *name, pid_t pid, struct err *e)
{
    int process = pid ? pidfd_open(pid, 0) : -1;
    pid_t now;
    bool ended;

    if (process < 0 || !rundir_running(d, &now) || now != pid) {
        if (process >= 0)
            close(process);
        return err_set(e, ERR_BUSY, "cluster %s is just being started or ended; try again", name);
    }
    pidfd_send_signal(process, SIGTERM, NULL, 0);
    ended = down_ended(process);
    if (!ended) {
        pidfd_send_signal(process, SIGKILL, NULL, 0);
        ended = down_ended(process);
    }
    close(process);
    return ended ? 0
                 : err_set(e, ERR_TIMEOUT, "cluster %s: supervisor %ld does not end", name, (long)pid);
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
