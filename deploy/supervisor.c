#include "deploy/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/options.h"
#include "deploy/api.h"
#include "deploy/child.h"
#include "deploy/control.h"

#define SUPERVISOR_PATIENCE (3 * CLOCK_S) /* from SIGTERM to SIGKILL */
#define DOWN_PATIENCE_MS 10000            /* for the supervisor itself: longer than that */

enum supervisor_state { STARTING, RUNNING, STOPPING };

/* The supervisor process itself. */
struct supervise {
    struct rundir *dir;
    struct child **children; /* [n], each allocated: `add` and `remove` change the list */
    size_t n;
    enum supervisor_state state;
    int signal_fd;
    int up_fd;       /* `up`, -1 once it has detached or gone */
    int control_fd;  /* control.h */
    int64_t kill_at; /* while STOPPING; INT64_MAX once done */
    int code;        /* what we exit with */
};

static bool supervise_anybody(const struct supervise *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->children[i]->pid)
            return true;
    return false;
}

static void supervise_kill(const struct supervise *s, int signo)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->children[i]->pid)
            kill(s->children[i]->pid, signo);
}

/* Why it ends goes to the log, and to `up` if it still listens. */
static void supervise_end(struct supervise *s, int code, const char *why)
{
    if (s->state == STOPPING)
        return;
    log_info("process", "stopping: %s", why);
    if (s->up_fd >= 0)
        send(s->up_fd, why, strlen(why), MSG_NOSIGNAL | MSG_DONTWAIT);
    s->state = STOPPING;
    s->code = code;
    s->kill_at = clock_now() + SUPERVISOR_PATIENCE;
    supervise_kill(s, SIGTERM);
}

static void supervise_start(struct supervise *s, struct child *c, int64_t now)
{
    struct err e = {0};

    c->stopping = false;
    if (child_start(c, s->dir->path, now, &e) == 0) {
        log_info("process", "started name=%s pid=%ld", c->process.name, (long)c->pid);
    } else if (s->state == STARTING) {
        supervise_end(s, 1, e.text);
    } else {
        log_error("process", "%s", e.text);
        child_ended(c, now); /* tried again later */
    }
}

static void supervise_death(struct supervise *s, struct child *c, int status, int64_t now)
{
    struct str how = {0}, why = {0};

    child_status_text(status, &how);
    if (s->state == RUNNING)
        child_tell_end(c, s->dir->path, c->pid, status);
    child_ended(c, now);
    if (c->stopping)
        c->restart_at = now;
    else if (s->state == RUNNING && WIFEXITED(status) && !WEXITSTATUS(status))
        c->leaving = true; /* as it was told: drained, or by a signal */
    if (s->state == STARTING) {
        str_addf(&why, "%s ended at start, %s: ", c->process.name, str_text(&how));
        child_last_words(c->process.name, s->dir->path, &why);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
            str_adds(&why, "; so the system ends a process when memory runs out");
        supervise_end(s, 1, str_text(&why));
    } else if (s->state == RUNNING && !c->leaving) {
        log_warn("process", "died name=%s how=\"%s\" restart_ms=%.0f", c->process.name,
                 str_text(&how), clock_ms(c->restart_at - now));
    } else {
        log_info("process", "ended name=%s how=\"%s\"", c->process.name, str_text(&how));
    }
    str_fini(&how);
    str_fini(&why);
}

static void supervise_add(struct supervise *s, const struct launch_process *process)
{
    struct child *c = mem_alloc(sizeof(*c));

    child_init(c, process);
    s->children = mem_realloc(s->children, (s->n + 1) * sizeof(*s->children));
    s->children[s->n++] = c;
}

static void supervise_forget(struct supervise *s, size_t i)
{
    child_fini(s->children[i]);
    mem_free(s->children[i]);
    memmove(&s->children[i], &s->children[i + 1], (--s->n - i) * sizeof(*s->children));
}

static void supervise_reap(struct supervise *s)
{
    int64_t now = clock_now();
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < s->n; i++)
            if (s->children[i]->pid == pid) {
                supervise_death(s, s->children[i], status, now);
                if (s->children[i]->leaving)
                    supervise_forget(s, i);
                break;
            }
}

