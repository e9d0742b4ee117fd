#include "router/serve.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "daemon/prom.h"
#include "model/detok.h"
#include "router/admin.h"
#include "router/api_keys.h"
#include "router/completions.h"
#include "router/overview.h"
#include "router/page.h"

/* An origin that this machine itself serves; any other page must not reach the cluster through its
 * visitor's browser. */
static bool serve_is_local_origin(struct http_text o)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1", "[::1]"};
    size_t scheme = 0;

    if (o.n > 7 && !memcmp(o.s, "http://", 7))
        scheme = 7;
    else if (o.n > 8 && !memcmp(o.s, "https://", 8))
        scheme = 8;
    for (size_t i = 0; scheme && i < ARRAY_LEN(hosts); i++) {
        size_t n = strlen(hosts[i]);

        if (o.n >= scheme + n && !memcmp(o.s + scheme, hosts[i], n) &&
            (o.n == scheme + n || o.s[scheme + n] == ':'))
            return true;
    }
    return false;
}

static bool serve_id_ok(struct http_text id)
{
    for (size_t i = 0; i < id.n; i++) {
        if (id.s[i] <= ' ' || id.s[i] > '~')
            return false;
    }
    return id.n > 0 && id.n < SERVE_ID_MAX;
}

void serve_fields(struct router *r, const struct http_conn *c, const char *id, struct str *out)
{
    const struct http_head *h = http_conn_head(c);
    struct http_text given = http_head_get(h, "x-request-id");
    struct http_text origin = http_head_get(h, "origin");

    if (serve_id_ok(given))
        str_addf(out, "x-request-id: %.*s\r\n", (int)given.n, given.s);
    else if (id)
        str_addf(out, "x-request-id: %s\r\n", id);
    else
        str_addf(out, "x-request-id: %016" PRIx64 "\r\n", rng_u64(~r->boot, ++r->next_client));
    if (serve_is_local_origin(origin))
        str_addf(out, "Access-Control-Allow-Origin: %.*s\r\nVary: Origin\r\n", (int)origin.n,
                 origin.s);
}

void serve_json(struct http_conn *c, int status, const struct str *fields, const struct str *body)
{
    http_reply(c, status, "application/json", str_text(fields), str_text(body), body->len);
}

void serve_error(struct http_conn *c, const struct str *fields, const struct api_error *e,
                 uint32_t retry_after_ms)
{
    struct str body = {0}, all = {0};

    str_adds(&all, str_text(fields));
    if (retry_after_ms)
        str_addf(&all, "Retry-After: %u\r\nretry-after-ms: %u\r\n", (retry_after_ms + 999) / 1000,
                 retry_after_ms);
    else if (e->status >= 500)
        str_adds(&all, "x-should-retry: false\r\n"); /* OpenAI's clients would, three times */
    openai_error(&body, e);
    str_addc(&body, '\n');
    serve_json(c, e->status, &all, &body);
    str_fini(&all);
    str_fini(&body);
}

/* Answers with what jansson made of a value; takes it. */
static void serve_value(struct router *r, struct http_conn *c, json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER);
    struct str fields = {0}, body = {0};

    ASSERT(text);
    json_decref(value);
    str_addf(&body, "%s\n", text);
    free(text); /* jansson's own */
    serve_fields(r, c, NULL, &fields);
    serve_json(c, 200, &fields, &body);
    str_fini(&fields);
    str_fini(&body);
}

static void serve_status(struct router *r, struct http_conn *c, const struct api_error *e)
{
    struct str fields = {0};

    serve_fields(r, c, NULL, &fields);
    serve_error(c, &fields, e, e->status == 503 ? 1000 : 0);
    str_fini(&fields);
}

static json_t *serve_model_value(const struct router *r)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:i}", "id", r->model.name, "object", "model", "created",
                     (json_int_t)r->model.created, "owned_by", "tandem", "max_model_len",
                     (int)router_core_ctx(r->core));
}

static void serve_models(struct router *r, struct http_conn *c, struct http_text rest)
{
    struct api_error e = {.status = 404, .code = "model_not_found"};
    char name[256];

    if (!rest.n) {
        serve_value(r, c,
                    json_pack("{s:s, s:[o]}", "object", "list", "data", serve_model_value(r)));
        return;
    }
    snprintf(name, sizeof(name), "%.*s", (int)size_min(rest.n - 1, 255), rest.s + 1);
    if (model_is(&r->model, name)) {
        serve_value(r, c, serve_model_value(r));
        return;
    }
    snprintf(e.text, sizeof(e.text), "the model '%.128s' is not served here; the one that is: '%s'",
             name, r->model.name);
    serve_status(r, c, &e);
}

