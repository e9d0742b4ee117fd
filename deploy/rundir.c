#include "deploy/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/option.h"
#include "daemon/options.h"

#define RUNDIR_PID "supervisor.pid"

/* The longest file name that ZeroMQ binds in a run directory: "/" OPTIONS_NAME ".sock" of a node. */
#define RUNDIR_SOCKET_MAX sizeof("/decode-4096.sock")

static const struct option state_rows[] = {
    OPTION(rundir_state, cluster, STR),
    OPTION(rundir_state, http, STR),
    OPTION(rundir_state, model, STR),
    OPTION(rundir_state, file, STR),
};
static const struct option_table state_table = {
    .program = "tandem",
    .options = state_rows,
    .n = ARRAY_LEN(state_rows),
};

/* ".../tandem-UID" into path. */
static int rundir_root(char path[PATH_MAX], struct err *e)
{
    const char *base = getenv("TANDEM_RUN_DIR");
    int n;

    if (!base || !*base)
        base = "/tmp";
    if (base[0] != '/')
        return err_set(e, ERR_CONFIG, "run directory \"%s\": an absolute path is needed", base);
    n = snprintf(path, PATH_MAX, "%s/tandem-%u", base, (unsigned)getuid());
    if (n >= PATH_MAX)
        return err_set(e, ERR_LIMIT, "run directory below \"%.80s...\": path too long", base);
    return 0;
}

int rundir_locate(struct rundir *d, const char *cluster, struct err *e)
{
    size_t n;
    int rc;

    d->lock_fd = -1;
    rc = rundir_root(d->path, e);
    if (rc)
        return rc;
    n = strlen(d->path);
    if (n + strlen(cluster) + 2 > sizeof(d->path))
        return err_set(e, ERR_LIMIT, "run directory %s: path too long", d->path);
    snprintf(d->path + n, sizeof(d->path) - n, "/%s", cluster);
    n = strlen(d->path) + RUNDIR_SOCKET_MAX - 1;
    if (n > OPTIONS_IPC_MAX)
        return err_set(e, ERR_LIMIT,
                       "run directory %s: a socket in it would have a path of %zu bytes, the system "
                       "allows %d; set TANDEM_RUN_DIR to a shorter one",
                       d->path, n, OPTIONS_IPC_MAX);
    return 0;
}

/* What was just there may be gone: another supervisor ends. The caller then starts anew. */
static int rundir_failed(const char *path, struct err *e)
{
    int code = errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;

    return err_set(e, code, "run directory: %s: %s", path, strerror(errno));
}

/* Makes the directory unless it is there, and looks that it is ours: /tmp is everybody's. */
static int rundir_make(const char *path, struct err *e)
{
    struct stat st;

    if (mkdir(path, 0700) && errno != EEXIST)
        return rundir_failed(path, e);
    if (lstat(path, &st))
        return rundir_failed(path, e);
    if (!S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 077))
        return err_set(e, ERR_IO,
                       "run directory: %s is not a directory that only its owner, user %u, may enter",
                       path, (unsigned)getuid());
    return 0;
}

/* That of all clusters, and the cluster's in it. */
static int rundir_make_both(const struct rundir *d, struct err *e)
{
    char root[PATH_MAX];
    int rc = rundir_root(root, e);

    if (!rc)
        rc = rundir_make(root, e);
    return rc ? rc : rundir_make(d->path, e);
}

static void rundir_file(const struct rundir *d, const char *name, char path[PATH_MAX])
{
    int n = snprintf(path, PATH_MAX, "%s/%s", d->path, name);

    ASSERT(n > 0 && n < PATH_MAX); /* rundir_locate has bounded d->path far below */
}

/* Removes the files in the directory, but for `keep`. There are no folders in it. */
static void rundir_empty(const struct rundir *d, const char *keep)
{
    DIR *dir = opendir(d->path);
    const struct dirent *entry;

    if (!dir)
        return;
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            (!keep || strcmp(entry->d_name, keep) != 0))
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

