#include "bench/kv/path.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kv/kv_wire.h"
#include "net/credit.h"
#include "net/sock.h"

#define WINDOW (8u << 20) /* a decode node's default credit_bytes */
#define BUFFERS 64        /* a prefill node's send buffers */

const char *const path_way_names[] = {"ipc", "tcp", "tcp CURVE", "mapped", NULL};

/* One buffer on its way. */
struct parcel {
    _Atomic(bool) full; /* release by who fills or empties it, acquire by the other */
    size_t unit, bytes;
    uint64_t checksum;
    uint8_t data[MSG_BULK_MAX];
};

struct run {
    struct path *path;
    enum path_way way;
    struct parcel *parcels; /* [BUFFERS] */
    struct sock_ctx *ctx, *sender_ctx; /* a node has one */
    char endpoint[MSG_ENDPOINT_MAX];
    int64_t start;
    atomic_bool failed;
    atomic_bool over; /* the receiver has all, and the sender may close */
};

int path_open(struct path *p, enum kv_type type, uint32_t layers, uint32_t heads, uint32_t dim,
              uint32_t n_pages, struct err *e)
{
    size_t bytes;
    int rc;

    *p = (struct path){.n_pages = n_pages, .convert = true, .fd = -1};
    kv_layout_init(&p->layout, type, layers, heads, dim);
    if (!kv_cut_init(&p->cut, &p->layout, type, MSG_BULK_MAX))
        return err_set(e, ERR_LIMIT, "a KV head of %u values does not fit into %u bytes", dim,
                       MSG_BULK_MAX);
    bytes = p->layout.page_bytes * n_pages;
    if ((rc = mem_map_open_shared(&p->memory, &p->fd, bytes, false, e)))
        return rc;
    p->from = p->memory.data;
    p->to = mem_aligned(bytes, 4096);
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t v = rng_u64(1, i) & 0x3fff3fff3fff3fff; /* no NaN in any type */

        memcpy(p->from + i, &v, 8);
    }
    memset(p->to, 0, bytes);
    return 0;
}

void path_close(struct path *p)
{
    share_close(&p->map);
    mem_map_close(&p->memory);
    if (p->fd >= 0)
        close(p->fd);
    mem_free(p->to);
    *p = (struct path){0};
}

static size_t unit_bytes(const struct path *p, const struct kv_unit *u)
{
    return kv_wire_bytes(&p->layout, p->layout.type, u->head_count, u->n_tokens);
}

static size_t path_units(const struct path *p)
{
    return kv_cut_count(&p->cut, p->n_pages * KV_PAGE_TOKENS);
}

size_t path_bytes(const struct path *p)
{
    size_t n = 0;

    for (size_t i = 0; i < path_units(p); i++) {
        struct kv_unit u = kv_cut_unit(&p->cut, i, p->n_pages * KV_PAGE_TOKENS);

        n += unit_bytes(p, &u);
    }
    return n;
}

/* Where a unit begins in the pages. */
static size_t unit_at(const struct path *p, const struct kv_unit *u)
{
    return u->page * p->layout.page_bytes + kv_layout_k(&p->layout, u->layer, u->head_first);
}

/* A unit's bytes as they travel, and their checksum: where they lie, if they may leave from there, or
 * else in the parcel. Bytes of no meaning if frames alone are measured. */
static const uint8_t *unit_take(const struct path *p, struct parcel *to, size_t unit)
{
    struct kv_unit u = kv_cut_unit(&p->cut, unit, p->n_pages * KV_PAGE_TOKENS);
    const uint8_t *data = p->from + unit_at(p, &u);

    to->unit = unit;
    to->bytes = unit_bytes(p, &u);
    to->checksum = 0;
    if (!p->convert)
        return to->data;
    if (!kv_wire_whole(&p->layout, p->layout.type)) {
        kv_wire_export(to->data, p->layout.type, &p->layout, p->from + u.page * p->layout.page_bytes,
                       u.layer, u.head_first, u.head_count, u.n_tokens);
        data = to->data;
    }
    to->checksum = hash64(data, to->bytes, 0);
    return data;
}

static bool unit_put(const struct path *p, size_t unit, const void *data, size_t bytes,
                     uint64_t checksum)
{
    struct kv_unit u = kv_cut_unit(&p->cut, unit, p->n_pages * KV_PAGE_TOKENS);

    if (!p->convert)
        return true;
    if (bytes != unit_bytes(p, &u) || hash64(data, bytes, 0) != checksum)
        return false;
    kv_wire_import(p->to + u.page * p->layout.page_bytes, &p->layout, data, p->layout.type, u.layer,
                   u.head_first, u.head_count, u.n_tokens);
    return true;
}

static void parcel_release(void *data, void *hint)
{
    struct parcel *k = hint;

    (void)data;
    atomic_store_explicit(&k->full, false, memory_order_release);
}

