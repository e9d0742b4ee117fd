/* tandem logs: what the processes of a cluster wrote, from all its hosts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/fleet.h"

#define LOGS_SUPERVISOR "supervisor" /* has a log on each host, too */
#define LOGS_TIME 24                 /* characters that say when: 2026-01-31T12:00:00.000Z */

struct logs_options {
    uint32_t lines;
    bool follow;
};

static const struct option logs_rows[] = {
    OPTION(logs_options, lines, U32, .letter = 'n', .def = "20", .max = 1000000,
           .help = "so many of each process, the last ones"),
    OPTION(logs_options, follow, BOOL, .letter = 'f', .help = "go on with what they write, until Ctrl-C"),
};

static const struct option_table logs_option_table = {
    .program = "tandem logs",
    .usage = "[FILE|CLUSTER] [NODE]",
    .summary = "Shows what a cluster's processes logged, or one of them: router, decode-1, supervisor, ...",
    .options = logs_rows,
    .n = ARRAY_LEN(logs_rows),
};

struct logs_line {
    char *text;               /* owned */
    char time[LOGS_TIME + 1]; /* when it was written; of one that does not say, its forerunner's */
    size_t at;                /* among those that came: what has the same time stays in order */
};

/* One run. */
struct logs {
    const struct logs_options *options;
    struct target target;
    struct fleet fleet;
    const char *node; /* NULL: all */
    bool named;       /* lines begin with who wrote them: there are several */
    struct logs_line *lines; /* [n], until they are sorted; in order of coming */
    size_t n, cap;
};

/* A line begins with it, or has it as its first member. */
static void logs_time(char time[LOGS_TIME + 1], const char *text, const struct logs_line *before)
{
    const char *at = text + strcspn(text, "0123456789");

    if (at - text <= 10 && strlen(at) >= LOGS_TIME && at[10] == 'T' && at[LOGS_TIME - 1] == 'Z')
        snprintf(time, LOGS_TIME + 1, "%.*s", LOGS_TIME, at);
    else
        snprintf(time, LOGS_TIME + 1, "%s", before ? before->time : "");
}

static void logs_event(void *ctx, struct remote *r, const json_t *event)
{
    struct logs *l = ctx;
    struct str line = {0};

    if (l->named && l->fleet.n > 1)
        str_addf(&line, "%s ", r->host);
    if (l->named)
        str_addf(&line, "%s | ", api_text(event, "name"));
    str_adds(&line, api_text(event, "text"));
    if (l->options->follow) {
        puts(str_text(&line));
        fflush(stdout);
        str_fini(&line);
        return;
    }
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 256;
        l->lines = mem_realloc(l->lines, l->cap * sizeof(*l->lines));
    }
    l->lines[l->n] = (struct logs_line){.text = str_steal(&line), .at = l->n};
    logs_time(l->lines[l->n].time, api_text(event, "text"), l->n ? &l->lines[l->n - 1] : NULL);
    l->n++;
}

static int logs_order(const void *a, const void *b)
{
    const struct logs_line *x = a, *y = b;
    int c = strcmp(x->time, y->time);

    return c ? c : (x->at > y->at) - (x->at < y->at);
}

/* What has a log on a host: what runs there, and its supervisor. */
static json_t *logs_names(const struct logs *l, const json_t *list)
{
    const json_t *processes = json_object_get(list, "processes");
    json_t *names = json_array();

    if (l->node) {
        json_array_append_new(names, json_string(l->node));
        return names;
    }
    for (size_t i = 0; i < json_array_size(processes); i++)
        json_array_append(names, json_object_get(json_array_get(processes, i), "name"));
    json_array_append_new(names, json_string(LOGS_SUPERVISOR));
    return names;
}

/* Asks each host where some of the cluster runs for its logs. */
static int logs_ask(struct logs *l, struct err *e)
{
    int rc;

    for (size_t i = 0; i < l->fleet.n; i++)
        if (fleet_running(&l->fleet, i))
            fleet_ask_list(&l->fleet, i);
    rc = fleet_wait(&l->fleet, e);
    for (size_t i = 0; i < l->fleet.n && !rc; i++) {
        struct remote *r = &l->fleet.remotes[i];
        json_t *request;

        if (!r->reply)
            continue;
        request = json_pack("{s:s, s:s, s:o, s:I, s:b}", "op", "tail", "cluster", l->target.name,
                            "names", logs_names(l, r->reply), "lines", (json_int_t)l->options->lines, "follow",
                            l->options->follow);
        r->event = logs_event;
        r->ctx = l;
        remote_ask(r, request, REMOTE_FOREVER);
    }
    return rc ? rc : fleet_wait(&l->fleet, e);
}

/* One node's log is on one host: that the others have none is no failure. */
static int logs_check(const struct logs *l, struct err *e)
{
    bool *skip = mem_calloc(l->fleet.n, sizeof(*skip));
    size_t found = 0;
    int rc;

    for (size_t i = 0; i < l->fleet.n; i++) {
        skip[i] = l->node && l->fleet.remotes[i].e.code == ERR_NOT_FOUND;
        found += l->fleet.remotes[i].reply != NULL;
    }
    rc = fleet_check(&l->fleet, skip, e);
    mem_free(skip);
    if (!rc && !found && l->node)
        return err_set(e, ERR_NOT_FOUND, "cluster %s has no process \"%.80s\" with a log", l->target.name,
                       l->node);
    return rc;
}

/* Whether a lone argument names a cluster: as a file, or as one that runs. */
static bool logs_is_cluster(const char *text)
{
    struct rundir d = {.lock_fd = -1};

    return target_is_file(text) ||
           (!options_name_wrong(text) && !rundir_locate(&d, text, NULL) && rundir_known(&d));
}

static int logs_run(const void *options, const struct option_args *args, struct err *e)
{
    struct logs l = {.options = options};
    int first = args->n == 2 || (args->n == 1 && logs_is_cluster(args->argv[0]));
    int rc;

    if (args->n > 2)
        return err_set(e, ERR_ARG, "a cluster and a node at most, got %d arguments", args->n);
    if (args->n > first)
        l.node = args->argv[first];
    l.named = !l.node || !strcmp(l.node, LOGS_SUPERVISOR);
    rc = target_hosts(&l.target, first ? args->argv[0] : NULL, e);
    if (!rc)
        rc = fleet_open(&l.fleet, "tandem logs", l.target.name, &l.target.roster, false, -1, e);
    if (!rc)
        rc = logs_ask(&l, e);
    if (!rc)
        rc = logs_check(&l, e);
    if (l.lines)
        qsort(l.lines, l.n, sizeof(*l.lines), logs_order);
    for (size_t i = 0; l.lines && i < l.n; i++) {
        puts(l.lines[i].text);
        mem_free(l.lines[i].text);
    }
    mem_free(l.lines);
    fleet_close(&l.fleet);
    target_fini(&l.target);
    return rc;
}

int cmd_logs(int argc, char **argv)
{
    struct logs_options o = {0};

    return command_main(&logs_option_table, &o, argc, argv, logs_run);
}
