/* The OpenAI protocol: POST /v1/completions with "stream": true, answered by server-sent events. A
 * connection a request, so that connecting is part of what is measured, as a client sees it. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/call.h"
#include "net/http.h"
#include "net/loop.h"
#include "net/sse.h"

#define PROBE_TIMEOUT_MS 10000 /* for /v1/models: a server that loads its model may take a while */
#define ERROR_BODY_MAX 4096    /* bytes kept of an error's body */

struct openai {
    struct transport base; /* first */
    const struct bench_options *options;
    struct call_events events;
    struct http_client *client;
};

struct exchange { /* a call's */
    struct openai *openai;
    struct call *call;
    struct http_request *request;
    struct sse sse;
    struct str error_body;
    int status;
    bool finished;                 /* a finish_reason or [DONE] was seen */
    enum outcome failed;           /* other than OK: an event was bad */
    char why[256];
};

static void exchange_free(struct exchange *x)
{
    sse_fini(&x->sse);
    str_fini(&x->error_body);
    mem_free(x);
}

static void exchange_done(struct exchange *x, enum outcome outcome, const char *why)
{
    struct openai *t = x->openai;
    struct call *call = x->call;
    char text[sizeof(x->why)];

    snprintf(text, sizeof(text), "%s", why);
    call->transport = NULL;
    exchange_free(x);
    t->events.done(t->events.ctx, call, outcome, text);
}

/* "message" of {"error": {...}} or of {"error": "..."}; else the bytes. */
static void error_text(char *out, size_t size, const char *body, size_t n)
{
    json_t *root = json_loadb(body, n, 0, NULL);
    json_t *error = json_object_get(root, "error");
    const char *message = json_string_value(json_object_get(error, "message"));

    if (!message)
        message = json_string_value(error);
    if (message)
        snprintf(out, size, "%s", message);
    else
        snprintf(out, size, "%.*s", (int)n, n ? body : "no reason given");
    json_decref(root);
}

static void usage_read(struct record *r, const json_t *usage)
{
    const json_t *prompt = json_object_get(usage, "prompt_tokens");
    const json_t *output = json_object_get(usage, "completion_tokens");

    if (json_is_integer(prompt))
        r->prompt_tokens = (uint32_t)json_integer_value(prompt);
    if (json_is_integer(output))
        r->output_tokens = (uint32_t)json_integer_value(output);
}

static void choice_read(struct exchange *x, const json_t *choice)
{
    const char *text = json_string_value(json_object_get(choice, "text"));
    bool finish = json_is_string(json_object_get(choice, "finish_reason"));

    /* The end counts as output's last moment: its tokens may have no text of their own. */
    if ((text && *text) || (finish && x->call->record.outputs > 0))
        x->openai->events.output(x->openai->events.ctx, x->call);
    x->finished = x->finished || finish;
}

static bool on_event(void *ctx, const char *event, const char *data, size_t n)
{
    struct exchange *x = ctx;
    json_error_t why;
    json_t *root, *error;

    (void)event;
    if (strcmp(data, "[DONE]") == 0) {
        x->finished = true;
        return true;
    }
    root = json_loadb(data, n, 0, &why);
    error = json_object_get(root, "error");
    if (!root) {
        x->failed = OUTCOME_MALFORMED;
        snprintf(x->why, sizeof(x->why), "an event is not JSON: %s", why.text);
    } else if (error) {
        x->failed = OUTCOME_SERVER_ERROR;
        error_text(x->why, sizeof(x->why), data, n);
    } else {
        json_t *choice = json_array_get(json_object_get(root, "choices"), 0);

        if (choice)
            choice_read(x, choice);
        usage_read(&x->call->record, json_object_get(root, "usage"));
    }
    json_decref(root);
    return x->failed == OUTCOME_OK;
}

static void on_status(void *ctx, int status)
{
    struct exchange *x = ctx;

    x->status = status;
}

static void on_body(void *ctx, const void *bytes, size_t n)
{
    struct exchange *x = ctx;
    struct err e = {0};

    if (x->status != 200) {
        str_add(&x->error_body, bytes, size_min(n, ERROR_BODY_MAX - x->error_body.len));
        return;
    }
    if (sse_feed(&x->sse, bytes, n, on_event, x, &e) != ERR_OK) {
        x->failed = OUTCOME_MALFORMED;
        snprintf(x->why, sizeof(x->why), "%.255s", e.text);
    }
    if (x->failed != OUTCOME_OK) {
        http_cancel(&x->request);
        exchange_done(x, x->failed, x->why);
    }
}

