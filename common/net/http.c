#include "net/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/mem.h"
#include "net/http_parser.h"

struct http_client {
    struct event_base *base;
    struct http_request *requests; /* open ones */
    uint32_t silence_ms;
    struct sockaddr_storage address;
    socklen_t address_bytes;
    char server[280];   /* HOST:PORT as in the URL, for the Host header and for sentences */
    char *prefix;       /* of every path; no slash at its end */
    struct str headers; /* of every request: whole lines */
};

struct http_request {
    struct http_client *client;
    struct http_request *next, **link; /* in client->requests */
    struct bufferevent *connection;
    struct http_handlers handlers;
    void *ctx;
    struct http_parser parser;
    bool connected;
    bool starting; /* in http_start: a failure is returned, not called */
    bool busy;     /* in a handler: http_cancel only marks */
    bool cancelled;
};

struct url {
    char host[256], port[8];
    const char *prefix;
    size_t prefix_bytes;
    bool bracketed; /* an IPv6 address */
};

static bool url_text_ok(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || (unsigned char)*s == 0x7f)
            return false;
    return true;
}

static int url_parse(struct url *u, const char *url, struct err *e)
{
    const char *host = url + 7, *end, *port;
    size_t n;

    memset(u, 0, sizeof(*u));
    if (strncasecmp(url, "https://", 8) == 0)
        return err_set(e, ERR_UNSUPPORTED, "http: %s: this client speaks http:// only", url);
    if (strncasecmp(url, "http://", 7) != 0 || !url_text_ok(url))
        return err_set(e, ERR_ARG, "http: \"%s\" is not http://HOST[:PORT][/PREFIX]", url);
    u->bracketed = host[0] == '[';
    end = u->bracketed ? strchr(++host, ']') : host + strcspn(host, ":/");
    n = end ? (size_t)(end - host) : 0;
    if (n == 0 || n >= sizeof(u->host))
        return err_set(e, ERR_ARG, "http: \"%s\" has no host, or one over 255 bytes", url);
    memcpy(u->host, host, n);
    port = end + u->bracketed;
    snprintf(u->port, sizeof(u->port), "80");
    u->prefix = port;
    if (*port == ':') {
        n = strspn(port + 1, "0123456789");
        u->prefix = port + 1 + n;
        if (n == 0 || n > 5)
            return err_set(e, ERR_ARG, "http: \"%s\" has a port that is no number up to 65535", url);
        memcpy(u->port, port + 1, n);
        u->port[n] = '\0';
    }
    if (*u->prefix && *u->prefix != '/')
        return err_set(e, ERR_ARG, "http: \"%s\" is not http://HOST[:PORT][/PREFIX]", url);
    u->prefix_bytes = strlen(u->prefix);
    while (u->prefix_bytes > 0 && u->prefix[u->prefix_bytes - 1] == '/')
        u->prefix_bytes--;
    return ERR_OK;
}

static int resolve(struct http_client *c, const struct url *u, struct err *e)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(u->host, u->port, &hints, &found);

    if (rc != 0)
        return err_set(e, ERR_NET, "http: cannot resolve %s: %s", u->host, gai_strerror(rc));
    memcpy(&c->address, found->ai_addr, found->ai_addrlen);
    c->address_bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return ERR_OK;
}

int http_client_open(struct http_client **out, struct event_base *base, const char *url,
                     uint32_t silence_ms, struct err *e)
{
    struct http_client *c;
    struct url u;
    int rc;

    *out = NULL;
    rc = url_parse(&u, url, e);
    if (rc != ERR_OK)
        return rc;
    c = mem_zalloc(sizeof(*c));
    c->base = base;
    c->silence_ms = silence_ms;
    snprintf(c->server, sizeof(c->server), u.bracketed ? "[%s]:%s" : "%s:%s", u.host, u.port);
    c->prefix = mem_strndup(u.prefix, u.prefix_bytes);
    rc = resolve(c, &u, e);
    if (rc != ERR_OK)
        http_client_close(&c);
    *out = c;
    return rc;
}

static void request_free(struct http_request *r)
{
    if (r->link) {
        *r->link = r->next;
        if (r->next)
            r->next->link = r->link;
    }
    if (r->connection)
        bufferevent_free(r->connection);
    mem_free(r);
}

void http_client_close(struct http_client **out)
{
    struct http_client *c = *out;

    if (!c)
        return;
    while (c->requests)
        request_free(c->requests);
    mem_free(c->prefix);
    str_fini(&c->headers);
    mem_free(c);
    *out = NULL;
}

