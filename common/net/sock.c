#include "net/sock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/codec.h"
#include "net/endpoint.h"
#include "net/sock_curve.h"

/* Queue lengths that credit and the limits on slots reach never: 64 Ki messages of KV are a window of
 * 64 MiB in frames of 1 KiB; a client of the control lane is 16 Ki messages behind only if it is
 * gone. They are lengths, not memory: nothing is allocated ahead. */
#define HWM_DATA (1 << 16)
#define HWM_CONTROL (1 << 14)

#define LINGER_CONTROL_MS 1000 /* BYE and the last tokens of a stream get out */
#define HANDSHAKE_MS 1000      /* a silent connection holds a descriptor that long */
#define RECONNECT_MS 100
#define RECONNECT_MAX_MS 5000
#define MAXRT_MS 3000          /* a cut link shows in 3 s while sending, */
#define KEEPALIVE_IDLE_S 2     /* in 2 + 3 x 1 s while idle */
#define KEEPALIVE_INTVL_S 1
#define KEEPALIVE_COUNT 3
#define SCRATCH_KEEP (64u << 10) /* a larger encoding buffer is not kept */

struct sock_ctx {
    void *zmq;
    struct sock_curve *curve; /* NULL: no keys */
    bool insecure;
    atomic_flag warned; /* that it is; relaxed, only to say it once */
};

struct sock {
    struct sock_ctx *ctx;
    void *zmq;
    void *monitor; /* of a DEALER: what happens to its connection */
    bool up;       /* of a DEALER: there is one */
    const char *refusal;
    enum sock_kind kind;
    unsigned admits;
    struct str scratch; /* the protobuf of the message being sent */
    char endpoint[MSG_ENDPOINT_MAX];
    struct stat file; /* of a bound ipc endpoint, as it was made; st_ino 0: none */
};

struct sock_ctx *sock_ctx_new(void)
{
    struct sock_ctx *ctx = mem_zalloc(sizeof(*ctx));

    ctx->zmq = zmq_ctx_new();
    ASSERT(ctx->zmq);
    ASSERT(zmq_ctx_set(ctx->zmq, ZMQ_BLOCKY, 0) == 0);
    return ctx;
}

void sock_ctx_free(struct sock_ctx **ctx)
{
    if (!*ctx)
        return;
    while (zmq_ctx_term((*ctx)->zmq) < 0)
        ASSERT(errno == EINTR); /* a signal: go on waiting for the linger */
    sock_curve_close(&(*ctx)->curve);
    mem_free(*ctx);
    *ctx = NULL;
}

int sock_ctx_secure(struct sock_ctx *ctx, const struct sock_security *s, struct err *e)
{
    ASSERT(!ctx->curve);
    ctx->insecure = s->insecure;
    return s->keys && *s->keys ? sock_curve_open(&ctx->curve, ctx->zmq, s->keys, s->role, e) : 0;
}

static void set_int(void *zmq, int option, int value)
{
    ASSERT(zmq_setsockopt(zmq, option, &value, sizeof(value)) == 0);
}

/* Everything but the identity. ZMQ_HEARTBEAT_* stays off: libzmq 4.3.4 aborts the process when a
 * heartbeat times out under back-pressure; beats are messages of ours (net/link). */
