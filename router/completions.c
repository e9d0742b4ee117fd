#include "router/completions.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "router/api_keys.h"
#include "router/openai.h"
#include "router/serve.h"

struct completion {
    struct generation gen; /* first */
    struct router *router;
    struct http_conn *conn;
    struct openai_head head;
    char id[32];
    uint64_t number; /* in id */
    bool stream, include_usage, return_ids, timings;
    bool open; /* the head of the stream was sent */
    struct str fields;
    struct str text;       /* the whole answer, if not streamed */
    struct token_list ids; /* likewise, if asked for */
    int64_t written_at;
};

static void completion_free(struct completion *c)
{
    generation_fini(&c->gen);
    str_fini(&c->fields);
    str_fini(&c->text);
    token_list_fini(&c->ids);
    mem_free(c);
}

/* Sends the head when there is something to send, not before: until then a failure can have its own
 * status. */
static void completion_write(struct completion *c, const struct str *chunk)
{
    struct str role = {0};

    if (!c->open) {
        str_adds(&c->fields, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
        http_stream_open(c->conn, 200, "text/event-stream", str_text(&c->fields));
        c->open = true;
        if (c->head.kind == API_CHAT)
            openai_chunk_role(&role, &c->head);
    }
    str_add(&role, str_text(chunk), chunk->len);
    http_stream_write(c->conn, str_text(&role), role.len);
    str_fini(&role);
    c->written_at = clock_now();
}

static void completion_on_text(struct generation *g, const struct str *text, uint32_t index,
                               const uint32_t *ids, uint32_t n_ids)
{
    struct completion *c = (struct completion *)g;
    struct str chunk = {0};

    (void)index;
    if (!c->return_ids)
        n_ids = 0;
    if (!c->stream) {
        str_add(&c->text, str_text(text), text->len);
        for (uint32_t i = 0; i < n_ids; i++)
            token_list_add(&c->ids, ids[i]);
    } else if (text->len || n_ids) {
        openai_chunk_text(&chunk, &c->head, str_text(text), text->len, ids, n_ids);
        completion_write(c, &chunk);
    }
    str_fini(&chunk);
}

static void completion_served(struct completion *c, const struct generation_end *end)
{
    const struct router_stats *s = end->stats;
    const struct openai_usage usage = {c->gen.n_prompt, c->gen.n_tokens, s->cached_tokens};
    const struct openai_timings timings = {
        .ttft_ms = generation_ttft_ms(&c->gen),
        .tpot_ms = generation_tpot_ms(&c->gen),
        .router_queue_ms = clock_ms(s->wait_ns),
        .prefill_queue_ms = clock_ms(s->queue_ns),
        .prefill_ms = clock_ms(s->prefill_ns),
        .handoff_ms = clock_ms(s->handoff_ns),
        .decode_queue_ms = clock_ms(s->decode_queue_ns),
        .decode_ms = clock_ms(s->decode_ns),
        .kv_bytes = s->kv_bytes,
        .restarts = s->restarts,
        .cached_tokens = s->cached_tokens,
        .local = s->local,
        .prefill_node = s->prefill,
        .decode_node = s->decode,
    };
    const struct openai_timings *t = c->timings ? &timings : NULL;
    const char *reason = finish_text(end->finish);
    struct str out = {0};

    if (!c->stream) {
        openai_body(&out, &c->head, str_text(&c->text), c->text.len, c->ids.ids,
                    (uint32_t)c->ids.n, reason, &usage, t);
        serve_json(c->conn, 200, &c->fields, &out);
    } else {
        openai_chunk_finish(&out, &c->head, reason, t);
        if (c->include_usage)
            openai_chunk_usage(&out, &c->head, &usage);
        openai_chunk_done(&out);
        completion_write(c, &out);
        http_stream_close(c->conn);
    }
    str_fini(&out);
}

static void completion_failed(struct completion *c, const struct generation_end *end)
{
    struct api_error e = {.status = end->status};
    struct str out = {0};

    snprintf(e.text, sizeof(e.text), "%s", end->text ? end->text : "the request failed");
    if (c->open) {
        openai_chunk_error(&out, &e);
        http_stream_write(c->conn, str_text(&out), out.len);
        http_stream_close(c->conn);
    } else {
        if (e.status == 400) { /* the core refuses a prompt for its length only */
            e.code = "context_length_exceeded";
            snprintf(e.param, sizeof(e.param), "%s",
                     c->head.kind == API_CHAT ? "messages" : "prompt");
        }
        serve_error(c->conn, &c->fields, &e, end->retry_after_ms);
    }
    str_fini(&out);
}

static void completion_on_end(struct generation *g, const struct generation_end *end)
{
    struct completion *c = (struct completion *)g;

    if (!g->gone && end->status == 200)
        completion_served(c, end);
    else if (!g->gone)
        completion_failed(c, end);
    completion_free(c);
}

static const struct generation_ops completion_ops = {completion_on_text, completion_on_end};

void completion_ping(struct generation *g, int64_t now)
{
    struct completion *c = (struct completion *)g;
    struct str comment = {0};

    if (g->ops != &completion_ops || g->gone || !c->stream)
        return;
    if (now - c->written_at < COMPLETIONS_PING_MS * CLOCK_MS)
        return;
    str_adds(&comment, ":\n\n");
    completion_write(c, &comment);
    str_fini(&comment);
}

void completions_gone(struct router *r, void *user)
{
    struct completion *c = user;

    if (c)
        router_gone(r, &c->gen);
}

/* The prompt as token ids. 0, or e set. */
static int completion_prompt(const struct model *m, struct api_request *req, struct token_list *out,
                             struct api_error *e)
{
    struct err err = {0};
    int rc = 0;

    if (req->kind == API_CHAT) {
        struct chat_message *messages = mem_calloc(req->n_messages, sizeof(*messages));

        for (size_t i = 0; i < req->n_messages; i++)
            messages[i] = (struct chat_message){req->messages[i].role, req->messages[i].content,
                                                req->messages[i].content_bytes};
        rc = chat_tokenize(m->chat, out, messages, req->n_messages, true, &err);
        mem_free(messages);
        if (rc)
            return api_refuse(e, "messages", "%s", err.text);
    } else if (req->prompt) {
        rc = vocab_tokenize(m->vocab, out, req->prompt, req->prompt_bytes, true, false, &err);
        if (rc)
            return api_refuse(e, "prompt", "%s", err.text);
    }
    for (uint32_t i = 0; i < req->n_tokens; i++) {
        if (req->tokens[i] >= m->hparams.n_vocab)
            return api_refuse(e, "prompt",
                              "token id %u is not below %u, the size of the vocabulary",
                              req->tokens[i], m->hparams.n_vocab);
        token_list_add(out, req->tokens[i]);
    }
    if (!out->n)
        return api_refuse(e, req->kind == API_CHAT ? "messages" : "prompt",
                          "the prompt is empty, and the model's vocabulary has no token to begin "
                          "with");
    if (out->n > MSG_TOKENS_MAX)
        return api_refuse(e, "prompt", "the prompt has %zu tokens, and at most %u are taken",
                          out->n, MSG_TOKENS_MAX);
    return 0;
}

static int completion_check_model(const struct model *m, const struct api_request *req,
                                  struct api_error *e)
{
    if (!req->model || model_is(m, req->model))
        return 0;
    api_refuse(e, "model", "the model '%.128s' is not served here; the one that is: '%s'",
               req->model, m->name);
    e->status = 404;
    e->type = openai_error_type(404);
    e->code = "model_not_found";
    return ERR_NOT_FOUND;
}

static struct completion *completion_new(struct router *r, struct http_conn *conn,
                                         const struct api_request *req)
{
    struct completion *c = mem_zalloc(sizeof(*c));
    struct http_text given = http_head_get(http_conn_head(conn), "traceparent");
    char traceparent[TRACEPARENT_MAX];
    int64_t now = clock_now();

    generation_init(&c->gen, &completion_ops,
                    req->kind == API_CHAT ? METRICS_CHAT : METRICS_COMPLETIONS, r->model.vocab,
                    req->ignore_eos, req->stops, req->n_stops, now);
    c->number = rng_u64(~r->boot, r->next_client + 1);
    snprintf(c->id, sizeof(c->id), "%s-%016" PRIx64, req->kind == API_CHAT ? "chatcmpl" : "cmpl",
             c->number);
    c->router = r;
    c->conn = conn;
    c->head = (struct openai_head){req->kind, c->id, r->model.name, (int64_t)time(NULL)};
    c->stream = req->stream;
    c->include_usage = req->include_usage;
    c->return_ids = req->return_token_ids;
    c->timings = http_text_is(http_head_get(http_conn_head(conn), "x-tandem-timings"), "1");
    c->written_at = now;
    serve_fields(r, conn, c->id, &c->fields);
    router_trace(r, &c->gen, given.s, given.n);
    traceparent_text(traceparent, &c->gen.trace);
    str_addf(&c->fields, "traceparent: %s\r\n", traceparent);
    return c;
}

static void completions_refuse(struct router *r, struct http_conn *conn, enum api_kind kind,
                               const struct api_error *e)
{
    struct str fields = {0};

    metrics_request(&r->metrics, kind == API_CHAT ? METRICS_CHAT : METRICS_COMPLETIONS, e->status);
    serve_fields(r, conn, NULL, &fields);
    serve_error(conn, &fields, e, 0);
    str_fini(&fields);
}

/* By the x-request-id that the client gave, too. */
static uint64_t completion_alias(const struct http_conn *conn)
{
    struct http_text given = http_head_get(http_conn_head(conn), "x-request-id");

    return given.n ? hash64(given.s, given.n, 0) : 0;
}

/* Whose request it is: the holder of the known API key; where all keys are let in, that of the key, else the
 * user that the body names, else nobody. The key itself is neither kept nor shown. */
static void completion_tenant(const struct http_conn *conn, const struct api_request *req,
                              const struct api_key *key, char out[MSG_NAME_MAX])
{
    struct http_text auth = http_head_get(http_conn_head(conn), "authorization");
    const char *kind = auth.n ? "key" : "user";
    const char *who = auth.n ? auth.s : req->user;
    size_t n = auth.n ? auth.n : req->user_bytes;

    out[0] = '\0';
    if (key)
        memcpy(out, key->name, MSG_NAME_MAX);
    else if (n)
        snprintf(out, MSG_NAME_MAX, "%s-%016" PRIx64, kind, hash64(who, n, 0));
}

/* The header x-tandem-priority, which a gateway sets, stands above the body's. */
static int completion_priority(const struct http_conn *conn, struct api_request *req,
                               struct api_error *e)
{
    struct http_text h = http_head_get(http_conn_head(conn), "x-tandem-priority");

    if (!h.n)
        return 0;
    if (h.n != 1 || h.s[0] < '0' || h.s[0] > '0' + MSG_PRIORITY_MAX)
        return api_refuse(e, "priority", "x-tandem-priority must be 0 to %d, and is '%.*s'",
                          MSG_PRIORITY_MAX, (int)size_min(h.n, 32), h.s);
    req->priority = (uint32_t)(h.s[0] - '0');
    return 0;
}

void completions_request(struct router *r, struct http_conn *conn, enum api_kind kind)
{
    struct token_list prompt = {0};
    struct api_request req;
    struct api_error e;
    struct completion *c;
    struct router_job job;
    char tenant[MSG_NAME_MAX];
    size_t n;
    const char *body = http_conn_body(conn, &n);
    const struct api_key *key = serve_key(r, conn);

    if (api_parse(&req, kind, body, n, &e) != 0 || completion_priority(conn, &req, &e) != 0 ||
        completion_check_model(&r->model, &req, &e) != 0 ||
        completion_prompt(&r->model, &req, &prompt, &e) != 0) {
        completions_refuse(r, conn, kind, &e);
        token_list_fini(&prompt);
        api_request_fini(&req);
        return;
    }
    completion_tenant(conn, &req, key, tenant);
    c = completion_new(r, conn, &req);
    http_conn_set_user(conn, c);
    job = (struct router_job){.tokens = prompt.ids,
                              .n_tokens = (uint32_t)prompt.n,
                              .max_new = req.max_tokens,
                              .sampling = req.sampling,
                              .has_seed = req.has_seed,
                              .tenant = tenant,
                              .limits = key ? &key->limits : NULL,
                              .priority = key ? u32_max(req.priority, key->priority) : req.priority,
                              .ids = {c->number, completion_alias(conn)}};
    if (!req.has_max_tokens && kind == API_COMPLETION)
        job.default_new = API_COMPLETION_TOKENS;
    api_request_fini(&req);
    router_submit(r, &c->gen, &job);
}
