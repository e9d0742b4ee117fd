#include "deploy/command.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "daemon/daemon.h"
#include "daemon/options.h"
#include "deploy/cluster.h"

#define DIRECT_MS 1000 /* for a router's port to be reached without a tunnel */

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

bool target_is_file(const char *which)
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

int target_hosts(struct target *t, const char *which, struct err *e)
{
    int rc = target_locate(&t->dir, which, e);

    if (rc)
        return rc;
    t->name = strrchr(t->dir.path, '/') + 1;
    if (!rundir_known(&t->dir))
        return err_set(e, ERR_NOT_FOUND, "cluster %s is not running; `tandem up FILE` starts it",
                       t->name);
    rc = rundir_read_state(&t->state, &t->dir, e);
    if (rc)
        return rc;
    rc = roster_read(&t->roster, &t->dir, e);
    if (rc == ERR_NOT_FOUND) { /* a host of a cluster that was started elsewhere */
        roster_local(&t->roster);
        rc = 0;
    }
    return rc;
}

/* Whether somebody takes a connection there within DIRECT_MS. */
static bool target_answers(const struct addrinfo *at)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    socklen_t size = sizeof(error);

    if (fd < 0)
        return false;
    if (connect(fd, at->ai_addr, at->ai_addrlen))
        error = errno;
    if (error == EINPROGRESS && poll(&ready, 1, DIRECT_MS) == 1)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    close(fd);
    return error == 0;
}

/* Whether somebody listens at host:port for more than its own machine, and can be reached from here. A
 * port of all addresses is tried at the router's. */
static bool target_direct(const struct target *t, char http[128])
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const char *colon = strrchr(t->state.http, ':');
    int n = (int)(colon - t->state.http);
    bool any = !strncmp(t->state.http, "0.0.0.0:", 8) || !strncmp(t->state.http, "[::]:", 5) ||
               !strncmp(t->state.http, "*:", 2), answers;
    char host[112];
    struct addrinfo *at = NULL;

    snprintf(host, sizeof(host), "%.*s", any ? 100 : n, any ? t->roster.hosts[0].address : t->state.http);
    snprintf(http, 128, "%s%s", host, colon);
    if (!strncmp(host, "127.", 4) || !strcmp(host, "localhost") || !strcmp(host, "[::1]") ||
        getaddrinfo(host, colon + 1, &hints, &at))
        return false;
    answers = target_answers(at);
    freeaddrinfo(at);
    return answers;
}

/* target_hosts, with the url. */
static int target_find(struct target *t, const char *which, struct err *e)
{
    char http[128];
    int rc = target_hosts(t, which, e);

    if (rc)
        return rc;
    if (roster_is_local(&t->roster, 0)) {
        snprintf(t->url, sizeof(t->url), "http://%s", t->state.http);
    } else if (target_direct(t, http)) {
        snprintf(t->url, sizeof(t->url), "http://%s", http);
    } else {
        rc = tunnel_open(&t->tunnel, &t->roster, t->state.http, e);
        snprintf(t->url, sizeof(t->url), "http://127.0.0.1:%u", t->tunnel.port);
        snprintf(t->shown, sizeof(t->shown), "http://%.128s on %s", t->state.http, t->roster.hosts[0].host);
    }
    if (!*t->shown)
        snprintf(t->shown, sizeof(t->shown), "%s", t->url);
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
    snprintf(t->shown, sizeof(t->shown), "%s", t->url);
    return 0;
}

void target_fini(struct target *t)
{
    tunnel_close(&t->tunnel);
    rundir_state_fini(&t->state);
    roster_fini(&t->roster);
}

void size_text(struct str *out, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;

    for (; v >= 1024 && u + 1 < ARRAY_LEN(units); u++)
        v /= 1024;
    str_addf(out, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}
