/* tandem up: what cluster.yaml says is made to run: on all its hosts, through their agents. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/up.h"

#define UP_KEYS "keys"         /* of a host's processes, in its run directory */
#define UP_KEYS_ALL "keys.all" /* of all, in ours: for the hosts that come later */

static const struct option up_rows[] = {
    CLUSTER_OVERRIDES(up_options),
    OPTION(up_options, sync, BOOL, .help = "copy the model to hosts that have not got it"),
    OPTION(up_options, foreground, BOOL, .letter = 'f', .help = "stay, and end it at Ctrl-C"),
    OPTION(up_options, wait_s, U32, .def = "600", .min = 1, .max = 86400, .unit = "S",
           .help = "give up if it is not ready by then"),
};

static const struct option_table up_option_table = {
    .program = "tandem up",
    .usage = "FILE",
    .summary = "Starts the cluster that FILE describes and returns when it is ready; one that runs is "
               "changed where it differs",
    .options = up_rows,
    .n = ARRAY_LEN(up_rows),
};

bool up_interrupted(struct up *u)
{
    struct signalfd_siginfo info;

    return read(u->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info);
}

const char *up_label(const struct up *u, size_t host)
{
    static char label[160];

    snprintf(label, sizeof(label), "%.150s: ", u->roster.hosts[host].host);
    return roster_is_here(&u->roster) ? "" : label;
}

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

/* The state file's text. */
static void up_state(const struct up *u, struct str *out)
{
    const struct rundir_state state = {
        .cluster = u->cluster.cluster,
        .http = u->cluster.router.http,
        .model = u->cluster.model,
        .file = u->file,
    };

    rundir_state_text(&state, out);
}

static void up_add_file(json_t *files, const char *name, struct str *text)
{
    json_object_set_new(files, name, json_string(str_text(text)));
    str_fini(text);
}

/* What the machine where `up` ran keeps, whether processes run there or not. */
static void up_add_own_files(const struct up *u, json_t *files)
{
    struct roster now = u->roster;
    struct str text = {0};

    while (u->settled && now.n && u->hosts[now.n - 1].left)
        now.n--;
    roster_text(&now, &text);
    up_add_file(files, ROSTER_FILE, &text);
    if (!u->keyed)
        return;
    keys_text(&u->keys, KEYS_BIT(KEYS_ROUTER) | KEYS_BIT(KEYS_NODE), &text);
    up_add_file(files, UP_KEYS_ALL, &text);
}

json_t *up_files(const struct up *u, size_t host)
{
    json_t *files = json_object();
    struct str text = {0};

    up_state(u, &text);
    up_add_file(files, RUNDIR_STATE, &text);
    if (u->keyed) { /* the router's secret is its host's alone */
        keys_text(&u->keys, KEYS_BIT(KEYS_NODE) | (host ? 0 : KEYS_BIT(KEYS_ROUTER)), &text);
        up_add_file(files, UP_KEYS, &text);
    }
    if (roster_is_local(&u->roster, host))
        up_add_own_files(u, files);
    return files;
}

int up_keep_files(const struct up *u, struct err *e)
{
    json_t *files = json_object();
    struct str text = {0};
    const char *name;
    json_t *value;
    int rc;

    up_state(u, &text);
    up_add_file(files, RUNDIR_STATE, &text);
    up_add_own_files(u, files);
    rc = rundir_ensure(&u->dir, e);
    json_object_foreach (files, name, value)
        if (!rc)
            rc = rundir_write_file(&u->dir, name, json_string_value(value), e);
    json_decref(files);
    return rc;
}

