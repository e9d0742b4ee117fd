#include "base/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* text has room for SECRET_FILE_MAX + 1. */
static int secret_slurp(char *text, size_t *n, int fd, const char *path, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_CONFIG, "%s: is no regular file", path);
    if (st.st_mode & 077)
        return err_set(e, ERR_CONFIG, "%s: mode %04o lets others than its owner in; chmod 600 %s",
                       path, st.st_mode & 07777, path);
    for (*n = 0; *n <= SECRET_FILE_MAX;) {
        ssize_t got = read(fd, text + *n, SECRET_FILE_MAX + 1 - *n);

        if (got < 0)
            return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
        if (got == 0) {
            text[*n] = '\0';
            return 0;
        }
        *n += (size_t)got;
    }
    return err_set(e, ERR_LIMIT, "%s: has more than %zu bytes", path, SECRET_FILE_MAX);
}

int secret_file_read(char **text, size_t *n, const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;

    *text = NULL;
    if (fd < 0)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    *text = mem_alloc(SECRET_FILE_MAX + 1);
    rc = secret_slurp(*text, n, fd, path, e);
    close(fd);
    if (rc)
        secret_file_free(text);
    return rc;
}

void secret_file_free(char **text)
{
    if (*text)
        explicit_bzero(*text, SECRET_FILE_MAX + 1);
    mem_free(*text);
    *text = NULL;
}

/* Editors write a new file or the old one: another inode, size, mode or time. */
static bool secret_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mode == b->st_mode && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

bool secret_file_changed(struct stat *seen, const char *path)
{
    struct stat now;

    if (stat(path, &now) != 0)
        now = (struct stat){0};
    if (secret_same(&now, seen))
        return false;
    *seen = now;
    return true;
}
