#include "prefill-node/prefill.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "daemon/member.h"
#include "daemon/node_metrics.h"
#include "daemon/options.h"
#include "daemon/outbox.h"
#include "daemon/probe.h"
#include "daemon/role.h"
#include "kv/kv_wire.h"
#include "net/loop.h"
#include "prefill-node/core.h"
#include "prefill-node/sendbuf.h"

#define TICK_MS 50
#define LEASE_NS (30 * CLOCK_S)
#define HELLO_NS (5 * CLOCK_S)
#define STOP_NS (2 * CLOCK_S) /* what is here may go on so long after SIGTERM */
#define SEQUENCES 4           /* full prompts in a pool sized by us: one computes, others leave */
#define SENDBUFS 64           /* units on their way to the kernel; a turn's worth for one link */
#define UNITS_PER_TURN 32     /* then the sockets have their turn */

/* The socket of a core's link, at the same place. */
struct prefill_link {
    struct prefill *p;
    uint32_t link;
    struct sock *sock; /* NULL: closed */
    struct outbox outbox;
};

struct prefill {
    const struct node_options *options;
    struct node *node; /* borrowed */
    struct prefill_core *core;
    struct prefill_actions actions;
    struct loop *loop;
    struct sock_ctx *ctx;
    struct member *member;
    struct probe *probe;
    struct loop_event *timer, *term, *interrupt, *computed, *woken;
    struct prefill_link links[PREFILL_LINKS_MAX];
    struct sendbufs *sendbufs;
    uint64_t boot;
    uint64_t converted; /* bytes of KV that did not lie as they travel */
    uint32_t sockets; /* opened so far: each has an identity of its own */
    /* The chunk in flight: the compute thread's until DONE. */
    struct compute_job job;
    struct batch_row *rows;
    struct compute_sample *samples;
    const struct span *spans;
    uint32_t n_spans;
    uint32_t *tokens; /* [queue_max], one a span */
    int64_t busy_ns;  /* in forward passes since the start */
    int64_t stop_at;  /* 0: nobody asked us to stop */
    enum node_role next; /* what the node goes on as */
    int rc;           /* of prefill_serve */
    struct err *err;  /* its */
};

static void prefill_event(struct prefill *p, const struct prefill_event *ev);

static void prefill_submit(struct prefill *p, const struct span *spans, uint32_t n)
{
    uint32_t row = 0;

    for (uint32_t i = 0; i < n; i++) {
        const struct job *job = prefill_core_job(p->core, spans[i].job);

        for (uint32_t t = 0; t < spans[i].count; t++, row++) {
            uint32_t pos = spans[i].first + t;
            bool want = spans[i].last && t + 1 == spans[i].count;

            p->rows[row] = (struct batch_row){job->tokens[pos], pos, job->pages, want};
            p->samples[row] = (struct compute_sample){.params = node_sampling(&job->sampling),
                                                      .index = job->first_index};
        }
    }
    p->spans = spans;
    p->n_spans = n;
    p->job = (struct compute_job){.rows = p->rows, .samples = p->samples, .n = row,
                                  .layer_events = true};
    node_run(p->node, &p->job); /* one chunk at a time */
}

/* True: the connection of the link broke, and the core has dealt with that. */
static bool prefill_cut(struct prefill *p, uint32_t link)
{
    if (!p->links[link].sock || !sock_broke(p->links[link].sock))
        return false;
    prefill_event(p, &(struct prefill_event){.type = PREFILL_LINK_CUT, .link = link});
    return true;
}

static void prefill_on_link(void *ctx, const struct peer *from, struct msg *m)
{
    struct prefill_link *k = ctx;

    (void)from;
    if (prefill_cut(k->p, k->link)) /* the answer to what the other end has not heard in full */
        return;
    prefill_event(k->p, &(struct prefill_event){.type = PREFILL_LINK, .link = k->link, .msg = m});
}

