#include "deploy/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "daemon/end.h"

/* Restarts: quick at first, for a node that met one bad moment; then slow, for one that cannot run. */
#define CHILD_BACKOFF_MIN (200 * CLOCK_MS)
#define CHILD_BACKOFF_MAX (5 * CLOCK_S)
#define CHILD_STABLE (10 * CLOCK_S) /* one that ran so long starts over with the quick ones */
#define CHILD_LOG_TAIL 4096         /* bytes in which the last line is looked for */

void child_init(struct child *c, const struct launch_process *process)
{
    size_t n = 0;

    while (process->argv[n])
        n++;
    *c = (struct child){.backoff = CHILD_BACKOFF_MIN};
    launch_process_init(&c->process, process->name, (const char *const *)process->argv, n);
}

void child_fini(struct child *c) { launch_process_fini(&c->process); }

static void child_log_path(char path[PATH_MAX], const char *run_dir, const char *name)
{
    int n = snprintf(path, PATH_MAX, "%s/%s.log", run_dir, name);

    ASSERT(n > 0 && n < PATH_MAX); /* rundir_locate has bounded run_dir far below */
}

/* Runs in the child, between fork and exec: system calls only. */
static _Noreturn void child_exec(char **argv, const char *log, pid_t supervisor)
{
    sigset_t none;
    int fd, null;

    /* The parent may have died before prctl took effect. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != supervisor)
        _exit(127);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0 ||
        dup2(fd, STDERR_FILENO) < 0)
        _exit(127);
    execv(argv[0], argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int child_start(struct child *c, const char *run_dir, int64_t now, struct err *e)
{
    char log[PATH_MAX];
    pid_t supervisor = getpid(), pid;

    ASSERT(!c->pid);
    child_log_path(log, run_dir, c->process.name);
    pid = fork();
    if (pid == 0)
        child_exec(c->process.argv, log, supervisor);
    if (pid < 0)
        return err_set(e, ERR_IO, "%s: cannot fork: %s", c->process.name, strerror(errno));
    c->pid = pid;
    c->started = now;
    return 0;
}

void child_tell_end(const struct child *c, const char *run_dir, pid_t pid, int status)
{
    char log[PATH_MAX], **argv;
    pid_t supervisor = getpid();
    struct str end = {0};
    bool router = false;
    size_t n = 0;

    for (; c->process.argv[n]; n++)
        router = router || !strncmp(c->process.argv[n], "--router=", 9);
    if (!router || (WIFEXITED(status) && !WEXITSTATUS(status))) /* that one said BYE */
        return;
    argv = mem_calloc(n + 2, sizeof(*argv));
    memcpy(argv, c->process.argv, n * sizeof(*argv));
    end_argument(&end, pid, status);
    argv[n] = end.data;
    child_log_path(log, run_dir, c->process.name);
    if (fork() == 0) /* a failure costs the router its time limit, no more */
        child_exec(argv, log, supervisor);
    mem_free(argv);
    str_fini(&end);
}

void child_ended(struct child *c, int64_t now)
{
    c->pid = 0;
    if (now - c->started >= CHILD_STABLE)
        c->backoff = CHILD_BACKOFF_MIN;
    c->restart_at = now + c->backoff;
    c->backoff *= 2;
    if (c->backoff > CHILD_BACKOFF_MAX)
        c->backoff = CHILD_BACKOFF_MAX;
}

void child_status_text(int status, struct str *out)
{
    if (WIFSIGNALED(status))
        str_addf(out, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        str_addf(out, "exit code %d", WEXITSTATUS(status));
}

void child_log_tail(const char *name, const char *run_dir, struct str *out)
{
    char path[PATH_MAX], tail[CHILD_LOG_TAIL];
    FILE *f;

    child_log_path(path, run_dir, name);
    f = fopen(path, "re");
    if (!f)
        return;
    if (fseek(f, -CHILD_LOG_TAIL, SEEK_END)) /* shorter than that */
        rewind(f);
    str_add(out, tail, fread(tail, 1, sizeof(tail), f));
    fclose(f);
}

void child_last_words(const char *name, const char *run_dir, struct str *out)
{
    struct str tail = {0};
    size_t n, start;

    child_log_tail(name, run_dir, &tail);
    n = tail.len;
    while (n && (tail.data[n - 1] == '\n' || tail.data[n - 1] == ' '))
        n--;
    for (start = n; start && tail.data[start - 1] != '\n';)
        start--;
    if (n)
        str_add(out, tail.data + start, n - start);
    else
        str_adds(out, "nothing in its log");
    str_fini(&tail);
}
