/* DESIGN: all hosts start at once. Each agent's supervisor lives as long as the agent does until we tell
 * it to detach: so whatever ends us before all are ready, ends them. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "deploy/agent.h"
#include "deploy/api.h"
#include "deploy/up.h"

#define UP_POLL_MS 50 /* between two looks at the router */
/* Who refuses our key for so long is our router: that another's has its port was told by then. */
#define UP_REFUSED_FOR (1 * CLOCK_S)

/* How many of the host's nodes are up, and how far the others are. */
static void start_show(struct up *u, size_t host)
{
    const json_t *list = u->hosts[host].processes;
    struct str stage = {0}, detail = {0};
    size_t up = 0, n = json_array_size(list);
    const char *model = strrchr(u->roster.hosts[host].model, '/');

    for (size_t i = 0; i < n; i++) {
        const json_t *p = json_array_get(list, i);
        json_int_t percent = api_number(p, "percent");

        up += percent == 100;
        if (percent < 0 || percent == 100 || detail.len > 60)
            continue;
        str_addf(&detail, "%s%s %lld %%", detail.len ? ", " : "", api_text(p, "name"),
                 (long long)percent);
    }
    str_addf(&stage, "%s: loads %s", u->fleet.remotes[host].host, model ? model + 1 : "");
    if (n && up)
        str_addf(&detail, "%s%zu of %zu up", detail.len ? ", " : "", up, n);
    progress_set(&u->progress, host, str_text(&stage), str_text(&detail));
    str_fini(&stage);
    str_fini(&detail);
}

static void start_event(void *ctx, struct remote *r, const json_t *event)
{
    struct up *u = ctx;
    size_t host = (size_t)(r - u->fleet.remotes);
    const char *what = api_text(event, "event");

    if (!strcmp(what, "failed")) {
        err_set(&u->hosts[host].failed, ERR_PEER, "%s", api_text(event, "error"));
    } else if (!strcmp(what, "progress")) {
        json_decref(u->hosts[host].processes);
        u->hosts[host].processes = json_incref(json_object_get(event, "processes"));
        start_show(u, host);
    }
}

/* The start request of a host; NULL: nothing is wanted there. */
static json_t *start_request(const struct up *u, size_t host)
{
    json_t *processes = json_array();

    for (size_t i = 0; i < u->launch.n; i++) {
        const struct launch_process *p = &u->launch.processes[i];

        if (p->host == host && !u->hosts[host].left)
            json_array_append_new(processes, json_pack("{s:s, s:o}", "name", p->name, "argv",
                                                       launch_process_argv(p)));
    }
    if (!json_array_size(processes)) {
        json_decref(processes);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "op", "start", "cluster", u->cluster.cluster,
                     "processes", processes, "files", up_files(u, host));
}

static int start_ask(struct up *u, struct err *e)
{
    int rc;

    for (size_t i = 0; i < u->fleet.n; i++) {
        struct remote *r = &u->fleet.remotes[i];
        json_t *request = fleet_running(&u->fleet, i) ? NULL : start_request(u, i);

        if (!request)
            continue;
        r->event = start_event;
        r->ctx = u;
        u->hosts[i].started = true;
        remote_ask(r, request, REMOTE_REPLY_S);
    }
    rc = fleet_wait(&u->fleet, e);
    for (size_t i = 0; i < u->fleet.n && !rc; i++)
        u->hosts[i].started &= u->fleet.remotes[i].reply != NULL;
    return rc ? rc : fleet_check(&u->fleet, NULL, e);
}

/* The process number of a node of a host, as the host told; 0: it has not. */
static json_int_t start_pid(const struct up *u, const struct launch_process *p)
{
    const json_t *list = u->hosts[p->host].processes;

    for (size_t i = 0; i < json_array_size(list); i++)
        if (!strcmp(api_text(json_array_get(list, i), "name"), p->name))
            return api_number(json_array_get(list, i), "pid");
    return 0;
}

/* Whether the router's reply has this node, ready. The number is compared, for another cluster's router
 * may have our port and nodes of the same names. */
static bool start_is_up(const struct up *u, const struct launch_process *p, const json_t *reply)
{
    const json_t *node = api_node(reply, p->name);
    json_int_t pid = start_pid(u, p);

    return !u->hosts[p->host].started || !strcmp(p->name, "router") ||
           (node && pid && api_number(node, "pid") == pid && !strcmp(api_text(node, "state"), "ready"));
}

static bool start_ready(const struct up *u, const json_t *reply)
{
    if (!json_is_true(json_object_get(json_object_get(reply, "router"), "ready")))
        return false;
    for (size_t i = 0; i < u->launch.n; i++)
        if (!start_is_up(u, &u->launch.processes[i], reply))
            return false;
    return true;
}

/* Of the first that failed, with all others said on stderr. */
static int start_failed(struct up *u, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; i < u->fleet.n; i++) {
        struct err *why = u->hosts[i].failed.code ? &u->hosts[i].failed : &u->fleet.remotes[i].e;

        if (!u->hosts[i].started || !(u->hosts[i].failed.code || u->fleet.remotes[i].dead))
            continue;
        if (rc) {
            progress_wipe(&u->progress);
            fprintf(stderr, "%s: %s\n", u->fleet.program, e->text);
        }
        *e = *why;
        rc = fleet_wrap(&u->fleet, i, e);
    }
    return rc;
}

