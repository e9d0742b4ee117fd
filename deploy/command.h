/* command: what the subcommands of `tandem` share: from options to exit code, and which cluster is
 * meant. One thread. */
#ifndef TANDEM_DEPLOY_COMMAND_H
#define TANDEM_DEPLOY_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "config/option.h"
#include "deploy/roster.h"
#include "deploy/rundir.h"
#include "deploy/tunnel.h"

/* Reads the options into the zeroed struct, runs, prints a failure as one sentence, frees the
 * options. run gets the positional arguments. Returns EXIT_*: ERR_ARG is a usage error. */
int command_main(const struct option_table *t, void *options, int argc, char **argv,
                 int (*run)(const void *options, const struct option_args *args, struct err *e));

/* A cluster that runs. */
struct target {
    struct rundir dir;
    const char *name; /* its name, in dir */
    struct rundir_state state;
    struct roster roster; /* its hosts */
    struct tunnel tunnel; /* to the router's port, where that is another machine's own */
    char url[160];        /* of its HTTP, as it can be reached from here, by us */
    char shown[448];      /* the same for people: where the router listens */
};

/* Whether it is meant as a file: it has a '/' in it or ends in .yaml or .yml. */
bool target_is_file(const char *which);

/* The directory of the cluster that which names: a file or a cluster's name; NULL is the one
 * cluster that runs. Whether it runs is not looked at. */
int target_locate(struct rundir *d, const char *which, struct err *e);

/* The same, as far as its run directory goes: state and hosts, no url. target_fini in any case.
 * ERR_NOT_FOUND: it does not run. */
int target_hosts(struct target *t, const char *which, struct err *e);

/* The same, with the url; or the router at a URL, http://HOST:PORT, of a cluster that somebody else
 * started: then only url is filled. For what needs nothing but HTTP. */
int target_reach(struct target *t, const char *which, struct err *e);
void target_fini(struct target *t);

/* Appends "5.4 MiB". */
void size_text(struct str *out, uint64_t bytes);

#endif
