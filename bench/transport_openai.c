/* The OpenAI protocol: POST /v1/completions or /v1/chat/completions with "stream": true, answered by
 * server-sent events. A connection a request, so that connecting is part of what is measured, as a
 * client sees it. */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
    const char *url, *path;
    bool chat, want_ids;
    json_t *extra; /* members added to each body, or NULL */
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
    bool finished;       /* a finish_reason or [DONE] was seen */
    enum outcome failed; /* other than OK: an event was bad */
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
    json_t *root = json_loadb(body, n, JSON_ALLOW_NUL, NULL);
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
    const json_t *details = json_object_get(usage, "prompt_tokens_details");

    if (json_is_integer(prompt))
        r->prompt_tokens = (uint32_t)json_integer_value(prompt);
    if (json_is_integer(output))
        r->output_tokens = (uint32_t)json_integer_value(output);
    r->cached_tokens = (uint32_t)json_integer_value(json_object_get(details, "cached_tokens"));
}

static void ms_read(double *out, const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);

    if (json_is_number(v))
        *out = json_number_value(v);
}

static void name_read(char *out, size_t size, const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    snprintf(out, size, "%s", s ? s : "");
}

/* tandem's answer to x-tandem-timings, or llama-server's "timings". */
static void times_read(struct server_times *s, const json_t *root)
{
    const json_t *t = json_object_get(root, "tandem"), *l = json_object_get(root, "timings");

    if (json_is_object(t)) {
        ms_read(&s->ttft, t, "ttft_ms");
        ms_read(&s->router_queue, t, "router_queue_ms");
        ms_read(&s->prefill_queue, t, "prefill_queue_ms");
        ms_read(&s->prefill, t, "prefill_ms");
        ms_read(&s->transfer, t, "handoff_ms");
        ms_read(&s->decode_queue, t, "decode_queue_ms");
        name_read(s->prefill_node, sizeof(s->prefill_node), t, "prefill_node");
        name_read(s->decode_node, sizeof(s->decode_node), t, "decode_node");
        s->restarts = (uint32_t)json_integer_value(json_object_get(t, "restarts"));
        s->kv_bytes = (uint64_t)json_integer_value(json_object_get(t, "kv_bytes"));
    } else if (json_is_object(l)) {
        ms_read(&s->prefill, l, "prompt_ms");
    }
}

/* Takes text and token ids; true if there were any. */
static bool choice_output(struct call *call, const json_t *choice)
{
    const json_t *delta = json_object_get(choice, "delta");
    const json_t *text = json_object_get(delta ? delta : choice, delta ? "content" : "text");
    const json_t *ids = json_object_get(choice, "token_ids");

    if (json_is_string(text))
        str_add(&call->text, json_string_value(text), json_string_length(text));
    for (size_t i = 0; i < json_array_size(ids); i++)
        token_list_add(&call->ids, (uint32_t)json_integer_value(json_array_get(ids, i)));
    if (json_string_length(text) == 0) /* a model that thinks aloud does so in a field of its own */
        text = json_object_get(delta, "reasoning_content");
    return json_string_length(text) > 0 || json_array_size(ids) > 0;
}