/* The child of that name, s->n if there is none. */
static size_t supervise_find(const struct supervise *s, const char *name)
{
    size_t i = 0;

    while (i < s->n && strcmp(s->children[i]->process.name, name) != 0)
        i++;
    return i;
}

static json_t *supervise_list(const struct supervise *s)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s->n; i++) {
        const struct child *c = s->children[i];

        json_array_append_new(list, json_pack("{s:s, s:I, s:b, s:o}", "name", c->process.name,
                                              "pid", (json_int_t)c->pid, "stopping", c->stopping,
                                              "argv", launch_process_argv(&c->process)));
    }
    return json_pack("{s:o}", "processes", list);
}

/* The name and argv of a request into a zeroed process; else the reply that says what is wrong. */
static json_t *supervise_process(struct launch_process *p, const json_t *request)
{
    const char *name = api_text(request, "name"), *wrong = options_name_wrong(name);
    const json_t *argv = json_object_get(request, "argv");
    size_t n = json_array_size(argv), texts = 0;
    const char **args;
    json_t *reply = NULL;

    if (wrong)
        return control_error("name: \"%.80s\" %s", name, wrong);
    args = mem_calloc(n, sizeof(*args));
    for (size_t i = 0; i < n; i++)
        args[i] = json_string_value(json_array_get(argv, i));
    for (size_t i = 0; i < n; i++)
        texts += args[i] != NULL;
    if (!n || texts < n || args[0][0] != '/')
        reply = control_error("argv: a list of texts is needed, the first an absolute path");
    else
        launch_process_init(p, name, args, n);
    mem_free(args);
    return reply;
}

static json_t *supervise_op_add(struct supervise *s, const json_t *request)
{
    const char *name = api_text(request, "name");
    struct launch_process process = {0};
    json_t *reply = supervise_process(&process, request);

    if (reply)
        return reply;
    if (supervise_find(s, name) < s->n) {
        reply = control_error("there is a process %s already", name);
    } else if (s->state != RUNNING) {
        reply = control_error("the cluster is just being started or ended; try again");
    } else {
        supervise_add(s, &process);
        supervise_start(s, s->children[s->n - 1], clock_now());
        reply = json_object();
    }
    launch_process_fini(&process);
    return reply;
}

static json_t *supervise_op_replace(struct supervise *s, const json_t *request)
{
    const char *name = api_text(request, "name");
    struct launch_process process = {0};
    json_t *reply = supervise_process(&process, request);
    struct child *c;
    size_t i;

    if (reply)
        return reply;
    i = supervise_find(s, name);
    if (i == s->n || s->state != RUNNING) {
        reply = i == s->n ? control_error("there is no process \"%.80s\"", name)
                          : control_error("the cluster is just being started or ended; try again");
        launch_process_fini(&process);
        return reply;
    }
    c = s->children[i];
    launch_process_fini(&c->process);
    c->process = process;
    log_info("process", "replaced name=%s", name);
    c->restart_at = clock_now();
    c->stopping = c->pid != 0;
    if (c->pid)
        kill(c->pid, SIGTERM);
    return json_object();
}

static json_t *supervise_op_remove(struct supervise *s, const json_t *request)
{
    const char *name = api_text(request, "name");
    size_t i = supervise_find(s, name);
    struct child *c;

    if (i == s->n)
        return control_error("there is no process \"%.80s\"", name);
    if (!strcmp(name, "router"))
        return control_error("the router is not removed; `tandem down` ends the cluster");
    c = s->children[i];
    c->leaving = true;
    log_info("process", "leaving name=%s", name);
    if (!c->pid)
        supervise_forget(s, i);
    else if (json_is_true(json_object_get(request, "stop")))
        kill(c->pid, SIGTERM);
    return json_object();
}

static json_t *supervise_answer(void *ctx, const json_t *request)
{
    struct supervise *s = ctx;
    const char *op = api_text(request, "op");

    if (!strcmp(op, "list"))
        return supervise_list(s);
    if (!strcmp(op, "add"))
        return supervise_op_add(s, request);
    if (!strcmp(op, "remove"))
        return supervise_op_remove(s, request);
    if (!strcmp(op, "replace"))
        return supervise_op_replace(s, request);
    return control_error("op: \"%.80s\" is none of list, add, remove, replace", op);
}

