/* child: one process of the cluster under its supervisor: started with its stderr in a log, started
 * again after it died, ever more slowly. Owned by the supervisor's only thread. */
#ifndef TANDEM_DEPLOY_CHILD_H
#define TANDEM_DEPLOY_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"
#include "deploy/launch.h"

struct child {
    struct launch_process process; /* owned */
    pid_t pid;                     /* 0: does not run */
    int64_t started, restart_at;          /* restart_at matters while pid is 0 */
    int64_t backoff;               /* ns until the restart after next death */
    bool leaving;                  /* it is not started again */
    bool stopping;                 /* it was told to end, and is started again at once */
};

/* Copies the process. */
void child_init(struct child *c, const struct launch_process *process);
void child_fini(struct child *c);

/* Forks and executes it, stdout and stderr appended to RUN_DIR/NAME.log. It dies with us. That the
 * program cannot be executed shows in its log and exit code 127. */
int child_start(struct child *c, const char *run_dir, int64_t now, struct err *e);

/* Its process pid ended with that status of waitpid: starts its program once more, only to tell the
 * router so (daemon/end.h), if it is one that has a router. Nobody waits for that. */
void child_tell_end(const struct child *c, const char *run_dir, pid_t pid, int status);

/* It ended: notes when it shall run again. */
void child_ended(struct child *c, int64_t now);

/* Appends `exit code 1` or `signal 9 (Killed)`. */
void child_status_text(int status, struct str *out);

/* Appends the end of what the process NAME wrote: some kilobytes, or nothing. */
void child_log_tail(const char *name, const char *run_dir, struct str *out);

/* Appends the last line of it, "nothing in its log" if there is none. */
void child_last_words(const char *name, const char *run_dir, struct str *out);

#endif
