#include "host/share.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"

#define SHARE_PATH_MAX 64

/* Of the machine since it was booted and of our namespace of pids; 0: the system does not say. */
static uint64_t share_host(void)
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    uint64_t of[3] = {0};
    char id[64] = "";
    struct stat s;

    if (f) {
        if (!fgets(id, sizeof(id), f))
            id[0] = '\0';
        fclose(f);
    }
    if (!id[0] || stat("/proc/self/ns/pid", &s) != 0)
        return 0;
    of[0] = hash64(id, strlen(id), 0);
    of[1] = s.st_dev;
    of[2] = s.st_ino;
    return hash64(of, sizeof(of), 0);
}

static void share_path(char *path, const struct share_offer *o)
{
    snprintf(path, SHARE_PATH_MAX, "/proc/%" PRIu32 "/fd/%" PRIu32, o->pid, o->fd);
}

/* Whether the file is the one that was offered. */
static bool share_is(const struct stat *s, const struct share_offer *o)
{
    return S_ISREG(s->st_mode) && s->st_dev == o->dev && s->st_ino == o->ino &&
           (uint64_t)s->st_size == o->size;
}

void share_offer(struct share_offer *o, int fd)
{
    struct stat s;

    *o = (struct share_offer){0};
    if (fd >= 0 && fstat(fd, &s) == 0)
        *o = (struct share_offer){share_host(), (uint32_t)getpid(), (uint32_t)fd, s.st_dev, s.st_ino,
                                  (uint64_t)s.st_size};
    if (!o->host)
        *o = (struct share_offer){0};
}

/* The file of the offer, to be read. First only looked at (O_PATH), since to open a device or a fifo could
 * have effects or block; a lease that somebody has on it is not waited for. */
static int share_file(int *file, const struct share_offer *o, struct err *e)
{
    char path[SHARE_PATH_MAX];
    const char *wrong = NULL;
    struct stat s;
    int look;

    *file = -1;
    share_path(path, o);
    look = open(path, O_PATH | O_CLOEXEC);
    if (look < 0)
        return err_set(e, ERR_UNSUPPORTED, "descriptor %" PRIu32 " of process %" PRIu32
                       " cannot be opened: %s", o->fd, o->pid, strerror(errno));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", look);
    if (fstat(look, &s) != 0 || !share_is(&s, o))
        wrong = "not the memory that it was said to be";
    else if (s.st_uid != geteuid()) /* root could open it */
        wrong = "another user's";
    else if ((*file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) < 0)
        wrong = "not the memory that it was said to be";
    close(look);
    if (!wrong)
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "descriptor %" PRIu32 " of process %" PRIu32 " is %s", o->fd, o->pid,
                   wrong);
}

/* A file that may shrink would end us by SIGBUS. */
static int share_map(struct share_map *m, int file, const struct share_offer *o, struct err *e)
{
    int seals = fcntl(file, F_GET_SEALS);
    void *p;

    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return err_set(e, ERR_UNSUPPORTED, "descriptor %" PRIu32 " of process %" PRIu32
                       " is a file that may shrink", o->fd, o->pid);
    p = mmap(NULL, o->size, PROT_READ, MAP_SHARED, file, 0);
    if (p == MAP_FAILED)
        return err_set(e, ERR_UNSUPPORTED, "%" PRIu64 " MiB of process %" PRIu32 " cannot be mapped: %s",
                       o->size >> 20, o->pid, strerror(errno));
    *m = (struct share_map){p, *o};
    return 0;
}

int share_open(struct share_map *m, const struct share_offer *o, struct err *e)
{
    uint64_t here = share_host();
    int rc, file;

    *m = (struct share_map){0};
    if (!o->host)
        return err_set(e, ERR_UNSUPPORTED, "it makes no offer");
    if (!here)
        return err_set(e, ERR_UNSUPPORTED, "this system does not tell where we are: no /proc");
    if (o->host != here)
        return err_set(e, ERR_UNSUPPORTED, "it runs on another machine, or in another namespace of pids");
    rc = share_file(&file, o, e);
    if (!rc) {
        rc = share_map(m, file, o, e);
        close(file);
    }
    return rc;
}

bool share_same(const struct share_map *m, const struct share_offer *o)
{
    return m->offer.host == o->host && m->offer.pid == o->pid && m->offer.fd == o->fd &&
           m->offer.dev == o->dev && m->offer.ino == o->ino && m->offer.size == o->size;
}

bool share_lives(const struct share_map *m)
{
    char path[SHARE_PATH_MAX];
    struct stat s;

    share_path(path, &m->offer);
    return stat(path, &s) == 0 && share_is(&s, &m->offer);
}

void share_close(struct share_map *m)
{
    if (m->data)
        munmap((void *)m->data, m->offer.size);
    *m = (struct share_map){0};
}
