/* tandem plan: what `up` would start, and where. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/cluster.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/plan.h"

struct plan_options {
    struct cluster_override override;
    char *topology;
};

static const struct option plan_rows[] = {
    CLUSTER_OVERRIDES(plan_options),
    OPTION(plan_options, topology, STR, .unit = "[HOST=]XML,...",
           .help = "plan for machines recorded by lstopo; without HOST= for the first host"),
};

static const struct option_table plan_option_table = {
    .program = "tandem plan",
    .usage = "FILE",
    .summary = "Shows which processes a cluster has, their cores and memory; starts nothing",
    .options = plan_rows,
    .n = ARRAY_LEN(plan_rows),
};

/* The host that the n bytes of name mean; -1: none. */
static int topology_host(const struct cluster *c, const char *name, size_t n)
{
    for (size_t h = 0; h < c->n_hosts; h++)
        if (strlen(c->hosts[h].host) == n && !memcmp(c->hosts[h].host, name, n))
            return (int)h;
    return -1;
}

/* "web1=a.xml,web2=b.xml" into xml[c->n_hosts], whose strings stay in list, which is cut up. */
static int topology_split(const char **xml, const struct cluster *c, char *list, struct err *e)
{
    char *rest = NULL;

    for (char *item = strtok_r(list, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(item, '=');
        size_t n = equals ? (size_t)(equals - item) : 0;
        int h = equals ? topology_host(c, item, n) : 0;

        if (h < 0)
            return err_set(e, ERR_ARG, "--topology: %s has no host \"%.*s\"", c->file, (int)n, item);
        if (xml[h])
            return err_set(e, ERR_ARG, "--topology: host %s is given twice", c->hosts[h].host);
        xml[h] = equals ? equals + 1 : item;
    }
    for (size_t h = 0; h < c->n_hosts; h++)
        if (!xml[h] && !cluster_host_is_local(&c->hosts[h]))
            return err_set(e, ERR_ARG, "host %s: record its topology there with `lstopo FILE.xml` and "
                                       "say --topology=%s=FILE.xml", c->hosts[h].host,
                           c->hosts[h].host);
    return 0;
}

static int plan_run(const void *options, const struct option_args *args, struct err *e)
{
    const struct plan_options *o = options;
    const char **xml = NULL;
    char *list;
    struct cluster c = {0};
    struct plan p = {0};
    struct str text = {0};
    int rc;

    if (args->n != 1)
        return err_set(e, ERR_ARG, "one cluster file is needed, got %d arguments", args->n);
    list = mem_strdup(o->topology);
    rc = cluster_load(&c, args->argv[0], &o->override, e);
    if (!rc) {
        xml = mem_calloc(c.n_hosts, sizeof(*xml));
        rc = topology_split(xml, &c, list, e);
    }
    if (!rc)
        rc = plan_init(&p, &c, xml, e);
    if (!rc) {
        plan_print(&p, &c, &text);
        fputs(str_text(&text), stdout);
    }
    mem_free(xml);
    mem_free(list);
    str_fini(&text);
    plan_fini(&p);
    cluster_fini(&c);
    return rc;
}

int cmd_plan(int argc, char **argv)
{
    struct plan_options o = {0};

    return command_main(&plan_option_table, &o, argc, argv, plan_run);
}