void http_client_header(struct http_client *c, const char *name, const char *value)
{
    ASSERT(!strpbrk(name, " :\r\n") && !strpbrk(value, "\r\n"));
    str_addf(&c->headers, "%s: %s\r\n", name, value);
}

static void request_done(struct http_request *r, const struct err *error)
{
    struct http_handlers handlers = r->handlers;
    void *ctx = r->ctx;

    request_free(r);
    handlers.on_done(ctx, error);
}

static bool on_body(void *ctx, const void *bytes, size_t n)
{
    struct http_request *r = ctx;

    if (r->handlers.on_body)
        r->handlers.on_body(r->ctx, bytes, n);
    return !r->cancelled;
}

/* Parses all that has arrived, until a handler cancels the request. */
static int input_parse(struct http_request *r, struct err *e)
{
    struct evbuffer *in = bufferevent_get_input(r->connection);
    size_t n, used;
    int rc = ERR_OK;

    while (rc == ERR_OK && !r->cancelled && (n = evbuffer_get_contiguous_space(in)) > 0) {
        bool had_headers = r->parser.headers_done;

        rc = http_parser_feed(&r->parser, evbuffer_pullup(in, (ev_ssize_t)n), n, &used, on_body, r,
                              e);
        evbuffer_drain(in, used);
        if (rc == ERR_OK && r->parser.headers_done && !had_headers && r->handlers.on_status)
            r->handlers.on_status(r->ctx, r->parser.status);
    }
    return rc;
}

static void on_read(struct bufferevent *connection, void *arg)
{
    struct http_request *r = arg;
    struct err e = {0};
    int rc;

    (void)connection;
    r->busy = true;
    rc = input_parse(r, &e);
    r->busy = false;
    if (r->cancelled)
        request_free(r);
    else if (rc != ERR_OK)
        request_done(r, &e);
    else if (r->parser.state == HTTP_DONE)
        request_done(r, NULL);
}

static void on_event(struct bufferevent *connection, short what, void *arg)
{
    struct http_request *r = arg;
    const char *server = r->client->server;
    int error = EVUTIL_SOCKET_ERROR();
    struct err e = {0};

    (void)connection;
    if (r->starting)
        return;
    if (what & BEV_EVENT_CONNECTED) {
        r->connected = true;
        return;
    }
    if (what & BEV_EVENT_TIMEOUT)
        err_set(&e, ERR_TIMEOUT, r->connected ? "http: %s sent nothing for %u ms"
                                              : "http: %s did not accept a connection within %u ms",
                server, r->client->silence_ms);
    else if (what & BEV_EVENT_EOF)
        http_parser_close(&r->parser, &e); /* what arrived before was parsed by on_read */
    else if (!r->connected)
        err_set(&e, ERR_NET, "http: cannot connect to %s: %s", server, strerror(error));
    else
        err_set(&e, ERR_NET, "http: connection to %s broke: %s", server, strerror(error));
    if (what & BEV_EVENT_EOF && e.code != ERR_OK)
        err_wrap(&e, "%s", server);
    request_done(r, e.code == ERR_OK ? NULL : &e);
}

static void request_write(struct http_request *r, const char *method, const char *path,
                          const void *body, size_t body_bytes)
{
    struct evbuffer *out = bufferevent_get_output(r->connection);

    evbuffer_add_printf(out,
                        "%s %s%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n"
                        "User-Agent: tandem/" TANDEM_VERSION "\r\nAccept: */*\r\n",
                        method, r->client->prefix, path, r->client->server);
    if (body)
        evbuffer_add_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                            body_bytes);
    if (r->client->headers.len)
        evbuffer_add(out, r->client->headers.data, r->client->headers.len);
    evbuffer_add(out, "\r\n", 2);
    if (body)
        evbuffer_add(out, body, body_bytes);
}

