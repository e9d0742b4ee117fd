#include "deploy/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "deploy/cluster_host.h"

#define EXIT_ABSENT 127          /* as a shell says that there is no such program */
#define EXIT_NO_SSH 254          /* ours: there is none to be executed here */
#define WORDS_MAX 64             /* of the ssh command */
#define READ_BYTES (256u << 10)
#define SAID_MAX 8192            /* bytes of stderr that are kept */
#define BANNER_MAX (64u << 10)   /* bytes that a shell there may print before the agent speaks */
#define UPLOAD_AHEAD (1u << 20)  /* bytes of a file that wait for the connection */
#define END_PATIENCE (6 * CLOCK_S) /* for the program to end once its input has: it may have a cluster
                                    * to end first */

static bool remote_is_local(const struct remote *r) { return !strcmp(r->host, CLUSTER_HOST_LOCAL); }

/* Appends the word as a shell reads it back. */
static void quote(struct str *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%";

    if (*word && !word[strspn(word, plain)]) {
        str_adds(out, word);
        return;
    }
    str_addc(out, '\'');
    for (; *word; word++) {
        if (*word == '\'')
            str_adds(out, "'\\''");
        else
            str_addc(out, *word);
    }
    str_addc(out, '\'');
}

/* Ourselves; or ssh's words, the host, and what it shall run there, which a shell will read. text and
 * far hold what argv points to. */
static int remote_command(char *argv[WORDS_MAX + 3], struct str *text, struct str *far,
                          const struct remote *r, const char *ssh, struct err *e)
{
    static char agent[] = "agent";
    size_t n = 0;

    str_addf(far, "%s/tandem", r->programs);
    if (remote_is_local(r)) {
        argv[0] = far->data;
        argv[1] = agent;
        return 0;
    }
    str_adds(text, ssh);
    for (char *rest = text->data, *word; rest && (word = strtok_r(rest, " \t", &rest));) {
        if (n == WORDS_MAX)
            return err_set(e, ERR_LIMIT, "ssh: more than %d words", WORDS_MAX);
        argv[n++] = word;
    }
    if (!n)
        return err_set(e, ERR_CONFIG, "ssh: a command is needed");
    argv[n++] = (char *)(uintptr_t)r->host;
    {
        char *program = str_steal(far);

        quote(far, program);
        mem_free(program);
    }
    str_adds(far, " agent");
    argv[n] = far->data;
    return 0;
}

/* Runs in the child, between fork and exec. Without a terminal: Ctrl-C there is for us to handle, and
 * nobody asks there for a password. */
static _Noreturn void remote_exec(char **argv, const int fds[3], int absent)
{
    sigset_t none;

    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], i) < 0)
            _exit(126);
    execvp(argv[0], argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(absent);
}

static int remote_fork(struct remote *r, char **argv, struct err *e)
{
    int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, rc = 0;

    ASSERT(argv[0]);
    for (int i = 0; i < 3 && !rc; i++)
        if (pipe2(pipes[i], O_CLOEXEC))
            rc = err_set(e, ERR_IO, "no pipe for %s: %s", argv[0], strerror(errno));
    if (!rc) {
        r->pid = fork();
        if (r->pid == 0)
            remote_exec(argv, (int[]){pipes[0][0], pipes[1][1], pipes[2][1]},
                        remote_is_local(r) ? EXIT_ABSENT : EXIT_NO_SSH);
        if (r->pid < 0) {
            r->pid = 0;
            rc = err_set(e, ERR_IO, "cannot fork for %s: %s", argv[0], strerror(errno));
        }
    }
    for (int i = 0; i < 3; i++) {
        int *ours = (int *[]){&r->in, &r->out, &r->err}[i], far = i == 0 ? 0 : 1;

        if (pipes[i][far] >= 0)
            close(pipes[i][far]);
        *ours = pipes[i][!far];
        if (*ours >= 0)
            fcntl(*ours, F_SETFL, O_NONBLOCK);
    }
    return rc;
}