static void supervise_signals(struct supervise *s)
{
    struct signalfd_siginfo info;
    char why[64];

    while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            supervise_reap(s);
            continue;
        }
        snprintf(why, sizeof(why), "stopped by signal %u (%s)", info.ssi_signo,
                 strsignal((int)info.ssi_signo));
        supervise_end(s, 0, why);
    }
}

/* `up` says how far it is, or is gone. */
static void supervise_up(struct supervise *s)
{
    char step;
    ssize_t n = recv(s->up_fd, &step, 1, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 1 && step == SUPERVISOR_READY) {
        if (s->state == STARTING)
            s->state = RUNNING;
        return;
    }
    if (n != 1)
        supervise_end(s, 1, "tandem up has gone");
    close(s->up_fd);
    s->up_fd = -1;
}

/* Restarts what is due; returns the poll timeout until something else is. */
static int supervise_timers(struct supervise *s)
{
    int64_t now = clock_now(), next = INT64_MAX;

    if (s->state == STOPPING) {
        if (now >= s->kill_at) {
            log_warn("process", "some did not end within %.0f ms: killed",
                     clock_ms(SUPERVISOR_PATIENCE));
            supervise_kill(s, SIGKILL);
            s->kill_at = INT64_MAX;
        }
        next = s->kill_at;
    }
    for (size_t i = 0; i < s->n && s->state == RUNNING; i++) {
        struct child *c = s->children[i];

        if (!c->pid && now >= c->restart_at)
            supervise_start(s, c, now);
        if (!c->pid && c->restart_at < next)
            next = c->restart_at;
    }
    if (next == INT64_MAX)
        return -1;
    return (int)((next - now) / CLOCK_MS) + 1;
}

static void supervise_loop(struct supervise *s)
{
    while (s->state != STOPPING || supervise_anybody(s)) {
        struct pollfd fds[] = {{.fd = s->signal_fd, .events = POLLIN},
                               {.fd = s->up_fd, .events = POLLIN},
                               {.fd = s->control_fd, .events = POLLIN}};

        if (poll(fds, ARRAY_LEN(fds), supervise_timers(s)) < 0 && errno != EINTR) {
            supervise_end(s, 1, strerror(errno));
            continue;
        }
        if (s->up_fd >= 0 && fds[1].revents) /* first: what died after all were ready did not die at start */
            supervise_up(s);
        if (fds[0].revents)
            supervise_signals(s);
        if (s->control_fd >= 0 && fds[2].revents)
            control_serve(s->control_fd, supervise_answer, s);
    }
}

/* Signals come through a descriptor, so that none arrives between a test and a wait. */
static int supervise_signal_fd(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_SETMASK, &set, NULL))
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* A session of our own: Ctrl-C in the terminal of `up` is for `up` to handle. */
static int supervise_detach(const struct rundir *d)
{
    char path[PATH_MAX];
    int log, null;

    setsid();
    if (snprintf(path, sizeof(path), "%s/supervisor.log", d->path) >= (int)sizeof(path) ||
        chdir("/"))
        return -1;
    log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (log < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
        dup2(log, STDERR_FILENO) < 0)
        return -1;
    close(log);
    close(null);
    return 0;
}

/* Its log is as those of the processes: in JSON if theirs are. */
static enum log_format supervise_log_format(const struct launch *l)
{
    for (char **arg = l->n ? l->processes[0].argv : NULL; arg && *arg; arg++)
        if (!strcmp(*arg, "--log_format=json"))
            return LOG_JSON;
    return LOG_TEXT;
}

