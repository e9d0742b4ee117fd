#include "daemon/member.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/outbox.h"
#include "net/link.h"

#define TICK_MS 50                      /* at most; half a beat if that is less */
#define REGISTER_NS (1 * CLOCK_S)       /* between two REGISTERs */
#define REGISTERS_PER_SOCKET 10         /* then a new identity; longer than a router's dead_ms */

enum member_state { MEMBER_JOINING, MEMBER_UP, MEMBER_OVER };

struct member {
    struct loop *loop;
    struct sock_ctx *ctx;
    char endpoint[MSG_ENDPOINT_MAX];
    struct msg_register reg;
    struct member_events events;
    enum member_state state;
    struct sock *sock;
    struct loop_event *timer;
    struct outbox outbox;
    struct link link;
    uint32_t attempt;     /* sockets opened */
    uint32_t registers;   /* sent on this socket */
    bool refused;         /* this socket's connection: ZeroMQ makes no other */
    const char *refusal;  /* the last that was said of it; static text */
    int64_t register_due;
};

static void member_message(void *ctx, const struct peer *from, struct msg *msg);
static void member_tick(void *ctx);

static void member_disconnect(struct member *m)
{
    if (m->sock)
        loop_del_sock(m->loop, m->sock);
    sock_close(&m->sock);
    outbox_fini(&m->outbox);
}

/* A socket with an identity that no router has seen. */
static int member_connect(struct member *m, struct err *e)
{
    char identity[PEER_ID_MAX];
    struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_CONTROL, .identity = identity};
    int rc;

    snprintf(identity, sizeof(identity), "%s#%016" PRIx64 ".%x", m->reg.name, m->reg.boot,
             m->attempt++);
    member_disconnect(m);
    m->registers = 0;
    m->register_due = 0;
    m->refused = false;
    rc = sock_open(&m->sock, m->ctx, &o, e);
    if (!rc)
        rc = sock_connect(m->sock, m->endpoint, e);
    if (!rc)
        loop_add_sock(m->loop, m->sock, member_message, m);
    return rc;
}

static void member_rejoin(struct member *m)
{
    struct err e;

    m->state = MEMBER_JOINING;
    if (member_connect(m, &e))
        log_warn("member", "%s", e.text); /* the timer tries again */
}

static void member_lost(struct member *m, const char *why)
{
    log_warn("member", "router=%s lost: %s", m->endpoint, why);
    member_rejoin(m);
    m->events.lost(m->events.ctx);
}

static void member_refused(struct member *m, const char *text)
{
    if (m->state == MEMBER_UP) { /* it knows us no more; what it thinks of us comes with REGISTER */
        member_lost(m, text);
        return;
    }
    m->state = MEMBER_OVER;
    m->events.refused(m->events.ctx, text);
}

static void member_registered(struct member *m, const struct msg_registered *r)
{
    bool again = m->state == MEMBER_UP; /* a REGISTER crossed the answer to the one before */

    if (r->heartbeat_ms < 1 || r->dead_ms <= r->heartbeat_ms) {
        log_warn("member", "the router wants a beat every %u ms and gives up after %u ms",
                 r->heartbeat_ms, r->dead_ms);
        return;
    }
    m->state = MEMBER_UP;
    m->refusal = NULL;
    link_init(&m->link, clock_now(), r->heartbeat_ms, r->dead_ms);
    if (again)
        return;
    loop_del_event(&m->timer);
    m->timer = loop_add_timer(m->loop, u32_max(1, u32_min(TICK_MS, r->heartbeat_ms / 2)),
                              member_tick, m);
    log_info("member", "router=%s registered as %s, beat %u ms, dead %u ms", m->endpoint,
             m->reg.name, r->heartbeat_ms, r->dead_ms);
    m->events.joined(m->events.ctx);
}

