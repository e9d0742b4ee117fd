#include "prefill-node/sendbuf.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

struct sendbuf {
    struct sendbufs *all;
    atomic_bool busy;
    bool holds; /* page_id; the network thread's */
    uint32_t page_id;
    uint32_t link; /* who took it last */
};

struct sendbufs {
    struct kv_pool *pool;
    uint8_t *memory;
    size_t stride;
    uint32_t n, next;      /* next: where the search begins, since slots come back in order */
    uint32_t n_held;       /* slots that hold a page */
    struct sendbuf *slots; /* [n] */
    atomic_bool starved;   /* the network thread waits for a release */
    int fd;
};

int sendbufs_open(struct sendbufs **out, struct kv_pool *pool, uint32_t n, size_t bytes,
                  struct err *e)
{
    struct sendbufs *s = mem_zalloc(sizeof(*s));

    ASSERT(n);
    s->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->fd < 0) {
        sendbufs_close(&s);
        *out = NULL;
        return err_set(e, ERR_IO, "the system refuses another file descriptor");
    }
    s->pool = pool;
    s->n = n;
    s->stride = size_round_up(bytes, 64);
    if (bytes)
        s->memory = mem_aligned(s->stride * n, 64);
    s->slots = mem_calloc(n, sizeof(*s->slots));
    for (uint32_t i = 0; i < n; i++)
        s->slots[i].all = s;
    *out = s;
    return 0;
}

static void sendbuf_let_go(struct sendbuf *b)
{
    if (!b->holds)
        return;
    kv_pool_unref(b->all->pool, b->page_id);
    b->holds = false;
    b->all->n_held--;
}

void sendbufs_close(struct sendbufs **sendbufs)
{
    struct sendbufs *s = *sendbufs;

    if (!s)
        return;
    for (uint32_t i = 0; i < s->n; i++)
        sendbuf_let_go(&s->slots[i]);
    if (s->fd >= 0)
        close(s->fd);
    mem_free(s->memory);
    mem_free(s->slots);
    mem_free(s);
    *sendbufs = NULL;
}

static struct sendbuf *sendbufs_search(struct sendbufs *s, uint32_t link)
{
    struct sendbuf *found;
    uint32_t first = 0, n_free = 0, n_own = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t at = (s->next + i) % s->n;
        struct sendbuf *b = &s->slots[at];

        /* seq_cst, as the three below: "busy cleared, then starved read" in a release and "starved
         * set, then busy read" here must not both miss the other. */
        if (atomic_load(&b->busy)) {
            n_own += b->link == link;
            continue;
        }
        if (n_free++ == 0)
            first = at;
    }
    if (!n_free || n_own >= n_free)
        return NULL;
    found = &s->slots[first];
    sendbuf_let_go(found);
    found->link = link;
    atomic_store(&found->busy, true);
    s->next = (first + 1) % s->n;
    return found;
}

struct sendbuf *sendbufs_take(struct sendbufs *s, uint32_t link)
{
    struct sendbuf *b = sendbufs_search(s, link);

    if (b)
        return b;
    atomic_store(&s->starved, true);
    return sendbufs_search(s, link); /* one may have come back before starved was set */
}

void *sendbuf_data(struct sendbuf *b)
{
    ASSERT(b->all->memory);
    return b->all->memory + (size_t)(b - b->all->slots) * b->all->stride;
}

void sendbuf_hold(struct sendbuf *b, uint32_t page_id)
{
    ASSERT(!b->holds);
    kv_pool_ref(b->all->pool, page_id);
    b->page_id = page_id;
    b->holds = true;
    b->all->n_held++;
}

void sendbuf_release(void *data, void *hint)
{
    struct sendbuf *b = hint;
    struct sendbufs *s = b->all; /* b may be another's once it is not busy */

    (void)data;
    atomic_store(&b->busy, false);
    if (atomic_exchange(&s->starved, false))
        sendbufs_wake(s);
}

void sendbufs_collect(struct sendbufs *s)
{
    for (uint32_t i = 0; s->n_held && i < s->n; i++)
        if (!atomic_load_explicit(&s->slots[i].busy, memory_order_acquire)) /* sendbuf_release */
            sendbuf_let_go(&s->slots[i]);
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
