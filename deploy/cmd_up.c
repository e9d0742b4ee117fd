/* tandem up: plans, starts the supervisor, waits until the cluster answers. Whatever goes wrong
 * meanwhile, Ctrl-C too, ends what was started. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "deploy/cluster.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/launch.h"
#include "deploy/plan.h"
#include "deploy/rundir.h"
#include "deploy/supervisor.h"

#define UP_POLL_MS 50 /* between two looks at the router */

struct up_options {
    struct cluster_override override;
    bool foreground;
    uint32_t wait_s;
};

static const struct option up_rows[] = {
    CLUSTER_OVERRIDES(up_options),
    OPTION(up_options, foreground, BOOL, .letter = 'f', .help = "stay, and end it at Ctrl-C"),
    OPTION(up_options, wait_s, U32, .def = "600", .min = 1, .max = 86400, .unit = "S",
           .help = "give up if it is not ready by then"),
};

static const struct option_table up_option_table = {
    .program = "tandem up",
    .usage = "FILE",
    .summary = "Starts the cluster that FILE describes, and returns when it is ready",
    .options = up_rows,
    .n = ARRAY_LEN(up_rows),
};

/* Everything of one run, so that there is one place where it is taken apart. */
struct up {
    const struct up_options *options;
    struct cluster cluster;
    struct plan plan;
    struct launch launch;
    struct rundir dir;
    struct supervisor supervisor;
    char url[160];
    int signal_fd; /* SIGINT, SIGTERM, SIGHUP, which are blocked */
};

static int up_block_signals(struct up *u, struct err *e)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    u->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return u->signal_fd < 0 ? err_set(e, ERR_IO, "no signalfd: %s", strerror(errno)) : 0;
}

static bool up_interrupted(const struct up *u)
{
    struct signalfd_siginfo info;

    return read(u->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info);
}

/* Reads file, model and machine, and prints the plan. Nothing is started. */
static int up_prepare(struct up *u, const char *file, struct err *e)
{
    struct str text = {0};
    int rc = cluster_load(&u->cluster, file, &u->options->override, e);

    if (!rc && cluster_is_remote(&u->cluster))
        rc = err_set(e, ERR_UNSUPPORTED, "%s: hosts: only local, this machine, works yet", file);
    if (!rc)
        rc = plan_init(&u->plan, &u->cluster, NULL, e);
    if (!rc)
        rc = rundir_lock(&u->dir, u->cluster.cluster, e);
    if (!rc) {
        const struct launch_place here = {.program_dir = u->cluster.hosts[0].programs,
                                          .run_dir = u->dir.path};

        rc = launch_init(&u->launch, &u->cluster, &u->plan, &here, e);
    }
    if (rc)
        return rc;
    plan_print(&u->plan, &u->cluster, &text);
    fputs(str_text(&text), stdout);
    fflush(stdout);
    str_fini(&text);
    snprintf(u->url, sizeof(u->url), "http://%s", u->cluster.router.http);
    return 0;
}

static int up_write_state(const struct up *u, const char *file, struct err *e)
{
    char *whole = realpath(file, NULL);
    const struct rundir_state state = {
        .cluster = u->cluster.cluster,
        .http = u->cluster.router.http,
        .model = u->cluster.model,
        .file = whole ? whole : u->cluster.cluster,
    };
    int rc = rundir_write_state(&u->dir, &state, e);

    free(whole); /* realpath's own */
    return rc;
}

static int up_wait(struct up *u, struct err *e)
{
    int64_t start = clock_now(), until = start + u->options->wait_s * CLOCK_S;

    while (!api_ready(u->url, u->supervisor.pid, u->plan.n - 1)) {
        if (up_interrupted(u))
            return err_set(e, ERR_CANCELLED, "interrupted; everything was ended");
        if (supervisor_failed(&u->supervisor, UP_POLL_MS, e))
            return e->code;
        if (clock_now() >= until)
            return err_set(e, ERR_TIMEOUT, "cluster %s is not ready after %u s; it was ended",
                           u->cluster.cluster, u->options->wait_s);
    }
    printf("cluster %s is ready at %s after %.1f s\n", u->cluster.cluster, u->url,
           clock_s(clock_now() - start));
    fflush(stdout);
    return 0;
}

/* --foreground: until Ctrl-C, or until somebody calls `tandem down`. */
static int up_stay(struct up *u)
{
    struct err e = {0};

    for (;;) {
        struct pollfd fds[] = {{.fd = u->signal_fd, .events = POLLIN},
                               {.fd = u->supervisor.fd, .events = POLLIN}};

        if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
            break;
        if (up_interrupted(u) || supervisor_failed(&u->supervisor, 0, &e))
            break;
    }
    supervisor_stop(&u->supervisor);
    printf("cluster %s is down\n", u->cluster.cluster);
    return 0;
}

static int up_start(struct up *u, const char *file, struct err *e)
{
    int rc = up_write_state(u, file, e);

    log_set_format((enum log_format)u->cluster.log_format); /* the supervisor inherits it */
    if (!rc)
        rc = supervisor_start(&u->supervisor, &u->dir, &u->launch, e);
    if (rc)
        return rc;
    rc = up_wait(u, e);
    if (rc) {
        supervisor_stop(&u->supervisor);
        return rc;
    }
    supervisor_tell(&u->supervisor, SUPERVISOR_READY);
    if (u->options->foreground)
        return up_stay(u);
    supervisor_tell(&u->supervisor, SUPERVISOR_DETACH);
    return 0;
}

static int up_run(const void *options, const struct option_args *args, struct err *e)
{
    struct up u = {.options = options, .dir.lock_fd = -1, .signal_fd = -1};
    int rc;

    if (args->n != 1)
        return err_set(e, ERR_ARG, "one cluster file is needed, got %d arguments", args->n);
    rc = up_block_signals(&u, e);
    if (!rc)
        rc = up_prepare(&u, args->argv[0], e);
    if (!rc)
        rc = up_start(&u, args->argv[0], e);
    if (u.dir.lock_fd >= 0) /* nobody has taken it over */
        rundir_remove(&u.dir);
    launch_fini(&u.launch);
    plan_fini(&u.plan);
    cluster_fini(&u.cluster);
    if (u.signal_fd >= 0)
        close(u.signal_fd);
    return rc;
}

int cmd_up(int argc, char **argv)
{
    struct up_options o = {0};

    return command_main(&up_option_table, &o, argc, argv, up_run);
}