/* The keys that the cluster has, else new ones. */
static int up_keys(struct up *u, struct err *e)
{
    char path[PATH_MAX + 16];
    struct keys k = {0};
    int rc = 0;

    u->keyed = cluster_needs_keys(&u->cluster);
    if (!u->keyed)
        return 0;
    snprintf(path, sizeof(path), "%s/" UP_KEYS_ALL, u->dir.path);
    if (u->running && !access(path, F_OK)) {
        rc = keys_read(&k, path, e);
        if (!rc && !keys_set_of(&u->keys, &k))
            rc = err_set(e, ERR_FORMAT, "%s has not the keys of router and nodes", path);
    } else if (u->running && !roster_is_here(&u->before)) {
        rc = err_set(e, ERR_NOT_FOUND, "cluster %s runs, but its keys are not here: it was started from "
                     "another machine, or is being started just now", u->cluster.cluster);
    } else {
        rc = keys_make(&u->keys, e);
    }
    keys_fini(&k);
    return rc;
}

/* The file, and the hosts: those that it names, and those that the cluster had and it does not. */
static int up_read(struct up *u, const char *file, struct err *e)
{
    struct rundir_state state = {0};
    struct err ignored = {0};
    char *whole;
    int rc = cluster_load(&u->cluster, file, &u->options->override, e);

    if (!rc && *u->cluster.router.api_keys && !getenv("TANDEM_API_KEY"))
        rc = err_set(e, ERR_CONFIG, "%s: api_keys: the router will ask for a key; put one of that file in "
                     "TANDEM_API_KEY, for this and the other commands", file);
    if (!rc)
        rc = rundir_locate(&u->dir, u->cluster.cluster, e);
    if (rc)
        return rc;
    whole = realpath(file, NULL);
    u->file = mem_strdup(whole ? whole : file);
    free(whole); /* realpath's own */
    roster_from_cluster(&u->roster, &u->cluster);
    if (!roster_read(&u->before, &u->dir, &ignored))
        for (size_t i = 0; i < u->before.n; i++)
            if (roster_find(&u->roster, u->before.hosts[i].host) == u->roster.n)
                roster_add(&u->roster, &u->before.hosts[i]);
    if (rundir_known(&u->dir) && !rundir_read_state(&state, &u->dir, &ignored) &&
        strcmp(state.file, u->file) != 0)
        rc = err_set(e, ERR_BUSY, "cluster %s is running already, from %s; `tandem down %s` ends it",
                     u->cluster.cluster, state.file, u->cluster.cluster);
    u->http = mem_strdup(state.http && *state.http ? state.http : u->cluster.router.http);
    rundir_state_fini(&state);
    return rc;
}

/* Connects to all hosts. One that is only to be left, and cannot be reached, is passed over. */
static int up_greet(struct up *u, struct err *e)
{
    bool remote = cluster_is_remote(&u->cluster);
    int rc;

    u->hosts = mem_calloc(u->roster.n, sizeof(*u->hosts));
    progress_init(&u->progress, u->roster.n, roster_is_here(&u->roster));
    for (size_t i = 0; i < u->roster.n; i++)
        u->hosts[i].left = i >= u->cluster.n_hosts;
    rc = fleet_open(&u->fleet, "tandem up", u->cluster.cluster, &u->roster, remote, u->signal_fd, e);
    for (size_t i = 0; i < u->fleet.n && !rc; i++) {
        struct remote *r = &u->fleet.remotes[i];

        u->running |= fleet_running(&u->fleet, i);
        if (u->hosts[i].left && r->dead) {
            fprintf(stderr, "tandem up: %s, which the file does not name any more, is left as it is: "
                    "%s\n", r->host, r->e.text);
            r->e.code = 0;
        }
    }
    return rc ? rc : fleet_check(&u->fleet, NULL, e);
}

