#include "net/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

/* Times as Apache's mod_reqtimeout has them for a head; a body's minimum rate is 64 KiB/s after a
 * start of 20 s, so a full one has 4.6 minutes. */
#define HTTP_HEAD_MS 10000
#define HTTP_IDLE_MS 75000 /* between requests; longer than the pools of usual clients */
#define HTTP_BODY_MS 20000
#define HTTP_BODY_RATE 64 /* bytes a ms */
#define HTTP_CHUNKED_MS 60000
#define HTTP_WRITE_MS 20000 /* no byte taken by a client that has some to take */
#define HTTP_LINGER_MS 2000
#define HTTP_ACCEPT_MS 100 /* pause after accept failed, usually for want of descriptors */
#define HTTP_BACKLOG 1024

enum conn_state { CONN_HEAD, CONN_BODY, CONN_BUSY, CONN_STREAM, CONN_CLOSING, CONN_LINGER };

struct http_conn {
    struct http_server *server;
    struct http_conn *prev, *next;
    struct bufferevent *bev;
    struct event *timer; /* the deadline of the state; a cut-off client's end */
    enum conn_state state;
    bool cut;        /* to be freed by the timer, as gone */
    bool eof;        /* nothing more will come, but something is still to be sent */
    bool head_begun; /* some of its bytes are here */
    bool head_only;  /* HEAD: the answer has no body */
    char *head_bytes; /* what head points into */
    struct http_head head;
    struct http_chunked chunked;
    struct str body;
    void *user;
};

struct http_server {
    struct http_service service;
    struct event_base *base;
    struct evconnlistener *listener;
    struct event *accept_timer;
    struct http_conn *conns;
    uint32_t n_conns;
    size_t body_bytes;
    bool draining;
};

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {200, "OK"}, {204, "No Content"}, {400, "Bad Request"}, {404, "Not Found"},
        {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"}, {414, "URI Too Long"}, {417, "Expectation Failed"},
        {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"}, {501, "Not Implemented"}, {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i].status == status)
            return texts[i].text;
    }
    return "Unknown";
}

static void conn_deadline(struct http_conn *c, uint64_t ms)
{
    struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

    evtimer_add(c->timer, &tv);
}

static void conn_body_reset(struct http_conn *c)
{
    c->server->body_bytes -= c->body.len;
    str_fini(&c->body);
}

static void conn_free(struct http_conn *c)
{
    struct http_server *s = c->server;

    *(c->prev ? &c->prev->next : &s->conns) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    s->n_conns--;
    conn_body_reset(c);
    if (c->timer)
        event_free(c->timer);
    if (c->bev)
        bufferevent_free(c->bev); /* and closes the socket */
    mem_free(c->head_bytes);
    mem_free(c);
}

/* The client is no more. */
static void conn_gone(struct http_conn *c)
{
    if (c->state == CONN_BUSY || c->state == CONN_STREAM)
        c->server->service.gone(c->server->service.ctx, c);
    conn_free(c);
}

/* Sends what there is, then closes so that the client can still read it: with unread input in the
 * socket, close() would send RST and the kernel on the other side throw the answer away. */
static void conn_close(struct http_conn *c)
{
    c->state = CONN_CLOSING;
    event_del(c->timer); /* the write timeout is in force */
    bufferevent_trigger(c->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
}

/* The answer is complete: the next request, or the end. */
static void conn_answered(struct http_conn *c)
{
    conn_body_reset(c);
    mem_free(c->head_bytes);
    c->head_bytes = NULL;
    c->user = NULL;
    if (!c->head.keep_alive) {
        conn_close(c);
        return;
    }
    c->state = CONN_HEAD;
    c->head_begun = false;
    conn_deadline(c, HTTP_IDLE_MS);
    /* what was pipelined is in the buffer already: no read event will come for it */
    bufferevent_trigger(c->bev, EV_READ, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

static void conn_put_head(struct http_conn *c, int status, const char *type, const char *fields)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    time_t now = time(NULL);
    struct tm tm;
    char date[40];

    if (c->server->draining)
        c->head.keep_alive = false;
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\nServer: tandem\r\n", status,
                        http_status_text(status), date);
    if (type)
        evbuffer_add_printf(out, "Content-Type: %s\r\n", type);
    if (!c->head.keep_alive)
        evbuffer_add_printf(out, "Connection: close\r\n");
    else if (c->head.minor == 0)
        evbuffer_add_printf(out, "Connection: keep-alive\r\n");
    if (fields)
        evbuffer_add_printf(out, "%s", fields);
}

void http_reply(struct http_conn *c, int status, const char *type, const char *fields,
                const char *body, size_t n)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);

    ASSERT(c->state == CONN_BUSY);
    conn_put_head(c, status, type, fields);
    if (status != 204)
        evbuffer_add_printf(out, "Content-Length: %zu\r\n", n);
    evbuffer_add_printf(out, "\r\n");
    if (!c->head_only && status != 204)
        evbuffer_add(out, body, n);
    conn_answered(c);
}