int remote_open(struct remote *r, const char *ssh, const char *host, const char *programs)
{
    char *argv[WORDS_MAX + 3] = {0};
    struct str text = {0}, far = {0};
    int rc;

    *r = (struct remote){.host = host, .programs = programs, .in = -1, .out = -1, .err = -1,
                         .until = INT64_MAX, .upload_fd = -1};
    if (host[0] == '-') /* ssh would take it for an option */
        rc = err_set(&r->e, ERR_CONFIG, "\"%.60s\" is no name of a host", host);
    else
        rc = remote_command(argv, &text, &far, r, ssh, &r->e);
    if (!rc)
        rc = remote_fork(r, argv, &r->e);
    r->dead = rc != 0;
    str_fini(&text);
    str_fini(&far);
    return rc;
}

static void remote_shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Takes what came on stderr, of which the end matters. */
static void remote_listen(struct remote *r)
{
    char part[1024];
    ssize_t n = 0;

    while (r->err >= 0 && (n = read(r->err, part, sizeof(part))) > 0)
        str_add(&r->said, part, (size_t)n);
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        remote_shut(&r->err);
    if (r->said.len > SAID_MAX)
        str_drop(&r->said, r->said.len - SAID_MAX);
}

/* The wait status, after a kill if need be. */
static int remote_reap(struct remote *r)
{
    const struct timespec pause = {.tv_nsec = 2 * CLOCK_MS};
    int64_t until = clock_now() + END_PATIENCE;
    int status = 0;

    while (r->pid && waitpid(r->pid, &status, WNOHANG) == 0 && clock_now() < until)
        nanosleep(&pause, NULL);
    if (r->pid && kill(r->pid, SIGKILL) == 0) /* gone already, unless it took too long */
        waitpid(r->pid, &status, 0);
    r->pid = 0;
    return status;
}

void remote_hang_up(struct remote *r) { remote_shut(&r->in); }

void remote_close(struct remote *r)
{
    remote_hang_up(r);
    remote_shut(&r->out);
    if (r->pid)
        remote_reap(r);
    remote_shut(&r->err);
    wire_fini(&r->wire);
    str_fini(&r->tx);
    str_fini(&r->said);
    json_decref(r->reply);
    r->reply = NULL;
    r->asked = false;
    r->dead = true;
}

/* There is nothing to hope for from it: r->e says why. */
static void remote_die(struct remote *r)
{
    r->dead = true;
    r->asked = false;
    r->upload_fd = -1;
    remote_shut(&r->in);
    remote_shut(&r->out);
    if (r->pid)
        kill(r->pid, SIGTERM);
}

/* Its output has ended, and so will it. */
static void remote_ended(struct remote *r)
{
    int status;

    remote_shut(&r->in);
    status = remote_reap(r);
    remote_listen(r);
    remote_explain(&r->e, r, status, str_text(&r->said));
    remote_die(r);
}

void remote_ask(struct remote *r, json_t *request, uint32_t patience_s)
{
    json_decref(r->reply);
    r->reply = NULL;
    if (r->dead) {
        json_decref(request);
        return;
    }
    ASSERT(!r->asked && request);
    wire_put(&r->tx, request);
    r->e = (struct err){0};
    r->asked = true;
    r->until = patience_s ? clock_now() + patience_s * CLOCK_S : INT64_MAX;
}

void remote_upload(struct remote *r, int fd, uint64_t bytes)
{
    r->upload_fd = fd;
    r->upload_left = bytes;
}

/* Puts more of the file behind what waits to be sent. */
static void remote_read_upload(struct remote *r)
{
    static char part[READ_BYTES];

    while (r->upload_fd >= 0 && r->tx.len < UPLOAD_AHEAD) {
        size_t want = r->upload_left < sizeof(part) ? (size_t)r->upload_left : sizeof(part);
        ssize_t n = want ? read(r->upload_fd, part, want) : 0;

        if (want && n <= 0) {
            err_set(&r->e, ERR_IO, "the file that is sent there ended early");
            remote_die(r);
            return;
        }
        str_add(&r->tx, part, (size_t)n);
        r->upload_left -= (uint64_t)n;
        if (!r->upload_left)
            r->upload_fd = -1;
    }
}

