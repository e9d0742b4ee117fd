/* tandem render: a cluster as the files of systemd, Slurm or Kubernetes; starts nothing. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "deploy/cluster.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/plan.h"
#include "deploy/render.h"
#include "deploy/topology.h"

struct render_options {
    struct cluster_override override;
    char *output, *topology, *image;
};

static const struct option render_rows[] = {
    OPTION(render_options, output, STR, .letter = 'o', .unit = "DIR",
           .help = "write the files there; without it they are printed"),
    OPTION(render_options, topology, STR, .unit = "[HOST=]XML,...",
           .help = "plan for machines recorded by lstopo; without HOST= for the first host"),
    OPTION(render_options, image, STR, .def = "tandem:" TANDEM_VERSION,
           .help = "kubernetes: the image with tandem's programs"),
    CLUSTER_OVERRIDES(render_options),
};

static const struct option_table render_option_table = {
    .program = "tandem render",
    .usage = "systemd|slurm|kubernetes FILE",
    .summary = "Writes what starts the cluster that FILE describes under another supervisor",
    .options = render_rows,
    .n = ARRAY_LEN(render_rows),
};

static int render_for(struct render *out, const char *engine, const struct cluster *c,
                      const struct plan *p, const char *image, struct err *e)
{
    if (!strcmp(engine, "systemd"))
        return render_systemd(out, c, p, e);
    if (!strcmp(engine, "slurm"))
        return render_slurm(out, c, p, e);
    return render_kubernetes(out, c, p, image, e);
}

/* To stdout, each under its name. */
static void render_show(const struct render *r)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->n > 1)
            printf("%s# ==> %s\n", i ? "\n" : "", r->files[i].path);
        fputs(str_text(&r->files[i].text), stdout);
    }
}

static int render_run(const void *options, const struct option_args *args, struct err *e)
{
    const struct render_options *o = options;
    const char *engine = args->n ? args->argv[0] : "";
    struct cluster c = {0};
    struct plan p = {0};
    struct render r = {0};
    int rc;

    if (args->n != 2)
        return err_set(e, ERR_ARG, "what for and a cluster file are needed: systemd FILE, slurm FILE or "
                                   "kubernetes FILE");
    if (strcmp(engine, "systemd") != 0 && strcmp(engine, "slurm") != 0 &&
        strcmp(engine, "kubernetes") != 0)
        return err_set(e, ERR_ARG, "\"%.40s\" is none of systemd, slurm, kubernetes", engine);
    rc = cluster_load(&c, args->argv[1], &o->override, e);
    if (!rc)
        rc = topology_plan(&p, &c, o->topology, e);
    if (!rc)
        rc = render_for(&r, engine, &c, &p, o->image, e);
    if (!rc && *o->output)
        rc = render_write(&r, o->output, e);
    else if (!rc)
        render_show(&r);
    for (size_t i = 0; i < r.n && !rc && *o->output; i++)
        printf("%s/%s\n", o->output, r.files[i].path);
    render_fini(&r);
    plan_fini(&p);
    cluster_fini(&c);
    return rc;
}

int cmd_render(int argc, char **argv)
{
    struct render_options o = {0};

    return command_main(&render_option_table, &o, argc, argv, render_run);
}
