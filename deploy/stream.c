#include "deploy/stream.h"

#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "net/http.h"
#include "net/sse.h"

struct stream {
    struct stream_figures *figures;
    bool (*text)(void *ctx, const char *piece, size_t n);
    void *ctx;
    struct event_base *base;
    struct http_request *request;
    struct event *interrupt; /* NULL: SIGINT is not ours */
    struct sse sse;
    struct str refusal; /* body of a reply that is not 200 */
    int status;
    int64_t start, first, last; /* 0: not yet */
    bool stopped;  /* by text, by SIGINT, or by an error */
    bool complete; /* [DONE] came */
    struct err error;
};

static void stream_copy(char *out, size_t size, const json_t *object, const char *key)
{
    snprintf(out, size, "%s", api_text(object, key));
}

static double stream_ms(const json_t *timings, const char *key)
{
    return json_number_value(json_object_get(timings, key));
}

/* The extra object that the header x-tandem-timings asks for, in the last chunk. */
static void stream_timings(struct stream_figures *f, const json_t *t)
{
    f->ttft_ms = stream_ms(t, "ttft_ms");
    f->tpot_ms = stream_ms(t, "tpot_ms");
    f->prefill_queue_ms = stream_ms(t, "prefill_queue_ms");
    f->prefill_ms = stream_ms(t, "prefill_ms");
    f->kv_bytes = (uint64_t)api_number(t, "kv_bytes");
    stream_copy(f->prefill_node, sizeof(f->prefill_node), t, "prefill_node");
    stream_copy(f->decode_node, sizeof(f->decode_node), t, "decode_node");
}

/* The new text of a chunk of either API, NULL if it has none. */
static const json_t *stream_piece(const json_t *chunk)
{
    const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0);
    const json_t *text = json_object_get(choice, "text");

    return text ? text : json_object_get(json_object_get(choice, "delta"), "content");
}

static bool stream_chunk(struct stream *s, const json_t *chunk)
{
    struct stream_figures *f = s->figures;
    const json_t *piece = stream_piece(chunk), *usage = json_object_get(chunk, "usage");
    const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0);
    const json_t *timings = json_object_get(chunk, "tandem");

    if (api_error(chunk)) {
        err_set(&s->error, ERR_PEER, "%s", api_error(chunk));
        return false;
    }
    if (json_is_object(usage)) {
        f->prompt_tokens = (uint64_t)api_number(usage, "prompt_tokens");
        f->output_tokens = (uint64_t)api_number(usage, "completion_tokens");
    }
    if (json_is_object(timings))
        stream_timings(f, timings);
    if (json_is_string(json_object_get(choice, "finish_reason")))
        stream_copy(f->finish, sizeof(f->finish), choice, "finish_reason");
    if (!json_string_length(piece))
        return true;
    s->last = clock_now();
    s->first = s->first ? s->first : s->last;
    f->pieces++;
    return s->text(s->ctx, json_string_value(piece), json_string_length(piece));
}

static bool stream_event(void *ctx, const char *event, const char *data, size_t n)
{
    struct stream *s = ctx;
    json_error_t where;
    json_t *chunk;

    (void)event;
    if (!strcmp(data, "[DONE]")) {
        s->complete = true;
        return true;
    }
    chunk = json_loadb(data, n, JSON_ALLOW_NUL, &where);
    if (!chunk)
        err_set(&s->error, ERR_FORMAT, "a chunk of the stream is not JSON: %s", where.text);
    s->stopped = !chunk || !stream_chunk(s, chunk);
    json_decref(chunk);
    return !s->stopped;
}

static void stream_on_status(void *ctx, int status)
{
    struct stream *s = ctx;

    s->status = status;
}

/* Nothing is open any more: the loop ends. */
static void stream_end(struct stream *s)
{
    http_cancel(&s->request);
    if (s->interrupt)
        event_del(s->interrupt);
}

static void stream_on_interrupt(evutil_socket_t signal_number, short what, void *ctx)
{
    struct stream *s = ctx;

    (void)signal_number, (void)what;
    s->stopped = true;
    stream_end(s);
}