/* Until the buffer is free; the other thread may have this processor. */
static void parcel_await(struct parcel *k)
{
    while (atomic_load_explicit(&k->full, memory_order_acquire))
        sched_yield();
}

/* Only the place travels: the receiver copies from there. */
static bool by_place(const struct run *r) { return r->way == PATH_MAPPED; }

/* Waits for credit as a prefill node does, and gives pages, not copies. */
static void *sender(void *arg)
{
    struct run *r = arg;
    const struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_DATA, .identity = "p#1"};
    struct credit_out credit = {0};
    struct sock *s;
    struct msg m;

    if (sock_open(&s, r->sender_ctx, &o, NULL) || sock_connect(s, r->endpoint, NULL)) {
        atomic_store(&r->failed, true);
        return NULL;
    }
    m = (struct msg){.type = MSG_KV_HELLO, .u.hello = {
        .protocol = MSG_PROTOCOL, .cluster = "c", .name = "p",
        .geometry = {r->path->layout.n_layer, r->path->layout.n_kv_head, r->path->layout.head_dim,
                     KV_PAGE_TOKENS, 0}}};
    share_offer(&m.u.hello.offer, r->path->fd);
    while (sock_send(s, NULL, &m, NULL) == ERR_BUSY)
        usleep(1000);
    for (size_t i = 0; i < path_units(r->path) && !atomic_load(&r->failed); i++) {
        struct parcel *k = &r->parcels[i % BUFFERS];
        const uint8_t *data;
        struct kv_unit u = kv_cut_unit(&r->path->cut, i, r->path->n_pages * KV_PAGE_TOKENS);

        while (!credit_out_can_send(&credit, unit_bytes(r->path, &u))) {
            if (sock_recv(s, NULL, &m, NULL) == 1)
                credit_out_grant(&credit, m.u.credit.bytes);
            else
                sched_yield();
        }
        parcel_await(k);
        if (!i)
            r->start = clock_now();
        data = unit_take(r->path, k, i);
        atomic_store_explicit(&k->full, !by_place(r), memory_order_relaxed);
        m = (struct msg){.type = by_place(r) ? MSG_KV_PLACE : MSG_KV_PAGE, .u.page = {
            .id = {1, 1}, .layer = u.layer, .page = u.page, .head_first = u.head_first,
            .head_count = u.head_count, .n_tokens = u.n_tokens, .checksum = k->checksum,
            .place = by_place(r) ? unit_at(r->path, &u) : 0,
            .bulk = {by_place(r) ? NULL : data, k->bytes, by_place(r) ? NULL : parcel_release, k}}};
        while (sock_send(s, NULL, &m, NULL) == ERR_BUSY)
            sched_yield();
        credit_out_sent(&credit, k->bytes);
    }
    while (!atomic_load(&r->over) && !atomic_load(&r->failed))
        sched_yield();
    for (size_t i = 0; i < BUFFERS; i++)
        parcel_await(&r->parcels[i]);
    sock_close(&s);
    return NULL;
}

/* As unit_put, in the order of a decode node: only what nobody else writes to can be checked. */
static bool unit_read(const struct run *r, const struct kv_unit *u, const struct msg_kv_page *m)
{
    const struct path *p = r->path;
    const struct share_map *map = &p->map;
    uint8_t *to = p->to + unit_at(p, u);

    if (!map->data || m->bulk.size != unit_bytes(p, u) || m->place > map->offer.size - m->bulk.size)
        return false;
    memcpy(to, map->data + m->place, m->bulk.size);
    return !p->convert || hash64(to, m->bulk.size, 0) == m->checksum;
}

static bool receive_page(struct run *r, struct sock *s, const struct peer *from,
                         struct credit_in *credit, const struct msg_kv_page *p)
{
    struct kv_unit u = {p->layer, p->page, p->head_first, p->head_count, p->n_tokens};
    struct msg grant = {.type = MSG_KV_CREDIT};
    size_t unit;

    if (!kv_cut_index(&r->path->cut, &unit, &u, r->path->n_pages * KV_PAGE_TOKENS) ||
        !credit_in_received(credit, p->bulk.size))
        return false;
    if (by_place(r) ? !unit_read(r, &u, p)
                    : !unit_put(r->path, unit, p->bulk.data, p->bulk.size, p->checksum))
        return false;
    grant.u.credit.bytes = credit_in_consumed(credit, p->bulk.size);
    if (grant.u.credit.bytes)
        sock_send(s, from, &grant, NULL); /* a sender that has sent all may be gone */
    return true;
}