static void on_done(void *ctx, const struct err *error)
{
    struct exchange *x = ctx;
    char why[256];

    if (error) {
        enum outcome o = error->code == ERR_NET && x->status == 0 ? OUTCOME_CONNECT
                         : error->code == ERR_NET                 ? OUTCOME_BROKEN
                                                                  : OUTCOME_MALFORMED;

        exchange_done(x, o, error->text);
    } else if (x->status != 200) {
        error_text(why, sizeof(why), str_text(&x->error_body), x->error_body.len);
        exchange_done(x, outcome_of_status(x->status), why);
    } else if (!x->finished) {
        exchange_done(x, OUTCOME_BROKEN, "the stream ended without finish_reason or [DONE]");
    } else {
        exchange_done(x, OUTCOME_OK, "");
    }
}

static char *body_make(const struct openai *t, const struct call *call)
{
    const struct bench_options *o = t->options;
    const struct prompt *p = call->prompt;
    json_t *root = json_pack("{s:s, s:I, s:f, s:b, s:{s:b}}", "model", t->base.model, "max_tokens",
                             (json_int_t)o->max_tokens, "temperature", o->temperature, "stream", 1,
                             "stream_options", "include_usage", 1);
    char *text;

    ASSERT(root);
    if (p->text) {
        /* a file may hold bytes that are not UTF-8, which JSON cannot: jansson then gives NULL */
        json_t *prompt = json_stringn(p->text, p->text_bytes);

        if (prompt)
            json_object_set_new(root, "prompt", prompt);
    } else {
        json_t *ids = json_array();

        for (uint32_t i = 0; i < p->n_tokens; i++)
            json_array_append_new(ids, json_integer(p->tokens[i]));
        json_object_set_new(root, "prompt", ids);
    }
    if (bench_ignore_eos(o))
        json_object_set_new(root, "ignore_eos", json_true());
    if (o->temperature > 0)
        json_object_set_new(root, "seed", json_integer((json_int_t)call_seed(o, call)));
    text = json_object_get(root, "prompt") ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

static int openai_start(struct transport *base, struct call *call, struct err *e)
{
    static const struct http_handlers handlers = {on_status, on_body, on_done};
    struct openai *t = (struct openai *)base;
    char *body = body_make(t, call);
    struct exchange *x;
    int rc;

    if (!body)
        return err_set(e, ERR_FORMAT, "a prompt is not UTF-8, which JSON needs");
    x = mem_zalloc(sizeof(*x));
    x->openai = t;
    x->call = call;
    rc = http_start(&x->request, t->client, "POST", "/v1/completions", body, strlen(body), &handlers,
                    x, e);
    free(body); /* jansson's */
    if (rc != ERR_OK)
        exchange_free(x);
    else
        call->transport = x;
    return rc;
}

static void openai_cancel(struct transport *base, struct call *call)
{
    struct exchange *x = call->transport;

    (void)base;
    http_cancel(&x->request);
    call->transport = NULL;
    exchange_free(x);
}

static void openai_close(struct transport *base)
{
    struct openai *t = (struct openai *)base;

    http_client_close(&t->client);
    mem_free(t);
}

/* Asks for the models: is the server there, and how is its model called? */
static int probe(struct openai *t, struct err *e)
{
    const struct bench_options *o = t->options;
    struct str reply = {0};
    int status = 0, rc;
    const char *id;
    json_t *root;

    if (*o->served_model) {
        snprintf(t->base.model, sizeof(t->base.model), "%s", o->served_model);
        return ERR_OK;
    }
    rc = http_fetch(&status, &reply, "GET", o->url, "/v1/models", NULL, PROBE_TIMEOUT_MS, e);
    root = rc == ERR_OK ? json_loadb(str_text(&reply), reply.len, 0, NULL) : NULL;
    id = json_string_value(
        json_object_get(json_array_get(json_object_get(root, "data"), 0), "id"));
    if (rc == ERR_OK && (status != 200 || !id))
        rc = err_set(e, ERR_PEER,
                     "%s/v1/models answers %d without a model's name; give --served-model", o->url,
                     status);
    if (rc == ERR_OK)
        snprintf(t->base.model, sizeof(t->base.model), "%s", id);
    json_decref(root);
    str_fini(&reply);
    return rc;
}

int transport_openai_open(struct transport **out, struct loop *loop, const struct bench_options *o,
                          const struct call_events *events, struct err *e)
{
    struct openai *t = mem_zalloc(sizeof(*t));
    int rc;

    *out = NULL;
    t->base = (struct transport){openai_start, openai_cancel, openai_close, ""};
    t->options = o;
    t->events = *events;
    rc = http_client_open(&t->client, loop_base(loop), o->url, 0, e);
    if (rc == ERR_OK)
        rc = probe(t, e);
    if (rc != ERR_OK)
        openai_close(&t->base);
    else
        *out = &t->base;
    return rc;
}
