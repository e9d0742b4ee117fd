/* The model of a host is the file that we have planned with, byte for byte; where there is none, --sync
 * copies it there, and goes on where an earlier copy was cut. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/model_file.h"
#include "deploy/up.h"

/* Whether a host's model is to be looked at: not if it is our own file. */
static bool model_is_far(const struct up *u, size_t host)
{
    return !u->hosts[host].left && (!roster_is_local(&u->roster, host) ||
                                    strcmp(u->roster.hosts[host].model, u->cluster.model) != 0);
}

static void model_show(struct up *u, size_t host, const char *stage, uint64_t done, uint64_t size)
{
    struct str line = {0}, detail = {0};

    str_addf(&line, "%s: %s", u->fleet.remotes[host].host, stage);
    str_addf(&detail, "%.0f %% of ", size ? 100.0 * (double)done / (double)size : 0);
    size_text(&detail, size);
    progress_set(&u->progress, host, str_text(&line), str_text(&detail));
    str_fini(&line);
    str_fini(&detail);
}

static void model_event(void *ctx, struct remote *r, const json_t *event)
{
    struct up *u = ctx;
    size_t host = (size_t)(r - u->fleet.remotes);
    const char *what = api_text(event, "event");

    if (!strcmp(what, "hash"))
        model_show(u, host, "checks the model", (uint64_t)api_number(event, "done"),
                   (uint64_t)api_number(event, "size"));
    if (!strcmp(what, "offset")) {
        struct up_host *h = &u->hosts[host];

        h->offset = (uint64_t)api_number(event, "offset");
        h->asked = true;
    }
}

/* Ours. Hashed by our own process, while the others hash theirs. */
static int model_own(struct model_file **m, const struct up *u, struct err *e)
{
    int rc = model_file_open(m, u->cluster.model, e);

    return rc ? err_wrap(e, "model") : 0;
}

static int model_hash(struct up *u, struct model_file *own, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; i < u->fleet.n; i++) {
        struct remote *r = &u->fleet.remotes[i];

        if (!model_is_far(u, i))
            continue;
        r->event = model_event;
        r->ctx = u;
        remote_ask(r, json_pack("{s:s, s:s}", "op", "model", "path", u->roster.hosts[i].model),
                   REMOTE_FOREVER);
    }
    while (!rc && !model_file_done(own)) {
        rc = model_file_step(own, e);
        remotes_serve(u->fleet.remotes, u->fleet.n, 0, -1);
        if (!rc && up_interrupted(u))
            rc = err_set(e, ERR_CANCELLED, "interrupted");
    }
    return rc ? rc : fleet_wait(&u->fleet, e);
}

/* Sorts out what the host has: fills in whether it is absent, or says what is wrong with it. */
static void model_compare(struct up *u, size_t host, const struct model_file *own)
{
    struct remote *r = &u->fleet.remotes[host];
    const char *path = u->roster.hosts[host].model, *hash = api_text(r->reply, "hash");

    if (!r->reply)
        return; /* r->e */
    u->hosts[host].absent = json_is_true(json_object_get(r->reply, "absent"));
    if (u->hosts[host].absent && !u->options->sync)
        err_set(&r->e, ERR_NOT_FOUND, "the model is not there: no %s; `tandem up --sync` copies it", path);
    else if (!u->hosts[host].absent && strcmp(hash, model_file_hash(own)) != 0)
        err_set(&r->e, ERR_CONFIG, "%s is another model than ours: XXH3 %.8s..., not %.8s...; move it "
                "away for --sync to copy ours, or name another file with `model:`", path, hash,
                model_file_hash(own));
}

/* Copies the model to one host, whose agent has said where to begin. */
static int sync_begin(struct up *u, size_t host, int fd, uint64_t size, struct err *e)
{
    struct up_host *h = &u->hosts[host];

    h->asked = false;
    if (h->offset > size || lseek(fd, (off_t)h->offset, SEEK_SET) < 0)
        return err_set(e, ERR_PEER, "it wants byte %llu of a file of %llu",
                       (unsigned long long)h->offset, (unsigned long long)size);
    h->size = size;
    remote_upload(&u->fleet.remotes[host], fd, size - h->offset);
    return 0;
}

static int sync_open(int fds[], const struct up *u, struct err *e)
{
    for (size_t i = 0; i < u->fleet.n; i++) {
        fds[i] = u->hosts[i].absent ? open(u->cluster.model, O_RDONLY | O_CLOEXEC) : -1;
        if (u->hosts[i].absent && fds[i] < 0)
            return err_set(e, ERR_IO, "%s: %s", u->cluster.model, strerror(errno));
    }
    return 0;
}

/* All hosts that lack it, at once. */
static int sync_serve(struct up *u, const int fds[], struct err *e)
{
    int rc = 0;

    while (!rc && remotes_serve(u->fleet.remotes, u->fleet.n, 200, u->signal_fd)) {
        for (size_t i = 0; i < u->fleet.n && !rc; i++) {
            const struct remote *r = &u->fleet.remotes[i];
            struct up_host *h = &u->hosts[i];

            if (h->asked)
                rc = sync_begin(u, i, fds[i], (uint64_t)lseek(fds[i], 0, SEEK_END), e);
            if (r->upload_fd >= 0)
                model_show(u, i, h->offset ? "copies the rest of the model" : "copies the model",
                           h->size - r->upload_left, h->size);
        }
        if (!rc && up_interrupted(u))
            rc = err_set(e, ERR_CANCELLED, "interrupted; the next --sync goes on where this one ended");
    }
    return rc;
}

static int model_sync(struct up *u, const struct model_file *own, struct err *e)
{
    int *fds = mem_calloc(u->fleet.n, sizeof(*fds)), rc = sync_open(fds, u, e);

    for (size_t i = 0; i < u->fleet.n && !rc; i++)
        if (u->hosts[i].absent)
            remote_ask(&u->fleet.remotes[i],
                       json_pack("{s:s, s:s, s:I, s:s}", "op", "receive", "path",
                                 u->roster.hosts[i].model, "size", (json_int_t)model_file_size(own),
                                 "hash", model_file_hash(own)), REMOTE_FOREVER);
    if (!rc)
        rc = sync_serve(u, fds, e);
    for (size_t i = 0; i < u->fleet.n; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    mem_free(fds);
    return rc ? rc : fleet_check(&u->fleet, NULL, e);
}

int up_models(struct up *u, struct err *e)
{
    struct model_file *own = NULL;
    bool far = false, absent = false;
    int rc = 0;

    for (size_t i = 0; i < u->fleet.n; i++)
        far |= model_is_far(u, i);
    if (!far)
        return 0;
    rc = model_own(&own, u, e);
    if (!rc)
        rc = model_hash(u, own, e);
    for (size_t i = 0; i < u->fleet.n && !rc; i++)
        if (model_is_far(u, i)) {
            model_compare(u, i, own);
            absent |= u->hosts[i].absent;
        }
    if (!rc)
        rc = fleet_check(&u->fleet, NULL, e);
    if (!rc && absent)
        rc = model_sync(u, own, e);
    progress_wipe(&u->progress);
    model_file_close(&own);
    return rc;
}
