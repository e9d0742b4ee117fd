#include "deploy/command.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "daemon/daemon.h"
#include "daemon/options.h"
#include "deploy/cluster.h"

int command_main(const struct option_table *t, void *options, int argc, char **argv,
                 int (*run)(const void *options, const struct option_args *args, struct err *e))
{
    struct option_args args = {0};
    enum option_action action;
    struct err e = {0};
    int code = EXIT_OK;

    if (option_main(t, options, argc, argv, &args, &action, &e))
        code = EXIT_USAGE;
    else if (action == OPTION_RUN && run(options, &args, &e))
        code = e.code == ERR_ARG ? EXIT_USAGE : EXIT_FAILED;
    if (code != EXIT_OK)
        fprintf(stderr, "%s: %s\n", t->program, e.text);
    option_free(t, options);
    return code;
}

static bool target_is_file(const char *which)
{
    size_t n = strlen(which);

    return strchr(which, '/') || (n > 5 && !strcmp(which + n - 5, ".yaml")) ||
           (n > 4 && !strcmp(which + n - 4, ".yml"));
}

/* Which clusters run, for a caller that named none. */
struct target_list {
    char first[OPTIONS_NAME_MAX + 1];
    struct str all; /* "demo, other" */
    size_t n;
};

static void target_seen(void *ctx, const char *cluster)
{
    struct target_list *list = ctx;

    if (!list->n++)
        snprintf(list->first, sizeof(list->first), "%s", cluster);
    str_addf(&list->all, "%s%s", list->all.len ? ", " : "", cluster);
}

static int target_only(struct rundir *d, struct err *e)
{
    struct target_list list = {0};
    int rc;

    rundir_each(target_seen, &list);
    if (list.n == 1)
        rc = rundir_locate(d, list.first, e);
    else if (list.n == 0)
        rc = err_set(e, ERR_NOT_FOUND, "no cluster is running; `tandem up FILE` starts one");
    else
        rc = err_set(e, ERR_ARG, "several clusters are running, name one: %s", str_text(&list.all));
    str_fini(&list.all);
    return rc;
}

int target_locate(struct rundir *d, const char *which, struct err *e)
{
    struct cluster c = {0};
    const char *wrong;
    int rc;

    d->lock_fd = -1;
    if (!which)
        return target_only(d, e);
    if (!target_is_file(which)) {
        wrong = options_name_wrong(which);
        return wrong ? err_set(e, ERR_ARG, "cluster: \"%.80s\" %s", which, wrong)
                     : rundir_locate(d, which, e);
    }
    rc = cluster_load(&c, which, NULL, e);
    if (!rc)
        rc = rundir_locate(d, c.cluster, e);
    cluster_fini(&c);
    return rc;
}

int target_find(struct target *t, const char *which, struct err *e)
{
    int rc = target_locate(&t->dir, which, e);

    if (rc)
        return rc;
    if (!rundir_running(&t->dir, &t->supervisor))
        return err_set(e, ERR_NOT_FOUND, "cluster %s is not running; `tandem up FILE` starts it",
                       strrchr(t->dir.path, '/') + 1);
    rc = rundir_read_state(&t->state, &t->dir, e);
    if (!rc)
        snprintf(t->url, sizeof(t->url), "http://%s", t->state.http);
    return rc;
}

int target_reach(struct target *t, const char *which, struct err *e)
{
    const char *address = which && !strncmp(which, "http://", 7) ? which + 7 : NULL;
    size_t n = address ? strcspn(address, "/") : 0;

    if (!address)
        return target_find(t, which, e);
    if (!n || address[n + (address[n] == '/')] || n + 8 > sizeof(t->url))
        return err_set(e, ERR_ARG, "\"%.80s\" is not a router's URL, http://HOST:PORT", which);
    snprintf(t->url, sizeof(t->url), "http://%.*s", (int)n, address);
    return 0;
}

void target_fini(struct target *t) { rundir_state_fini(&t->state); }

void size_text(struct str *out, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;

    for (; v >= 1024 && u + 1 < ARRAY_LEN(units); u++)
        v /= 1024;
    str_addf(out, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}
