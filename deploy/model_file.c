#include "deploy/model_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"

#define STEP_BYTES ((size_t)64 << 20) /* about 10 ms from memory, half a second from a disk */
#define READ_BYTES ((size_t)1 << 20)
#define CACHE_BYTES_MAX (1 << 20) /* of the file with the hashes; a longer one starts anew */

struct model_file {
    char *path;
    int fd;
    struct stat st; /* as it was opened */
    struct hash_stream *stream;
    uint8_t *buffer; /* [READ_BYTES] */
    uint64_t at;
    char hash[MODEL_HASH_TEXT]; /* "" until it is known */
};

/* What stands for the file's content, as a line begins in the cache; with its hash the line is whole. */
static void cache_key(struct str *out, const char *path, const struct stat *st)
{
    str_addf(out, "%jd %jd.%09ld %ju %ju %s ", (intmax_t)st->st_size, (intmax_t)st->st_mtim.tv_sec,
             st->st_mtim.tv_nsec, (uintmax_t)st->st_ino, (uintmax_t)st->st_dev, path);
}

/* The cache file's path, with its folder made if need be. False: there is no place for one. */
static bool cache_path(struct str *out, bool make)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

    if (base && base[0] == '/')
        str_adds(out, base);
    else if (home && home[0] == '/')
        str_addf(out, "%s/.cache", home);
    else
        return false;
    if (make)
        mkdir(str_text(out), 0700);
    str_adds(out, "/tandem");
    if (make)
        mkdir(str_text(out), 0700);
    str_adds(out, "/hashes");
    return true;
}

/* The last line of this key wins. */
static void cache_read(char hash[MODEL_HASH_TEXT], const char *key)
{
    struct str path = {0};
    char *line = NULL;
    size_t cap = 0, n = strlen(key);
    ssize_t got;
    FILE *f = cache_path(&path, false) ? fopen(str_text(&path), "re") : NULL;

    while (f && (got = getline(&line, &cap, f)) > 0)
        if ((size_t)got == n + MODEL_HASH_TEXT && !strncmp(line, key, n) &&
            strspn(line + n, "0123456789abcdef") == MODEL_HASH_TEXT - 1)
            memcpy(hash, line + n, MODEL_HASH_TEXT - 1);
    if (f)
        fclose(f);
    free(line); /* getline's own */
    str_fini(&path);
}

void model_file_remember(const char *path, const char *hash)
{
    struct str cache = {0}, line = {0};
    struct stat st;
    int fd = -1;

    if (!stat(path, &st) && cache_path(&cache, true)) {
        cache_key(&line, path, &st);
        str_addf(&line, "%s\n", hash);
        fd = open(str_text(&cache), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    if (fd >= 0) {
        if (!fstat(fd, &st) && st.st_size > CACHE_BYTES_MAX && ftruncate(fd, 0))
            st.st_size = 0; /* it stays long */
        if (write(fd, line.data, line.len) < 0) /* one write, one line: others may append too */
            line.len = 0;
        close(fd);
    }
    str_fini(&line);
    str_fini(&cache);
}

int model_file_open(struct model_file **out, const char *path, struct err *e)
{
    struct model_file *m = mem_zalloc(sizeof(*m));
    struct str key = {0};
    int rc = 0;

    *out = NULL;
    m->path = mem_strdup(path);
    m->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe would wait */
    if (m->fd < 0)
        rc = err_set(e, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path,
                     strerror(errno));
    else if (fstat(m->fd, &m->st) || !S_ISREG(m->st.st_mode))
        rc = err_set(e, ERR_IO, "%s is no regular file", path);
    if (rc) {
        model_file_close(&m);
        return rc;
    }
    cache_key(&key, path, &m->st);
    cache_read(m->hash, str_text(&key));
    str_fini(&key);
    if (!*m->hash) {
        m->stream = hash_stream_new();
        m->buffer = mem_alloc(READ_BYTES);
    }
    *out = m;
    return 0;
}

void model_file_close(struct model_file **model)
{
    struct model_file *m = *model;

    if (!m)
        return;
    if (m->fd >= 0)
        close(m->fd);
    hash_stream_free(&m->stream);
    mem_free(m->buffer);
    mem_free(m->path);
    mem_free(m);
    *model = NULL;
}

/* All bytes were read. */
static int model_file_end(struct model_file *m, struct err *e)
{
    struct stat now;

    if (fstat(m->fd, &now) || now.st_size != m->st.st_size ||
        now.st_mtim.tv_sec != m->st.st_mtim.tv_sec || now.st_mtim.tv_nsec != m->st.st_mtim.tv_nsec)
        return err_set(e, ERR_IO, "%s changed while it was read", m->path);
    hash_stream_text(m->stream, m->hash);
    model_file_remember(m->path, m->hash);
    return 0;
}

int model_file_step(struct model_file *m, struct err *e)
{
    uint64_t until = m->at + STEP_BYTES;

    while (!model_file_done(m) && m->at < until) {
        ssize_t n = read(m->fd, m->buffer, READ_BYTES);

        if (n < 0)
            return err_set(e, ERR_IO, "%s: %s", m->path, strerror(errno));
        if (n == 0)
            return model_file_end(m, e);
        hash_stream_add(m->stream, m->buffer, (size_t)n);
        m->at += (uint64_t)n;
    }
    return 0;
}

bool model_file_done(const struct model_file *m) { return *m->hash != '\0'; }

uint64_t model_file_size(const struct model_file *m) { return (uint64_t)m->st.st_size; }

uint64_t model_file_at(const struct model_file *m) { return m->at; }

const char *model_file_hash(const struct model_file *m) { return m->hash; }
