#include "router/native.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "router/router.h"

struct native {
    struct router *router;
    struct sock *sock;
    struct map requests; /* of struct native_request, by native_key */
};

struct native_request {
    struct generation gen; /* first */
    struct native *native;
    struct peer peer;
    uint64_t tag;
    bool cancelled; /* by its client, which waits for GENERATE_DONE; not just gone */
};

/* A client numbers its requests itself: the key is both. */
static uint64_t native_key(const struct peer *peer, uint64_t tag)
{
    return hash64(peer->id, peer->n, tag);
}

static int native_send(struct native *n, const struct peer *peer, struct msg *m)
{
    struct err e;
    int rc = sock_send(n->sock, peer, m, &e);

    if (rc)
        log_debug("native", "message=%s not sent: %s", msg_type_name(m->type), e.text);
    msg_fini(m);
    return rc;
}

static void native_on_text(struct generation *g, const struct str *text, uint32_t index,
                           const uint32_t *ids, uint32_t n_ids)
{
    struct native_request *q = (struct native_request *)g;
    struct msg m = {.type = MSG_GENERATE_TOKENS};

    m.u.generate_tokens = (struct msg_generate_tokens){
        .tag = q->tag,
        .index = index,
        .tokens = mem_dup(ids, n_ids * sizeof(*ids)),
        .n_tokens = n_ids,
        .text = mem_strndup(str_text(text), text->len),
        .text_bytes = text->len,
    };
    /* gone, or it does not read: nobody to generate for */
    if (native_send(q->native, &q->peer, &m) != 0)
        router_gone(q->native->router, g);
}

static void native_stats(struct msg_generate_done *d, const struct router_stats *s)
{
    d->cached_tokens = s->cached_tokens;
    d->restarts = s->restarts;
    d->local = s->local;
    d->wait_ns = s->wait_ns;
    d->queue_ns = s->queue_ns;
    d->prefill_ns = s->prefill_ns;
    d->handoff_ns = s->handoff_ns;
    d->decode_queue_ns = s->decode_queue_ns;
    d->decode_ns = s->decode_ns;
    d->kv_bytes = s->kv_bytes;
    memcpy(d->prefill, s->prefill, sizeof(d->prefill));
    memcpy(d->decode, s->decode, sizeof(d->decode));
}

/* g: NULL if it came to nothing before it was one. */
static void native_done(struct native *n, const struct peer *peer, uint64_t tag,
                        const struct generation_end *end, const struct generation *g)
{
    struct msg m = {.type = MSG_GENERATE_DONE};
    struct msg_generate_done *d = &m.u.generate_done;

    d->tag = tag;
    d->finish = end->finish;
    d->status = end->status;
    snprintf(d->text, sizeof(d->text), "%s", end->text ? end->text : "");
    if (g) {
        d->prompt_tokens = g->n_prompt;
        d->output_tokens = g->n_tokens;
        d->ttft_ns = g->first_at ? g->first_at - g->started_at : 0;
        native_stats(d, end->stats);
    }
    native_send(n, peer, &m);
}

static void native_on_end(struct generation *g, const struct generation_end *end)
{
    struct native_request *q = (struct native_request *)g;

    map_del(&q->native->requests, native_key(&q->peer, q->tag));
    if (!g->gone || q->cancelled)
        native_done(q->native, &q->peer, q->tag, end, g);
    generation_fini(g);
    mem_free(q);
}

static const struct generation_ops native_ops = {native_on_text, native_on_end};

static int native_prompt(const struct model *m, const struct msg_generate *g,
                         struct token_list *out, struct err *e)
{
    int rc = 0;

