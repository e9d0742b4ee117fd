#include "deploy/tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "deploy/remote.h"

#define CARRY_BYTES (64u << 10)
#define REFUSE_S 2 /* for what was asked to come in */

static bool carry_write(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t put = write(fd, p, n);

        if (put < 0 && errno != EINTR)
            return false;
        if (put > 0) {
            p += put;
            n -= (size_t)put;
        }
    }
    return true;
}

void tunnel_carry(int in, int out, int socket)
{
    char buffer[CARRY_BYTES];
    struct pollfd fds[] = {{.fd = in, .events = POLLIN}, {.fd = socket, .events = POLLIN}};
    ssize_t n;

    while (poll(fds, ARRAY_LEN(fds), -1) > 0 || errno == EINTR) {
        if (fds[0].revents) {
            n = read(in, buffer, sizeof(buffer));
            if (n <= 0) {
                shutdown(socket, SHUT_WR);
                fds[0].fd = -1;
            } else if (!carry_write(socket, buffer, (size_t)n)) {
                return;
            }
        }
        if (fds[1].revents) {
            n = read(socket, buffer, sizeof(buffer));
            if (n <= 0 || !carry_write(out, buffer, (size_t)n))
                return;
        }
    }
}

/* Tells whoever asked, as a router would, why there is none to hear it. What was asked is read to its
 * end, or the answer would go with a reset. */
static void tunnel_refuse(int socket, const struct remote *r)
{
    const struct timeval patience = {.tv_sec = REFUSE_S};
    json_t *reply = json_pack("{s:{s:o}}", "error", "message",
                              json_sprintf("%s: %s", r->host, r->e.text));
    char *body = reply ? json_dumps(reply, JSON_COMPACT) : NULL, rest[1024];
    struct str text = {0};

    if (body)
        str_addf(&text, "HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\nConnection: close\r\n\r\n%s", strlen(body), body);
    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (carry_write(socket, str_text(&text), text.len) && !shutdown(socket, SHUT_WR))
        while (read(socket, rest, sizeof(rest)) > 0)
            ;
    str_fini(&text);
    free(body); /* jansson's own */
    json_decref(reply);
}

/* One connection, by an agent of its own. */
static void tunnel_connection(const struct roster *r, const char *http, int socket)
{
    struct remote remote;
    const char *rest;
    size_t n;

    remote_open(&remote, r->ssh, r->hosts[0].host, r->hosts[0].programs);
    remote_ask(&remote, json_pack("{s:s, s:s}", "op", "connect", "http", http), REMOTE_HELLO_S);
    while (remotes_serve(&remote, 1, -1, -1))
        ;
    if (remote.reply) {
        fcntl(remote.in, F_SETFL, 0); /* they were not to block */
        fcntl(remote.out, F_SETFL, 0);
        rest = wire_rest(&remote.wire, &n);
        if (carry_write(socket, rest, n))
            tunnel_carry(remote.out, remote.in, socket);
    } else {
        tunnel_refuse(socket, &remote);
    }
    close(socket);
    remote_close(&remote);
}

static _Noreturn void tunnel_serve(const struct roster *r, const char *http, int listener, pid_t parent)
{
    signal(SIGCHLD, SIG_IGN); /* nobody waits for connections */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) || getppid() != parent)
        _exit(1);
    for (;;) {
        int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pid_t pid = socket < 0 ? -1 : fork();

        if (pid == 0) {
            signal(SIGCHLD, SIG_DFL); /* remote.h waits for its own */
            close(listener);
            tunnel_connection(r, http, socket);
            _exit(0);
        }
        if (socket >= 0)
            close(socket);
        else if (errno != EINTR && errno != ECONNABORTED)
            _exit(1);
    }
}

int tunnel_open(struct tunnel *t, const struct roster *r, const char *http, struct err *e)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pid_t parent = getpid();

    *t = (struct tunnel){0};
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 16) ||
        getsockname(listener, (struct sockaddr *)&at, &n)) {
        err_set(e, ERR_IO, "no port for a tunnel to %s: %s", r->hosts[0].host, strerror(errno));
    } else {
        t->port = ntohs(at.sin_port);
        t->pid = fork();
        if (t->pid == 0)
            tunnel_serve(r, http, listener, parent);
        if (t->pid < 0)
            err_set(e, ERR_IO, "cannot fork a tunnel: %s", strerror(errno));
    }
    if (listener >= 0)
        close(listener);
    if (t->pid > 0)
        return 0;
    t->pid = 0;
    return e->code;
}

void tunnel_close(struct tunnel *t)
{
    if (t->pid && !kill(t->pid, SIGTERM))
        waitpid(t->pid, NULL, 0);
    t->pid = 0;
}