/* The file that fd has open is still the one at path. */
static bool rundir_is_linked(int fd, const char *path)
{
    struct stat a, b;

    return !fstat(fd, &a) && !stat(path, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* Makes the directories and locks the file. The last holder may remove both between our open and our
 * lock; then we hold a file that nobody else can find: ERR_NOT_FOUND. */
static int rundir_try_lock(struct rundir *d, const char *cluster, struct err *e)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[PATH_MAX];
    int rc = rundir_make_both(d, e);

    if (rc)
        return rc;
    rundir_file(d, RUNDIR_PID, path);
    d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (d->lock_fd < 0)
        return rundir_failed(path, e);
    if (fcntl(d->lock_fd, F_OFD_SETLK, &all))
        rc = errno == EAGAIN ? err_set(e, ERR_BUSY, "cluster %s is running already; `tandem down "
                                                    "%s` ends it", cluster, cluster)
                             : rundir_failed(path, e);
    else if (!rundir_is_linked(d->lock_fd, path))
        rc = err_set(e, ERR_NOT_FOUND, "run directory: %s vanished while it was locked", path);
    if (rc)
        rundir_release(d);
    return rc;
}

int rundir_ensure(const struct rundir *d, struct err *e)
{
    int rc = rundir_make_both(d, e);

    return rc ? rc : rundir_write_file(d, RUNDIR_KEPT, "", e);
}

bool rundir_known(const struct rundir *d)
{
    char path[PATH_MAX];
    pid_t pid;

    rundir_file(d, RUNDIR_KEPT, path);
    return rundir_running(d, &pid) || !access(path, F_OK);
}

int rundir_lock(struct rundir *d, const char *cluster, struct err *e)
{
    int rc = rundir_locate(d, cluster, e);

    if (rc)
        return rc;
    rc = rundir_try_lock(d, cluster, e);
    for (int tries = 0; rc == ERR_NOT_FOUND && tries < 10; tries++)
        rc = rundir_try_lock(d, cluster, e);
    if (!rc)
        rundir_empty(d, RUNDIR_PID);
    return rc;
}

int rundir_write_pid(const struct rundir *d, pid_t pid, struct err *e)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)pid);

    if (ftruncate(d->lock_fd, 0) || pwrite(d->lock_fd, text, (size_t)n, 0) != n)
        return err_set(e, ERR_IO, "%s/" RUNDIR_PID ": %s", d->path, strerror(errno));
    return 0;
}

bool rundir_running(const struct rundir *d, pid_t *pid)
{
    struct flock all = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    char path[PATH_MAX], text[32];
    bool running;
    ssize_t n;
    int fd;

    *pid = 0;
    rundir_file(d, RUNDIR_PID, path);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    /* Asks without locking, so that a status does not get in the way of an up. */
    running = fcntl(fd, F_OFD_GETLK, &all) == 0 && all.l_type != F_UNLCK;
    n = read(fd, text, sizeof(text) - 1);
    if (running && n > 0) {
        text[n] = '\0';
        *pid = (pid_t)strtol(text, NULL, 10);
    }
    close(fd);
    return running;
}

void rundir_remove(struct rundir *d)
{
    char root[PATH_MAX];

    ASSERT(d->lock_fd >= 0);
    rundir_empty(d, RUNDIR_PID);
    rundir_empty(d, NULL); /* the lock last: until then nobody can take the name */
    rmdir(d->path);
    if (!rundir_root(root, NULL))
        rmdir(root); /* if this was the last cluster */
    rundir_release(d);
}

void rundir_release(struct rundir *d)
{
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    d->lock_fd = -1;
}

int rundir_write_file(const struct rundir *d, const char *name, const char *text, struct err *e)
{
    char path[PATH_MAX], temporary[PATH_MAX + 8];
    size_t n = strlen(text);
    bool ok;
    int fd;

    rundir_file(d, name, path);
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(e, ERR_IO, "%s: %s", temporary, strerror(errno));
    ok = write(fd, text, n) == (ssize_t)n;
    ok = close(fd) == 0 && ok;
    if (!ok || rename(temporary, path))
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    return 0;
}

void rundir_state_text(const struct rundir_state *s, struct str *out)
{
    option_print(&state_table, s, out);
}

int rundir_read_state(struct rundir_state *s, const struct rundir *d, struct err *e)
{
    char path[PATH_MAX];
    struct yaml_doc *doc;
    int rc;

    option_defaults(&state_table, s);
    rundir_file(d, RUNDIR_STATE, path);
    rc = yaml_load_file(&doc, path, e);
    if (!rc)
        rc = option_from_map(&state_table, s, doc, yaml_root(doc), e);
    yaml_doc_free(&doc);
    return rc;
}

void rundir_state_fini(struct rundir_state *s) { option_free(&state_table, s); }

void rundir_each(void (*fn)(void *ctx, const char *cluster), void *ctx)
{
    char root[PATH_MAX];
    const struct dirent *entry;
    DIR *dir;

    if (rundir_root(root, NULL))
        return;
    dir = opendir(root);
    while (dir && (entry = readdir(dir))) {
        struct rundir d;

        if (entry->d_name[0] != '.' && !rundir_locate(&d, entry->d_name, NULL) && rundir_known(&d))
            fn(ctx, entry->d_name);
    }
    if (dir)
        closedir(dir);
}