/* The time is up: a sentence a host that has something missing. */
static int start_late(struct up *u, const json_t *reply, struct err *e)
{
    struct str missing = {0};

    for (size_t i = 0; i < u->fleet.n; i++) {
        str_clear(&missing);
        for (size_t k = 0; k < u->launch.n; k++)
            if (u->launch.processes[k].host == i && !start_is_up(u, &u->launch.processes[k], reply))
                str_addf(&missing, "%s%s", missing.len ? ", " : "", u->launch.processes[k].name);
        if (!missing.len)
            continue;
        if (e->code)
            fprintf(stderr, "%s: %s\n", u->fleet.program, e->text);
        err_set(e, ERR_TIMEOUT, "the router has not heard of %s after %u s; does a firewall keep it "
                "from the router's port? `tandem logs` shows more while `up` waits",
                str_text(&missing), u->options->wait_s);
        fleet_wrap(&u->fleet, i, e);
    }
    str_fini(&missing);
    return e->code ? e->code
                   : err_set(e, ERR_TIMEOUT, "cluster %s is not ready after %u s; it was ended",
                             u->cluster.cluster, u->options->wait_s);
}

/* An agent that hears nothing of us for long takes us for dead. */
static void start_ping(struct up *u)
{
    if (clock_now() < u->ping_at)
        return;
    u->ping_at = clock_now() + AGENT_PING_S * CLOCK_S;
    for (size_t i = 0; i < u->fleet.n; i++)
        if (u->hosts[i].started && !u->fleet.remotes[i].asked)
            remote_ask(&u->fleet.remotes[i], json_pack("{s:s}", "op", "ping"), REMOTE_REPLY_S);
}

/* The router knows another key than ours, or none: no waiting mends that. *since: when it first said so, 0. */
static void start_refused(struct err *e, int64_t *since, const json_t *reply)
{
    if (api_number(reply, "status") != 401)
        *since = 0;
    else if (!*since)
        *since = clock_now();
    if (!*since || clock_now() - *since < UP_REFUSED_FOR)
        return;
    reply = json_object_get(reply, "body");
    err_set(e, ERR_CONFIG, "the router refuses what is in TANDEM_API_KEY: %s; the cluster was ended",
            api_error(reply) ? api_error(reply) : "401, without a reason");
}

/* The router's host is asked how it is, again and again; meanwhile all may say that they failed. */
static int start_wait(struct up *u, struct err *e)
{
    int64_t until = clock_now() + u->options->wait_s * CLOCK_S, look_at = 0, refused_at = 0;
    struct remote *router = &u->fleet.remotes[0];
    json_t *last = NULL;
    bool ready = false;
    struct err refused = {0};
    int rc = 0;

    while (!ready && !rc) {
        if (!router->asked && clock_now() >= look_at) {
            remote_ask(router, fleet_http_request(u->cluster.router.http, "GET", "/v1/cluster", NULL),
                       REMOTE_REPLY_S);
            look_at = clock_now() + UP_POLL_MS * CLOCK_MS;
        }
        start_ping(u);
        remotes_serve(u->fleet.remotes, u->fleet.n, UP_POLL_MS, u->signal_fd);
        if (router->reply) {
            json_decref(last);
            last = json_incref(json_object_get(router->reply, "body"));
            ready = start_ready(u, last);
            start_refused(&refused, &refused_at, router->reply);
        } else if (!router->dead) {
            router->e.code = 0; /* it does not listen yet */
        }
        rc = start_failed(u, e);
        if (!rc && refused.code) {
            *e = refused;
            rc = e->code;
        }
        if (!rc && !ready && up_interrupted(u))
            rc = err_set(e, ERR_CANCELLED, "interrupted; everything was ended");
        if (!rc && !ready && clock_now() >= until)
            rc = start_late(u, last, e);
    }
    json_decref(last);
    return rc ? rc : fleet_wait(&u->fleet, e); /* for the answers that are still to come */
}

static int start_detach(struct up *u, struct err *e)
{
    int rc;

    for (size_t i = 0; i < u->fleet.n; i++)
        if (u->hosts[i].started)
            remote_ask(&u->fleet.remotes[i], json_pack("{s:s, s:b}", "op", "detach", "stay",
                                                       u->options->foreground), REMOTE_REPLY_S);
    rc = fleet_wait(&u->fleet, e);
    return rc ? rc : fleet_check(&u->fleet, NULL, e);
}

/* Ends what we started. */
static void start_undo(struct up *u)
{
    struct err ignored = {0};

    u->fleet.wake_fd = -1; /* the end is not cut short */
    fleet_wait(&u->fleet, &ignored);
    for (size_t i = 0; i < u->fleet.n; i++)
        if (u->hosts[i].started)
            remote_ask(&u->fleet.remotes[i], json_pack("{s:s, s:s}", "op", "stop", "cluster",
                                                       u->cluster.cluster), REMOTE_REPLY_S);
    fleet_wait(&u->fleet, &ignored);
}

int up_start(struct up *u, struct err *e)
{
    bool any = false;
    int rc = start_ask(u, e);

    for (size_t i = 0; i < u->fleet.n; i++)
        any |= u->hosts[i].started;
    if (!any)
        return rc;
    if (!rc)
        rc = start_wait(u, e);
    if (!rc)
        rc = start_detach(u, e);
    progress_wipe(&u->progress);
    if (rc)
        start_undo(u);
    return rc;
}

void up_stay(struct up *u)
{
    bool over = false;

    while (!over) {
        start_ping(u);
        remotes_serve(u->fleet.remotes, u->fleet.n, AGENT_PING_S * 1000, u->signal_fd);
        over = up_interrupted(u);
        for (size_t i = 0; i < u->fleet.n; i++)
            over |= u->hosts[i].failed.code || u->fleet.remotes[i].dead;
    }
    progress_wipe(&u->progress);
    start_undo(u);
    printf("cluster %s is down\n", u->cluster.cluster);
}
