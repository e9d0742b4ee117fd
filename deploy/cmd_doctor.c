/* tandem doctor: what is wrong on the hosts of a cluster, or on this one for any, and what mends it. */
#include <stdio.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "deploy/cluster.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/doctor.h"
#include "deploy/fleet.h"
#include "deploy/plan.h"
#include "deploy/roster.h"

struct doctor_options {
    bool json;
};

static const struct option doctor_rows[] = {
    OPTION(doctor_options, json, BOOL, .help = "print JSON, a line a host"),
};

static const struct option_table doctor_option_table = {
    .program = "tandem doctor",
    .usage = "[FILE]",
    .summary = "Says what is wrong on the hosts of a cluster, or on this one for any, and what mends it",
    .options = doctor_rows,
    .n = ARRAY_LEN(doctor_rows),
};

/* One run over the hosts of a file. */
struct doctor {
    const struct doctor_options *options;
    struct cluster cluster;
    struct roster roster;
    struct fleet fleet;
    struct plan plan;
    struct err plan_wrong; /* code 0: there is a plan */
    bool well;
};

/* A host, its findings: as lines, or as JSON. Takes reply. */
static bool doctor_show(const struct doctor_options *o, const char *host, json_t *reply)
{
    struct str text = {0};
    bool well = doctor_print(reply, &text);

    if (o->json) {
        json_object_set_new(reply, "host", json_string(host));
        json_object_del(reply, "re");
        json_dumpf(reply, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        const char *name = api_text(reply, "hostname");

        printf(*name ? "host %s (%s)\n%s" : "host %s%s\n%s", host, name, str_text(&text));
    }
    str_fini(&text);
    json_decref(reply);
    return well;
}

/* A finding that is about no fact of a host. */
static json_t *doctor_alone(const char *check, const struct err *e)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "check", check, "state", "wrong", "value", e->text, "mend", "");
}

/* With the topologies that all hosts sent; without one of them there is no plan. */
static void doctor_plan(struct doctor *d)
{
    const char **xml = mem_calloc(d->fleet.n, sizeof(*xml));
    bool all = true;

    for (size_t i = 0; i < d->fleet.n; i++) {
        all &= !d->fleet.remotes[i].dead;
        if (all && !cluster_host_is_local(&d->cluster.hosts[i]))
            xml[i] = api_text(d->fleet.hello[i], "topology");
    }
    if (!all)
        d->plan_wrong.code = ERR_NET; /* the host's own finding says so */
    else
        plan_init(&d->plan, &d->cluster, xml, &d->plan_wrong);
    mem_free(xml);
}

/* One host after the other, for the way there and back bounds what is not known. */
static void doctor_clock(struct doctor *d, size_t host, json_t *reply)
{
    double before = doctor_wall_s(), after;
    json_t *clock;

    if (fleet_ask(&d->fleet, host, json_pack("{s:s}", "op", "clock"), &clock, NULL))
        return;
    after = doctor_wall_s();
    doctor_compare_clock(reply, json_number_value(json_object_get(clock, "time_s")) - (before + after) / 2,
                         (after - before) / 2);
    json_decref(clock);
}

static void doctor_host(struct doctor *d, size_t host)
{
    struct remote *r = &d->fleet.remotes[host];
    json_t *reply = r->reply;

    r->reply = NULL;
    if (!reply)
        reply = json_pack("{s:[o]}", "findings", doctor_alone("connection", &r->e));
    else if (!cluster_host_is_local(&d->cluster.hosts[host]))
        doctor_clock(d, host, reply);
    if (host == 0 && d->plan_wrong.code && *d->plan_wrong.text)
        json_array_insert_new(json_object_get(reply, "findings"), 0, doctor_alone("plan", &d->plan_wrong));
    d->well &= doctor_show(d->options, d->cluster.hosts[host].host, reply);
}

static int doctor_hosts(struct doctor *d, struct err *e)
{
    int rc;

    roster_from_cluster(&d->roster, &d->cluster);
    rc = fleet_open(&d->fleet, "tandem doctor", d->cluster.cluster, &d->roster, true, -1, e);
    if (rc)
        return rc;
    doctor_plan(d);
    for (size_t i = 0; i < d->fleet.n; i++)
        if (!d->fleet.remotes[i].dead)
            remote_ask(&d->fleet.remotes[i],
                       json_pack("{s:s, s:o}", "op", "doctor", "want",
                                 doctor_want_json(&d->cluster, d->plan_wrong.code ? NULL : &d->plan,
                                                  (uint32_t)i, fleet_running(&d->fleet, i))),
                       REMOTE_REPLY_S);
    rc = fleet_wait(&d->fleet, e);
    d->well = true;
    for (size_t i = 0; i < d->fleet.n && !rc; i++)
        doctor_host(d, i);
    return rc;
}

static int doctor_main(const void *options, const struct option_args *args, struct err *e)
{
    struct doctor d = {.options = options};
    int rc = 0;

    if (args->n > 1)
        return err_set(e, ERR_ARG, "one cluster file at most, got %d arguments", args->n);
    if (!args->n)
        d.well = doctor_show(options, CLUSTER_HOST_LOCAL, doctor_run("", NULL));
    else
        rc = cluster_load(&d.cluster, args->argv[0], NULL, e);
    if (args->n && !rc)
        rc = doctor_hosts(&d, e);
    fleet_close(&d.fleet);
    plan_fini(&d.plan);
    roster_fini(&d.roster);
    cluster_fini(&d.cluster);
    return rc || d.well ? rc : err_set(e, ERR_CONFIG, "something is wrong, as said above");
}

int cmd_doctor(int argc, char **argv)
{
    struct doctor_options o = {0};

    return command_main(&doctor_option_table, &o, argc, argv, doctor_main);
}