static void serve_health(struct router *r, struct http_conn *c, struct http_text rest)
{
    (void)rest;
    serve_value(r, c, json_pack("{s:s}", "status", "ok"));
}

static void serve_ready(struct router *r, struct http_conn *c, struct http_text rest)
{
    struct api_error e = {
        .status = 503, .text = "the nodes that the mode needs are not registered"};

    (void)rest;
    if (r->stop_at)
        snprintf(e.text, sizeof(e.text), "the router is shutting down");
    if (r->stop_at || !router_core_ready(r->core))
        serve_status(r, c, &e);
    else
        serve_value(r, c, json_pack("{s:s}", "status", "ready"));
}

static void serve_metrics(struct router *r, struct http_conn *c, struct http_text rest)
{
    struct str fields = {0}, page = {0};

    (void)rest;
    metrics_render(&r->metrics, r->core, r->model.name, http_server_conns(r->http),
                   clock_now() - r->started_at, &page);
    serve_fields(r, c, NULL, &fields);
    http_reply(c, 200, PROM_TYPE, str_text(&fields), str_text(&page), page.len);
    str_fini(&fields);
    str_fini(&page);
}

static void serve_cluster(struct router *r, struct http_conn *c, struct http_text rest)
{
    (void)rest;
    serve_value(r, c, overview_cluster(r));
}

static void serve_history(struct router *r, struct http_conn *c, struct http_text rest)
{
    (void)rest;
    serve_value(r, c, overview_history(r));
}