static void member_message(void *ctx, const struct peer *from, struct msg *msg)
{
    struct member *m = ctx;

    (void)from;
    if (m->state == MEMBER_OVER)
        return;
    if (m->state == MEMBER_UP)
        link_heard(&m->link, clock_now());
    if (msg->type == MSG_REGISTERED)
        member_registered(m, &msg->u.registered);
    else if (msg->type == MSG_REFUSED)
        member_refused(m, msg->u.text.text);
    else if (msg->type != MSG_HEARTBEAT && m->state == MEMBER_UP)
        m->events.message(m->events.ctx, msg);
}

/* Says once why no connection comes about, so far as the other end gave a reason. Keys may change:
 * another try follows when a REGISTER would. */
static void member_explain(struct member *m, int64_t now)
{
    const char *refusal = sock_refusal(m->sock);

    if (!refusal || m->refused)
        return;
    m->refused = true;
    m->register_due = now + REGISTER_NS;
    if (refusal != m->refusal)
        log_warn("member", "router=%s does not let us in: %s", m->endpoint, refusal);
    m->refusal = refusal;
}

static void member_register(struct member *m, int64_t now)
{
    struct msg msg = {.type = MSG_REGISTER, .u.reg = m->reg};
    struct err e = {0};
    int rc;

    if (now < m->register_due)
        return;
    if (!m->sock || m->refused || m->registers >= REGISTERS_PER_SOCKET) {
        member_rejoin(m);
        return;
    }
    rc = sock_send(m->sock, NULL, &msg, &e);
    if (rc == ERR_BUSY)
        return; /* no connection yet */
    if (rc)
        log_warn("member", "%s", e.text);
    m->registers++;
    m->register_due = now + REGISTER_NS;
}

void member_beat(struct member *m)
{
    struct msg msg = {.type = MSG_HEARTBEAT};

    if (m->state != MEMBER_UP)
        return;
    m->events.beat(m->events.ctx, &msg.u.heartbeat);
    member_send(m, &msg);
}

static void member_tick(void *ctx)
{
    struct member *m = ctx;
    int64_t now = clock_now();

    /* What was under way is lost, and nobody knows what that was: begin anew, both sides. */
    if (m->state != MEMBER_OVER && m->sock && sock_broke(m->sock)) {
        if (m->state == MEMBER_UP)
            member_lost(m, "its connection broke");
        else
            member_rejoin(m);
    } else if (m->state == MEMBER_JOINING) {
        if (m->sock)
            member_explain(m, now);
        member_register(m, now);
    } else if (m->state == MEMBER_UP) {
        outbox_flush(&m->outbox, m->sock);
        if (link_dead(&m->link, now))
            member_lost(m, "it is silent");
        else if (link_due(&m->link, now))
            member_beat(m);
    }
}

void member_send(struct member *m, struct msg *msg)
{
    struct err e;

    if (m->state != MEMBER_UP)
        msg_fini(msg);
    else if (!outbox_send(&m->outbox, m->sock, msg, &e))
        log_warn("member", "a message to the router is lost: %s", e.text);
}

void member_bye(struct member *m, const char *why)
{
    struct msg msg = {.type = MSG_BYE};

    snprintf(msg.u.text.text, sizeof(msg.u.text.text), "%s", why);
    member_send(m, &msg);
    m->state = MEMBER_OVER;
}

bool member_up(const struct member *m) { return m->state == MEMBER_UP; }

int member_open(struct member **out, struct loop *loop, struct sock_ctx *ctx, const char *endpoint,
                const struct msg_register *reg, const struct member_events *events, struct err *e)
{
    struct member *m = mem_zalloc(sizeof(*m));
    int rc;

    *out = NULL;
    m->loop = loop;
    m->ctx = ctx;
    snprintf(m->endpoint, sizeof(m->endpoint), "%s", endpoint);
    m->reg = *reg;
    m->events = *events;
    rc = member_connect(m, e);
    if (rc) {
        member_close(&m);
        return rc;
    }
    m->timer = loop_add_timer(loop, TICK_MS, member_tick, m);
    *out = m;
    return 0;
}

void member_close(struct member **member)
{
    struct member *m = *member;

    if (!m)
        return;
    loop_del_event(&m->timer);
    member_disconnect(m);
    mem_free(m);
    *member = NULL;
}
