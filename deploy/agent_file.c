/* DESIGN: a file that comes is written to PATH.HASH.part, so that a copy that was cut goes on where it
 * ended, and never with another file's bytes; it gets its name after its hash was found right.
 *
 *   receive -> offset -> raw bytes -> all there -> hash step by step -> rename -> {}
 *                 |  connection ends: the part stays   | wrong: the part goes */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "deploy/agent_priv.h"
#include "deploy/api.h"
#include "deploy/command.h"

#define TELL_EVERY (200 * CLOCK_MS) /* events of a hash that takes long */
#define PART_HASH 16                /* digits of the hash in the part's name */

static bool file_path(struct agent *a, const char *path)
{
    struct err e = {0};

    if (path[0] == '/')
        return true;
    err_set(&e, ERR_ARG, "path: \"%.80s\" is not absolute", path);
    agent_fail(a, &e);
    return false;
}

void agent_op_model(struct agent *a, const json_t *request)
{
    const char *path = api_text(request, "path");
    struct err e = {0};
    int rc;

    if (!file_path(a, path))
        return;
    rc = model_file_open(&a->hashing, path, &e);
    if (rc == ERR_NOT_FOUND)
        agent_reply(a, json_pack("{s:b}", "absent", 1));
    else if (rc)
        agent_fail(a, &e);
}

/* Folders above the file, as far as they are not there. What cannot be made is found out at open. */
static void file_make_folders(const char *path)
{
    char *copy = mem_strdup(path);

    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(copy, 0777);
        *slash = '/';
    }
    mem_free(copy);
}

static int receive_room(const struct agent_receive *r, struct err *e)
{
    struct statvfs v;
    struct str need = {0}, has = {0};
    uint64_t left = r->size - r->done, avail;

    if (fstatvfs(r->fd, &v))
        return 0; /* writing will tell */
    avail = (uint64_t)v.f_bavail * v.f_frsize;
    if (avail >= left)
        return 0;
    size_text(&need, left);
    size_text(&has, avail);
    err_set(e, ERR_LIMIT, "%s: %s are to come, the disk has %s left", r->path, str_text(&need),
            str_text(&has));
    str_fini(&need);
    str_fini(&has);
    return ERR_LIMIT;
}

/* Opens the part, where it is the only one to do so. */
static int receive_open(struct agent_receive *r, struct err *e)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct str part = {0};
    struct stat st;

    if (!access(r->path, F_OK))
        return err_set(e, ERR_BUSY, "%s is there already", r->path);
    str_addf(&part, "%s.%.*s.part", r->path, PART_HASH, r->hash);
    r->part = str_steal(&part);
    file_make_folders(r->path);
    r->fd = open(r->part, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (r->fd < 0 || fstat(r->fd, &st))
        return err_set(e, ERR_IO, "%s: %s", r->part, strerror(errno));
    if (fcntl(r->fd, F_OFD_SETLK, &all))
        return err_set(e, ERR_BUSY, "%s is just being copied by somebody else", r->part);
    r->done = (uint64_t)st.st_size;
    if (r->done > r->size && !ftruncate(r->fd, 0))
        r->done = 0;
    return receive_room(r, e);
}

void agent_receive_end(struct agent *a)
{
    if (a->receive.fd >= 0)
        close(a->receive.fd);
    mem_free(a->receive.path);
    mem_free(a->receive.part);
    a->receive = (struct agent_receive){.fd = -1};
}

/* What comes is in vain: there is no telling where the next object would begin. */
static void receive_fail(struct agent *a, const struct err *e)
{
    agent_fail(a, e);
    agent_receive_end(a);
    a->ended = a->in.raw > 0;
}

static void receive_whole(struct agent *a)
{
    struct err e = {0};

    if (fdatasync(a->receive.fd))
        err_set(&e, ERR_IO, "%s: %s", a->receive.part, strerror(errno));
    else
        model_file_open(&a->hashing, a->receive.part, &e);
    if (e.code)
        receive_fail(a, &e);
}

void agent_op_receive(struct agent *a, const json_t *request)
{
    struct agent_receive *r = &a->receive;
    const char *path = api_text(request, "path"), *hash = api_text(request, "hash");
    json_int_t size = api_number(request, "size");
    struct err e = {0};

    if (!file_path(a, path))
        return;
    if (strlen(hash) != MODEL_HASH_TEXT - 1 || strspn(hash, "0123456789abcdef") < strlen(hash))
        err_set(&e, ERR_ARG, "hash: \"%.40s\" is not %d hexadecimal digits", hash, MODEL_HASH_TEXT - 1);
    else if (size < 1)
        err_set(&e, ERR_ARG, "size: %lld is no size of a model", (long long)size);
    if (!e.code) {
        r->path = mem_strdup(path);
        memcpy(r->hash, hash, MODEL_HASH_TEXT);
        r->size = (uint64_t)size;
        receive_open(r, &e);
    }
    if (e.code) {
        receive_fail(a, &e);
        return;
    }
    agent_event(a, json_pack("{s:s, s:I}", "event", "offset", "offset", (json_int_t)r->done));
    if (r->done < r->size)
        wire_raw(&a->in, r->size - r->done);
    else
        receive_whole(a);
}

void agent_received(struct agent *a, const void *bytes, size_t n)
{
    struct agent_receive *r = &a->receive;
    const char *p = bytes;
    struct err e = {0};

    for (size_t left = n; left && !e.code;) {
        ssize_t put = write(r->fd, p, left);

        if (put < 0 && errno != EINTR)
            err_set(&e, ERR_IO, "%s: %s", r->part, strerror(errno));
        if (put > 0) {
            p += put;
            left -= (size_t)put;
        }
    }
    r->done += n;
    if (e.code)
        receive_fail(a, &e);
    else if (r->done == r->size)
        receive_whole(a);
}

/* The part's hash is known. */
static void receive_named(struct agent *a)
{
    struct agent_receive *r = &a->receive;
    struct err e = {0};

    if (strcmp(model_file_hash(a->hashing), r->hash) != 0) {
        unlink(r->part);
        err_set(&e, ERR_FORMAT, "%s came with other bytes than were sent; it was removed", r->path);
    } else if (rename(r->part, r->path)) {
        err_set(&e, ERR_IO, "%s: %s", r->path, strerror(errno));
    } else {
        model_file_remember(r->path, r->hash);
        agent_reply(a, json_object());
    }
    if (e.code)
        agent_fail(a, &e);
    agent_receive_end(a);
}

bool agent_hash(struct agent *a, int64_t now)
{
    struct err e = {0};
    int rc = model_file_step(a->hashing, &e);

    if (!rc && !model_file_done(a->hashing)) {
        if (now - a->told_at >= TELL_EVERY) {
            a->told_at = now;
            agent_event(a, json_pack("{s:s, s:I, s:I}", "event", "hash", "done",
                                     (json_int_t)model_file_at(a->hashing), "size",
                                     (json_int_t)model_file_size(a->hashing)));
        }
        return true;
    }
    if (rc && a->receive.fd >= 0)
        receive_fail(a, &e);
    else if (rc)
        agent_fail(a, &e);
    else if (a->receive.fd >= 0)
        receive_named(a);
    else
        agent_reply(a, json_pack("{s:I, s:s}", "size", (json_int_t)model_file_size(a->hashing), "hash",
                                 model_file_hash(a->hashing)));
    model_file_close(&a->hashing);
    return false;
}
