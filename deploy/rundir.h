/* rundir: the directory of a running cluster, and the lock that says that it runs.
 *
 *   ${TANDEM_RUN_DIR:-/tmp}/tandem-UID/CLUSTER/     mode 0700
 *     supervisor.pid   locked by the supervisor as long as it lives: the truth about "running". The
 *                      lock (F_OFD_SETLK) belongs to the open file, so a fork hands it on
 *     state            what `status`, `run` and `down` need to know
 *     hosts            where it runs, on the machine where it was started (roster.h)
 *     keys             of the processes here; keys.all: of all, where it was started
 *     kept             it was started here and runs on other hosts only: nobody holds the lock
 *     *.sock           ipc sockets
 *     *.log            what the processes write to stderr
 *
 * Not in XDG_RUNTIME_DIR: that goes when its user logs out, and a cluster stays.
 * Whoever holds the lock may change the directory and remove it. One thread. */
#ifndef TANDEM_DEPLOY_RUNDIR_H
#define TANDEM_DEPLOY_RUNDIR_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

#define RUNDIR_STATE "state"
#define RUNDIR_KEPT "kept" /* an empty file: what is here is of a cluster that runs on other hosts only */

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

/* Makes the directory if need be, without a lock: for the files of a cluster that runs elsewhere only. */
int rundir_ensure(const struct rundir *d, struct err *e);

/* Makes the directory if need be, takes the lock and empties it of what a killed supervisor left.
 * ERR_BUSY: the cluster runs. ERR_IO: also a directory that is not ours alone. */
int rundir_lock(struct rundir *d, const char *cluster, struct err *e);

/* Writes pid into supervisor.pid; the lock is held. */
int rundir_write_pid(const struct rundir *d, pid_t pid, struct err *e);

/* Whether somebody holds the lock; *pid is the supervisor's, 0 while it is starting. */
bool rundir_running(const struct rundir *d, pid_t *pid);

/* Whether the cluster runs as far as this machine knows: it holds the lock here, or was started from
 * here on other hosts only. */
bool rundir_known(const struct rundir *d);

/* Removes the directory and all in it, then lets go of the lock, which is held. */
void rundir_remove(struct rundir *d);

/* Closes our end of the lock: a process forked meanwhile goes on holding it. */
void rundir_release(struct rundir *d);

/* Writes a file of the directory: a reader sees all of it or none. Only the owner may read it. */
int rundir_write_file(const struct rundir *d, const char *name, const char *text, struct err *e);

/* Appends what the state file holds. */
void rundir_state_text(const struct rundir_state *s, struct str *out);
int rundir_read_state(struct rundir_state *s, const struct rundir *d, struct err *e);
void rundir_state_fini(struct rundir_state *s);

/* Calls fn with the name of each cluster of this user that runs, as rundir_known has it. */
void rundir_each(void (*fn)(void *ctx, const char *cluster), void *ctx);

#endif
