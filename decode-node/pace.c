#include "decode-node/pace.h"

#include <inttypes.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "kv/kv_unit.h"
#include "kv/kv_wire.h"
#include "net/msg.h"

#define PACE_BYTES (16u << 20) /* of KV in a round: more than a near cache holds */
#define PACE_ROUNDS 3          /* the best counts */
#define PACE_CHUNK (64u << 10) /* of a read: a socket's buffer takes as much without a reader, or less */
#define PACE_SHARE 2           /* messages, wake-ups and memory of ZeroMQ: what is read takes as long again */

/* Nanoseconds that reading `bytes` takes once they have come. */
static int64_t pace_read(const int fd[2], uint8_t *to, const uint8_t *from, size_t bytes)
{
    int64_t ns = 0;

    for (size_t at = 0, end = 0; at < bytes;) {
        ssize_t n = send(fd[1], from + at, size_min(PACE_CHUNK, bytes - at), MSG_DONTWAIT);
        int64_t start = clock_now();

        if (n <= 0)
            return ns;
        for (end += (size_t)n; at < end; at += (size_t)n)
            if ((n = read(fd[0], to + at, end - at)) <= 0)
                return ns;
        ns += clock_now() - start;
    }
    return ns;
}

struct pace {
    const struct kv_layout *l;
    enum kv_type wire;
    struct kv_cut cut;
    uint32_t n_pages;
    uint8_t *pages, *frames, *sent;
    int fd[2];
    uint64_t sum;
};

/* Nanoseconds of a round; *bytes: how many came in. */
static int64_t pace_round(struct pace *p, size_t *bytes)
{
    uint32_t tokens = p->n_pages * KV_PAGE_TOKENS;
    int64_t ns = 0;

    *bytes = 0;
    for (size_t i = 0; i < kv_cut_count(&p->cut, tokens); i++) {
        struct kv_unit u = kv_cut_unit(&p->cut, i, tokens);
        size_t n = kv_wire_bytes(p->l, p->wire, u.head_count, u.n_tokens);
        uint8_t *frame = p->frames + *bytes % PACE_BYTES;
        int64_t start;

        ns += pace_read(p->fd, frame, p->sent, n);
        start = clock_now();
        p->sum += hash64(frame, n, 0);
        kv_wire_import(p->pages + u.page * p->l->page_bytes, p->l, frame, p->wire, u.layer,
                       u.head_first, u.head_count, u.n_tokens);
        ns += clock_now() - start;
        *bytes += n;
    }
    return ns;
}

uint64_t pace_measure(const struct kv_layout *l, enum kv_type wire)
{
    struct pace p = {.l = l, .wire = wire, .n_pages = (uint32_t)(PACE_BYTES / l->page_bytes) + 1};
    double best = 0;

    if (!kv_cut_init(&p.cut, l, wire, MSG_BULK_MAX) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p.fd))
        return 0;
    p.pages = mem_zalloc(p.n_pages * l->page_bytes); /* the pool may be in use */
    p.frames = mem_zalloc(PACE_BYTES + MSG_BULK_MAX);
    p.sent = mem_zalloc(MSG_BULK_MAX);
    for (int round = 0; round < PACE_ROUNDS; round++) {
        size_t bytes;
        int64_t ns = pace_round(&p, &bytes);

        if (ns > 0 && (double)bytes / (double)ns > best)
            best = (double)bytes / (double)ns;
    }
    log_debug("decode", "pace sum=%016" PRIx64, p.sum); /* so that no compiler leaves it out */
    close(p.fd[0]);
    close(p.fd[1]);
    mem_free(p.pages);
    mem_free(p.frames);
    mem_free(p.sent);
    return (uint64_t)(best * 1e9 / PACE_SHARE);
}
