#include "deploy/control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/str.h"
#include "deploy/api.h"

#define CONTROL_SOCKET "control.sock"

static int control_socket(const struct rundir *d, struct sockaddr_un *at, struct err *e)
{
    int n, fd;

    memset(at, 0, sizeof(*at));
    at->sun_family = AF_UNIX;
    n = snprintf(at->sun_path, sizeof(at->sun_path), "%s/" CONTROL_SOCKET, d->path);
    if (n >= (int)sizeof(at->sun_path)) { /* rundir_locate has bounded it; for the compiler */
        err_set(e, ERR_LIMIT, "%s: the path is too long for a socket", d->path);
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        err_set(e, ERR_IO, "no socket: %s", strerror(errno));
    return fd;
}

static void control_patience(int fd, int ms)
{
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

/* The peer shuts its side down after the object, so it ends where the stream ends. NULL: it is none,
 * or did not come. */
static json_t *control_read(int fd)
{
    char part[4096];
    struct str s = {0};
    json_t *object = NULL;
    ssize_t n = 0;

    while (s.len <= CONTROL_BYTES_MAX && (n = recv(fd, part, sizeof(part), 0)) > 0)
        str_add(&s, part, (size_t)n);
    if (n == 0 && s.len <= CONTROL_BYTES_MAX)
        object = json_loadb(str_text(&s), s.len, 0, NULL);
    str_fini(&s);
    if (json_is_object(object))
        return object;
    json_decref(object);
    return NULL;
}

static bool control_write(int fd, const json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    size_t at = 0, size = strlen(text);
    ssize_t n = 0;

    while (at < size && (n = send(fd, text + at, size - at, MSG_NOSIGNAL)) > 0)
        at += (size_t)n;
    free(text); /* jansson's own */
    shutdown(fd, SHUT_WR);
    return at == size;
}

int control_listen(const struct rundir *d, struct err *e)
{
    struct sockaddr_un at;
    int fd = control_socket(d, &at, e);

    if (fd < 0)
        return -1;
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 16)) {
        err_set(e, ERR_IO, "%s: %s", at.sun_path, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

void control_serve(int fd, json_t *(*answer)(void *ctx, const json_t *request), void *ctx)
{
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    json_t *request, *reply;

    if (peer < 0)
        return;
    control_patience(peer, CONTROL_TIMEOUT_MS);
    request = control_read(peer);
    reply = request ? answer(ctx, request) : control_error("the request is not a JSON object");
    control_write(peer, reply);
    json_decref(reply);
    json_decref(request);
    close(peer);
}

json_t *control_error(const char *fmt, ...)
{
    struct str s = {0};
    json_t *object;
    va_list ap;

    va_start(ap, fmt);
    str_addv(&s, fmt, ap);
    va_end(ap);
    object = json_pack("{s:s}", "error", str_text(&s));
    str_fini(&s);
    return object;
}

int control_ask(json_t **reply, const struct rundir *d, json_t *request, struct err *e)
{
    struct sockaddr_un at;
    int fd = control_socket(d, &at, e), rc = fd < 0 ? e->code : 0;

    *reply = NULL;
    if (!rc && connect(fd, (struct sockaddr *)&at, sizeof(at)))
        rc = err_set(e, ERR_NET, "the supervisor does not answer at %s: %s", at.sun_path,
                     strerror(errno));
    if (!rc) {
        control_patience(fd, 5 * CONTROL_TIMEOUT_MS); /* others may be served before us */
        if (control_write(fd, request))
            *reply = control_read(fd);
        if (!*reply)
            rc = err_set(e, ERR_TIMEOUT, "the supervisor at %s gave no answer", at.sun_path);
    }
    if (!rc && json_object_get(*reply, "error")) {
        rc = err_set(e, ERR_PEER, "%s", api_text(*reply, "error"));
        json_decref(*reply);
        *reply = NULL;
    }
    if (fd >= 0)
        close(fd);
    json_decref(request);
    return rc;
}
