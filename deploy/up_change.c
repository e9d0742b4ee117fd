/* DESIGN: what each process should be is its command line, which launch.h makes of the file, always the
 * same; what it is, its supervisor says. Where they differ, in this order:
 *
 *   the router                     ended and started anew: nodes that are to meet it elsewhere need it there
 *   a node of another host         drained and removed, to be started where it belongs
 *   a host where nothing runs      its nodes are started as a cluster is
 *   a new name                     added
 *   another command line           drained and removed, then added, one by one
 *   a name that is not wanted      drained and removed
 *   a host that is not wanted      its supervisor is ended
 *
 * So nodes come before nodes go, and the cluster serves meanwhile. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "deploy/change.h"
#include "deploy/up.h"

struct up_changes {
    struct up *up;
    struct change change;
    size_t n;     /* that were made */
    bool started; /* hosts that did not run do */
};

static void change_say(struct up_changes *x, const char *name, const char *what, uint32_t host)
{
    x->n++;
    printf("%s%s %s\n", up_label(x->up, host), name, what);
    fflush(stdout);
}

static const struct launch_process *change_wanted(const struct up *u, const char *name)
{
    for (size_t i = 0; i < u->launch.n; i++)
        if (!strcmp(u->launch.processes[i].name, name))
            return &u->launch.processes[i];
    return NULL;
}

static bool change_same(const struct change_node *n, const struct launch_process *p)
{
    json_t *argv = launch_process_argv(p);
    bool same = n->host == p->host && json_equal(argv, n->argv);

    json_decref(argv);
    return same;
}

/* The router may listen elsewhere than it did. */
static int change_entrance(struct up_changes *x, struct err *e)
{
    const struct launch_process *p = change_wanted(x->up, "router");
    size_t at = change_find(&x->change, "router");
    const struct change_node *n = &x->change.nodes[at];
    int rc;

    if (at == x->change.n)
        return err_set(e, ERR_NOT_FOUND, "the router does not run on %s; `tandem down`, then `tandem up`",
                       x->up->roster.hosts[0].host);
    if (change_same(n, p))
        return 0;
    if (n->host != p->host)
        return err_set(e, ERR_UNSUPPORTED, "the router runs on %s and does not move to %s while it serves; "
                       "`tandem down`, then `tandem up`", x->up->roster.hosts[n->host].host,
                       x->up->roster.hosts[p->host].host);
    rc = change_router(&x->change, launch_process_argv(p), x->up->cluster.router.http, e);
    if (!rc)
        change_say(x, p->name, "replaced", p->host);
    return rc;
}

static int change_moves(struct up_changes *x, struct err *e)
{
    const struct launch *l = &x->up->launch;
    int rc = 0;

    for (size_t i = 0; i < l->n && !rc; i++) {
        const struct launch_process *p = &l->processes[i];
        size_t at = change_find(&x->change, p->name);
        uint32_t from = at < x->change.n ? x->change.nodes[at].host : p->host;

        if (from == p->host)
            continue;
        rc = change_remove(&x->change, p->name, e);
        if (!rc)
            change_say(x, p->name, "drained, to run elsewhere", from);
    }
    return rc;
}

/* Hosts that have come, or whose supervisor was killed. */
static int change_start(struct up_changes *x, struct err *e)
{
    struct up *u = x->up;
    int rc;

    if (x->started)
        return 0;
    x->started = true;
    rc = up_start(u, e);
    for (uint32_t i = 0; i < u->fleet.n && !rc; i++) {
        if (!u->hosts[i].started)
            continue;
        x->change.runs[i] = true;
        for (size_t k = 0; k < u->launch.n; k++)
            if (u->launch.processes[k].host == i)
                change_say(x, u->launch.processes[k].name, "added", i);
    }
    return rc ? rc : change_look(&x->change, e);
}

/* The router's host was lost, and with it the router: all else asks it. */
static int change_revive(struct up_changes *x, struct err *e)
{
    if (x->change.runs[0])
        return 0;
    x->change.http = x->up->cluster.router.http;
    return change_start(x, e);
}

/* Nodes with names that are not there yet. */
static int change_more(struct up_changes *x, struct err *e)
{
    const struct launch *l = &x->up->launch;
    int rc = 0;

    for (size_t i = 0; i < l->n && !rc; i++) {
        const struct launch_process *p = &l->processes[i];

        if (change_find(&x->change, p->name) < x->change.n)
            continue;
        rc = change_add(&x->change, p->host, p->name, launch_process_argv(p), e);
        if (!rc)
            change_say(x, p->name, "added", p->host);
    }
    return rc;
}