static void prefill_open_link(struct prefill *p, uint32_t link, const char *endpoint)
{
    struct prefill_link *k = &p->links[link];
    char identity[PEER_ID_MAX];
    struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_DATA, .identity = identity};
    struct err e = {0};

    snprintf(identity, sizeof(identity), "%s#%016" PRIx64 ".%x", p->options->common.name, p->boot,
             p->sockets++);
    k->p = p;
    k->link = link;
    if (sock_open(&k->sock, p->ctx, &o, &e) || sock_connect(k->sock, endpoint, &e)) {
        /* the core hears nothing and gives the link up when KV_HELLO finds no answer */
        log_warn("prefill", "%s", e.text);
        sock_close(&k->sock);
        return;
    }
    loop_add_sock(p->loop, k->sock, prefill_on_link, k);
}

static void prefill_close_link(struct prefill *p, uint32_t link)
{
    struct prefill_link *k = &p->links[link];

    if (k->sock)
        loop_del_sock(p->loop, k->sock);
    sock_close(&k->sock);
    outbox_fini(&k->outbox);
}

static void prefill_send_link(struct prefill *p, uint32_t link, struct msg *m)
{
    struct prefill_link *k = &p->links[link];
    struct err e = {0};

    if (!k->sock)
        msg_fini(m);
    else if (!outbox_send(&k->outbox, k->sock, m, &e))
        log_warn("prefill", "a message to a decode node is lost: %s", e.text);
}

/* Hands the event to the core and does what it says. */
static void prefill_step_and_act(struct prefill *p, const struct prefill_event *ev)
{
    prefill_step(p->core, ev, clock_now(), &p->actions);
    for (size_t i = 0; i < p->actions.n; i++) {
        struct prefill_action *a = &p->actions.items[i];

        switch (a->type) {
        case PREFILL_SEND_ROUTER:
            member_send(p->member, &a->msg);
            break;
        case PREFILL_SEND_LINK:
            prefill_send_link(p, a->link, &a->msg);
            break;
        case PREFILL_OPEN_LINK:
            prefill_open_link(p, a->link, a->endpoint);
            break;
        case PREFILL_CLOSE_LINK:
            prefill_close_link(p, a->link);
            break;
        case PREFILL_RUN:
            prefill_submit(p, a->spans, a->n_spans);
            break;
        }
    }
    p->actions.n = 0;
}

/* The bytes of a unit, which stay as they are until the slot is released: in their page, if they travel as
 * they lie there, or converted. */
static struct msg_bulk prefill_unit_bulk(struct prefill *p, const struct prefill_unit *u,
                                         struct sendbuf *slot)
{
    const struct kv_layout *l = &p->node->layout;
    const uint8_t *page = kv_pool_page(p->node->pool, u->page_id);
    uint8_t *data;

    if (kv_wire_whole(l, p->node->wire)) {
        sendbuf_hold(slot, u->page_id);
        return (struct msg_bulk){page + kv_layout_k(l, u->unit.layer, u->unit.head_first), u->bytes,
                                 sendbuf_release, slot};
    }
    data = sendbuf_data(slot);
    kv_wire_export(data, p->node->wire, l, page, u->unit.layer, u->unit.head_first,
                   u->unit.head_count, u->unit.n_tokens);
    p->converted += u->bytes;
    return (struct msg_bulk){data, u->bytes, sendbuf_release, slot};
}

/* The message that brings a unit: its place, or its bytes. False: its link gets no slot now, and a
 * release wakes us. */
static bool prefill_unit_msg(struct prefill *p, const struct prefill_unit *u, struct msg *m)
{
    size_t in_page = kv_layout_k(&p->node->layout, u->unit.layer, u->unit.head_first);
    struct msg_kv_page *k = &m->u.page;

    *m = (struct msg){.type = u->place ? MSG_KV_PLACE : MSG_KV_PAGE};
    *k = (struct msg_kv_page){.id = u->id, .layer = u->unit.layer, .page = u->unit.page,
                              .head_first = u->unit.head_first, .head_count = u->unit.head_count,
                              .n_tokens = u->unit.n_tokens};
    if (m->type == MSG_KV_PLACE) {
        k->place = kv_pool_offset(p->node->pool, u->page_id) + in_page;
        k->bulk.size = u->bytes;
        k->checksum = hash64(kv_pool_page(p->node->pool, u->page_id) + in_page, u->bytes, 0);
    } else {
        struct sendbuf *slot = sendbufs_take(p->sendbufs, u->link);

        if (!slot)
            return false;
        k->bulk = prefill_unit_bulk(p, u, slot);
        k->checksum = hash64(k->bulk.data, u->bytes, 0);
    }
    return true;
}