void http_stream_open(struct http_conn *c, int status, const char *type, const char *fields)
{
    ASSERT(c->state == CONN_BUSY);
    if (c->head.minor == 0)
        c->head.keep_alive = false; /* the end of the connection ends the body */
    conn_put_head(c, status, type, fields);
    evbuffer_add_printf(bufferevent_get_output(c->bev), "%s\r\n",
                        c->head.minor ? "Transfer-Encoding: chunked\r\n" : "");
    c->state = CONN_STREAM;
}

void http_stream_write(struct http_conn *c, const char *data, size_t n)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);

    ASSERT(c->state == CONN_STREAM);
    if (!n || c->cut || c->head_only)
        return;
    if (c->head.minor)
        evbuffer_add_printf(out, "%zx\r\n", n);
    evbuffer_add(out, data, n);
    if (c->head.minor)
        evbuffer_add(out, "\r\n", 2);
    if (evbuffer_get_length(out) > HTTP_UNSENT_MAX) {
        c->cut = true;
        conn_deadline(c, 0);
    }
}

void http_stream_close(struct http_conn *c)
{
    ASSERT(c->state == CONN_STREAM);
    if (c->cut) { /* pieces are missing: it must not look complete; the timer is about to free it */
        c->state = CONN_LINGER;
        return;
    }
    if (c->head.minor && !c->head_only)
        evbuffer_add(bufferevent_get_output(c->bev), "0\r\n\r\n", 5);
    conn_answered(c);
}

/* Answers for the service what never became a request of its. */
static void conn_refuse(struct http_conn *c, int status, const char *why)
{
    struct str body = {0};

    c->server->service.refused(c->server->service.ctx, status, why, &body);
    c->state = CONN_BUSY;
    c->head.keep_alive = false;
    http_reply(c, status, "application/json", NULL, str_text(&body), body.len);
    str_fini(&body);
}

static void conn_request(struct http_conn *c)
{
    c->state = CONN_BUSY;
    event_del(c->timer);
    c->server->service.request(c->server->service.ctx, c);
}

/* A complete head: how does it go on? */
static void conn_head_done(struct http_conn *c, size_t n)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    const char *why;
    int status;

    c->head_bytes = mem_alloc(n);
    evbuffer_remove(in, c->head_bytes, n);
    status = http_head_parse(&c->head, c->head_bytes, n, &why);
    c->head_only = !status && http_text_is(c->head.method, "HEAD");
    if (status) {
        conn_refuse(c, status, why);
    } else if (c->head.length > HTTP_BODY_MAX) {
        conn_refuse(c, 413, "the body is longer than 16777216 bytes");
    } else if (c->head.chunked || c->head.length) {
        c->state = CONN_BODY;
        c->chunked = (struct http_chunked){0};
        conn_deadline(c, c->head.chunked ? HTTP_CHUNKED_MS
                                         : HTTP_BODY_MS + c->head.length / HTTP_BODY_RATE);
        if (c->head.expect_continue && !evbuffer_get_length(in))
            evbuffer_add_printf(bufferevent_get_output(c->bev), "HTTP/1.1 100 Continue\r\n\r\n");
    } else {
        conn_request(c);
    }
}

/* True if it got on. */
static bool conn_read_head(struct http_conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    size_t have = size_min(evbuffer_get_length(in), HTTP_HEAD_MAX);
    const char *data = have ? (const char *)evbuffer_pullup(in, (ev_ssize_t)have) : NULL;
    bool over;
    size_t n;

    if (!have)
        return false;
    n = http_head_length(data, have, &over);
    if (n) {
        conn_head_done(c, n);
        return true;
    }
    if (over) {
        c->head = (struct http_head){.minor = 1};
        conn_refuse(c, 431, "the head of the request is longer than 16384 bytes");
        return true;
    }
    /* The clock of a head starts with its first byte, and later bytes do not turn it back. */
    if (!c->head_begun) {
        c->head_begun = true;
        conn_deadline(c, HTTP_HEAD_MS);
    }
    return false;
}

