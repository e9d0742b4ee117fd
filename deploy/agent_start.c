/* start .. detach: the agent is to the supervisor what `up` is to the cluster. Until it detaches, its
 * end, however it comes, is the end of what it started. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "daemon/options.h"
#include "deploy/agent_priv.h"
#include "deploy/api.h"
#include "deploy/child.h"
#include "deploy/control.h"

#define PROGRESS_EVERY (100 * CLOCK_MS)

/* {NAME: TEXT}: each into the run directory. */
static int files_write(const struct rundir *d, const json_t *files, struct err *e)
{
    const char *name;
    json_t *text;
    int rc = 0;

    json_object_foreach ((json_t *)(uintptr_t)files, name, text) {
        const char *wrong = options_name_wrong(name);

        if (wrong || !json_is_string(text))
            return err_set(e, ERR_ARG, "files: \"%.80s\" %s", name, wrong ? wrong : "is no text");
        rc = rundir_write_file(d, name, json_string_value(text), e);
        if (rc)
            break;
    }
    return rc;
}

/* One process of the request, into a zeroed p. */
static int process_read(struct launch_process *p, const json_t *process, struct err *e)
{
    const char *name = api_text(process, "name"), *wrong = options_name_wrong(name);
    const json_t *argv = json_object_get(process, "argv");
    size_t n = json_array_size(argv);
    const char **args = mem_calloc(n, sizeof(*args));
    int rc = wrong ? err_set(e, ERR_ARG, "name: \"%.80s\" %s", name, wrong) : 0;

    for (size_t i = 0; i < n && !rc; i++) {
        args[i] = json_string_value(json_array_get(argv, i));
        if (!args[i])
            rc = err_set(e, ERR_ARG, "%s: argument %zu is no text", name, i);
    }
    if (!rc && (!n || !args[0] || args[0][0] != '/'))
        rc = err_set(e, ERR_ARG, "%s: argv begins with the absolute path of a program", name);
    else if (!rc && access(args[0], X_OK))
        rc = err_set(e, ERR_NOT_FOUND, "%s is not there, or no program of ours", args[0]);
    if (!rc)
        launch_process_init(p, name, args, n);
    mem_free(args);
    return rc;
}

static int launch_read(struct launch *l, const json_t *processes, struct err *e)
{
    int rc = 0;

    l->processes = mem_calloc(json_array_size(processes), sizeof(*l->processes));
    while (l->n < json_array_size(processes) && !rc) {
        rc = process_read(&l->processes[l->n], json_array_get(processes, l->n), e);
        if (!rc)
            l->n++;
    }
    if (!rc && !l->n)
        rc = err_set(e, ERR_ARG, "processes: none are named");
    return rc;
}

void agent_op_start(struct agent *a, const json_t *request)
{
    struct launch l = {0};
    struct err e = {0};
    int rc;

    if (a->attached) {
        err_set(&e, ERR_BUSY, "one cluster was started already");
        agent_fail(a, &e);
        return;
    }
    if (!agent_cluster(a, &a->dir, request))
        return;
    rc = launch_read(&l, json_object_get(request, "processes"), &e);
    if (!rc)
        rc = rundir_lock(&a->dir, api_text(request, "cluster"), &e);
    if (!rc)
        rc = files_write(&a->dir, json_object_get(request, "files"), &e);
    if (!rc)
        rc = supervisor_start(&a->supervisor, &a->dir, &l, &e);
    if (!rc) {
        a->attached = true;
        a->told_failed = false;
        a->progress_at = 0;
        agent_reply(a, json_object());
    } else {
        agent_fail(a, &e);
        if (a->dir.lock_fd >= 0) /* nobody has taken it over */
            rundir_remove(&a->dir);
    }
    launch_fini(&l);
}

/* How far a node is, from what it has logged: 0 .. 100, -1: it does not say. */
static int progress_percent(const char *log)
{
    const char *last = NULL;

    for (const char *at = log; (at = strstr(at, "packed")); at++)
        last = at;
    if (strstr(log, "registered as"))
        return 100;
    return last ? atoi(last + strcspn(last, "0123456789")) : -1;
}