/* False: its socket is busy, and the link is marked so. */
static bool prefill_ship_unit(struct prefill *p, const struct prefill_unit *u, struct msg *m,
                              bool *blocked)
{
    if (sock_send(p->links[u->link].sock, NULL, m, NULL)) {
        msg_fini(m); /* the slot is free again; the cursor has not moved */
        blocked[u->link] = true;
        return false;
    }
    prefill_step_and_act(p, &(struct prefill_event){.type = PREFILL_UNIT_SENT, .unit = u});
    return true;
}

/* Sends what may leave. A link whose control messages wait, or whose socket is busy, waits for the
 * next tick. */
static void prefill_ship(struct prefill *p)
{
    bool blocked[PREFILL_LINKS_MAX];
    struct prefill_unit u;
    uint32_t sent = 0;

    for (uint32_t i = 0; i < PREFILL_LINKS_MAX; i++)
        blocked[i] = !p->links[i].sock || p->links[i].outbox.n;
    while (prefill_core_next_unit(p->core, blocked, &u)) {
        struct msg m;

        if (sent == UNITS_PER_TURN) {
            sendbufs_wake(p->sendbufs);
            return;
        }
        if (prefill_unit_msg(p, &u, &m))
            sent += prefill_ship_unit(p, &u, &m, blocked);
        else
            blocked[u.link] = true; /* a release wakes us */
    }
}

static void prefill_event(struct prefill *p, const struct prefill_event *ev)
{
    sendbufs_collect(p->sendbufs); /* pages that the core may want */
    prefill_step_and_act(p, ev);
    prefill_ship(p);
    if (prefill_core_drained(p->core))
        loop_stop(p->loop);
}

/* DRAIN, ROLE: what is here is finished, then we leave, or go on as something else. */
static void prefill_leave(struct prefill *p, enum node_role next)
{
    log_info("prefill", "draining, then %s", next ? "a decode node" : "leaving");
    p->next = next;
    prefill_core_drain(p->core);
    member_beat(p->member);
    if (prefill_core_idle(p->core))
        loop_stop(p->loop);
}

static void prefill_on_router(void *ctx, struct msg *m)
{
    struct prefill *p = ctx;

    if (m->type == MSG_DRAIN)
        prefill_leave(p, ROLE_NONE);
    else if (m->type == MSG_ROLE && m->u.role == ROLE_DECODE && p->options->change_role)
        prefill_leave(p, ROLE_DECODE);
    else
        prefill_event(p, &(struct prefill_event){.type = PREFILL_ROUTER, .msg = m});
}

static void prefill_on_joined(void *ctx)
{
    struct prefill *p = ctx;

    node_joined(p->node);
    member_beat(p->member);
}

static void prefill_on_lost(void *ctx)
{
    struct prefill *p = ctx;

    prefill_event(p, &(struct prefill_event){.type = PREFILL_ROUTER_LOST});
    if (p->stop_at)
        loop_stop(p->loop);
}

static void prefill_on_refused(void *ctx, const char *sentence)
{
    struct prefill *p = ctx;

    p->rc = err_set(p->err, ERR_PEER, "the router at %s refused this node: %s", p->options->router,
                    sentence);
    loop_stop(p->loop);
}

static struct msg_heartbeat prefill_beat(const struct prefill *p, const struct prefill_stats *stats)
{
    const struct prefill_stats s = *stats;
    uint32_t cached = prefix_evictable(p->node->prefix);

    return (struct msg_heartbeat){
        .queued = s.queued,
        .running = s.running,
        .pages_free = kv_pool_free_count(p->node->pool) + cached,
        .pages_total = kv_pool_total(p->node->pool),
        .tokens = s.tokens,
        .steps = s.steps,
        .kv_bytes = s.kv_bytes,
        .draining = s.draining,
        .queued_tokens = s.queued_tokens,
        .busy_ns = (uint64_t)p->busy_ns,
        .hit_tokens = s.hit_tokens,
        .pages_bad = s.pages_again,
        .leases_expired = s.leases_expired,
        .resumed = s.resumed,
        .pages_cached = cached,
        .flops = (uint64_t)p->node->spent.flops,
        .read_bytes = (uint64_t)p->node->spent.bytes,
    };
}