static void remote_send(struct remote *r)
{
    ssize_t n = write(r->in, r->tx.data, r->tx.len);

    if (n > 0)
        str_drop(&r->tx, (size_t)n);
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        str_clear(&r->tx); /* it has ended: its output will say so */
}

static void remote_object(struct remote *r, json_t *object)
{
    const char *error = json_string_value(json_object_get(object, "error"));

    if (!json_object_get(object, "re")) {
        if (r->event)
            r->event(r->ctx, r, object);
        json_decref(object);
        return;
    }
    r->greeted = true;
    r->asked = false;
    r->upload_fd = -1;
    json_decref(r->reply);
    r->reply = error ? NULL : object;
    if (!error)
        return;
    err_set(&r->e, api_number(object, "code") ? (int)api_number(object, "code") : ERR_PEER, "%s", error);
    json_decref(object);
}

/* What is no object before the greeting: start-up files of a shell print it, the last line perhaps
 * without an end, so that the greeting is behind it. */
static void remote_banner(struct remote *r, const struct wire_item *item)
{
    const char *end = item->data + item->n, *at = item->data;
    json_t *object = NULL;

    r->banner += item->n + 1;
    if (r->banner > BANNER_MAX) {
        err_set(&r->e, ERR_FORMAT, "a shell's start-up file there prints too much: more than %u bytes, the "
                "last of them \"%.*s\"", BANNER_MAX, (int)size_min(item->n, 60), item->data);
        remote_die(r);
        return;
    }
    while (!object && (at = memchr(at, '{', (size_t)(end - at)))) {
        object = json_loadb(at, (size_t)(end - at), JSON_REJECT_DUPLICATES, NULL);
        at++;
    }
    if (json_object_get(object, "re")) {
        remote_object(r, object);
        return;
    }
    json_decref(object);
    snprintf(r->heard, sizeof(r->heard), "%.*s", (int)size_min(item->n, 60), item->data);
}

static void remote_receive(struct remote *r)
{
    static char part[READ_BYTES];
    ssize_t n = read(r->out, part, sizeof(part));
    struct wire_item item;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        wire_feed(&r->wire, part, (size_t)n);
    while (!r->dead && (item = wire_next(&r->wire)).kind != WIRE_NOTHING) {
        if (item.kind == WIRE_OBJECT) {
            remote_object(r, item.object);
        } else if (r->greeted || item.kind == WIRE_FLOOD) {
            err_set(&r->e, ERR_FORMAT, "what runs there is no tandem of ours: it wrote \"%.*s\"",
                    (int)size_min(item.n, 60), item.data ? item.data : "");
            remote_die(r);
        } else {
            remote_banner(r, &item);
        }
    }
    if (n <= 0 && !r->dead)
        remote_ended(r);
}

/* The last line of a text, without its end. */
static const char *last_line(const char *text, int *n)
{
    size_t end = strlen(text), start;

    while (end && (text[end - 1] == '\n' || text[end - 1] == '\r' || text[end - 1] == ' '))
        end--;
    for (start = end; start && text[start - 1] != '\n';)
        start--;
    *n = (int)size_min(end - start, 200);
    return text + start;
}

static void remote_late(struct remote *r)
{
    const char *heard = r->heard;
    int n = (int)strlen(heard);

    if (r->said.len)
        heard = last_line(str_text(&r->said), &n);
    if (r->greeted)
        err_set(&r->e, ERR_TIMEOUT, "no answer in time; the host or the network hangs");
    else if (n)
        err_set(&r->e, ERR_TIMEOUT, "no answer within %d s, only \"%.*s\"; does `ssh %s true` work?",
                REMOTE_HELLO_S, n, heard, r->host);
    else
        err_set(&r->e, ERR_TIMEOUT, "no answer within %d s; does `ssh %s true` work?", REMOTE_HELLO_S,
                r->host);
    remote_die(r);
}

