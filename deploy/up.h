/* up: what the files of `tandem up` share.
 *
 *   cmd_up.c     the file, the hosts' greetings, the plan; then a cluster that does not run is
 *   up_start.c   started everywhere at once, watched until it is ready, and left; one that runs is
 *   up_change.c  changed where it differs from the file
 *   up_model.c   before either: the model is on each host, the same, and copied where it is wanted
 *
 * One thread, one loop over all hosts (remote.h). */
#ifndef TANDEM_DEPLOY_UP_H
#define TANDEM_DEPLOY_UP_H

#include <stdbool.h>
#include <stdint.h>

#include "deploy/cluster.h"
#include "deploy/fleet.h"
#include "deploy/launch.h"
#include "deploy/plan.h"
#include "deploy/progress.h"
#include "deploy/roster.h"
#include "deploy/rundir.h"
#include "net/keys.h"

struct up_options {
    struct cluster_override override;
    bool foreground, sync;
    uint32_t wait_s;
};

/* What we know of a host beside what the fleet does. */
struct up_host {
    json_t *processes; /* [{name, pid, percent}] as it told last; owned, NULL: nothing yet */
    bool started;      /* by us, now */
    bool left;         /* it was of the cluster and is not in the file any more */
    struct err failed; /* what it started has ended */
    /* of its model file */
    bool asked, absent;
    uint64_t size, offset;
};

/* Everything of one run, so that there is one place where it is taken apart. */
struct up {
    const struct up_options *options;
    struct cluster cluster;
    char *file; /* it was read from: an absolute path */
    char *http; /* where the router listens, in a cluster that runs: until it is changed */
    struct roster before, roster; /* of the cluster that runs; the file's, and behind it those left */
    struct rundir dir;            /* on this machine */
    struct plan plan;
    struct launch launch;
    struct fleet fleet;
    struct up_host *hosts; /* [fleet.n] */
    struct progress progress;
    struct keys_set keys;
    int64_t ping_at; /* when the agents that watch what we started are to hear of us again */
    bool keyed;    /* the cluster speaks CURVE */
    bool running;  /* some of it runs already */
    bool settled;  /* it is as the file says: hosts that were left may be forgotten */
    int signal_fd; /* SIGINT, SIGTERM, SIGHUP, which are blocked */
};

/* Whether somebody wants us to end; asked once a signal. */
bool up_interrupted(struct up *u);

/* "web1: " or "" where the cluster is this machine alone. Static storage. */
const char *up_label(const struct up *u, size_t host);

/* The files that the host's run directory gets: {NAME: TEXT}, owned by the caller. */
json_t *up_files(const struct up *u, size_t host);

/* The same where nothing of the cluster runs on this machine. */
int up_keep_files(const struct up *u, struct err *e);

/* Sees to it that each host has the model; e as of fleet_check. */
int up_models(struct up *u, struct err *e);

/* Starts what is wanted on the hosts where nothing of the cluster runs, and waits until the router
 * knows all the nodes that were started; what was started is ended if that fails. */
int up_start(struct up *u, struct err *e);

/* --foreground: until Ctrl-C, or until somebody calls `tandem down`. */
void up_stay(struct up *u);

/* Makes a cluster that runs what the file says, and says what it did. */
int up_change(struct up *u, struct err *e);

#endif