static void serve_targets(struct router *r, struct http_conn *c, struct http_text rest)
{
    static const char good[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:[]";
    struct http_text asked = http_head_get(http_conn_head(c), "host");
    char host[256];

    (void)rest;
    /* as whoever asks reaches us; what is no address with a port is replaced by where we listen */
    snprintf(host, sizeof(host), "%.*s", (int)size_min(asked.n, 255), asked.n ? asked.s : "");
    if (host[strspn(host, good)] || options_address_wrong(host))
        snprintf(host, sizeof(host), "%s", r->options->http);
    serve_value(r, c, overview_targets(r, host));
}

static void serve_page(struct router *r, struct http_conn *c, struct http_text rest)
{
    const uint64_t key = ~r->boot ^ SERVE_NONCE_KEY;
    const uint64_t nonce[] = {rng_u64(key, 2 * r->next_page), rng_u64(key, 2 * r->next_page + 1)};
    struct str fields = {0}, page = {0};

    (void)rest;
    r->next_page++;
    serve_fields(r, c, NULL, &fields);
    page_fields(&fields, nonce);
    page_render(&page, nonce);
    http_reply(c, 200, "text/html; charset=utf-8", str_text(&fields), str_text(&page), page.len);
    str_fini(&fields);
    str_fini(&page);
}

static void serve_tokenize(struct router *r, struct http_conn *c, struct http_text rest)
{
    struct token_list list = {0};
    struct api_tokenize t;
    struct api_error e;
    struct err err = {0};
    json_t *ids;
    size_t n;
    const char *body = http_conn_body(c, &n);
    int rc = api_parse_tokenize(&t, body, n, &e);

    (void)rest;
    if (!rc && vocab_tokenize(r->model.vocab, &list, t.text, t.text_bytes, t.add_special,
                              t.parse_special, &err) != 0)
        rc = api_refuse(&e, "content", "%s", err.text);
    if (rc) {
        serve_status(r, c, &e);
    } else {
        ids = json_array();
        for (size_t i = 0; i < list.n; i++)
            json_array_append_new(ids, json_integer(list.ids[i]));
        serve_value(r, c,
                    json_pack("{s:o, s:I, s:I}", "tokens", ids, "count", (json_int_t)list.n,
                              "max_model_len", (json_int_t)router_core_ctx(r->core)));
    }
    token_list_fini(&list);
    api_tokenize_fini(&t);
}

static void serve_detokenize(struct router *r, struct http_conn *c, struct http_text rest)
{
    struct str text = {0};
    struct detok d;
    struct api_error e;
    uint32_t *ids, n_ids;
    size_t n;
    const char *body = http_conn_body(c, &n);
    int rc = api_parse_detokenize(&ids, &n_ids, body, n, &e);

    (void)rest;
    detok_init(&d, r->model.vocab, DETOK_WHOLE);
    for (uint32_t i = 0; !rc && i < n_ids; i++) {
        if (ids[i] >= vocab_size(r->model.vocab))
            rc = api_refuse(&e, "tokens", "token id %u is not below %u, the size of the vocabulary",
                            ids[i], vocab_size(r->model.vocab));
        else
            detok_add(&d, ids[i], &text);
    }
    detok_finish(&d, &text);
    if (rc)
        serve_status(r, c, &e);
    else
        serve_value(r, c,
                    json_pack("{s:s%, s:s%}", "content", str_text(&text), text.len, "prompt",
                              str_text(&text), text.len));
    str_fini(&text);
    mem_free(ids);
}

static void serve_chat_completions(struct router *r, struct http_conn *c, struct http_text rest)
{
    (void)rest;
    completions_request(r, c, API_CHAT);
}

static void serve_completions(struct router *r, struct http_conn *c, struct http_text rest)
{
    (void)rest;
    completions_request(r, c, API_COMPLETION);
}

static void serve_not_built(struct router *r, struct http_conn *c, struct http_text rest)
{
    struct api_error e = {.status = 501};

    (void)rest;
    snprintf(e.text, sizeof(e.text), "%.*s is not supported by this server",
             (int)size_min(http_conn_head(c)->path.n, 128), http_conn_head(c)->path.s);
    serve_status(r, c, &e);
}

/* Whom a path is for, where there is a file of API keys. */
enum serve_door {
    FOR_ALL, /* probes and scrapers */
    FOR_KEYS,
    FOR_ADMINS,
};

/* Each path also works behind /v1, and without. */
static const struct serve_route {
    const char *method, *path;
    bool deeper; /* /path/anything too: `rest` is what follows path */
    enum serve_door door;
    void (*handle)(struct router *r, struct http_conn *c, struct http_text rest);
} serve_routes[] = {
    {"POST", "/chat/completions", false, FOR_KEYS, serve_chat_completions},
    {"POST", "/completions", false, FOR_KEYS, serve_completions},
    {"GET", "/models", true, FOR_KEYS, serve_models},
    {"GET", "/health", false, FOR_ALL, serve_health},
    {"GET", "/ready", false, FOR_ALL, serve_ready},
    {"GET", "/metrics", false, FOR_ALL, serve_metrics},
    {"GET", "/", false, FOR_ALL, serve_page}, /* says nothing itself */
    {"GET", "/cluster", false, FOR_KEYS, serve_cluster},
    {"GET", "/tandem/history", false, FOR_KEYS, serve_history},
    {"GET", "/tandem/targets", false, FOR_KEYS, serve_targets},
    {"GET", "/tandem/explain", true, FOR_ADMINS, admin_explain},
    {"POST", "/tandem/drain", false, FOR_ADMINS, admin_drain},
    {"POST", "/tandem/role", false, FOR_ADMINS, admin_role},
    {"POST", "/tokenize", false, FOR_KEYS, serve_tokenize},
    {"POST", "/detokenize", false, FOR_KEYS, serve_detokenize},
    {"POST", "/embeddings", false, FOR_KEYS, serve_not_built},
    {"POST", "/rerank", false, FOR_KEYS, serve_not_built},
    {"POST", "/responses", false, FOR_KEYS, serve_not_built},
    {"POST", "/messages", false, FOR_KEYS, serve_not_built},
};

static const struct serve_route *serve_find(struct http_text path, struct http_text *rest)
{
    if (path.n > 3 && !memcmp(path.s, "/v1/", 4))
        path.s += 3, path.n -= 3;
    for (size_t i = 0; i < ARRAY_LEN(serve_routes); i++) {
        const struct serve_route *route = &serve_routes[i];
        size_t n = strlen(route->path);

        if (path.n < n || memcmp(path.s, route->path, n) != 0)
            continue;
        *rest = (struct http_text){path.s + n, path.n - n};
        if (!rest->n || (route->deeper && rest->n > 1 && rest->s[0] == '/'))
            return route;
    }
    return NULL;
}

/* What a browser asks before it sends a request from a page. */
static void serve_options(struct router *r, struct http_conn *c, const char *method)
{
    struct str fields = {0};

    serve_fields(r, c, NULL, &fields);
    str_addf(&fields,
             "Allow: %s, OPTIONS\r\nAccess-Control-Allow-Methods: %s, OPTIONS\r\n"
             "Access-Control-Allow-Headers: content-type, authorization, x-request-id, traceparent, "
             "x-tandem-timings\r\nAccess-Control-Max-Age: 600\r\n",
             method, method);
    http_reply(c, 204, NULL, str_text(&fields), "", 0);
    str_fini(&fields);
}

static void serve_not_found(struct router *r, struct http_conn *c)
{
    const struct http_head *h = http_conn_head(c);
    struct api_error e = {.status = 404};

    snprintf(e.text, sizeof(e.text), "there is no endpoint %.*s here",
             (int)size_min(h->path.n, 128), h->path.s);
    serve_status(r, c, &e);
}

static void serve_wrong_method(struct router *r, struct http_conn *c,
                               const struct serve_route *route)
{
    const struct http_head *h = http_conn_head(c);
    struct api_error e = {.status = 405};
    struct str fields = {0};

    snprintf(e.text, sizeof(e.text), "%.*s takes %s, not %.*s", (int)size_min(h->path.n, 128),
             h->path.s, route->method, (int)size_min(h->method.n, 32), h->method.s);
    serve_fields(r, c, NULL, &fields);
    str_addf(&fields, "Allow: %s, OPTIONS\r\n", route->method);
    serve_error(c, &fields, &e, 0);
    str_fini(&fields);
}

const struct api_key *serve_key(const struct router *r, const struct http_conn *c)
{
    static const char scheme[] = "bearer ";
    struct http_text given = http_head_get(http_conn_head(c), "authorization");
    size_t n = sizeof(scheme) - 1;

    if (!r->api_keys || given.n <= n || strncasecmp(given.s, scheme, n) != 0)
        return NULL;
    while (n < given.n && given.s[n] == ' ')
        n++;
    return api_keys_find(r->api_keys, given.s + n, given.n - n);
}

/* Whether the client may have that; if not, it is answered. */
static bool serve_lets_in(struct router *r, struct http_conn *c, enum serve_door door)
{
    const struct api_key *key = door == FOR_ALL ? NULL : serve_key(r, c);
    struct api_error e = {.status = 401, .code = "invalid_api_key"};
    struct str fields = {0};

    if (door == FOR_ALL || !r->api_keys || (key && (key->admin || door == FOR_KEYS)))
        return true;
    if (key) {
        e = (struct api_error){.status = 403};
        snprintf(e.text, sizeof(e.text), "the API key of %s is not an administrator's", key->name);
    } else if (http_head_get(http_conn_head(c), "authorization").n) {
        snprintf(e.text, sizeof(e.text), "the API key is not known here");
    } else {
        snprintf(e.text, sizeof(e.text),
                 "an API key is needed here, as `Authorization: Bearer KEY`");
    }
    serve_fields(r, c, NULL, &fields);
    if (!key)
        str_adds(&fields, "WWW-Authenticate: Bearer\r\n");
    serve_error(c, &fields, &e, 0);
    str_fini(&fields);
    return false;
}

static void serve_request(void *ctx, struct http_conn *c)
{
    struct router *r = ctx;
    const struct http_head *h = http_conn_head(c);
    struct http_text rest = {0};
    const struct serve_route *route = serve_find(h->path, &rest);
    bool get = http_text_is(h->method, "HEAD"); /* a GET without the body */

    if (!route)
        serve_not_found(r, c);
    else if (http_text_is(h->method, "OPTIONS"))
        serve_options(r, c, route->method);
    else if (!http_text_is(h->method, route->method) && !(get && !strcmp(route->method, "GET")))
        serve_wrong_method(r, c, route);
    else if (serve_lets_in(r, c, route->door))
        route->handle(r, c, rest);
}

static void serve_gone(void *ctx, struct http_conn *c)
{
    completions_gone(ctx, http_conn_user(c));
}

static void serve_refused(void *ctx, int status, const char *why, struct str *out)
{
    struct api_error e = {.status = status};

    (void)ctx;
    snprintf(e.text, sizeof(e.text), "%s", why);
    openai_error(out, &e);
    str_addc(out, '\n');
}

struct http_service serve_service(struct router *r)
{
    return (struct http_service){r, serve_request, serve_gone, serve_refused};
}
