/* tandem's own protocol (generate.proto) over one ZeroMQ connection: takes HTTP and JSON out of a
 * measurement. A request that ZeroMQ does not take yet waits in a list and is offered again. If that
 * takes longer than a request may, no router is there: until one takes something, requests fail at
 * once instead of waiting as long, one after the other. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/call.h"
#include "net/loop.h"
#include "net/msg.h"
#include "net/sock.h"

#define CONNECT_TIMEOUT_S 10
#define RETRY_MS 1 /* between two offers of what ZeroMQ did not take */

struct native {
    struct transport base; /* first */
    const struct bench_options *options;
    const char *url;
    struct call_events events;
    struct loop *loop;
    struct sock_ctx *ctx;
    struct sock *sock;
    struct loop_event *retry;
    struct map calls;       /* by tag: sent and not done */
    struct exchange *first; /* not sent yet, oldest first */
    struct exchange **last;
    uint64_t next_tag;
    bool down; /* nobody took a request in all its time, or has taken one since */
};

struct exchange { /* a call's */
    struct call *call;
    uint64_t tag;
    bool sent;
    struct exchange *next; /* while not sent */
};

static void unsent_add(struct native *t, struct exchange *x)
{
    *t->last = x;
    t->last = &x->next;
}

static void unsent_del(struct native *t, struct exchange *x)
{
    struct exchange **at = &t->first;

    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
    if (!x->next)
        t->last = at;
    x->next = NULL;
}

static int generate_send(struct native *t, struct exchange *x, struct err *e)
{
    const struct bench_options *o = t->options;
    const struct prompt *p = x->call->prompt;
    struct msg m = {.type = MSG_GENERATE};
    struct msg_generate *g = &m.u.generate;
    int rc;

    g->tag = x->tag;
    if (p->n_texts > 0) {
        struct str joined = {0};

        prompt_join(p, &joined);
        g->text_bytes = joined.len;
        g->text = str_steal(&joined);
    } else {
        g->tokens = mem_dup(p->tokens, p->n_tokens * sizeof(*p->tokens));
        g->n_tokens = p->n_tokens;
    }
    g->max_tokens = x->call->output;
    g->sampling = (struct sampling){.temperature = (float)o->temperature, .top_p = 1,
                                    .seed = x->call->seed};
    g->has_seed = o->temperature > 0;
    g->ignore_eos = o->ignore_eos || bench_exact(o);
    rc = sock_send(t->sock, NULL, &m, e);
    msg_fini(&m);
    t->down = t->down && rc != ERR_OK;
    return rc;
}

static void exchange_done(struct native *t, struct exchange *x, enum outcome outcome,
                          const char *why)
{
    struct call *call = x->call;

    if (x->sent)
        map_del(&t->calls, x->tag);
    else
        unsent_del(t, x);
    call->transport = NULL;
    mem_free(x);
    t->events.done(t->events.ctx, call, outcome, why);
}

/* Offers what waits, in order. */
static void on_retry(void *ctx)
{
    struct native *t = ctx;
    struct err e = {0};

    while (t->first) {
        struct exchange *x = t->first;
        int rc = generate_send(t, x, &e);

        if (rc == ERR_BUSY)
            return;
        if (rc != ERR_OK) {
            exchange_done(t, x, OUTCOME_MALFORMED, e.text);
            continue;
        }
        unsent_del(t, x);
        x->sent = true;
        map_put(&t->calls, x->tag, x);
    }
    loop_del_event(&t->retry);
}

static void on_tokens(struct native *t, const struct msg_generate_tokens *m)
{
    struct exchange *x = map_get(&t->calls, m->tag);

    if (!x)
        return; /* of a call that was cancelled */
    if (m->index != x->call->record.output_tokens) {
        exchange_done(t, x, OUTCOME_MALFORMED, "token indices have a gap or repeat");
        return;
    }
    x->call->record.output_tokens += m->n_tokens;
    for (uint32_t i = 0; i < m->n_tokens; i++)
        token_list_add(&x->call->ids, m->tokens[i]);
    if (m->text)
        str_add(&x->call->text, m->text, m->text_bytes);
    if (m->n_tokens > 0)
        t->events.output(t->events.ctx, x->call);
}

static void times_take(struct server_times *s, const struct msg_generate_done *m)
{
    *s = (struct server_times){
        .ttft = clock_ms(m->ttft_ns),
        .router_queue = clock_ms(m->wait_ns),
        .prefill_queue = clock_ms(m->queue_ns),
        .prefill = clock_ms(m->prefill_ns),
        .transfer = clock_ms(m->handoff_ns),
        .decode_queue = clock_ms(m->decode_queue_ns),
        .restarts = m->restarts,
        .kv_bytes = m->kv_bytes,
    };
    snprintf(s->prefill_node, sizeof(s->prefill_node), "%.23s", m->prefill);
    snprintf(s->decode_node, sizeof(s->decode_node), "%.23s", m->decode);
}