static void prefill_on_beat(void *ctx, struct msg_heartbeat *h)
{
    struct prefill *p = ctx;
    struct prefill_stats s;
    struct msg report;

    if (node_prefix_report(p->node, &report))
        member_send(p->member, &report);
    prefill_core_stats(p->core, &s);
    *h = prefill_beat(p, &s);
}

static bool prefill_on_ready(void *ctx)
{
    struct prefill *p = ctx;
    struct prefill_stats s;

    prefill_core_stats(p->core, &s);
    return member_up(p->member) && !s.draining;
}

static void prefill_metrics(struct prefill *p, const struct prefill_stats *s, struct str *out)
{
    const struct node_figure own[] = {
        {"tandem_pages_again_total", "counter", "KV pages that a decode node asked for again.",
         (double)s->pages_again},
        {"tandem_leases_expired_total", "counter", "Jobs whose KV no decode node took.",
         (double)s->leases_expired},
        {"tandem_streams_resumed_total", "counter", "Jobs that went on on a new connection.",
         (double)s->resumed},
        {"tandem_kv_converted_bytes_total", "counter", "KV that did not lie as it travels.",
         (double)p->converted},
    };
    const struct node_page page = {ROLE_PREFILL, prefill_beat(p, s), prefill_on_ready(p), own,
                                   ARRAY_LEN(own)};

    node_metrics(p->node, p->options, &page, out);
}

static void prefill_on_metrics(void *ctx, struct str *out)
{
    struct prefill *p = ctx;
    struct prefill_stats s;

    prefill_core_stats(p->core, &s);
    prefill_metrics(p, &s, out);
}

static void prefill_on_computed(void *ctx)
{
    struct prefill *p = ctx;
    struct compute_event ev;

    while (compute_poll(p->node->compute, &ev)) {
        uint32_t row = 0;

        if (ev.type == COMPUTE_LAYER) {
            prefill_event(p, &(struct prefill_event){.type = PREFILL_LAYER_DONE, .layer = ev.layer});
            continue;
        }
        p->busy_ns += ev.job->ns;
        node_ran(p->node, ev.job);
        for (uint32_t i = 0; i < p->n_spans; i++) {
            row += p->spans[i].count;
            p->tokens[i] = ev.job->samples[row - 1].token; /* 0 unless the span was a last one */
        }
        prefill_event(p, &(struct prefill_event){.type = PREFILL_CHUNK_DONE, .tokens = p->tokens});
    }
}

static void prefill_on_woken(void *ctx)
{
    struct prefill *p = ctx;

    sendbufs_woken(p->sendbufs);
    prefill_ship(p);
}

static void prefill_on_tick(void *ctx)
{
    struct prefill *p = ctx;

    for (uint32_t i = 0; i < PREFILL_LINKS_MAX; i++)
        if (!prefill_cut(p, i) && p->links[i].sock)
            outbox_flush(&p->links[i].outbox, p->links[i].sock);
    prefill_event(p, &(struct prefill_event){.type = PREFILL_TICK});
    if (prefill_core_drained(p->core) || (p->stop_at && clock_now() >= p->stop_at))
        loop_stop(p->loop);
}

/* The first signal lets what is here go on for a moment, the second does not. */
static void prefill_on_signal(void *ctx)
{
    struct prefill *p = ctx;

    prefill_core_drain(p->core);
    if (p->stop_at || prefill_core_idle(p->core) || !member_up(p->member)) {
        loop_stop(p->loop);
        return;
    }
    p->stop_at = clock_now() + STOP_NS;
    member_beat(p->member); /* draining */
}

