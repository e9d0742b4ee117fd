/* tandem doctor: what is wrong on this machine, for a cluster or for any, and what mends it. */
#include <stdio.h>

#include "base/check.h"
#include "deploy/cluster.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/doctor.h"
#include "deploy/paths.h"
#include "deploy/plan.h"

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

static bool doctor_runs(const struct cluster *c)
{
    struct rundir d = {.lock_fd = -1};
    pid_t pid;

    return !rundir_locate(&d, c->cluster, NULL) && rundir_running(&d, &pid);
}

/* The wants of the file's cluster, {} without a file. That it cannot be planned is an error of its
 * own, in a sentence. */
static int doctor_want(json_t **want, const char *file, struct err *e)
{
    struct cluster c = {0};
    struct plan p = {0};
    int rc = 0;

    *want = NULL;
    if (file)
        rc = cluster_load(&c, file, NULL, e);
    if (!rc && file)
        rc = plan_init(&p, &c, NULL, e);
    if (!rc)
        *want = file ? doctor_want_json(&c, &p, 0, paths_program_dir(), doctor_runs(&c))
                     : json_object();
    plan_fini(&p);
    cluster_fini(&c);
    return rc;
}

static int doctor_main(const void *options, const struct option_args *args, struct err *e)
{
    const struct doctor_options *o = options;
    struct str text = {0};
    json_t *want, *reply;
    bool well;
    int rc;

    if (args->n > 1)
        return err_set(e, ERR_ARG, "one cluster file at most, got %d arguments", args->n);
    rc = doctor_want(&want, args->n ? args->argv[0] : NULL, e);
    if (rc)
        return rc;
    reply = doctor_run("", want);
    well = doctor_print(reply, &text);
    if (o->json) {
        json_dumpf(reply, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        printf("host local (%s)\n%s", json_string_value(json_object_get(reply, "hostname")),
               str_text(&text));
    }
    str_fini(&text);
    json_decref(reply);
    json_decref(want);
    return well ? 0 : err_set(e, ERR_CONFIG, "something is wrong on this host, as said above");
}

int cmd_doctor(int argc, char **argv)
{
    struct doctor_options o = {0};

    return command_main(&doctor_option_table, &o, argc, argv, doctor_main);
}