static void set_options(void *zmq, const struct sock_options *o)
{
    bool data = o->lane == SOCK_DATA;
    int hwm = o->hwm ? (int)o->hwm : data ? HWM_DATA : HWM_CONTROL;
    int64_t frame = data ? MSG_BULK_MAX + 4096 : CODEC_FRAME_MAX;

    set_int(zmq, ZMQ_LINGER, data ? 0 : LINGER_CONTROL_MS);
    set_int(zmq, ZMQ_SNDHWM, hwm);
    set_int(zmq, ZMQ_RCVHWM, hwm);
    ASSERT(zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &frame, sizeof(frame)) == 0);
    set_int(zmq, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    set_int(zmq, ZMQ_IMMEDIATE, 1);
    set_int(zmq, ZMQ_RECONNECT_IVL, RECONNECT_MS);
    set_int(zmq, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
    set_int(zmq, ZMQ_TCP_MAXRT, MAXRT_MS);
    set_int(zmq, ZMQ_TCP_KEEPALIVE, 1);
    set_int(zmq, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S);
    set_int(zmq, ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_INTVL_S);
    set_int(zmq, ZMQ_TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT);
    if (o->kind == SOCK_ROUTER)
        set_int(zmq, ZMQ_ROUTER_MANDATORY, 1);
}

#define MONITOR_EVENTS                                                                             \
    (ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |    \
     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL)

/* A PAIR over which libzmq's io thread tells of connections that begin and end. */
static void *monitor_open(struct sock_ctx *ctx, void *zmq)
{
    char endpoint[64];
    void *monitor = zmq_socket(ctx->zmq, ZMQ_PAIR);

    if (!monitor)
        return NULL;
    set_int(monitor, ZMQ_LINGER, 0);
    snprintf(endpoint, sizeof(endpoint), "inproc://monitor-%p", zmq);
    if (zmq_socket_monitor(zmq, endpoint, MONITOR_EVENTS) < 0 ||
        zmq_connect(monitor, endpoint) < 0) {
        zmq_close(monitor);
        return NULL;
    }
    return monitor;
}

int sock_open(struct sock **out, struct sock_ctx *ctx, const struct sock_options *o, struct err *e)
{
    struct sock *s = mem_zalloc(sizeof(*s));
    size_t n = o->identity ? strlen(o->identity) : 0;

    *out = NULL;
    ASSERT((o->kind == SOCK_DEALER) == (n > 0) && n <= PEER_ID_MAX);
    s->ctx = ctx;
    s->kind = o->kind;
    s->admits = o->admits;
    s->zmq = zmq_socket(ctx->zmq, o->kind == SOCK_ROUTER ? ZMQ_ROUTER : ZMQ_DEALER);
    if (s->zmq && o->kind == SOCK_DEALER)
        s->monitor = monitor_open(ctx, s->zmq);
    if (!s->zmq || (o->kind == SOCK_DEALER && !s->monitor)) {
        err_set(e, ERR_NET, "cannot open a socket: %s", zmq_strerror(errno));
        sock_close(&s);
        return ERR_NET;
    }
    set_options(s->zmq, o);
    if (n > 0)
        ASSERT(zmq_setsockopt(s->zmq, ZMQ_ROUTING_ID, o->identity, n) == 0);
    *out = s;
    return 0;
}

/* The path of an ipc endpoint; NULL for tcp and for the abstract namespace. */
static const char *sock_path(const struct sock *s)
{
    return !strncmp(s->endpoint, "ipc://", 6) && s->endpoint[6] != '@' ? s->endpoint + 6 : NULL;
}

/* libzmq 4.3.4 leaves the file of a bound ipc endpoint behind. Removed unless another process has
 * bound the path meanwhile, which replaces the file. */
static void sock_unlink(const struct sock *s)
{
    struct stat now;

    if (s->file.st_ino && stat(sock_path(s), &now) == 0 && now.st_ino == s->file.st_ino &&
        now.st_dev == s->file.st_dev)
        unlink(sock_path(s));
}

void sock_close(struct sock **s)
{
    if (!*s)
        return;
    sock_unlink(*s);
    if ((*s)->monitor) {
        zmq_socket_monitor((*s)->zmq, NULL, 0);
        zmq_close((*s)->monitor);
    }
    if ((*s)->zmq)
        ASSERT(zmq_close((*s)->zmq) == 0);
    str_fini(&(*s)->scratch);
    mem_free(*s);
    *s = NULL;
}

/* Without keys only this machine is open to us, unless that was waived. */
static int sock_plain(struct sock_ctx *ctx, const char *endpoint, struct err *e)
{
    if (endpoint_is_loopback(endpoint))
        return 0;
    if (!ctx->insecure)
        return err_set(e, ERR_CONFIG,
                       "%s is beyond this machine, and there are no keys to protect it; use --keys=FILE "
                       "(`tandem keys FILE` makes one), or --insecure",
                       endpoint);
    if (!atomic_flag_test_and_set_explicit(&ctx->warned, memory_order_relaxed))
        log_warn("sock", "%s is not protected: who reaches it can read along, and join in", endpoint);
    return 0;
}

/* Adds our key to a bound endpoint. */
static int sock_add_key(struct sock *s, struct err *e)
{
    size_t n = strlen(s->endpoint);
    int rest = snprintf(s->endpoint + n, sizeof(s->endpoint) - n, "#%s", sock_curve_own(s->ctx->curve));

    if ((size_t)rest < sizeof(s->endpoint) - n)
        return 0;
    s->endpoint[n] = '\0';
    return err_set(e, ERR_LIMIT, "endpoint %s is longer than %zu bytes, no key fits behind it",
                   s->endpoint, sizeof(s->endpoint) - 1 - (size_t)rest);
}

/* ZeroMQ takes addresses of IPv6 only where that is asked for; those of IPv4 then look otherwise. */
static void sock_family(struct sock *s, const char *endpoint)
{
    if (!strncmp(endpoint, "tcp://[", 7))
        set_int(s->zmq, ZMQ_IPV6, 1);
}

int sock_bind(struct sock *s, const char *endpoint, struct err *e)
{
    bool curve = s->ctx->curve && endpoint_is_tcp(endpoint);
    size_t n = sizeof(s->endpoint);
    int rc;

    if (curve) {
        ASSERT(s->admits);
        sock_curve_server(s->ctx->curve, s->zmq, s->admits);
    } else if (endpoint_is_tcp(endpoint) && (rc = sock_plain(s->ctx, endpoint, e))) {
        return rc;
    }
    if (endpoint_taken(endpoint))
        return err_set(e, ERR_NET, "cannot bind %s: %s", endpoint, strerror(EADDRINUSE));
    sock_family(s, endpoint);
    if (zmq_bind(s->zmq, endpoint) < 0)
        return err_set(e, ERR_NET, "cannot bind %s: %s", endpoint, zmq_strerror(errno));
    if (zmq_getsockopt(s->zmq, ZMQ_LAST_ENDPOINT, s->endpoint, &n) < 0) {
        s->endpoint[0] = '\0';
        return err_set(e, ERR_LIMIT, "endpoint %s is longer than %d bytes", endpoint,
                       MSG_ENDPOINT_MAX - 1);
    }
    if (!sock_path(s) || stat(sock_path(s), &s->file) != 0)
        s->file.st_ino = 0;
    return curve ? sock_add_key(s, e) : 0;
}

int sock_connect(struct sock *s, const char *with_key, struct err *e)
{
    const char *key = endpoint_is_tcp(with_key) ? strchr(with_key, '#') : NULL;
    size_t n = key ? (size_t)(key - with_key) : strlen(with_key);
    char endpoint[MSG_ENDPOINT_MAX];
    int rc;

    if (n >= sizeof(endpoint))
        return err_set(e, ERR_LIMIT, "endpoint %.40s... is longer than %d bytes", with_key,
                       MSG_ENDPOINT_MAX - 1);
    memcpy(endpoint, with_key, n);
    endpoint[n] = '\0';
    if (key && !s->ctx->curve)
        return err_set(e, ERR_CONFIG, "%s wants keys, and we have none; use --keys=FILE", endpoint);
    if (s->ctx->curve && endpoint_is_tcp(endpoint))
        rc = sock_curve_client(s->ctx->curve, s->zmq, key ? key + 1 : NULL, e);
    else
        rc = endpoint_is_tcp(endpoint) ? sock_plain(s->ctx, endpoint, e) : 0;
    if (rc)
        return rc;
    sock_family(s, endpoint);
    if (zmq_connect(s->zmq, endpoint) < 0)
        return err_set(e, ERR_NET, "cannot connect to %s: %s", endpoint, zmq_strerror(errno));
    return 0;
}

const char *sock_endpoint(const struct sock *s)
{
    return s->endpoint;
}

/* What ZeroMQ holds while bulk bytes of ours are on their way. */
struct hold {
    struct msg_bulk bulk;
};

/* Called by ZeroMQ, on any thread. */
static void hold_release(void *data, void *hint)
{
    struct hold *h = hint;

    (void)data;
    if (h->bulk.release)
        h->bulk.release((void *)h->bulk.data, h->bulk.hint);
    mem_free(h);
}

/* The frames of one message, ready to go. */
struct parcel {
    zmq_msg_t frames[1 + CODEC_FRAMES_MAX]; /* first the routing id, if any */
    size_t n;
    struct hold *hold;
};

static void parcel_add(struct parcel *p, const void *data, size_t size)
{
    zmq_msg_t *f = &p->frames[p->n++];

    ASSERT(zmq_msg_init_size(f, size) == 0); /* fails for want of memory only */
    if (size > 0)
        memcpy(zmq_msg_data(f), data, size);
}

static void parcel_add_bulk(struct parcel *p, const struct msg_bulk *bulk)
{
    p->hold = mem_alloc(sizeof(*p->hold));
    p->hold->bulk = *bulk;
    ASSERT(zmq_msg_init_data(&p->frames[p->n++], (void *)bulk->data, bulk->size, hold_release,
                             p->hold) == 0);
}

/* Drops frames `from` on without releasing the caller's bulk. */
static void parcel_drop(struct parcel *p, size_t from)
{
    if (p->hold)
        p->hold->bulk.release = NULL;
    for (size_t i = from; i < p->n; i++)
        zmq_msg_close(&p->frames[i]);
}

static int send_frame(void *zmq, zmq_msg_t *f, bool more)
{
    int rc;

    do
        rc = zmq_msg_send(f, zmq, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
    while (rc < 0 && errno == EINTR);
    return rc;
}

static int events_of(void *zmq)
{
    int events = 0;
    size_t n = sizeof(events);

    while (zmq_getsockopt(zmq, ZMQ_EVENTS, &events, &n) < 0)
        ASSERT(errno == EINTR);
    return events;
}

/* A send looks at its io thread's mail only once a millisecond, so "full" and "no such peer" may be
 * old news; asking for events reads the mail. */
static int send_first_frame(void *zmq, zmq_msg_t *f, bool more)
{
    if (send_frame(zmq, f, more) >= 0)
        return 0;
    events_of(zmq);
    return send_frame(zmq, f, more);
}

/* All frames or none. If the connection dies between two frames, a DEALER takes back those it has,
 * fails the next, and then swallows the rest of the message: give it that end. */
static int parcel_send(struct parcel *p, void *zmq)
{
    for (size_t i = 0; i < p->n; i++) {
        bool more = i + 1 < p->n;
        int why, rc;

        rc = i == 0 ? send_first_frame(zmq, &p->frames[i], more)
                    : send_frame(zmq, &p->frames[i], more);
        if (rc >= 0)
            continue;
        why = errno;
        parcel_drop(p, i);
        if (i > 0 && more) {
            zmq_msg_t end;

            zmq_msg_init(&end);
            if (send_frame(zmq, &end, false) < 0)
                zmq_msg_close(&end);
        }
        return why;
    }
    return 0;
}

int sock_send(struct sock *s, const struct peer *to, struct msg *m, struct err *e)
{
    struct parcel p = {.n = 0};
    uint8_t header[CODEC_HEADER_BYTES];
    int rc, why;

    ASSERT((s->kind == SOCK_ROUTER) == (to != NULL));
    if (m->type == MSG_KV_PAGE &&
        (!m->u.page.bulk.data || m->u.page.bulk.size == 0 || m->u.page.bulk.size > MSG_BULK_MAX))
        return err_set(e, ERR_LIMIT, "KV_PAGE has %zu bytes of KV, not 1 .. %u",
                       m->u.page.bulk.size, MSG_BULK_MAX);
    str_clear(&s->scratch);
    rc = codec_encode(&s->scratch, m, e);
    if (rc < 0)
        return rc;
    if (to)
        parcel_add(&p, to->id, to->n);
    codec_header(header, m->type);
    parcel_add(&p, header, sizeof(header));
    parcel_add(&p, s->scratch.data, s->scratch.len);
    if (m->type == MSG_KV_PAGE)
        parcel_add_bulk(&p, &m->u.page.bulk);
    if (s->scratch.cap > SCRATCH_KEEP)
        str_fini(&s->scratch);

    why = parcel_send(&p, s->zmq);
    if (why == EHOSTUNREACH)
        return err_set(e, ERR_NOT_FOUND, "no such peer");
    if (why == EAGAIN)
        return err_set(e, ERR_BUSY, to ? "the peer's queue is full" : "not connected, or full");
    if (why != 0)
        return err_set(e, ERR_NET, "cannot send: %s", zmq_strerror(why));
    if (m->type == MSG_KV_PAGE)
        m->u.page.bulk.release = NULL; /* ZeroMQ's now */
    msg_fini(m);
    return 0;
}

/* Receives one message whole; keeps the first max frames. Returns how many frames it had, 0 if there
 * is none. ZeroMQ hands out no message before its last frame is there. */
static size_t recv_frames(void *zmq, zmq_msg_t *frames, size_t max)
{
    size_t n = 0;
    bool more;

    do {
        zmq_msg_t f;
        int rc;

        zmq_msg_init(&f);
        do
            rc = zmq_msg_recv(&f, zmq, ZMQ_DONTWAIT);
        while (rc < 0 && errno == EINTR);
        if (rc < 0) {
            zmq_msg_close(&f);
            break;
        }
        more = zmq_msg_more(&f);
        if (n < max) {
            zmq_msg_init(&frames[n]);
            zmq_msg_move(&frames[n], &f);
        }
        zmq_msg_close(&f);
        n++;
    } while (more);
    return n;
}

/* Frees a received frame that bulk points into. */
static void frame_release(void *data, void *hint)
{
    (void)data;
    zmq_msg_close(hint);
    mem_free(hint);
}

static void keep_frame(struct msg_bulk *bulk, zmq_msg_t *frame)
{
    zmq_msg_t *kept = mem_alloc(sizeof(*kept));

    zmq_msg_init(kept);
    zmq_msg_move(kept, frame);
    bulk->data = zmq_msg_data(kept); /* a short frame's bytes have moved with it */
    bulk->release = frame_release;
    bulk->hint = kept;
}

static int take_peer(struct peer *from, zmq_msg_t *frame, struct err *e)
{
    size_t n = zmq_msg_size(frame);

    if (n == 0 || n > sizeof(from->id))
        return err_set(e, ERR_LIMIT, "peer's identity has %zu bytes, not 1 .. %d", n, PEER_ID_MAX);
    memcpy(from->id, zmq_msg_data(frame), n);
    from->n = (uint32_t)n;
    return 0;
}

int sock_recv(struct sock *s, struct peer *from, struct msg *m, struct err *e)
{
    zmq_msg_t frames[1 + CODEC_FRAMES_MAX];
    struct codec_frame views[CODEC_FRAMES_MAX];
    struct peer peer = {.n = 0};
    size_t ids = s->kind == SOCK_ROUTER, kept, n;
    int rc = 0;

    memset(m, 0, sizeof(*m));
    n = recv_frames(s->zmq, frames, ARRAY_LEN(frames));
    if (n == 0)
        return 0;
    kept = size_min(n, ARRAY_LEN(frames));
    if (ids)
        rc = take_peer(&peer, &frames[0], e);
    for (size_t i = ids; i < kept && i - ids < ARRAY_LEN(views); i++)
        views[i - ids] = (struct codec_frame){zmq_msg_data(&frames[i]), zmq_msg_size(&frames[i])};
    if (rc == 0)
        rc = codec_decode_frames(m, views, n - ids, e);
    if (rc == 0 && m->type == MSG_KV_PAGE)
        keep_frame(&m->u.page.bulk, &frames[ids + 2]);
    for (size_t i = 0; i < kept; i++)
        zmq_msg_close(&frames[i]);
    if (from)
        *from = peer;
    return rc < 0 ? rc : 1;
}

/* One event of the monitor. True: a connection that was there has ended. */
static bool monitor_event(struct sock *s, uint16_t event, uint32_t value)
{
    bool broke = event == ZMQ_EVENT_DISCONNECTED && s->up;

    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
        s->refusal = NULL;
    else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
        s->refusal = "our key is not let in there";
    else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL &&
             value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
        s->refusal = s->ctx->curve ? "there are no keys in use there, but here" :
                                     "keys are in use there, but not here";
    else if (event != ZMQ_EVENT_DISCONNECTED && s->ctx->curve)
        s->refusal = "it hung up; is its public key another than in our key file?";
    else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL && !s->refusal &&
             (value == EPIPE || value == ECONNRESET)) /* both see the mismatch, and it was first */
        s->refusal = "it hung up; maybe keys are in use there, but not here";
    s->up = event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED || (s->up && event != ZMQ_EVENT_DISCONNECTED);
    return broke;
}

bool sock_broke(struct sock *s)
{
    zmq_msg_t frames[2]; /* an event is two: its number with a value, and the endpoint */
    bool broke = false;

    ASSERT(s->monitor);
    for (size_t n; (n = recv_frames(s->monitor, frames, ARRAY_LEN(frames))) > 0;) {
        uint8_t *data = zmq_msg_data(&frames[0]);
        uint16_t event;
        uint32_t value;

        ASSERT(zmq_msg_size(&frames[0]) == sizeof(event) + sizeof(value));
        memcpy(&event, data, sizeof(event));
        memcpy(&value, data + sizeof(event), sizeof(value));
        broke |= monitor_event(s, event, value);
        for (size_t i = 0; i < size_min(n, ARRAY_LEN(frames)); i++)
            zmq_msg_close(&frames[i]);
    }
    return broke;
}

const char *sock_refusal(const struct sock *s) { return s->refusal; }

bool sock_readable(struct sock *s)
{
    return events_of(s->zmq) & ZMQ_POLLIN;
}

int sock_fd(const struct sock *s)
{
    int fd = -1;
    size_t n = sizeof(fd);

    ASSERT(zmq_getsockopt(s->zmq, ZMQ_FD, &fd, &n) == 0);
    return fd;
}

enum sock_kind sock_kind(const struct sock *s)
{
    return s->kind;
}