/* Moves n bytes from the input into the body; false: over a limit, and refused. */
static bool conn_take_body(struct http_conn *c, size_t n)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);

    if (c->body.len + n > HTTP_BODY_MAX) {
        conn_refuse(c, 413, "the body is longer than 16777216 bytes");
        return false;
    }
    if (c->server->body_bytes + n > HTTP_BODIES_MAX) {
        conn_refuse(c, 503, "too many large requests at a time");
        return false;
    }
    str_add(&c->body, evbuffer_pullup(in, (ev_ssize_t)n), n);
    evbuffer_drain(in, n);
    c->server->body_bytes += n;
    return true;
}

static bool conn_read_chunked(struct http_conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    size_t framing, used, have = size_min(evbuffer_get_length(in), 65536);

    if (!http_chunked_next(&c->chunked, (const char *)evbuffer_pullup(in, (ev_ssize_t)have), have,
                           &framing, &used)) {
        conn_refuse(c, 400, "malformed chunked body");
        return true;
    }
    evbuffer_drain(in, framing);
    if (c->chunked.left > HTTP_BODY_MAX - c->body.len) { /* known before it comes */
        conn_refuse(c, 413, "the body is longer than 16777216 bytes");
        return true;
    }
    if (used > framing && !conn_take_body(c, used - framing))
        return true;
    if (c->chunked.state == CHUNK_DONE)
        conn_request(c);
    return used > 0;
}

static bool conn_read_body(struct http_conn *c)
{
    size_t have = evbuffer_get_length(bufferevent_get_input(c->bev));
    size_t n;

    if (!have)
        return false;
    if (c->head.chunked)
        return conn_read_chunked(c);
    n = size_min(have, (size_t)c->head.length - c->body.len);
    if (!conn_take_body(c, n))
        return true;
    if (c->body.len < c->head.length)
        return false;
    conn_request(c);
    return true;
}

static void conn_on_read(struct bufferevent *bev, void *arg)
{
    struct http_conn *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    bool on = true;

    while (on && (c->state == CONN_HEAD || c->state == CONN_BODY))
        on = c->state == CONN_HEAD ? conn_read_head(c) : conn_read_body(c);
    if (c->state == CONN_CLOSING || c->state == CONN_LINGER)
        evbuffer_drain(in, evbuffer_get_length(in));
    else if ((c->state == CONN_BUSY || c->state == CONN_STREAM) &&
             evbuffer_get_length(in) > HTTP_PIPELINED_MAX)
        conn_gone(c);
}

static void conn_on_write(struct bufferevent *bev, void *arg)
{
    struct http_conn *c = arg;

    if (c->state != CONN_CLOSING || evbuffer_get_length(bufferevent_get_output(bev)))
        return;
    if (c->eof) {
        conn_free(c);
        return;
    }
    c->state = CONN_LINGER;
    shutdown(bufferevent_getfd(bev), SHUT_WR);
    conn_deadline(c, HTTP_LINGER_MS);
}

static void conn_on_event(struct bufferevent *bev, short what, void *arg)
{
    struct http_conn *c = arg;

    /* It sent all it will and waits for the rest of an answer that is complete on our side. */
    if (what & BEV_EVENT_EOF && (c->state == CONN_HEAD || c->state == CONN_CLOSING) &&
        evbuffer_get_length(bufferevent_get_output(bev))) {
        c->eof = true;
        conn_close(c);
        return;
    }
    conn_gone(c);
}

static void conn_on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct http_conn *c = arg;

    (void)fd, (void)what;
    if (c->state == CONN_BODY || (c->state == CONN_HEAD && c->head_begun))
        conn_refuse(c, 408, "the request did not come in time");
    else
        conn_gone(c);
}

static void server_on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa,
                             int len, void *arg)
{
    static const struct timeval write_timeout = {.tv_sec = HTTP_WRITE_MS / 1000};
    struct http_server *s = arg;
    struct http_conn *c;
    int one = 1;

    (void)l, (void)sa, (void)len;
    if (s->n_conns >= HTTP_CONNS_MAX) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c = mem_zalloc(sizeof(*c));
    c->server = s;
    c->next = s->conns;
    if (c->next)
        c->next->prev = c;
    s->conns = c;
    s->n_conns++;
    c->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
    c->timer = evtimer_new(s->base, conn_on_timer, c);
    ASSERT(c->bev && c->timer);
    bufferevent_setcb(c->bev, conn_on_read, conn_on_write, conn_on_event, c);
    bufferevent_set_timeouts(c->bev, NULL, &write_timeout);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    conn_deadline(c, HTTP_HEAD_MS);
}

