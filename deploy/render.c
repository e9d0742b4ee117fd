#include "deploy/render.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

#define RENDER_MARGIN ((uint64_t)512 << 20) /* rings, scratch, code */

struct str *render_add(struct render *r, unsigned mode, const char *path, ...)
{
    struct str text = {0};
    struct render_file *f;
    va_list ap;

    va_start(ap, path);
    str_addv(&text, path, ap);
    va_end(ap);
    r->files = mem_realloc(r->files, (r->n + 1) * sizeof(*r->files));
    f = &r->files[r->n++];
    *f = (struct render_file){.path = str_steal(&text), .mode = mode};
    return &f->text;
}

struct render_size render_size(const struct cluster *c, const struct plan_node *n)
{
    bool router = n->place->kind == PLACE_ROUTER;
    uint64_t bytes = RENDER_MARGIN + n->weight_bytes + n->kv_bytes;

    if (n->place->kind == PLACE_DECODE)
        bytes += c->decode.options.swap;
    return (struct render_size){.cpus = router ? 1 : n->place->n_pus, .mib = bytes >> 20};
}

static const struct option_table *render_table(const struct launch_process *p)
{
    const struct option_table *const tables[] = {&router_option_table, &prefill_option_table,
                                                 &decode_option_table};
    const char *slash = strrchr(p->argv[0], '/'), *program = slash ? slash + 1 : p->argv[0];

    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        if (!strcmp(tables[i]->program, program))
            return tables[i];
    UNREACHABLE(); /* launch_init has no others */
}

void render_each(const struct launch_process *p, void (*fn)(void *ctx, const char *key, const char *value),
                 void *ctx)
{
    const struct option_table *t = render_table(p);
    union {
        struct router_options router;
        struct node_options node;
    } defaults = {0};

    option_defaults(t, &defaults);
    for (char **arg = p->argv + 1; *arg; arg++) {
        char *equals = strchr(*arg, '=');
        char *key = mem_strndup(*arg + 2, (size_t)(equals - *arg) - 2);
        struct str text = {0};

        option_text(option_find(t, key), &defaults, &text);
        if (strcmp(str_text(&text), equals + 1) != 0 || !strcmp(key, "name"))
            fn(ctx, key, equals + 1);
        str_fini(&text);
        mem_free(key);
    }
    option_free(t, &defaults);
}

static int render_put(const struct render_file *f, const char *path, struct err *e)
{
    size_t done = 0;
    ssize_t n = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, f->mode);

    if (fd < 0)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    for (; done < f->text.len && n >= 0; done += (size_t)n)
        n = write(fd, f->text.data + done, f->text.len - done);
    if (n < 0)
        err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    if (close(fd) && n >= 0)
        n = err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    return n < 0 ? ERR_IO : 0;
}

int render_write(const struct render *r, const char *dir, struct err *e)
{
    struct str path = {0};
    int rc = 0;

    for (size_t i = 0; i < r->n && !rc; i++) {
        str_clear(&path);
        str_addf(&path, "%s/%s", dir, r->files[i].path);
        for (char *slash = strchr(path.data + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
            *slash = '\0';
            if (mkdir(path.data, 0755) && errno != EEXIST && !rc)
                rc = err_set(e, ERR_IO, "%s: %s", path.data, strerror(errno));
            *slash = '/';
        }
        if (!rc)
            rc = render_put(&r->files[i], path.data, e);
    }
    str_fini(&path);
    return rc;
}

void render_fini(struct render *r)
{
    for (size_t i = 0; i < r->n; i++) {
        mem_free(r->files[i].path);
        str_fini(&r->files[i].text);
    }
    mem_free(r->files);
    *r = (struct render){0};
}
