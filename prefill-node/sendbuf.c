#include "prefill-node/sendbuf.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

struct sendbufs {
    uint8_t *memory;
    size_t stride;
    uint32_t n, next;    /* next: where the search begins, since buffers come back in order */
    atomic_bool *busy;   /* [n] */
    atomic_bool starved; /* the network thread waits for a release */
    int fd;
};

int sendbufs_open(struct sendbufs **out, uint32_t n, size_t bytes, struct err *e)
{
    struct sendbufs *s = mem_zalloc(sizeof(*s));

    ASSERT(n && bytes);
    s->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->fd < 0) {
        sendbufs_close(&s);
        *out = NULL;
        return err_set(e, ERR_IO, "the system refuses another file descriptor");
    }
    s->n = n;
    s->stride = size_round_up(bytes, 64);
    s->memory = mem_aligned(s->stride * n, 64);
    s->busy = mem_calloc(n, sizeof(*s->busy));
    *out = s;
    return 0;
}

void sendbufs_close(struct sendbufs **sendbufs)
{
    struct sendbufs *s = *sendbufs;

    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    mem_free(s->memory);
    mem_free(s->busy);
    mem_free(s);
    *sendbufs = NULL;
}

static void *sendbufs_search(struct sendbufs *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t at = (s->next + i) % s->n;

        /* seq_cst, as the three below: "busy cleared, then starved read" in a release and "starved
         * set, then busy read" here must not both miss the other. */
        if (!atomic_load(&s->busy[at])) {
            atomic_store(&s->busy[at], true);
            s->next = (at + 1) % s->n;
            return s->memory + at * s->stride;
        }
    }
    return NULL;
}

void *sendbufs_take(struct sendbufs *s)
{
    void *p = sendbufs_search(s);

    if (p)
        return p;
    atomic_store(&s->starved, true);
    return sendbufs_search(s); /* one may have come back before starved was set */
}

void sendbufs_release(void *data, void *hint)
{
    struct sendbufs *s = hint;
    size_t at = (size_t)((uint8_t *)data - s->memory) / s->stride;

    ASSERT(at < s->n);
    atomic_store(&s->busy[at], false);
    if (atomic_exchange(&s->starved, false))
        sendbufs_wake(s);
}

void sendbufs_wake(struct sendbufs *s)
{
    uint64_t one = 1;

    while (write(s->fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

int sendbufs_fd(const struct sendbufs *s) { return s->fd; }

void sendbufs_woken(struct sendbufs *s)
{
    uint64_t count;

    while (read(s->fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
}
