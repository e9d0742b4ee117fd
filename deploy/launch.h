/* launch: the command lines of a cluster's processes. Plain data, made once from the cluster and its
 * plan; starts nothing. */
#ifndef TANDEM_DEPLOY_LAUNCH_H
#define TANDEM_DEPLOY_LAUNCH_H

#include <stddef.h>

#include "base/err.h"
#include "deploy/cluster.h"
#include "deploy/plan.h"

struct launch_process {
    char *name;  /* owned: "router", "decode-1" */
    char **argv; /* NULL-terminated, owned; argv[0] is the program's path */
};

/* out gets copies of its own of name and argv[n]. */
void launch_process_init(struct launch_process *out, const char *name, const char *const *argv,
                         size_t n);
void launch_process_fini(struct launch_process *p);

struct launch {
    struct launch_process *processes; /* the router first */
    size_t n;
};

/* Fills a zeroed l; launch_fini in any case. program_dir: where tandem-router and the others are;
 * run_dir: where their sockets go. Every option is passed, so that no environment of ours decides
 * anything. ERR_NOT_FOUND: a program is missing. */
int launch_init(struct launch *l, const struct cluster *c, const struct plan *p,
                const char *program_dir, const char *run_dir, struct err *e);
void launch_fini(struct launch *l);

#endif
