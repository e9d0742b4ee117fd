/* rundir: the directory of a running cluster, and the lock that says that it runs.
 *
 *   ${TANDEM_RUN_DIR:-${XDG_RUNTIME_DIR:-/tmp}}/tandem-UID/CLUSTER/     mode 0700
 *     supervisor.pid   locked by the supervisor as long as it lives: the truth about "running". The
 *                      lock (F_OFD_SETLK) belongs to the open file, so a fork hands it on
 *     state            what `status`, `run` and `down` need to know
 *     *.sock           ipc sockets
 *     *.log            what the processes write to stderr
 *
 * Whoever holds the lock may change the directory and remove it. One thread. */
#ifndef TANDEM_DEPLOY_RUNDIR_H
#define TANDEM_DEPLOY_RUNDIR_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define RUNDIR_STATE "state"

struct rundir {
    char path[PATH_MAX];
    int lock_fd; /* of supervisor.pid, -1: we do not hold it */
};

/* What the state file holds. Strings are owned. */
struct rundir_state {
    char *cluster, *http, *model, *file; /* file: the cluster.yaml it was started from */
};

/* The path of a cluster's directory into d->path; touches nothing. ERR_LIMIT if a socket's name in it
 * would be too long for the system. */
int rundir_locate(struct rundir *d, const char *cluster, struct err *e);

/* Makes the directory if need be, takes the lock and empties it of what a killed supervisor left.
 * ERR_BUSY: the cluster runs. ERR_IO: also a directory that is not ours alone. */
int rundir_lock(struct rundir *d, const char *cluster, struct err *e);

/* Writes pid into supervisor.pid; the lock is held. */
int rundir_write_pid(const struct rundir *d, pid_t pid, struct err *e);

/* Whether somebody holds the lock; *pid is the supervisor's, 0 while it is starting. */
bool rundir_running(const struct rundir *d, pid_t *pid);

/* Removes the directory and all in it, then lets go of the lock, which is held. */
void rundir_remove(struct rundir *d);

/* Closes our end of the lock: a process forked meanwhile goes on holding it. */
void rundir_release(struct rundir *d);

int rundir_write_state(const struct rundir *d, const struct rundir_state *s, struct err *e);
int rundir_read_state(struct rundir_state *s, const struct rundir *d, struct err *e);
void rundir_state_fini(struct rundir_state *s);

/* Calls fn with the name of each cluster of this user that runs. */
void rundir_each(void (*fn)(void *ctx, const char *cluster), void *ctx);

#endif
