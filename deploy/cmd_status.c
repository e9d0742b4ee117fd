/* tandem status: a table of a cluster's processes, from its router and from its hosts, or what the router
 * says as JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/fleet.h"
#include "deploy/top.h"
#include "host/place.h"

#define STATUS_INTERVAL (600 * CLOCK_MS) /* between two looks, for rates: two beats of a node */

struct status_options {
    bool json;
};

static const struct option status_rows[] = {
    OPTION(status_options, json, BOOL, .help = "print JSON, a line a cluster"),
};

static const struct option_table status_option_table = {
    .program = "tandem status",
    .usage = "[FILE|CLUSTER|URL]",
    .summary = "Shows the nodes of a cluster, or of each that runs",
    .options = status_rows,
    .n = ARRAY_LEN(status_rows),
};

/* One cluster. */
struct status {
    struct target target;
    struct fleet fleet; /* of no remotes where only a URL was given */
    struct top *top;    /* after two looks */
    int host_width;
};

/* The host of a process, as the cluster file names it; *process what its supervisor says. NULL: it was
 * started by hand, or the hosts were not asked. */
static const char *status_host(const struct status *s, const char *name, const json_t **process)
{
    *process = NULL;
    for (size_t i = 0; i < s->fleet.n; i++) {
        const json_t *list = json_object_get(s->fleet.remotes[i].reply, "processes");

        for (size_t k = 0; k < json_array_size(list); k++)
            if (!strcmp(api_text(json_array_get(list, k), "name"), name)) {
                *process = json_array_get(list, k);
                return s->fleet.remotes[i].host;
            }
    }
    return NULL;
}

static const struct top_node *status_rates(const struct status *s, const char *name)
{
    for (uint32_t i = 0; i < s->top->n; i++)
        if (!strcmp(s->top->nodes[i].name, name))
            return &s->top->nodes[i];
    return NULL;
}

/* A rate, or a share in percent, "-" if it is not known. */
static const char *status_number(char out[16], double v, const char *unit)
{
    if (v < 0)
        snprintf(out, 16, "-");
    else
        snprintf(out, 16, "%.*f%s", v < 9.95 ? 1 : 0, v, unit);
    return out;
}

static void status_node(const struct status *s, const json_t *n)
{
    const struct top_node *rates = status_rates(s, api_text(n, "name"));
    const json_t *process;
    const char *host = status_host(s, api_text(n, "name"), &process);
    char pages[64], tokens_s[16], use[16];
    struct str kv = {0};

    snprintf(pages, sizeof(pages), "%" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT,
             api_number(n, "pages_total") - api_number(n, "pages_free"),
             api_number(n, "pages_total"));
    size_text(&kv, (uint64_t)api_number(n, "kv_bytes"));
    printf("%-12s %-8s %-*s %6" JSON_INTEGER_FORMAT " %-9s %-11s %8" JSON_INTEGER_FORMAT
           " %6" JSON_INTEGER_FORMAT " %7" JSON_INTEGER_FORMAT " %13s %10" JSON_INTEGER_FORMAT
           " %9s %7s %11s\n",
           api_text(n, "name"), api_text(n, "role"), s->host_width, host ? host : api_text(n, "host"),
           api_number(n, "domain"), api_text(n, "state"), api_text(n, "tier"), api_number(n, "pid"),
           api_number(n, "queued"), api_number(n, "running"), pages, api_number(n, "tokens"),
           status_number(tokens_s, rates ? rates->tokens_s : TOP_UNKNOWN, ""),
           status_number(use, rates && rates->use >= 0 ? 100 * rates->use : TOP_UNKNOWN, "%"),
           str_text(&kv));
    str_fini(&kv);
}

/* Prefill nodes first, then by number. */
static int status_order(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    int roles = strcmp(api_text(y, "role"), api_text(x, "role"));

    return roles ? roles : place_name_order(api_text(x, "name"), api_text(y, "name"));
}

/* Processes that run, or should, and that the router does not know. */
static void status_missing(const struct status *s, const json_t *reply)
{
    for (size_t i = 0; i < s->fleet.n; i++) {
        const json_t *list = json_object_get(s->fleet.remotes[i].reply, "processes");

        for (size_t k = 0; k < json_array_size(list); k++) {
            const json_t *p = json_array_get(list, k);
            const char *name = api_text(p, "name");

            if (!strcmp(name, "router") || api_node(reply, name))
                continue;
            if (api_number(p, "pid"))
                printf("%-12s %-8s %-*s runs, pid %" JSON_INTEGER_FORMAT ", and has not joined yet\n", name,
                       "-", s->host_width, s->fleet.remotes[i].host, api_number(p, "pid"));
            else
                printf("%-12s %-8s %-*s is dead, and is started again: %s\n", name, "-", s->host_width,
                       s->fleet.remotes[i].host, api_text(p, "last"));
        }
    }
}

