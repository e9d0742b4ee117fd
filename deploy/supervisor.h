/* supervisor: the process that starts the others, restarts what dies, and ends with nothing left.
 *
 * It is forked by `tandem up`, in a session of its own, and holds the run directory's lock. With `up`
 * it shares a socket on which `up` says how far it is, one byte a step, and on which the supervisor
 * answers a failed start with one sentence. While `up` is attached, the end of `up`, however it
 * comes, is the end of the cluster.
 *
 *   STARTING --SUPERVISOR_READY--> RUNNING --SIGTERM, SIGINT, up gone--> STOPPING --all ended--> end
 *      |   a process dies: say why                                         ^
 *      +-------------------------------------------------------------------+
 *
 * Children get SIGKILL from the system should the supervisor itself be killed (PR_SET_PDEATHSIG). */
#ifndef TANDEM_DEPLOY_SUPERVISOR_H
#define TANDEM_DEPLOY_SUPERVISOR_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "deploy/launch.h"
#include "deploy/rundir.h"

/* From `up`: the router is ready, what dies now is restarted; and: go on without me. */
#define SUPERVISOR_READY 'R'
#define SUPERVISOR_DETACH 'D'

struct supervisor {
    pid_t pid;
    int fd; /* ours of the socket pair */
};

/* Forks it. It takes the lock of d over, and removes the directory at its end; l and d are used in
 * the child only. */
int supervisor_start(struct supervisor *s, struct rundir *d, const struct launch *l, struct err *e);

/* Sends one of the bytes above. A supervisor that has ended is found out by supervisor_failed. */
void supervisor_tell(struct supervisor *s, char step);

/* Waits at most timeout_ms for news. True: the supervisor ends or has ended, and e says why. */
bool supervisor_failed(struct supervisor *s, int timeout_ms, struct err *e);

/* Has it stop everything, if it has not yet, and waits for its end. Returns its exit code. */
int supervisor_stop(struct supervisor *s);

/* Ends the cluster of that run directory, whoever started it, and sees to it that nothing is left,
 * also of a supervisor that was killed. *was: there was something to end. ERR_BUSY: it is just being
 * started or ended. */
int supervisor_down(bool *was, struct rundir *d, const char *cluster, struct err *e);

#endif