static void server_on_accept_timer(evutil_socket_t fd, short what, void *arg)
{
    struct http_server *s = arg;

    (void)fd, (void)what;
    if (!s->draining)
        evconnlistener_enable(s->listener);
}

/* Out of descriptors or memory: the listener would be called again at once. */
static void server_on_accept_error(struct evconnlistener *l, void *arg)
{
    struct http_server *s = arg;
    const struct timeval tv = {.tv_usec = HTTP_ACCEPT_MS * 1000};

    log_warn("http", "accept: %s; conns=%u", strerror(errno), s->n_conns);
    evconnlistener_disable(l);
    evtimer_add(s->accept_timer, &tv);
}

/* Splits "host:port"; brackets around an IPv6 host are taken off. */
static int server_resolve(struct addrinfo **out, const char *address, struct err *e)
{
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    char host[256];
    size_t n = colon ? (size_t)(colon - address) : 0;
    int rc;

    if (!colon || n >= sizeof(host))
        return err_set(e, ERR_NET, "cannot listen on %s: not host:port", address);
    if (n >= 2 && address[0] == '[' && colon[-1] == ']')
        snprintf(host, sizeof(host), "%.*s", (int)n - 2, address + 1);
    else
        snprintf(host, sizeof(host), "%.*s", (int)n, address);
    rc = getaddrinfo(*host && strcmp(host, "*") != 0 ? host : NULL, colon + 1, &hints, out);
    if (rc)
        return err_set(e, ERR_NET, "cannot listen on %s: %s", address, gai_strerror(rc));
    return 0;
}

int http_server_open(struct http_server **out, struct event_base *base, const char *address,
                     const struct http_service *service, struct err *e)
{
    struct http_server *s;
    struct addrinfo *ai = NULL;
    int rc = server_resolve(&ai, address, e);

    *out = NULL;
    if (rc || !ai)
        return rc;
    s = mem_zalloc(sizeof(*s));
    s->service = *service;
    s->base = base;
    s->accept_timer = evtimer_new(base, server_on_accept_timer, s);
    s->listener = evconnlistener_new_bind(
        base, server_on_accept, s,
        LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, HTTP_BACKLOG,
        ai->ai_addr, (int)ai->ai_addrlen);
    if (!s->listener)
        rc = err_set(e, ERR_NET, "cannot listen on %s: %s", address, strerror(errno));
    else
        evconnlistener_set_error_cb(s->listener, server_on_accept_error);
    freeaddrinfo(ai);
    if (rc)
        http_server_close(&s);
    *out = s;
    return rc;
}

void http_server_drain(struct http_server *s)
{
    struct http_conn *c, *next;

    s->draining = true;
    evconnlistener_disable(s->listener);
    for (c = s->conns; c; c = next) {
        next = c->next;
        if (c->state == CONN_HEAD && !evbuffer_get_length(bufferevent_get_output(c->bev)))
            conn_free(c);
    }
}

void http_server_close(struct http_server **server)
{
    struct http_server *s = *server;

    if (!s)
        return;
    while (s->conns)
        conn_free(s->conns);
    if (s->listener)
        evconnlistener_free(s->listener);
    if (s->accept_timer)
        event_free(s->accept_timer);
    mem_free(s);
    *server = NULL;
}

uint32_t http_server_conns(const struct http_server *s) { return s->n_conns; }

uint16_t http_server_port(const struct http_server *s)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a;
    socklen_t len = sizeof(a);

    memset(&a, 0, sizeof(a));
    if (getsockname(evconnlistener_get_fd(s->listener), &a.any, &len) != 0)
        return 0;
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

const struct http_head *http_conn_head(const struct http_conn *c) { return &c->head; }

const char *http_conn_body(const struct http_conn *c, size_t *n)
{
    *n = c->body.len;
    return str_text(&c->body);
}

void http_conn_set_user(struct http_conn *c, void *user) { c->user = user; }

void *http_conn_user(const struct http_conn *c) { return c->user; }