static void status_table(const struct status *s, const json_t *reply)
{
    const json_t *router = json_object_get(reply, "router");
    const json_t *nodes = json_object_get(reply, "nodes");
    size_t n = json_array_size(nodes);
    json_t **sorted;

    printf("cluster %s at %s, model %s: %" JSON_INTEGER_FORMAT " queued, %" JSON_INTEGER_FORMAT
           " running\n",
           api_text(reply, "cluster"), s->target.shown, api_text(reply, "model"),
           api_number(router, "queued"), api_number(router, "running"));
    printf("%-12s %-8s %-*s %6s %-9s %-11s %8s %6s %7s %13s %10s %9s %7s %11s\n", "node", "role",
           s->host_width, "host", "domain", "state", "tier", "pid", "queued", "running", "pages used",
           "tokens", "tokens/s", "MFU/MBU", "KV moved");
    sorted = mem_calloc(n, sizeof(json_t *));
    for (size_t i = 0; i < n; i++)
        sorted[i] = json_array_get(nodes, i);
    qsort(sorted, n, sizeof(json_t *), status_order);
    for (size_t i = 0; i < n; i++)
        status_node(s, sorted[i]);
    mem_free(sorted);
    status_missing(s, reply);
}

/* What runs on each host; one that cannot be asked has its sentence, and the rest is shown. */
static int status_hosts(struct status *s, struct err *e)
{
    const struct roster *roster = &s->target.roster;
    int rc;

    s->host_width = 8;
    for (size_t i = 0; i < roster->n; i++)
        s->host_width = (int)size_max((size_t)s->host_width, strlen(roster->hosts[i].host));
    if (!roster->n)
        return 0;
    rc = fleet_open(&s->fleet, "tandem status", s->target.name, roster, false, -1, e);
    for (size_t i = 0; i < s->fleet.n && !rc; i++)
        if (fleet_running(&s->fleet, i))
            fleet_ask_list(&s->fleet, i);
    if (!rc)
        rc = fleet_wait(&s->fleet, e);
    return rc ? rc : fleet_check(&s->fleet, NULL, e);
}

/* Two looks at the router, and one at the hosts between them. */
static int status_show(struct status *s, json_t *first, struct err *e)
{
    int64_t start = clock_now(), left;
    json_t *reply = NULL;
    struct err hosts = {0};
    int rc;

    top_take(s->top, first, start);
    status_hosts(s, &hosts);
    left = start + STATUS_INTERVAL - clock_now();
    if (left > 0)
        nanosleep(&(struct timespec){.tv_nsec = (long)left}, NULL);
    rc = api_cluster(&reply, s->target.url, e);
    if (rc)
        return rc;
    top_take(s->top, reply, clock_now());
    status_table(s, reply);
    json_decref(reply);
    if (hosts.code)
        *e = hosts;
    return hosts.code;
}

static int status_one(const char *which, bool json, struct err *e)
{
    struct status s = {0};
    json_t *reply = NULL;
    int rc = target_reach(&s.target, which, e);

    if (!rc)
        rc = api_cluster(&reply, s.target.url, e);
    if (!rc && json) {
        json_dumpf(reply, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (!rc) {
        s.top = mem_zalloc(sizeof(*s.top));
        rc = status_show(&s, reply, e);
        mem_free(s.top);
    }
    json_decref(reply);
    fleet_close(&s.fleet);
    target_fini(&s.target);
    return rc;
}

/* For a call without a name: each that runs. */
struct status_all {
    bool json;
    size_t n;
    int rc; /* of the last that failed */
    struct err *e;
};

static void status_each(void *ctx, const char *cluster)
{
    struct status_all *all = ctx;
    int rc;

    if (all->n++ && !all->json)
        putchar('\n');
    rc = status_one(cluster, all->json, all->e);
    if (rc)
        all->rc = rc;
}

static int status_run(const void *options, const struct option_args *args, struct err *e)
{
    const struct status_options *o = options;
    struct status_all all = {.json = o->json, .e = e};

    if (args->n > 1)
        return err_set(e, ERR_ARG, "one cluster at a time, got %d arguments", args->n);
    if (args->n)
        return status_one(args->argv[0], o->json, e);
    rundir_each(status_each, &all);
    if (!all.n)
        return err_set(e, ERR_NOT_FOUND, "no cluster is running");
    return all.rc;
}

int cmd_status(int argc, char **argv)
{
    struct status_options o = {0};

    return command_main(&status_option_table, &o, argc, argv, status_run);
}
