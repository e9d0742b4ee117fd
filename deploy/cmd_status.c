/* tandem status: a table of a cluster's nodes, or what the router says as JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/commands.h"

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

static void status_node(const json_t *n)
{
    char pages[64];
    struct str kv = {0};

    snprintf(pages, sizeof(pages), "%" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT,
             api_number(n, "pages_total") - api_number(n, "pages_free"),
             api_number(n, "pages_total"));
    size_text(&kv, (uint64_t)api_number(n, "kv_bytes"));
    printf("%-12s %-8s %-9s %-11s %6" JSON_INTEGER_FORMAT " %8" JSON_INTEGER_FORMAT
           " %6" JSON_INTEGER_FORMAT " %7" JSON_INTEGER_FORMAT " %13s %10" JSON_INTEGER_FORMAT
           " %11s\n",
           api_text(n, "name"), api_text(n, "role"), api_text(n, "state"), api_text(n, "tier"),
           api_number(n, "domain"), api_number(n, "pid"), api_number(n, "queued"),
           api_number(n, "running"), pages, api_number(n, "tokens"), str_text(&kv));
    str_fini(&kv);
}

/* Prefill nodes first, then by number. */
static int status_order(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    const char *name_x = api_text(x, "name"), *name_y = api_text(y, "name");
    int roles = strcmp(api_text(y, "role"), api_text(x, "role"));
    size_t n_x = strlen(name_x), n_y = strlen(name_y);

    if (roles)
        return roles;
    return n_x != n_y ? (n_x < n_y ? -1 : 1) : strcmp(name_x, name_y);
}

static void status_table(const struct target *t, const json_t *reply)
{
    const json_t *router = json_object_get(reply, "router");
    const json_t *nodes = json_object_get(reply, "nodes");
    size_t n = json_array_size(nodes);
    json_t **sorted;

    printf("cluster %s at %s, model %s: %" JSON_INTEGER_FORMAT " queued, %" JSON_INTEGER_FORMAT
           " running\n",
           api_text(reply, "cluster"), t->url, api_text(reply, "model"),
           api_number(router, "queued"), api_number(router, "running"));
    printf("%-12s %-8s %-9s %-11s %6s %8s %6s %7s %13s %10s %11s\n", "node", "role", "state", "tier",
           "domain", "pid", "queued", "running", "pages used", "tokens", "KV moved");
    sorted = mem_calloc(n, sizeof(json_t *));
    for (size_t i = 0; i < n; i++)
        sorted[i] = json_array_get(nodes, i);
    qsort(sorted, n, sizeof(json_t *), status_order);
    for (size_t i = 0; i < n; i++)
        status_node(sorted[i]);
    mem_free(sorted);
}

static int status_one(const char *which, bool json, struct err *e)
{
    struct target t = {0};
    json_t *reply = NULL;
    int rc = target_reach(&t, which, e);

    if (!rc)
        rc = api_cluster(&reply, t.url, e);
    if (!rc && json) {
        json_dumpf(reply, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (!rc) {
        status_table(&t, reply);
    }
    json_decref(reply);
    target_fini(&t);
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