    if (!g->tokens)
        rc = vocab_tokenize(m->vocab, out, g->text, g->text_bytes, true, false, e);
    for (uint32_t i = 0; g->tokens && i < g->n_tokens; i++) {
        if (g->tokens[i] >= m->hparams.n_vocab)
            return err_set(e, ERR_ARG, "token id %u is not below %u, the size of the vocabulary",
                           g->tokens[i], m->hparams.n_vocab);
        token_list_add(out, g->tokens[i]);
    }
    if (!rc && (!out->n || out->n > MSG_TOKENS_MAX))
        return err_set(e, ERR_ARG, "the prompt has %zu tokens, but must have 1 to %u", out->n,
                       MSG_TOKENS_MAX);
    return rc;
}

static void native_refuse(struct native *n, const struct peer *peer, uint64_t tag, int status,
                          const char *text)
{
    const struct generation_end end = {.status = status, .finish = FINISH_ERROR, .text = text};

    metrics_request(&n->router->metrics, METRICS_NATIVE, status);
    native_done(n, peer, tag, &end, NULL);
}

static void native_generate(struct native *n, const struct peer *from,
                            const struct msg_generate *g)
{
    struct router *r = n->router;
    struct token_list prompt = {0};
    struct native_request *q;
    struct err e = {0};
    int status = 400;

    if (r->stop_at) {
        status = 503;
        err_set(&e, ERR_BUSY, "the router is shutting down");
    } else if (map_get(&n->requests, native_key(from, g->tag))) {
        err_set(&e, ERR_ARG, "tag %llu is in use by another request of this client",
                (unsigned long long)g->tag);
    } else {
        native_prompt(&r->model, g, &prompt, &e);
    }
    if (e.code) {
        native_refuse(n, from, g->tag, status, e.text);
        token_list_fini(&prompt);
        return;
    }
    q = mem_zalloc(sizeof(*q));
    generation_init(&q->gen, &native_ops, METRICS_NATIVE, r->model.vocab, g->ignore_eos, g->stops,
                    g->n_stops, clock_now());
    q->native = n;
    q->peer = *from;
    q->tag = g->tag;
    map_put(&n->requests, native_key(from, g->tag), q);
    router_submit(r, &q->gen,
                  &(struct router_job){.tokens = prompt.ids,
                                       .n_tokens = (uint32_t)prompt.n,
                                       .max_new = g->max_tokens,
                                       .sampling = g->sampling,
                                       .has_seed = g->has_seed,
                                       .tenant = g->tenant,
                                       .priority = g->priority});
}

static void native_cancel(struct native *n, const struct peer *from, uint64_t tag)
{
    struct native_request *q = map_get(&n->requests, native_key(from, tag));

    if (q && q->tag == tag && peer_equal(&q->peer, from) && !q->gen.gone) {
        q->cancelled = true;
        router_gone(n->router, &q->gen);
    }
}

static void native_on_message(void *ctx, const struct peer *from, struct msg *m)
{
    struct native *n = ctx;

    if (m->type == MSG_GENERATE)
        native_generate(n, from, &m->u.generate);
    else if (m->type == MSG_GENERATE_CANCEL)
        native_cancel(n, from, m->u.generate_cancel);
    else
        log_warn("native", "message=%s dropped: not for a client to send", msg_type_name(m->type));
}

int native_open(struct native **out, struct router *r, const char *endpoint, struct err *e)
{
    const struct sock_options options = {.kind = SOCK_ROUTER, .lane = SOCK_CONTROL,
                                         .admits = KEYS_CLIENTS};
    struct native *n = mem_zalloc(sizeof(*n));
    int rc;

    n->router = r;
    if ((rc = sock_open(&n->sock, r->ctx, &options, e)) == 0 &&
        (rc = sock_bind(n->sock, endpoint, e)) == 0)
        loop_add_sock(r->loop, n->sock, native_on_message, n);
    if (rc)
        native_close(&n);
    *out = n;
    return rc;
}

void native_close(struct native **native)
{
    struct native *n = *native;

    if (!n)
        return;
    if (n->sock)
        loop_del_sock(n->router->loop, n->sock);
    sock_close(&n->sock);
    map_fini(&n->requests);
    mem_free(n);
    *native = NULL;
}

const char *native_endpoint(const struct native *n) { return sock_endpoint(n->sock); }