static void on_generate_done(struct native *t, const struct msg_generate_done *m)
{
    struct exchange *x = map_get(&t->calls, m->tag);

    if (!x)
        return;
    x->call->record.prompt_tokens = m->prompt_tokens;
    x->call->record.cached_tokens = m->cached_tokens;
    if (m->status == 200)
        times_take(&x->call->record.server, m);
    if (m->status != 200)
        exchange_done(t, x, outcome_of_status(m->status), m->text);
    else if (m->output_tokens != x->call->record.output_tokens)
        exchange_done(t, x, OUTCOME_BROKEN, "fewer tokens arrived than the router sent");
    else
        exchange_done(t, x, OUTCOME_OK, "");
}

static void on_msg(void *ctx, const struct peer *from, struct msg *m)
{
    struct native *t = ctx;

    (void)from;
    if (m->type == MSG_GENERATE_TOKENS)
        on_tokens(t, &m->u.generate_tokens);
    else if (m->type == MSG_GENERATE_DONE)
        on_generate_done(t, &m->u.generate_done);
}

static int native_start(struct transport *base, struct call *call, struct err *e)
{
    struct native *t = (struct native *)base;
    struct exchange *x = mem_zalloc(sizeof(*x));
    int rc = ERR_BUSY;

    x->call = call;
    x->tag = t->next_tag++;
    if (!t->first) /* else it queues behind those that wait */
        rc = generate_send(t, x, e);
    if (rc == ERR_BUSY && t->down)
        rc = err_set(e, ERR_NET, "no router takes requests at %s", t->url);
    if (rc != ERR_OK && rc != ERR_BUSY) {
        mem_free(x);
        return rc;
    }
    if (rc == ERR_OK) {
        x->sent = true;
        map_put(&t->calls, x->tag, x);
    } else {
        unsent_add(t, x);
        if (!t->retry)
            t->retry = loop_add_timer(t->loop, RETRY_MS, on_retry, t);
    }
    call->transport = x;
    return ERR_OK;
}

static void native_cancel(struct transport *base, struct call *call)
{
    struct native *t = (struct native *)base;
    struct exchange *x = call->transport;
    struct msg m = {.type = MSG_GENERATE_CANCEL, .u.generate_cancel = x->tag};

    if (x->sent) {
        map_del(&t->calls, x->tag);
        sock_send(t->sock, NULL, &m, NULL); /* if it is busy, the router generates for nobody */
        msg_fini(&m);
    } else {
        unsent_del(t, x);
        t->down = true;
    }
    call->transport = NULL;
    mem_free(x);
}

static void native_close(struct transport *base)
{
    struct native *t = (struct native *)base;

    loop_del_event(&t->retry);
    if (t->sock)
        loop_del_sock(t->loop, t->sock);
    sock_close(&t->sock);
    sock_ctx_free(&t->ctx);
    map_fini(&t->calls);
    mem_free(t);
}

/* A DEALER is busy until it is connected: offers it the cancellation of nothing until it is taken.
 * The connection may take as long as a request, which then fails, and is counted. */
static int connect_wait(struct native *t, struct err *e)
{
    const struct timespec pause = {.tv_nsec = 2 * CLOCK_MS};
    int64_t start = clock_now();
    double limit =
        t->options->timeout < CONNECT_TIMEOUT_S ? t->options->timeout : CONNECT_TIMEOUT_S;

    for (;;) {
        struct msg m = {.type = MSG_GENERATE_CANCEL};
        int rc = sock_send(t->sock, NULL, &m, e);

        msg_fini(&m);
        if (rc != ERR_BUSY)
            return rc;
        sock_broke(t->sock);
        if (sock_refusal(t->sock))
            return err_set(e, ERR_PEER, "%s does not let us in: %s", t->url, sock_refusal(t->sock));
        t->down = clock_s(clock_now() - start) > limit;
        if (t->down)
            return ERR_OK;
        nanosleep(&pause, NULL);
    }
}

int transport_native_open(struct transport **out, struct loop *loop,
                          const struct transport_setup *s, const struct call_events *events,
                          struct err *e)
{
    struct native *t = mem_zalloc(sizeof(*t));
    char identity[PEER_ID_MAX];
    struct sock_options options = {.kind = SOCK_DEALER, .lane = SOCK_CONTROL, .identity = identity};
    const struct sock_security security = {s->options->keys, KEYS_CLIENT, s->options->insecure};
    struct sock *sock = NULL;
    int rc;

    *out = NULL;
    t->base = (struct transport){native_start, native_cancel, native_close, ""};
    t->options = s->options;
    t->url = s->url;
    t->events = *events;
    t->loop = loop;
    t->last = &t->first;
    t->next_tag = 1; /* 0 is connect_wait's */
    snprintf(identity, sizeof(identity), "bench-%d#%016" PRIx64, (int)getpid(), rng_entropy());
    t->ctx = sock_ctx_new();
    rc = sock_ctx_secure(t->ctx, &security, e);
    if (rc == ERR_OK)
        rc = sock_open(&sock, t->ctx, &options, e);
    if (rc != ERR_OK)
        goto fail;
    t->sock = sock;
    loop_add_sock(loop, sock, on_msg, t);
    rc = sock_connect(sock, t->url, e);
    if (rc == ERR_OK)
        rc = connect_wait(t, e);
    if (rc != ERR_OK)
        goto fail;
    *out = &t->base;
    return ERR_OK;
fail:
    native_close(&t->base);
    return rc;
}