/* [{"name", "pid", "percent"}] of what was started. */
static json_t *progress_list(const struct agent *a)
{
    json_t *reply, *list = json_array();

    if (control_ask(&reply, &a->dir, json_pack("{s:s}", "op", "list"), NULL))
        return list;
    for (size_t i = 0; i < json_array_size(json_object_get(reply, "processes")); i++) {
        const json_t *p = json_array_get(json_object_get(reply, "processes"), i);
        struct str log = {0};

        child_log_tail(api_text(p, "name"), a->dir.path, &log);
        json_array_append_new(list, json_pack("{s:s, s:I, s:i}", "name", api_text(p, "name"), "pid",
                                              api_number(p, "pid"), "percent",
                                              progress_percent(str_text(&log))));
        str_fini(&log);
    }
    json_decref(reply);
    return list;
}

int64_t agent_watch(struct agent *a, int64_t now)
{
    struct err e = {0};
    char *text;
    json_t *list;

    if (a->heard)
        a->heard_at = now;
    a->heard = false;
    if (now - a->heard_at > AGENT_SILENCE_S * CLOCK_S)
        a->ended = true;
    if (a->told_failed)
        return a->heard_at + AGENT_SILENCE_S * CLOCK_S;
    if (supervisor_failed(&a->supervisor, 0, &e)) {
        agent_event(a, json_pack("{s:s, s:s}", "event", "failed", "error", e.text));
        a->told_failed = true; /* stop, or our end, waits for it */
        return a->heard_at + AGENT_SILENCE_S * CLOCK_S;
    }
    if (now < a->progress_at)
        return a->progress_at;
    list = progress_list(a);
    text = json_dumps(list, JSON_COMPACT);
    if (!a->progress || strcmp(text, a->progress) != 0) {
        agent_event(a, json_pack("{s:s, s:O}", "event", "progress", "processes", list));
        mem_free(a->progress);
        a->progress = mem_strdup(text);
    }
    free(text); /* jansson's own */
    json_decref(list);
    a->progress_at = now + PROGRESS_EVERY;
    return a->progress_at;
}

void agent_op_detach(struct agent *a, const json_t *request)
{
    struct err e = {0};

    if (!a->attached || supervisor_failed(&a->supervisor, 0, &e)) {
        if (!a->attached)
            err_set(&e, ERR_NOT_FOUND, "nothing was started");
        agent_fail(a, &e);
        return;
    }
    supervisor_tell(&a->supervisor, SUPERVISOR_READY);
    if (!json_is_true(json_object_get(request, "stay"))) {
        supervisor_tell(&a->supervisor, SUPERVISOR_DETACH);
        close(a->supervisor.fd);
        a->attached = false;
    }
    agent_reply(a, json_object());
}

void agent_op_write(struct agent *a, const json_t *request)
{
    struct rundir d;
    struct err e = {0};
    pid_t pid;

    if (!agent_cluster(a, &d, request))
        return;
    if (!rundir_running(&d, &pid))
        err_set(&e, ERR_NOT_FOUND, "the cluster does not run there");
    else
        files_write(&d, json_object_get(request, "files"), &e);
    if (e.code)
        agent_fail(a, &e);
    else
        agent_reply(a, json_object());
}

void agent_op_stop(struct agent *a, const json_t *request)
{
    struct rundir d;
    struct err e = {0};
    bool was = true;

    if (!agent_cluster(a, &d, request))
        return;
    if (a->attached && !strcmp(d.path, a->dir.path))
        agent_leave(a);
    else
        supervisor_down(&was, &d, api_text(request, "cluster"), &e);
    if (e.code)
        agent_fail(a, &e);
    else
        agent_reply(a, json_pack("{s:b}", "was", was));
}

void agent_leave(struct agent *a)
{
    if (a->attached)
        supervisor_stop(&a->supervisor);
    a->attached = false;
    mem_free(a->progress);
    a->progress = NULL;
}