/* The whole life of the supervisor process. */
static _Noreturn void supervise_main(struct rundir *d, const struct launch *l, int up_fd)
{
    struct supervise s = {.dir = d, .up_fd = up_fd, .control_fd = -1,
                          .signal_fd = supervise_signal_fd()};
    struct err e = {0};
    int64_t now = clock_now();

    log_init("supervisor", LOG_INFO);
    log_set_format(supervise_log_format(l));
    if (s.signal_fd < 0 || supervise_detach(d))
        err_set(&e, ERR_IO, "the supervisor cannot start: %s", strerror(errno));
    else if (!rundir_write_pid(d, getpid(), &e))
        s.control_fd = control_listen(d, &e);
    for (size_t i = 0; i < l->n; i++)
        supervise_add(&s, &l->processes[i]);
    if (e.code)
        supervise_end(&s, 1, e.text);
    for (size_t i = 0; i < s.n && s.state == STARTING; i++)
        supervise_start(&s, s.children[i], now);
    supervise_loop(&s);
    rundir_remove(d);
    _exit(s.code); /* what was inherited from `up` is not ours to flush or free */
}

int supervisor_start(struct supervisor *s, struct rundir *d, const struct launch *l, struct err *e)
{
    sigset_t all, before;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
        return err_set(e, ERR_IO, "no socket pair for the supervisor: %s", strerror(errno));
    fflush(NULL);
    sigfillset(&all); /* a SIGTERM that comes before it has its descriptor waits for it */
    sigprocmask(SIG_SETMASK, &all, &before);
    s->pid = fork();
    if (s->pid == 0) {
        close(fds[0]);
        supervise_main(d, l, fds[1]);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(fds[1]);
    if (s->pid < 0) {
        close(fds[0]);
        return err_set(e, ERR_IO, "cannot fork the supervisor: %s", strerror(errno));
    }
    s->fd = fds[0];
    rundir_release(d);
    return 0;
}

void supervisor_tell(struct supervisor *s, char step)
{
    send(s->fd, &step, 1, MSG_NOSIGNAL);
}

bool supervisor_failed(struct supervisor *s, int timeout_ms, struct err *e)
{
    struct pollfd fd = {.fd = s->fd, .events = POLLIN};
    char why[sizeof(e->text)];
    ssize_t n;

    if (poll(&fd, 1, timeout_ms) <= 0)
        return false;
    n = recv(s->fd, why, sizeof(why) - 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    why[n > 0 ? n : 0] = '\0';
    err_set(e, ERR_PEER, "%s", n > 0 ? why : "the supervisor was killed");
    return true;
}

int supervisor_stop(struct supervisor *s)
{
    int status = 0;

    kill(s->pid, SIGTERM); /* not yet waited for, so the number is still its own */
    while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(s->fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static bool down_ended(int process)
{
    struct pollfd fd = {.fd = process, .events = POLLIN};

    return poll(&fd, 1, DOWN_PATIENCE_MS) == 1;
}

/* Asks, then insists: children of a killed supervisor are killed by the system. The descriptor stands
 * for this one process, whoever gets its number later. */
static int down_process(const struct rundir *d, const char *cluster, pid_t pid, struct err *e)
{
    int process = pid ? pidfd_open(pid, 0) : -1;
    pid_t now;
    bool ended;

    if (process < 0 || !rundir_running(d, &now) || now != pid) {
        if (process >= 0)
            close(process);
        return err_set(e, ERR_BUSY, "cluster %s is just being started or ended; try again", cluster);
    }
    pidfd_send_signal(process, SIGTERM, NULL, 0);
    ended = down_ended(process);
    if (!ended) {
        pidfd_send_signal(process, SIGKILL, NULL, 0);
        ended = down_ended(process);
    }
    close(process);
    return ended ? 0
                 : err_set(e, ERR_TIMEOUT, "cluster %s: supervisor %ld does not end", cluster,
                           (long)pid);
}

int supervisor_down(bool *was, struct rundir *d, const char *cluster, struct err *e)
{
    pid_t pid;
    bool running = rundir_running(d, &pid);
    int rc = running ? down_process(d, cluster, pid, e) : 0;

    *was = running || !access(d->path, F_OK);
    /* A supervisor that was killed, now or earlier, has left its directory. */
    if (!rc && !access(d->path, F_OK) && !rundir_lock(d, cluster, NULL))
        rundir_remove(d);
    return rc;
}
