#include "deploy/fleet.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deploy/api.h"

static bool fleet_woken(const struct fleet *f)
{
    struct pollfd fd = {.fd = f->wake_fd, .events = POLLIN};

    return f->wake_fd >= 0 && poll(&fd, 1, 0) > 0;
}

static bool fleet_asked(const struct fleet *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->remotes[i].asked)
            return true;
    return false;
}

bool fleet_running(const struct fleet *f, size_t host)
{
    return json_is_true(json_object_get(f->hello[host], "running"));
}

void fleet_ask_list(struct fleet *f, size_t host)
{
    remote_ask(&f->remotes[host], json_pack("{s:s, s:s}", "op", "list", "cluster", f->cluster),
               REMOTE_REPLY_S);
}

int fleet_wait(struct fleet *f, struct err *e)
{
    while (fleet_asked(f) && remotes_serve(f->remotes, f->n, -1, f->wake_fd))
        if (fleet_woken(f))
            return err_set(e, ERR_CANCELLED, "interrupted");
    return 0;
}

/* Two programs that differ may disagree on anything. */
static void fleet_greeted(struct fleet *f, size_t i)
{
    struct remote *r = &f->remotes[i];
    const char *version = api_text(r->reply, "version");

    if (!r->reply)
        r->dead = true;
    else if (strcmp(version, TANDEM_VERSION) != 0) {
        err_set(&r->e, ERR_PEER, "%s/tandem there is version %.40s, here it is %s; install the same",
                r->programs, version, TANDEM_VERSION);
        r->dead = true;
    } else {
        f->hello[i] = r->reply;
        r->reply = NULL;
    }
}

int fleet_open(struct fleet *f, const char *program, const char *cluster, const struct roster *roster,
               bool topology, int wake_fd, struct err *e)
{
    int rc;

    *f = (struct fleet){.program = program, .cluster = cluster, .roster = roster, .n = roster->n,
                        .wake_fd = wake_fd};
    f->remotes = mem_calloc(f->n, sizeof(*f->remotes));
    f->hello = mem_calloc(f->n, sizeof(json_t *));
    for (size_t i = 0; i < f->n; i++) {
        const struct roster_host *h = &roster->hosts[i];

        remote_open(&f->remotes[i], roster->ssh, h->host, h->programs);
        remote_ask(&f->remotes[i],
                   json_pack("{s:s, s:i, s:s, s:b}", "op", "hello", "protocol", WIRE_PROTOCOL,
                             "cluster", cluster, "topology", topology),
                   REMOTE_HELLO_S);
    }
    rc = fleet_wait(f, e);
    for (size_t i = 0; i < f->n && !rc; i++)
        fleet_greeted(f, i);
    return rc;
}

void fleet_close(struct fleet *f)
{
    for (size_t i = 0; i < f->n; i++) /* all see their end before one is waited for */
        remote_hang_up(&f->remotes[i]);
    for (size_t i = 0; i < f->n; i++) {
        remote_close(&f->remotes[i]);
        json_decref(f->hello[i]);
    }
    mem_free(f->remotes);
    mem_free(f->hello);
    *f = (struct fleet){0};
}

int fleet_wrap(const struct fleet *f, size_t host, struct err *e)
{
    return roster_is_here(f->roster) ? e->code : err_wrap(e, "%s", f->remotes[host].host);
}

int fleet_check(const struct fleet *f, const bool *skip, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; i < f->n; i++) {
        if (!f->remotes[i].e.code || (skip && skip[i]))
            continue;
        if (rc)
            fprintf(stderr, "%s: %s\n", f->program, e->text);
        *e = f->remotes[i].e;
        rc = fleet_wrap(f, i, e);
    }
    return rc;
}

int fleet_ask(struct fleet *f, size_t host, json_t *request, json_t **reply, struct err *e)
{
    struct remote *r = &f->remotes[host];
    int rc;

    *reply = NULL;
    remote_ask(r, request, REMOTE_REPLY_S);
    rc = fleet_wait(f, e);
    if (rc)
        return rc;
    if (!r->reply) {
        rc = r->e.code;
        if (e) {
            *e = r->e;
            rc = fleet_wrap(f, host, e);
        }
        if (!r->dead) /* said to who asked; the next fleet_check is about something else */
            r->e.code = 0;
        return rc;
    }
    *reply = r->reply;
    r->reply = NULL;
    return 0;
}

json_t *fleet_http_request(const char *http, const char *method, const char *path, json_t *body)
{
    const char *key = getenv("TANDEM_API_KEY"); // NOLINT(concurrency-mt-unsafe)

    return json_pack("{s:s, s:s, s:s, s:s, s:o*, s:s*}", "op", "http", "http", http, "method", method,
                     "path", path, "body", body, "key", key);
}

int fleet_http(struct fleet *f, const char *http, const char *method, const char *path, json_t *body,
               json_t **out, struct err *e)
{
    json_t *reply, *got;
    int rc = fleet_ask(f, 0, fleet_http_request(http, method, path, body), &reply, e);

    *out = NULL;
    if (rc)
        return rc;
    got = json_object_get(reply, "body");
    rc = api_judge(api_number(reply, "status"), got, "", path, e);
    if (!rc)
        *out = json_incref(got);
    json_decref(reply);
    return rc;
}