static void stream_on_body(void *ctx, const void *bytes, size_t n)
{
    struct stream *s = ctx;

    if (s->status != 200)
        str_add(&s->refusal, bytes, n);
    else if (sse_feed(&s->sse, bytes, n, stream_event, s, &s->error) || s->stopped)
        stream_end(s);
}

static void stream_on_done(void *ctx, const struct err *error)
{
    struct stream *s = ctx;

    s->request = NULL;
    stream_end(s);
    if (error && !s->complete)
        s->error = *error;
}

/* What the reply was, once everything is there. */
static int stream_verdict(struct stream *s, struct err *e)
{
    json_t *refusal;

    if (s->error.code)
        return err_set(e, s->error.code, "%s", s->error.text);
    if (s->status == 200)
        return s->complete || s->stopped ? 0 : err_set(e, ERR_NET, "the stream broke off");
    refusal = json_loadb(str_text(&s->refusal), s->refusal.len, 0, NULL);
    if (api_error(refusal))
        err_set(e, ERR_PEER, "%s", api_error(refusal));
    else
        err_set(e, ERR_PEER, "the router answered with status %d", s->status);
    json_decref(refusal);
    return ERR_PEER;
}

/* Where the router said nothing, what we saw. */
static void stream_measured(const struct stream *s)
{
    struct stream_figures *f = s->figures;

    if (!s->first)
        return;
    if (!f->output_tokens && !s->stopped)
        f->output_tokens = f->pieces;
    if (f->ttft_ms == 0)
        f->ttft_ms = clock_ms(s->first - s->start);
    if (f->tpot_ms == 0 && f->pieces > 1)
        f->tpot_ms = clock_ms(s->last - s->first) / (double)(f->pieces - 1);
}

int stream_run(struct stream_figures *f, const char *url, const char *path, const json_t *request,
               bool (*text)(void *ctx, const char *piece, size_t n), void *ctx, bool interruptible,
               struct err *e)
{
    static const struct http_handlers handlers = {stream_on_status, stream_on_body, stream_on_done};
    struct stream s = {.figures = f, .text = text, .ctx = ctx, .base = event_base_new()};
    char *body = json_dumps(request, JSON_COMPACT);
    struct http_client *client = NULL;
    int rc;

    ASSERT(s.base && body);
    *f = (struct stream_figures){0};
    s.start = clock_now();
    rc = http_client_open(&client, s.base, url, 0, e);
    if (!rc)
        rc = http_client_authorize(client, e);
    if (!rc) {
        http_client_header(client, "x-tandem-timings", "1");
        rc = http_start(&s.request, client, "POST", path, body, strlen(body), &handlers, &s, e);
    }
    if (!rc && interruptible) {
        s.interrupt = evsignal_new(s.base, SIGINT, stream_on_interrupt, &s);
        ASSERT(s.interrupt && event_add(s.interrupt, NULL) == 0);
    }
    if (!rc) {
        event_base_dispatch(s.base);
        rc = stream_verdict(&s, e);
        stream_measured(&s);
    }
    if (s.interrupt)
        event_free(s.interrupt);
    http_client_close(&client);
    event_base_free(s.base);
    sse_fini(&s.sse);
    str_fini(&s.refusal);
    free(body); /* jansson's own */
    return rc;
}

void stream_report(const struct stream_figures *f, struct str *out)
{
    if (!*f->finish) { /* the router's figures come with the end */
        str_addf(out, "TTFT %.1f ms, ended from here after %" PRIu64 " pieces of text\n", f->ttft_ms,
                 f->pieces);
        return;
    }
    str_addf(out,
             "TTFT %.1f ms, TPOT %.2f ms, %" PRIu64 " prompt tokens, %" PRIu64 " output tokens (%s)\n",
             f->ttft_ms, f->tpot_ms, f->prompt_tokens, f->output_tokens,
             f->finish);
    if (!*f->prefill_node)
        return;
    str_addf(out, "%s computed the prompt in %.1f ms after %.1f ms in its queue", f->prefill_node,
             f->prefill_ms, f->prefill_queue_ms);
    if (*f->decode_node) {
        str_addf(out, ", and shipped ");
        size_text(out, f->kv_bytes);
        str_addf(out, " of KV to %s, which generated the rest", f->decode_node);
    }
    str_addc(out, '\n');
}