static void choice_read(struct exchange *x, const json_t *choice)
{
    bool output = choice_output(x->call, choice);
    bool finish = json_is_string(json_object_get(choice, "finish_reason"));

    if (output)
        x->openai->events.output(x->openai->events.ctx, x->call);
    else if (finish && x->call->record.outputs > 0)
        x->call->record.last = clock_now(); /* its tokens may have had no text of their own */
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
    root = json_loadb(data, n, JSON_ALLOW_NUL, &why);
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
        if (json_is_object(json_object_get(root, "usage")))
            usage_read(&x->call->record, json_object_get(root, "usage"));
        times_read(&x->call->record.server, root);
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

/* The texts as messages, or joined, or token ids. NULL: a file may hold bytes that are not UTF-8,
 * which JSON cannot. */
static json_t *prompt_value(const struct openai *t, const struct prompt *p)
{
    json_t *out = t->chat || p->n_texts == 0 ? json_array() : NULL;
    struct str joined = {0};

    for (uint32_t i = 0; t->chat && i < p->n_texts; i++) {
        json_t *text = json_stringn(str_text(&p->texts[i]), p->texts[i].len);

        if (!text || json_array_append_new(out, json_pack("{s:s, s:o}", "role",
                                                          i % 2 ? "assistant" : "user", "content",
                                                          text)) != 0) {
            json_decref(out);
            return NULL;
        }
    }
    for (uint32_t i = 0; p->n_texts == 0 && i < p->n_tokens; i++)
        json_array_append_new(out, json_integer(p->tokens[i]));
    if (!out) {
        prompt_join(p, &joined);
        out = json_stringn(str_text(&joined), joined.len);
        str_fini(&joined);
    }
    return out;
}

/* NULL: see prompt_value. Freed by free(). */
static char *body_make(const struct openai *t, const struct call *call)
{
    const struct bench_options *o = t->options;
    json_t *prompt = prompt_value(t, call->prompt), *root;
    char *text;

    if (!prompt)
        return NULL;
    root =
        json_pack("{s:s, s:o, s:I, s:f, s:b, s:{s:b}}", "model", t->base.model,
                  t->chat ? "messages" : "prompt", prompt, "max_tokens", (json_int_t)call->output,
                  "temperature", o->temperature, "stream", 1, "stream_options", "include_usage", 1);
    ASSERT(root);
    if (o->ignore_eos || bench_exact(o))
        json_object_set_new(root, "ignore_eos", json_true());
    if (o->temperature > 0)
        json_object_set_new(root, "seed", json_integer((json_int_t)call->seed));
    if (t->want_ids)
        json_object_set_new(root, "return_token_ids", json_true());
    json_object_update(root, t->extra);
    text = json_dumps(root, JSON_COMPACT);
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
    rc = http_start(&x->request, t->client, "POST", t->path, body, strlen(body), &handlers,
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
    json_decref(t->extra);
    mem_free(t);
}

/* Asks for the models: is the server there, and how is its model called? */
static int probe_once(struct openai *t, struct err *e)
{
    struct str reply = {0};
    int status = 0, rc;
    const char *id;
    json_t *root;

    rc = http_fetch(&status, &reply, "GET", t->url, "/v1/models", NULL, PROBE_TIMEOUT_MS, e);
    root = rc == ERR_OK ? json_loadb(str_text(&reply), reply.len, 0, NULL) : NULL;
    id = json_string_value(
        json_object_get(json_array_get(json_object_get(root, "data"), 0), "id"));
    if (rc == ERR_OK && (status != 200 || !id))
        rc = err_set(e, ERR_PEER,
                     "%s/v1/models answers %d without a model's name; give --served-model-name",
                     t->url, status);
    if (rc == ERR_OK)
        snprintf(t->base.model, sizeof(t->base.model), "%s", id);
    json_decref(root);
    str_fini(&reply);
    return rc;
}

static int probe(struct openai *t, struct err *e)
{
    const struct bench_options *o = t->options;
    const struct timespec pause = {.tv_nsec = 250 * CLOCK_MS};
    int64_t end = clock_now() + (int64_t)(o->ready_check_timeout_sec * 1e9);
    const char *name = *o->served_model_name           ? o->served_model_name
                       : bench_tokenizer(o) == o->model ? ""
                                                        : o->model;
    int rc;

    if (*name) {
        snprintf(t->base.model, sizeof(t->base.model), "%s", name);
        return ERR_OK;
    }
    while ((rc = probe_once(t, e)) != ERR_OK && clock_now() < end)
        nanosleep(&pause, NULL);
    return rc;
}

/* KEY=VALUE (or KEY: VALUE) of --header, the key of OPENAI_API_KEY, and the wish for timings. */
static int headers_set(struct openai *t, struct err *e)
{
    const char *header = t->options->header,
               *key = getenv("OPENAI_API_KEY"); // NOLINT(concurrency-mt-unsafe)
    size_t n = strcspn(header, "=:");
    char name[128], value[4096];

    for (const char *c = header; *c; c++)
        if (iscntrl((unsigned char)*c))
            return err_set(e, ERR_CONFIG, "--header holds a control character");
    if (*header && (n == 0 || n >= sizeof(name) || !header[n]))
        return err_set(e, ERR_CONFIG, "--header \"%.80s\" is not KEY=VALUE", header);
    http_client_header(t->client, "x-tandem-timings", "1");
    if (*header) {
        snprintf(name, sizeof(name), "%.*s", (int)n, header);
        snprintf(value, sizeof(value), "%s", header + n + 1 + strspn(header + n + 1, " "));
        http_client_header(t->client, name, value);
    }
    if (key && *key && !strpbrk(key, "\r\n")) {
        snprintf(value, sizeof(value), "Bearer %s", key);
        http_client_header(t->client, "Authorization", value);
    }
    return ERR_OK;
}

static int extra_read(struct openai *t, struct err *e)
{
    json_error_t why;

    if (!*t->options->extra_body)
        return ERR_OK;
    t->extra = json_loads(t->options->extra_body, 0, &why);
    if (!json_is_object(t->extra))
        return err_set(e, ERR_CONFIG, "--extra-body is not a JSON object: %s",
                       t->extra ? "it is another value" : why.text);
    return ERR_OK;
}

int transport_openai_open(struct transport **out, struct loop *loop,
                          const struct transport_setup *s, const struct call_events *events,
                          struct err *e)
{
    struct openai *t = mem_zalloc(sizeof(*t));
    int rc;

    *out = NULL;
    t->base = (struct transport){openai_start, openai_cancel, openai_close, ""};
    t->options = s->options;
    t->url = s->url;
    t->chat = s->options->backend == BACKEND_CHAT;
    t->path = t->chat ? "/v1/chat/completions" : "/v1/completions";
    if (*s->options->endpoint)
        t->path = s->options->endpoint;
    t->want_ids = s->want_ids;
    t->events = *events;
    rc = extra_read(t, e);
    if (rc == ERR_OK)
        rc = http_client_open(&t->client, loop_base(loop), t->url, 0, e);
    if (rc == ERR_OK)
        rc = headers_set(t, e);
    if (rc == ERR_OK)
        rc = probe(t, e);
    if (rc != ERR_OK)
        openai_close(&t->base);
    else
        *out = &t->base;
    return rc;
}
