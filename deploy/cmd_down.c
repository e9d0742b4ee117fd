/* tandem down: ends a cluster on all its hosts and sees to it that nothing is left. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/fleet.h"

static const struct option_table down_option_table = {
    .program = "tandem down",
    .usage = "[FILE|CLUSTER]",
    .summary = "Ends the cluster that FILE describes, that has this name, or the only one that runs",
};

/* Its hosts, as they were when it was started; else as the file has them; else this one. */
static int down_roster(struct roster *r, const struct rundir *d, const char *which, struct err *e)
{
    struct cluster c = {0};
    struct err ignored = {0};

    if (roster_read(r, d, e) != ERR_NOT_FOUND)
        return e->code;
    e->code = 0;
    if (which && target_is_file(which) && !cluster_load(&c, which, NULL, &ignored))
        roster_from_cluster(r, &c);
    else
        roster_local(r);
    cluster_fini(&c);
    return 0;
}

/* *was: it ran on one of them at least. A host that cannot be reached does not keep the others. */
static int down_hosts(bool *was, const struct rundir *d, const struct roster *r, struct err *e)
{
    const char *name = strrchr(d->path, '/') + 1;
    struct fleet f;
    int rc = fleet_open(&f, "tandem down", name, r, false, -1, e);

    *was = false;
    for (size_t i = 0; i < f.n && !rc; i++)
        remote_ask(&f.remotes[i], json_pack("{s:s, s:s}", "op", "stop", "cluster", name),
                   REMOTE_REPLY_S);
    if (!rc)
        rc = fleet_wait(&f, e);
    for (size_t i = 0; i < f.n; i++)
        *was |= json_is_true(json_object_get(f.remotes[i].reply, "was"));
    if (!rc)
        rc = fleet_check(&f, NULL, e);
    fleet_close(&f);
    return rc;
}

static int down_run(const void *options, const struct option_args *args, struct err *e)
{
    const char *which = args->n ? args->argv[0] : NULL, *name;
    struct roster r = {0};
    struct rundir d;
    bool was, here;
    int rc;

    (void)options;
    if (args->n > 1)
        return err_set(e, ERR_ARG, "one cluster at a time, got %d arguments", args->n);
    rc = target_locate(&d, which, e);
    if (rc)
        return rc;
    name = strrchr(d.path, '/') + 1;
    here = !access(d.path, F_OK);
    rc = down_roster(&r, &d, which, e);
    if (!rc)
        rc = down_hosts(&was, &d, &r, e);
    if (!rc && !was && !here)
        rc = err_set(e, ERR_NOT_FOUND, "cluster %s is not running", name);
    /* What we knew of it, if no supervisor of this machine has removed it. */
    if (!rc && !access(d.path, F_OK) && !rundir_lock(&d, name, NULL))
        rundir_remove(&d);
    if (!rc)
        printf("cluster %s is down\n", name);
    roster_fini(&r);
    return rc;
}

int cmd_down(int argc, char **argv)
{
    char none = 0;

    return command_main(&down_option_table, &none, argc, argv, down_run);
}
