/* tail: the last lines of the logs of some processes, and what they write from then on. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "daemon/options.h"
#include "deploy/agent_priv.h"
#include "deploy/api.h"

#define TAIL_LOOK (200 * CLOCK_MS) /* between two looks at a log that is followed */
#define TAIL_READ 65536
#define TAIL_LINE_MAX 65536 /* a longer line is told in pieces */

/* Where the last n lines begin. */
static off_t tail_start(int fd, uint64_t n)
{
    char part[TAIL_READ];
    off_t at = lseek(fd, 0, SEEK_END);
    bool last = true; /* the newline at the end ends a line, it begins none */

    while (at > 0) {
        off_t from = at > TAIL_READ ? at - TAIL_READ : 0;
        ssize_t got = pread(fd, part, (size_t)(at - from), from);

        if (got <= 0)
            return at;
        for (ssize_t i = got; i-- > 0;) {
            if (part[i] == '\n' && !last && n-- <= 1)
                return from + i + 1;
            last = false;
        }
        at = from;
    }
    return 0;
}

/* Other bytes than UTF-8, which no process of ours writes, are told as '?'. */
static void tail_tell(struct agent *a, struct agent_tail *t)
{
    json_t *text = json_stringn(str_text(&t->line), t->line.len);

    for (size_t i = 0; !text && i < t->line.len; i++)
        if ((unsigned char)t->line.data[i] >= 0x80)
            t->line.data[i] = '?';
    if (!text)
        text = json_stringn(str_text(&t->line), t->line.len);
    agent_event(a, json_pack("{s:s, s:s, s:o}", "event", "line", "name", t->name, "text", text));
    str_clear(&t->line);
}

void agent_tail_end(struct agent *a)
{
    for (size_t i = 0; i < a->n_tails; i++) {
        if (a->tails[i].fd >= 0)
            close(a->tails[i].fd);
        mem_free(a->tails[i].name);
        str_fini(&a->tails[i].line);
    }
    mem_free(a->tails);
    a->tails = NULL;
    a->n_tails = 0;
}

static int tail_open(struct agent_tail *t, const struct rundir *d, const char *name, uint64_t lines,
                     struct err *e)
{
    const char *wrong = options_name_wrong(name);
    char path[PATH_MAX + 80];

    t->fd = -1;
    if (wrong)
        return err_set(e, ERR_ARG, "name: \"%.80s\" %s", name, wrong);
    snprintf(path, sizeof(path), "%s/%s.log", d->path, name);
    t->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (t->fd < 0)
        return err_set(e, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
    t->name = mem_strdup(name);
    lseek(t->fd, lines ? tail_start(t->fd, lines) : lseek(t->fd, 0, SEEK_END), SEEK_SET);
    return 0;
}

void agent_op_tail(struct agent *a, const json_t *request)
{
    const json_t *names = json_object_get(request, "names");
    json_int_t lines = api_number(request, "lines");
    struct rundir d;
    struct err e = {0};

    if (!agent_cluster(a, &d, request))
        return;
    a->tails = mem_calloc(json_array_size(names), sizeof(*a->tails));
    a->following = json_is_true(json_object_get(request, "follow"));
    a->look_at = 0;
    while (a->n_tails < json_array_size(names) && !e.code) {
        const char *name = json_string_value(json_array_get(names, a->n_tails));

        tail_open(&a->tails[a->n_tails++], &d, name ? name : "", lines > 0 ? (uint64_t)lines : 0, &e);
    }
    if (!a->n_tails)
        err_set(&e, ERR_ARG, "names: a list of processes is needed");
    if (e.code) {
        agent_tail_end(a);
        agent_fail(a, &e);
    }
}

/* The log was removed: its cluster has ended. */
static bool tail_over(const struct agent_tail *t)
{
    struct stat st;

    return fstat(t->fd, &st) || st.st_nlink == 0;
}

/* Tells what is new. True: that was all, and no more will come. */
static bool tail_read(struct agent *a, struct agent_tail *t)
{
    char part[TAIL_READ];
    ssize_t n = 1;

    while (a->out.len < AGENT_OUTPUT_MAX && (n = read(t->fd, part, sizeof(part))) > 0)
        for (ssize_t i = 0; i < n; i++) {
            if (part[i] == '\n' || t->line.len >= TAIL_LINE_MAX)
                tail_tell(a, t);
            if (part[i] != '\n')
                str_addc(&t->line, part[i]);
        }
    if (n > 0 || (a->following && !tail_over(t)))
        return false;
    if (t->line.len)
        tail_tell(a, t);
    return true;
}

int64_t agent_tail_on(struct agent *a, int64_t now)
{
    size_t over = 0;

    if (!a->n_tails)
        return INT64_MAX;
    if (now < a->look_at)
        return a->look_at;
    for (size_t i = 0; i < a->n_tails; i++)
        over += tail_read(a, &a->tails[i]);
    if (over < a->n_tails) {
        a->look_at = now + (a->following ? TAIL_LOOK : 0);
        return a->out.len < AGENT_OUTPUT_MAX ? a->look_at : INT64_MAX; /* called when that is sent */
    }
    agent_tail_end(a);
    agent_reply(a, json_object());
    return now;
}
