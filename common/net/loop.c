#include "net/loop.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"

/* One socket. Removed ones stay in the list, dead, until no callback is running. */
struct loop_sock {
    struct loop_sock *next;
    struct sock *sock; /* NULL: removed */
    struct event *ev;  /* only wakes the base; what to read is asked at the turn's end */
    loop_msg_fn *cb;
    void *ctx;
    uint64_t refused; /* malformed messages so far */
};

struct loop_event {
    struct loop_event *next, **prev;
    struct event *ev;
    loop_fn *cb;
    void *ctx;
};

struct loop {
    struct event_base *base;
    struct loop_sock *socks;
    struct loop_event *events;
    bool stop;
    bool swept; /* no dead socket is in the list */
};

struct loop *loop_new(void)
{
    struct loop *l = mem_zalloc(sizeof(*l));
    struct event_config *config = event_config_new();

    /* A stream's answer asks for EV_WRITE and gives it back for each token: one epoll_ctl a turn
     * instead of one a change. No descriptor of ours is a dup of another, which this forbids. */
    ASSERT(config && !event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST));
    l->base = event_base_new_with_config(config);
    event_config_free(config);
    ASSERT(l->base);
    l->swept = true;
    return l;
}

struct event_base *loop_base(struct loop *l)
{
    return l->base;
}

void loop_stop(struct loop *l)
{
    l->stop = true;
    event_base_loopbreak(l->base);
}

static void sock_woke(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    (void)ctx;
}

void loop_add_sock(struct loop *l, struct sock *s, loop_msg_fn *cb, void *ctx)
{
    struct loop_sock *k = mem_zalloc(sizeof(*k));

    k->sock = s;
    k->cb = cb;
    k->ctx = ctx;
    k->ev = event_new(l->base, sock_fd(s), EV_READ | EV_PERSIST, sock_woke, NULL);
    ASSERT(k->ev && event_add(k->ev, NULL) == 0);
    k->next = l->socks;
    l->socks = k;
}

void loop_del_sock(struct loop *l, struct sock *s)
{
    for (struct loop_sock *k = l->socks; k; k = k->next)
        if (k->sock == s) {
            event_free(k->ev); /* now, while the descriptor is still ZeroMQ's */
            k->ev = NULL;
            k->sock = NULL;
            l->swept = false;
            return;
        }
}

static void sweep(struct loop *l)
{
    struct loop_sock **p = &l->socks;

    while (*p) {
        struct loop_sock *k = *p;

        if (k->sock) {
            p = &k->next;
            continue;
        }
        *p = k->next;
        mem_free(k);
    }
    l->swept = true;
}

/* A malformed message. Logged at the 1st, 2nd, 4th, 8th ..., so that a peer that sends nothing else
 * does not fill the disk. A bound socket tells the sender; a connected one only listens, so that two
 * ends never refuse each other's refusals. */
static void refuse(struct loop_sock *k, const struct peer *from, const struct err *why)
{
    struct msg m = {.type = MSG_REFUSED};

    k->refused++;
    if ((k->refused & (k->refused - 1)) == 0)
        log_warn("loop", "refused=%llu code=%d text=\"%s\"", (unsigned long long)k->refused,
                 why->code, why->text);
    if (sock_kind(k->sock) != SOCK_ROUTER || from->n == 0)
        return;
    snprintf(m.u.text.text, sizeof(m.u.text.text), "%s", why->text);
    if (sock_send(k->sock, from, &m, NULL) < 0)
        msg_fini(&m); /* gone or not reading: nobody to tell */
}

/* Hands over up to LOOP_BATCH messages. True if there were any. */
static bool drain(struct loop *l, struct loop_sock *k)
{
    uint32_t n;

    for (n = 0; n < LOOP_BATCH && k->sock && !l->stop; n++) {
        struct peer from;
        struct msg m;
        struct err e;
        int rc = sock_recv(k->sock, &from, &m, &e);

        if (rc == 0)
            break;
        if (rc < 0)
            refuse(k, &from, &e);
        else
            k->cb(k->ctx, &from, &m);
        msg_fini(&m);
    }
    return n > 0;
}

/* Asks every socket once. False if no callback ran: then none of the answers can be out of date. A
 * socket that a callback adds goes in front and is asked in the next pass. */
static bool pass(struct loop *l)
{
    bool any = false;

    for (struct loop_sock *k = l->socks; k; k = k->next)
        if (k->sock && sock_readable(k->sock))
            any |= drain(l, k);
    if (!l->swept)
        sweep(l);
    return any;
}

void loop_run(struct loop *l)
{
    l->stop = false;
    while (!l->stop) {
        bool busy = pass(l);

        if (l->stop)
            break;
        if (event_base_loop(l->base, EVLOOP_ONCE | (busy ? EVLOOP_NONBLOCK : 0)) == 1 && !busy)
            break; /* nothing to wait for */
    }
}

static void on_event(evutil_socket_t fd, short what, void *ctx)
{
    struct loop_event *ev = ctx;

    (void)fd;
    (void)what;
    ev->cb(ev->ctx); /* may free ev */
}

static struct loop_event *add_event(struct loop *l, int fd, short what, const struct timeval *tv,
                                    loop_fn *cb, void *ctx)
{
    struct loop_event *ev = mem_zalloc(sizeof(*ev));

    ev->cb = cb;
    ev->ctx = ctx;
    ev->ev = event_new(l->base, fd, what | EV_PERSIST, on_event, ev);
    ASSERT(ev->ev && event_add(ev->ev, tv) == 0);
    ev->next = l->events;
    ev->prev = &l->events;
    if (ev->next)
        ev->next->prev = &ev->next;
    l->events = ev;
    return ev;
}

struct loop_event *loop_add_timer(struct loop *l, uint32_t ms, loop_fn *cb, void *ctx)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    ASSERT(ms > 0);
    return add_event(l, -1, 0, &tv, cb, ctx);
}

struct loop_event *loop_add_fd(struct loop *l, int fd, loop_fn *cb, void *ctx)
{
    return add_event(l, fd, EV_READ, NULL, cb, ctx);
}

struct loop_event *loop_add_signal(struct loop *l, int signo, loop_fn *cb, void *ctx)
{
    return add_event(l, signo, EV_SIGNAL, NULL, cb, ctx);
}

void loop_del_event(struct loop_event **p)
{
    struct loop_event *ev = *p;

    if (!ev)
        return;
    *p = NULL;
    event_free(ev->ev);
    *ev->prev = ev->next;
    if (ev->next)
        ev->next->prev = ev->prev;
    mem_free(ev);
}

void loop_free(struct loop **l)
{
    if (!*l)
        return;
    while ((*l)->events) {
        struct loop_event *ev = (*l)->events;

        loop_del_event(&ev);
    }
    for (struct loop_sock *k = (*l)->socks; k; k = k->next)
        if (k->sock)
            loop_del_sock(*l, k->sock);
    sweep(*l);
    event_base_free((*l)->base);
    mem_free(*l);
    *l = NULL;
}