static int prefill_core_open(struct prefill *p, struct err *e)
{
    const struct node_options *o = p->options;
    const struct kv_layout *l = &p->node->layout;
    struct prefill_config c = {
        .model_hash = p->node->model_hash,
        .n_vocab = p->node->n_vocab,
        .ctx_max = p->node->ctx_max,
        .queue_max = o->queue_max,
        .chunk_tokens = o->chunk_tokens,
        .wire = p->node->wire,
        .lease_ns = LEASE_NS,
        .hello_ns = HELLO_NS,
    };
    size_t convert = 0;
    int rc;

    snprintf(c.cluster, sizeof(c.cluster), "%s", o->common.cluster);
    snprintf(c.name, sizeof(c.name), "%s", o->common.name);
    share_offer(&c.offer, kv_pool_fd(p->node->pool));
    p->rows = mem_calloc(o->chunk_tokens, sizeof(*p->rows));
    p->samples = mem_calloc(o->chunk_tokens, sizeof(*p->samples));
    p->tokens = mem_calloc(o->queue_max, sizeof(*p->tokens));
    rc = prefill_core_new(&p->core, &c, l, p->node->pool, p->node->prefix, e);
    if (rc)
        return rc;
    if (!kv_wire_whole(l, c.wire))
        convert = kv_wire_bytes(l, c.wire, kv_wire_heads(l, c.wire, MSG_BULK_MAX), KV_PAGE_TOKENS);
    return sendbufs_open(&p->sendbufs, p->node->pool, SENDBUFS, convert, e);
}

static int prefill_net_open(struct prefill *p, struct err *e)
{
    const struct member_events events = {p, prefill_on_router, prefill_on_joined, prefill_on_lost,
                                         prefill_on_refused, prefill_on_beat};
    const struct sock_security security = {p->options->common.keys, KEYS_NODE,
                                           p->options->common.insecure};
    const struct probe_events probe = {p, prefill_on_metrics, prefill_on_ready};
    struct msg_register reg = {.role = ROLE_PREFILL, .slots = p->options->queue_max};
    int rc;

    p->boot = reg.boot = rng_entropy();
    node_register(p->node, p->options, &reg);
    p->loop = loop_new();
    p->ctx = sock_ctx_new();
    p->timer = loop_add_timer(p->loop, TICK_MS, prefill_on_tick, p);
    p->term = loop_add_signal(p->loop, SIGTERM, prefill_on_signal, p);
    p->interrupt = loop_add_signal(p->loop, SIGINT, prefill_on_signal, p);
    p->computed = loop_add_fd(p->loop, compute_fd(p->node->compute), prefill_on_computed, p);
    p->woken = loop_add_fd(p->loop, sendbufs_fd(p->sendbufs), prefill_on_woken, p);
    rc = sock_ctx_secure(p->ctx, &security, e);
    if (rc)
        return rc;
    if ((rc = probe_open(&p->probe, loop_base(p->loop), p->options->metrics, &probe, e)))
        return rc;
    probe_address(p->probe, reg.metrics, sizeof(reg.metrics));
    return member_open(&p->member, p->loop, p->ctx, p->options->router, &reg, &events, e);
}

static void prefill_close(struct prefill *p)
{
    probe_close(&p->probe);
    member_close(&p->member);
    for (uint32_t i = 0; i < PREFILL_LINKS_MAX; i++)
        prefill_close_link(p, i);
    loop_del_event(&p->timer);
    loop_del_event(&p->term);
    loop_del_event(&p->interrupt);
    loop_del_event(&p->computed);
    loop_del_event(&p->woken);
    loop_free(&p->loop);
    sock_ctx_free(&p->ctx);
    sendbufs_close(&p->sendbufs); /* after the context, whose thread releases slots */
    compute_wait(p->node->compute); /* before the pages of its chunk go back */
    prefill_core_free(&p->core);
    prefill_actions_fini(&p->actions);
    mem_free(p->rows);
    mem_free(p->samples);
    mem_free(p->tokens);
    mem_free(p);
}

static int prefill_serve(struct node *n, const struct node_options *o, enum node_role *next,
                         struct err *e)
{
    struct prefill *p = mem_zalloc(sizeof(*p));
    int rc;

    p->options = o;
    p->node = n;
    p->err = e;
    p->rc = prefill_core_open(p, e);
    if (!p->rc)
        p->rc = prefill_net_open(p, e);
    if (!p->rc) {
        loop_run(p->loop);
        member_bye(p->member, p->next ? "becomes a decode node" : "stopped");
        log_info("prefill", "stopped");
    }
    rc = p->rc;
    *next = p->next;
    prefill_close(p);
    return rc;
}

static uint32_t prefill_rows_max(const struct node_options *o) { return o->chunk_tokens; }

static uint32_t prefill_sequences(const struct node_options *o)
{
    (void)o;
    return SEQUENCES;
}

const struct role role_prefill = {ROLE_PREFILL, prefill_rows_max, prefill_sequences, prefill_serve};