static int receive_all(struct run *r, struct sock *s, struct err *e)
{
    struct credit_in credit;
    struct peer from;
    struct msg m;
    size_t n = 0;

    credit_in_init(&credit, WINDOW);
    while (n < path_units(r->path)) {
        struct msg welcome = {.type = MSG_KV_WELCOME, .u.credit.bytes = WINDOW};
        bool good = true;

        if (atomic_load(&r->failed) || sock_recv(s, &from, &m, NULL) != 1) {
            if (atomic_load(&r->failed))
                return err_set(e, ERR_NET, "the sender cannot open its socket");
            sched_yield();
            continue;
        }
        if (m.type == MSG_KV_HELLO) {
            if (by_place(r) && !r->path->map.data && share_open(&r->path->map, &m.u.hello.offer, e)) {
                atomic_store(&r->failed, true);
                return e->code;
            }
            sock_send(s, &from, &welcome, NULL);
        } else {
            good = (m.type == MSG_KV_PAGE || m.type == MSG_KV_PLACE) && receive_page(r, s, &from, &credit, &m.u.page);
            n++;
        }
        msg_fini(&m);
        if (!good) {
            atomic_store(&r->failed, true);
            return err_set(e, ERR_FORMAT, "unit %zu did not come as it was sent", n);
        }
    }
    return 0;
}

/* One key for both. */
static int secure(struct run *r, const char *key_file, struct err *e)
{
    const struct sock_security security = {.keys = key_file, .role = KEYS_NODE};
    struct keys_set set;
    struct str text = {0};
    int rc = keys_make(&set, e);

    if (rc)
        return rc;
    keys_text(&set, KEYS_NODES, &text);
    rc = keys_write(key_file, &text, e);
    str_fini(&text);
    if (!rc)
        rc = sock_ctx_secure(r->ctx, &security, e);
    return rc ? rc : sock_ctx_secure(r->sender_ctx, &security, e);
}

/* Binds where the sender will connect. dir is made: of a socket, or of keys. */
static int receiver_open(struct run *r, struct sock **s, const char *dir, struct err *e)
{
    const struct sock_options o = {.kind = SOCK_ROUTER, .lane = SOCK_DATA, .admits = KEYS_NODES};
    char name[128] = "tcp://127.0.0.1:*", key_file[64];
    int rc = 0;

    snprintf(key_file, sizeof(key_file), "%s/keys", dir);
    if (r->way == PATH_CURVE)
        rc = secure(r, key_file, e);
    if (r->way == PATH_IPC || by_place(r))
        snprintf(name, sizeof(name), "ipc://%s/s", dir);
    if (!rc)
        rc = sock_open(s, r->ctx, &o, e);
    if (!rc)
        rc = sock_bind(*s, name, e);
    if (!rc)
        snprintf(r->endpoint, sizeof(r->endpoint), "%s", sock_endpoint(*s));
    return rc;
}

int path_run(struct path *p, enum path_way way, int64_t *ns, struct err *e)
{
    struct run r = {.path = p, .way = way};
    char dir[] = "/tmp/tandem-bench-XXXXXX", key_file[64];
    struct sock *s = NULL;
    pthread_t thread;
    int rc = 0;

    if (!mkdtemp(dir))
        return err_set(e, ERR_IO, "cannot make %s", dir);
    snprintf(key_file, sizeof(key_file), "%s/keys", dir);
    r.parcels = mem_aligned(BUFFERS * sizeof(*r.parcels), 64);
    memset(r.parcels, 0, BUFFERS * sizeof(*r.parcels)); /* resident, too */
    r.ctx = sock_ctx_new();
    r.sender_ctx = sock_ctx_new();
    rc = receiver_open(&r, &s, dir, e);
    if (!rc && pthread_create(&thread, NULL, sender, &r) != 0)
        rc = err_set(e, ERR_MEMORY, "the system refuses another thread");
    if (!rc) {
        rc = receive_all(&r, s, e);
        *ns = clock_now() - r.start;
        atomic_store(&r.over, true);
        pthread_join(thread, NULL);
    }
    sock_close(&s);
    sock_ctx_free(&r.ctx);
    sock_ctx_free(&r.sender_ctx);
    mem_free(r.parcels);
    unlink(key_file);
    rmdir(dir);
    return rc;
}

size_t path_differences(const struct path *p)
{
    uint8_t *a = mem_alloc(MSG_BULK_MAX), *b = mem_alloc(MSG_BULK_MAX);
    size_t n = 0;

    for (size_t i = 0; i < path_units(p); i++) {
        struct kv_unit u = kv_cut_unit(&p->cut, i, p->n_pages * KV_PAGE_TOKENS);
        size_t at = u.page * p->layout.page_bytes;

        kv_wire_export(a, p->layout.type, &p->layout, p->from + at, u.layer, u.head_first,
                       u.head_count, u.n_tokens);
        kv_wire_export(b, p->layout.type, &p->layout, p->to + at, u.layer, u.head_first,
                       u.head_count, u.n_tokens);
        n += memcmp(a, b, unit_bytes(p, &u)) != 0;
    }
    mem_free(a);
    mem_free(b);
    return n;
}