/* Drains the node at `at` and starts it as p says; if that fails, as it was: what runs goes on. */
static int change_replace(struct up_changes *x, size_t at, const struct launch_process *p, struct err *e)
{
    json_t *before = json_deep_copy(x->change.nodes[at].argv);
    struct err ignored = {0};
    int rc = change_remove(&x->change, p->name, e);

    if (rc) {
        json_decref(before);
        return rc;
    }
    rc = change_add(&x->change, p->host, p->name, launch_process_argv(p), e);
    if (!rc)
        json_decref(before);
    else if (!change_add(&x->change, p->host, p->name, before, &ignored))
        change_say(x, p->name, "is as it was", p->host);
    return rc;
}

/* Those that are there, and otherwise than they should be. */
static int change_others(struct up_changes *x, struct err *e)
{
    const struct launch *l = &x->up->launch;
    int rc = 0;

    for (size_t i = 0; i < l->n && !rc; i++) {
        const struct launch_process *p = &l->processes[i];
        size_t at = change_find(&x->change, p->name);

        if (at == x->change.n || change_same(&x->change.nodes[at], p))
            continue;
        rc = change_replace(x, at, p, e);
        if (!rc)
            change_say(x, p->name, "replaced", p->host);
    }
    return rc;
}

/* The last node that nobody wants; NULL: there is none. */
static const struct change_node *change_unwanted(const struct up_changes *x)
{
    for (size_t i = x->change.n; i-- > 0;)
        if (!change_wanted(x->up, x->change.nodes[i].name))
            return &x->change.nodes[i];
    return NULL;
}

static int change_fewer(struct up_changes *x, struct err *e)
{
    const struct change_node *n;
    int rc = 0;

    while (!rc && (n = change_unwanted(x))) {
        char name[OPTIONS_NAME_MAX + 1];
        uint32_t host = n->host;

        snprintf(name, sizeof(name), "%s", n->name);
        rc = change_remove(&x->change, name, e);
        if (!rc)
            change_say(x, name, "drained and removed", host);
    }
    return rc;
}

/* Hosts on which nothing is wanted any more. */
static int change_leave(struct up_changes *x, struct err *e)
{
    struct up *u = x->up;
    int rc = 0;

    for (uint32_t i = 0; i < u->fleet.n && !rc; i++) {
        size_t wanted = 0;
        json_t *reply;

        for (size_t k = 0; k < u->launch.n && !u->hosts[i].left; k++)
            wanted += u->launch.processes[k].host == i;
        if (wanted || !x->change.runs[i])
            continue;
        rc = fleet_ask(&u->fleet, i, json_pack("{s:s, s:s}", "op", "stop", "cluster",
                                               u->cluster.cluster), &reply, e);
        json_decref(reply);
        if (!rc)
            change_say(x, "this host", "left", i);
        x->change.runs[i] = false;
    }
    return rc;
}

/* What the hosts have in their run directories of the cluster, as it is now. */
static int change_files(struct up_changes *x, struct err *e)
{
    struct up *u = x->up;
    int rc;

    for (size_t i = 0; i < u->cluster.n_hosts; i++)
        if (x->change.runs[i])
            remote_ask(&u->fleet.remotes[i],
                       json_pack("{s:s, s:s, s:o}", "op", "write", "cluster", u->cluster.cluster, "files",
                                 up_files(u, i)), REMOTE_REPLY_S);
    rc = fleet_wait(&u->fleet, e);
    if (!rc)
        rc = fleet_check(&u->fleet, NULL, e);
    return rc || roster_has_local(&u->roster) ? rc : up_keep_files(u, e);
}

int up_change(struct up *u, struct err *e)
{
    struct up_changes x = {.up = u};
    int rc;

    if (u->options->foreground)
        return err_set(e, ERR_BUSY, "cluster %s runs already, in the background; `tandem down %s` ends it",
                       u->cluster.cluster, u->cluster.cluster);
    rc = change_init(&x.change, &u->fleet, u->http, u->options->wait_s, e);
    if (!rc)
        rc = change_files(&x, e);
    if (!rc)
        rc = change_revive(&x, e);
    if (!rc)
        rc = change_entrance(&x, e);
    if (!rc)
        rc = change_moves(&x, e);
    if (!rc)
        rc = change_start(&x, e);
    if (!rc)
        rc = change_more(&x, e);
    if (!rc)
        rc = change_others(&x, e);
    if (!rc)
        rc = change_fewer(&x, e);
    if (!rc)
        rc = change_leave(&x, e);
    if (!rc && x.n)
        rc = change_settle(&x.change, e);
    u->settled = !rc;
    if (!rc)
        rc = change_files(&x, e);
    change_fini(&x.change);
    if (!rc && x.n)
        printf("cluster %s is as %s says: %zu change%s\n", u->cluster.cluster, u->file, x.n,
               x.n == 1 ? "" : "s");
    else if (!rc)
        printf("cluster %s runs as %s says: nothing to change\n", u->cluster.cluster, u->file);
    return rc;
}