/* What is to run where, with the hosts as they told. */
static int up_plan(struct up *u, struct err *e)
{
    size_t n = u->cluster.n_hosts;
    const char **xml = mem_calloc(n, sizeof(*xml));
    struct launch_place *places = mem_calloc(n, sizeof(*places));
    char **keys = mem_calloc(n, sizeof(*keys));
    int rc;

    if (u->running && !u->cluster.ratio_prefill) { /* what was solved for is not to change by itself */
        u->cluster.ratio_prefill = u->before.prefill;
        u->cluster.ratio_decode = u->before.decode;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *hello = u->fleet.hello[i];
        struct str path = {0};

        if (!cluster_host_is_local(&u->cluster.hosts[i]))
            xml[i] = api_text(hello, "topology");
        if (u->keyed) {
            str_addf(&path, "%s/" UP_KEYS, api_text(hello, "run_dir"));
            keys[i] = str_steal(&path);
        }
        places[i] = (struct launch_place){.program_dir = u->cluster.hosts[i].programs,
                                          .run_dir = api_text(hello, "run_dir"),
                                          .keys = keys[i]};
    }
    rc = plan_init(&u->plan, &u->cluster, xml, e);
    if (!rc)
        rc = launch_init(&u->launch, &u->cluster, &u->plan, places, e);
    u->roster.prefill = u->plan.solve.prefill ? u->plan.solve.prefill : u->before.prefill;
    u->roster.decode = u->plan.solve.decode ? u->plan.solve.decode : u->before.decode;
    for (size_t i = 0; i < n; i++)
        mem_free(keys[i]);
    mem_free(keys);
    mem_free(places);
    mem_free(xml);
    return rc;
}

static void up_print_plan(const struct up *u)
{
    struct str text = {0};

    plan_print(&u->plan, &u->cluster, &text);
    fputs(str_text(&text), stdout);
    fflush(stdout);
    str_fini(&text);
}

static int up_fresh(struct up *u, struct err *e)
{
    int64_t start = clock_now();
    int rc;

    u->settled = true;
    up_print_plan(u);
    rc = up_start(u, e);
    if (!rc && !roster_has_local(&u->roster))
        rc = up_keep_files(u, e);
    if (rc)
        return rc;
    printf("cluster %s is ready at http://%s%s%s after %.1f s\n", u->cluster.cluster,
           u->cluster.router.http, *up_label(u, 0) ? " on " : "",
           *up_label(u, 0) ? u->roster.hosts[0].host : "", clock_s(clock_now() - start));
    fflush(stdout);
    if (u->options->foreground) {
        up_stay(u);
        if (!roster_has_local(&u->roster) && !rundir_lock(&u->dir, u->cluster.cluster, NULL))
            rundir_remove(&u->dir);
    }
    return 0;
}

static int up_all(struct up *u, const char *file, struct err *e)
{
    int rc = up_read(u, file, e);

    if (!rc)
        rc = up_greet(u, e);
    if (!rc)
        rc = up_keys(u, e);
    if (!rc)
        rc = up_plan(u, e);
    if (!rc)
        rc = up_models(u, e);
    if (rc)
        return rc;
    return u->running ? up_change(u, e) : up_fresh(u, e);
}

static void up_fini(struct up *u)
{
    for (size_t i = 0; u->hosts && i < u->roster.n; i++)
        json_decref(u->hosts[i].processes);
    mem_free(u->hosts);
    progress_fini(&u->progress);
    fleet_close(&u->fleet);
    launch_fini(&u->launch);
    plan_fini(&u->plan);
    roster_fini(&u->before);
    roster_fini(&u->roster);
    cluster_fini(&u->cluster);
    mem_free(u->file);
    mem_free(u->http);
    if (u->signal_fd >= 0)
        close(u->signal_fd);
}

static int up_run(const void *options, const struct option_args *args, struct err *e)
{
    struct up u = {.options = options, .dir.lock_fd = -1, .signal_fd = -1};
    int rc;

    if (args->n != 1)
        return err_set(e, ERR_ARG, "one cluster file is needed, got %d arguments", args->n);
    rc = up_block_signals(&u, e);
    if (!rc)
        rc = up_all(&u, args->argv[0], e);
    progress_wipe(&u.progress);
    up_fini(&u);
    return rc;
}

int cmd_up(int argc, char **argv)
{
    struct up_options o = {0};

    return command_main(&up_option_table, &o, argc, argv, up_run);
}