/* Milliseconds until the first of them loses patience, timeout_ms at most. */
static int remotes_timeout(const struct remote *r, size_t n, int timeout_ms)
{
    int64_t now = clock_now();

    for (size_t i = 0; i < n; i++) {
        int64_t left = r[i].asked && r[i].until != INT64_MAX ? (r[i].until - now) / CLOCK_MS + 1 : -1;

        if (r[i].asked && r[i].until != INT64_MAX && (timeout_ms < 0 || left < timeout_ms))
            timeout_ms = left > 0 ? (int)left : 0;
    }
    return timeout_ms;
}

bool remotes_serve(struct remote *r, size_t n, int timeout_ms, int wake_fd)
{
    struct pollfd *fds = mem_calloc(3 * n + 1, sizeof(*fds));
    bool asked = false;

    for (size_t i = 0; i < n; i++) {
        remote_read_upload(&r[i]);
        fds[3 * i] = (struct pollfd){.fd = r[i].tx.len ? r[i].in : -1, .events = POLLOUT};
        fds[3 * i + 1] = (struct pollfd){.fd = r[i].out, .events = POLLIN};
        fds[3 * i + 2] = (struct pollfd){.fd = r[i].err, .events = POLLIN};
    }
    fds[3 * n] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
    if (poll(fds, 3 * n + 1, remotes_timeout(r, n, timeout_ms)) > 0)
        for (size_t i = 0; i < n; i++) {
            if (fds[3 * i + 2].revents)
                remote_listen(&r[i]);
            if (r[i].in >= 0 && fds[3 * i].revents)
                remote_send(&r[i]);
            if (r[i].out >= 0 && fds[3 * i + 1].revents)
                remote_receive(&r[i]);
        }
    for (size_t i = 0; i < n; i++) {
        if (r[i].asked && clock_now() >= r[i].until)
            remote_late(&r[i]);
        asked |= r[i].asked;
    }
    mem_free(fds);
    return asked;
}

/* What ssh says, and what to do about it. %s: the host. */
static const struct {
    const char *said, *sentence;
} remote_words[] = {
    {"Could not resolve hostname", "%s is no host name that is known here; correct `host:` in the "
                                   "cluster file, or name it in ~/.ssh/config"},
    {"IDENTIFICATION HAS CHANGED", "its host key is not the one that is known here; if %s was set up "
                                   "anew, remove the old one with `ssh-keygen -R`"},
    {"Host key verification failed", "its host key is not known here; `ssh %s` once shows it and "
                                     "asks"},
    {"Permission denied (", "it does not let us in; `ssh-copy-id %s` gives it a key of ours"},
    {"Too many authentication failures", "it does not let us in; name the key for %s with "
                                         "IdentityFile in ~/.ssh/config"},
    {"Connection refused", "no ssh server answers at %s; start it, or name its port in ~/.ssh/config"},
    {"timed out", "%s is unreachable: it does not answer"},
    {"No route to host", "%s is unreachable: no route to it"},
    {"Network is unreachable", "%s is unreachable: no network leads there"},
};

void remote_explain(struct err *e, const struct remote *r, int status, const char *said)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0, n;
    const char *last = last_line(said, &n);

    if (r->greeted) {
        err_set(e, ERR_NET, "the connection to it ended%s%.*s", n ? ": " : "", n, last);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(remote_words) && !remote_is_local(r) && code == 255; i++)
        if (strstr(said, remote_words[i].said)) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            err_set(e, ERR_NET, remote_words[i].sentence, r->host);
#pragma GCC diagnostic pop
            return;
        }
    if (code == EXIT_ABSENT && !strstr(said, "shared librar"))
        err_set(e, ERR_NOT_FOUND, "%s/tandem is not there; install tandem, or say where it is with "
                "`programs:` (%.*s)", r->programs, n, last);
    else if (code == 126)
        err_set(e, ERR_UNSUPPORTED, "%s/tandem does not run there; is it of another machine? (%.*s)",
                r->programs, n, last);
    else if (WIFSIGNALED(status))
        err_set(e, ERR_PEER, "tandem agent there was ended by signal %d", WTERMSIG(status));
    else
        err_set(e, ERR_NET, "%s ended with exit code %d%s%.*s", remote_is_local(r) ? "tandem agent" : "ssh",
                code, n ? ": " : ", saying nothing", n, last);
}
