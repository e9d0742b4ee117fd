#include "daemon/probe.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "daemon/prom.h"
#include "net/http_server.h"

struct probe {
    struct http_server *server;
    struct probe_events events;
    char host[256]; /* as it was given */
};

static void probe_reply(struct http_conn *c, int status, const char *fields, const char *body)
{
    http_reply(c, status, "application/json", fields, body, strlen(body));
}

static void probe_metrics(struct probe *p, struct http_conn *c)
{
    struct str page = {0};

    p->events.metrics(p->events.ctx, &page);
    http_reply(c, 200, PROM_TYPE, NULL, str_text(&page), page.len);
    str_fini(&page);
}

static void probe_request(void *ctx, struct http_conn *c)
{
    struct probe *p = ctx;
    const struct http_head *h = http_conn_head(c);
    struct http_text path = h->path;

    if (path.n > 3 && !memcmp(path.s, "/v1/", 4))
        path.s += 3, path.n -= 3;
    if (!http_text_is(path, "/metrics") && !http_text_is(path, "/health") &&
        !http_text_is(path, "/ready"))
        probe_reply(c, 404, NULL,
                    "{\"error\":{\"message\":\"a node has /metrics, /health and /ready; all else is "
                    "the router's\",\"type\":\"not_found_error\"}}\n");
    else if (!http_text_is(h->method, "GET") && !http_text_is(h->method, "HEAD"))
        probe_reply(c, 405, "Allow: GET\r\n",
                    "{\"error\":{\"message\":\"only GET is taken here\",\"type\":"
                    "\"invalid_request_error\"}}\n");
    else if (http_text_is(path, "/metrics"))
        probe_metrics(p, c);
    else if (http_text_is(path, "/health"))
        probe_reply(c, 200, NULL, "{\"status\":\"ok\"}\n");
    else if (p->events.ready(p->events.ctx))
        probe_reply(c, 200, NULL, "{\"status\":\"ready\"}\n");
    else
        probe_reply(c, 503, NULL, "{\"status\":\"not registered with the router, or draining\"}\n");
}

static void probe_gone(void *ctx, struct http_conn *c)
{
    (void)ctx, (void)c; /* every request is answered at once */
}

static void probe_refused(void *ctx, int status, const char *why, struct str *out)
{
    (void)ctx, (void)status;
    str_addf(out, "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\"}}\n", why);
}

int probe_open(struct probe **out, struct event_base *base, const char *address,
               const struct probe_events *events, struct err *e)
{
    struct http_service service = {NULL, probe_request, probe_gone, probe_refused};
    const char *colon;
    struct probe *p;
    int rc;

    *out = NULL;
    if (!address || !*address)
        return 0;
    colon = strrchr(address, ':');
    service.ctx = p = mem_zalloc(sizeof(*p));
    p->events = *events;
    snprintf(p->host, sizeof(p->host), "%.*s", colon ? (int)(colon - address) : 0, address);
    rc = http_server_open(&p->server, base, address, &service, e);
    if (rc)
        err_wrap(e, "metrics");
    if (rc)
        probe_close(&p);
    *out = p;
    return rc;
}

void probe_close(struct probe **probe)
{
    struct probe *p = *probe;

    if (!p)
        return;
    http_server_close(&p->server);
    mem_free(p);
    *probe = NULL;
}

void probe_address(const struct probe *p, char *out, size_t n)
{
    char host[64] = "localhost";

    if (n)
        *out = '\0';
    if (!p)
        return;
    if (!strcmp(p->host, "0.0.0.0") || !strcmp(p->host, "*") || !strcmp(p->host, "[::]")) {
        if (gethostname(host, sizeof(host) - 1))
            snprintf(host, sizeof(host), "localhost");
        snprintf(out, n, "%s:%u", host, http_server_port(p->server));
        return;
    }
    snprintf(out, n, "%s:%u", p->host, http_server_port(p->server));
}