static int request_connect(struct http_request *r, struct err *e)
{
    struct http_client *c = r->client;
    struct timeval silence = {.tv_sec = c->silence_ms / 1000,
                              .tv_usec = (suseconds_t)(c->silence_ms % 1000) * 1000};
    int on = 1;

    if (c->silence_ms > 0)
        bufferevent_set_timeouts(r->connection, &silence, &silence);
    bufferevent_setcb(r->connection, on_read, NULL, on_event, r);
    if (bufferevent_enable(r->connection, EV_READ | EV_WRITE) != 0 ||
        bufferevent_socket_connect(r->connection, (struct sockaddr *)&c->address,
                                   (int)c->address_bytes) != 0)
        return err_set(e, ERR_NET, "http: cannot connect to %s: %s", c->server, strerror(errno));
    /* the head and a body in two segments must not wait for each other's acknowledgement */
    setsockopt(bufferevent_getfd(r->connection), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return ERR_OK;
}

int http_start(struct http_request **out, struct http_client *c, const char *method, const char *path,
               const void *body, size_t body_bytes, const struct http_handlers *handlers, void *ctx,
               struct err *e)
{
    struct http_request *r;
    int rc;

    ASSERT(handlers->on_done);
    *out = NULL;
    if (path[0] != '/' || !url_text_ok(path))
        return err_set(e, ERR_ARG, "http: \"%s\" is not a path", path);
    r = mem_zalloc(sizeof(*r));
    r->client = c;
    r->handlers = *handlers;
    r->ctx = ctx;
    r->starting = true;
    r->connection = bufferevent_socket_new(c->base, -1, BEV_OPT_CLOSE_ON_FREE);
    rc = r->connection ? request_connect(r, e) : err_set(e, ERR_MEMORY, "http: no memory");
    if (rc != ERR_OK) {
        request_free(r);
        return rc;
    }
    request_write(r, method, path, body, body_bytes);
    r->starting = false;
    r->next = c->requests;
    r->link = &c->requests;
    if (r->next)
        r->next->link = &r->next;
    c->requests = r;
    *out = r;
    return ERR_OK;
}

void http_cancel(struct http_request **out)
{
    struct http_request *r = *out;

    *out = NULL;
    if (!r)
        return;
    if (r->busy)
        r->cancelled = true;
    else
        request_free(r);
}

int http_client_authorize(struct http_client *c, struct err *e)
{
    const char *key = getenv("TANDEM_API_KEY");
    struct str value = {0};

    if (!key || !*key)
        return 0;
    for (const char *s = key; *s; s++)
        if (*s <= ' ' || *s > '~')
            return err_set(e, ERR_CONFIG, "TANDEM_API_KEY has a character that is not printable ASCII");
    str_addf(&value, "Bearer %s", key);
    http_client_header(c, "Authorization", str_text(&value));
    str_fini(&value);
    return 0;
}

/* http_fetch's state: the request's handlers fill it in. */
struct fetch {
    struct event_base *base;
    struct http_request *request;
    struct str *reply;
    int status;
    struct err error;
    bool done;
};

static void fetch_status(void *ctx, int status)
{
    struct fetch *f = ctx;

    f->status = status;
}

static void fetch_body(void *ctx, const void *bytes, size_t n)
{
    struct fetch *f = ctx;

    if (f->reply->len + n > HTTP_REPLY_MAX) {
        err_set(&f->error, ERR_LIMIT, "http: a reply is over the limit of %zu bytes",
                HTTP_REPLY_MAX);
        f->done = true;
        http_cancel(&f->request);
        event_base_loopbreak(f->base);
        return;
    }
    str_add(f->reply, bytes, n);
}

static void fetch_done(void *ctx, const struct err *error)
{
    struct fetch *f = ctx;

    if (error)
        f->error = *error;
    f->done = true;
    event_base_loopbreak(f->base);
}

int http_fetch(int *status, struct str *reply, const char *method, const char *url, const char *path,
               const char *body, uint32_t timeout_ms, struct err *e)
{
    static const struct http_handlers handlers = {fetch_status, fetch_body, fetch_done};
    struct timeval limit = {.tv_sec = timeout_ms / 1000,
                            .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    struct fetch f = {.base = event_base_new(), .reply = reply};
    struct http_client *c = NULL;
    int rc;

    ASSERT(f.base);
    rc = http_client_open(&c, f.base, url, 0, e);
    if (rc == ERR_OK)
        rc = http_client_authorize(c, e);
    if (rc == ERR_OK)
        rc = http_start(&f.request, c, method, path, body, body ? strlen(body) : 0, &handlers, &f, e);
    if (rc != ERR_OK)
        goto out;
    if (timeout_ms > 0)
        event_base_loopexit(f.base, &limit);
    event_base_dispatch(f.base);
    if (!f.done)
        rc = err_set(e, ERR_TIMEOUT, "http: %s%s gave no complete reply within %u ms", url, path,
                     timeout_ms);
    else if (f.error.code != ERR_OK)
        rc = err_set(e, f.error.code, "%s", f.error.text);
    *status = f.status;
out:
    http_client_close(&c);
    event_base_free(f.base);
    return rc;
}
