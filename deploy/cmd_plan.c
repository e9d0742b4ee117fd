/* tandem plan: what `up` would start, and where. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "deploy/cluster.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/plan.h"
#include "deploy/topology.h"

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

static int plan_run(const void *options, const struct option_args *args, struct err *e)
{
    const struct plan_options *o = options;
    struct cluster c = {0};
    struct plan p = {0};
    struct str text = {0};
    int rc;

    if (args->n != 1)
        return err_set(e, ERR_ARG, "one cluster file is needed, got %d arguments", args->n);
    rc = cluster_load(&c, args->argv[0], &o->override, e);
    if (!rc)
        rc = topology_plan(&p, &c, o->topology, e);
    if (!rc) {
        plan_print(&p, &c, &text);
        fputs(str_text(&text), stdout);
    }
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
