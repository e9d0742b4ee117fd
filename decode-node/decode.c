#include "decode-node/decode.h"

#include <inttypes.h>
#include <math.h>
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
#include "daemon/probe.h"
#include "daemon/role.h"
#include "decode-node/core.h"
#include "decode-node/pace.h"
#include "engine/cost.h"
#include "host/share.h"
#include "kv/kv_wire.h"
#include "net/loop.h"

#define TICK_MS 100
#define LEASE_NS (30 * CLOCK_S)
#define LOCAL_ALONE 256     /* prompt tokens of a step that nobody waits for: as a prefill node's chunk */
#define LOCAL_MIXED_MIN 16  /* bounds of a measured local_tokens: rows of one tile, a whole chunk */
#define LOCAL_MIXED_MAX LOCAL_ALONE
#define ROOF_SHARE 3        /* matrix products reach a third of their roof, about; inverse */
#define STOP_NS (2 * CLOCK_S) /* what runs may go on so long after SIGTERM */

/* A prefill process, by the identity its socket has. The place is the core's handle. */
struct decode_peer {
    bool used;
    struct peer id;
    int64_t heard;
    bool greeted; /* it said KV_HELLO */
    struct share_map map; /* its pool, if it could be mapped */
};

struct decode {
    const struct node_options *options;
    struct node *node;    /* borrowed */
    struct kv_pool *swap; /* NULL: none */
    struct decode_core *core;
    struct decode_actions actions;
    struct loop *loop;
    struct sock_ctx *ctx;
    struct sock *kv;
    struct member *member;
    struct probe *probe;
    struct loop_event *timer, *term, *interrupt, *computed;
    struct decode_peer peers[DECODE_PEERS_MAX];
    /* The step in flight: the compute thread's until DONE. */
    struct compute_job job;
    struct batch_row *rows;
    struct compute_sample *samples;
    uint32_t *tokens;
    int64_t stop_at; /* 0: nobody asked us to stop */
    enum node_role next; /* what the node goes on as */
    int rc;          /* of decode_serve */
    struct err *err; /* its */
};

static void decode_submit(struct decode *d, const struct decode_row *rows, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        d->rows[i] = (struct batch_row){rows[i].token, rows[i].pos, rows[i].pages, rows[i].sample};
        d->samples[i] = (struct compute_sample){.params = node_sampling(&rows[i].sampling),
                                                .index = rows[i].index};
    }
    d->job = (struct compute_job){.rows = d->rows, .samples = d->samples, .n = n};
    node_run(d->node, &d->job); /* one step at a time */
}

/* False: the peer is gone. */
static bool decode_send_peer(struct decode *d, uint32_t peer, struct msg *m)
{
    struct err e = {0};

    if (!d->peers[peer].used) {
        msg_fini(m);
        return true;
    }
    if (!sock_send(d->kv, &d->peers[peer].id, m, &e))
        return true;
    log_warn("decode", "a %s to a prefill node is lost: %s", msg_type_name(m->type), e.text);
    msg_fini(m);
    return false;
}

static void decode_forget(struct decode *d, uint32_t peer)
{
    share_close(&d->peers[peer].map);
    d->peers[peer] = (struct decode_peer){0};
}

static void decode_act_one(struct decode *d, struct decode_action *a)
{
    switch (a->type) {
    case DECODE_SEND_ROUTER:
        member_send(d->member, &a->msg);
        break;
    case DECODE_SEND_PEER:
        if (!decode_send_peer(d, a->peer, &a->msg)) {
            struct decode_event lost = {.type = DECODE_PEER_LOST, .peer = a->peer};

            decode_forget(d, a->peer);
            decode_step(d->core, &lost, clock_now(), &d->actions);
        }
        break;
    case DECODE_DROP_PEER:
        decode_forget(d, a->peer);
        break;
    case DECODE_RUN:
        decode_submit(d, a->rows, a->n_rows);
        break;
    }
}

/* Hands the event to the core and does what it says. Actions may add actions: a send finds the peer
 * gone, and what that means comes behind the rest. */
static void decode_event(struct decode *d, const struct decode_event *ev)
{
    decode_step(d->core, ev, clock_now(), &d->actions);
    for (size_t i = 0; i < d->actions.n; i++) {
        struct decode_action a = d->actions.items[i]; /* the array may move */

        decode_act_one(d, &a);
    }
    d->actions.n = 0;
    if (decode_core_drained(d->core))
        loop_stop(d->loop);
}

/* The handle of a peer; a new one takes a free place, or that of the one not heard for longest among
 * those without a stream. UINT32_MAX: every place has streams. */
static uint32_t decode_peer_of(struct decode *d, const struct peer *id)
{
    uint32_t place = UINT32_MAX;

    for (uint32_t i = 0; i < DECODE_PEERS_MAX; i++)
        if (d->peers[i].used && peer_equal(&d->peers[i].id, id))
            return i;
    for (uint32_t i = 0; i < DECODE_PEERS_MAX; i++) {
        if (!d->peers[i].used) {
            place = i;
            break;
        }
        if (decode_core_peer_idle(d->core, i) &&
            (place == UINT32_MAX || d->peers[i].heard < d->peers[place].heard))
            place = i;
    }
    if (place == UINT32_MAX)
        return place;
    if (d->peers[place].used)
        decode_event(d, &(struct decode_event){.type = DECODE_PEER_LOST, .peer = place});
    decode_forget(d, place);
    d->peers[place] = (struct decode_peer){.used = true, .id = *id};
    return place;
}

/* Maps the pool of a peer that is welcome, unless that was done, and returns its bytes; 0: it cannot be done.
 * The log says it when that is news. */
static uint64_t decode_map(struct decode *d, uint32_t peer, const struct msg_kv_hello *h)
{
    struct decode_peer *p = &d->peers[peer];
    bool news = !p->greeted, had = p->map.data;
    struct err why = {0};

    p->greeted = true;
    if (had && share_same(&p->map, &h->offer))
        return h->offer.size;
    share_close(&p->map);
    if (d->options->kv_path == KV_PATH_FRAMES)
        err_set(&why, ERR_CONFIG, "kv_path is frames");
    else if (!share_open(&p->map, &h->offer, &why)) {
        log_info("decode", "peer=%s pid=%" PRIu32 " KV is read from its memory, %.1f MiB of it mapped",
                 h->name, h->offer.pid, (double)h->offer.size / 0x1p20);
        return h->offer.size;
    }
    if (news || had)
        log_info("decode", "peer=%s KV comes in frames: %s", h->name, why.text);
    return 0;
}

/* The memory of processes that are gone and had no stream left is given back: nothing else holds it. */
static void decode_unmap_dead(struct decode *d)
{
    for (uint32_t i = 0; i < DECODE_PEERS_MAX; i++)
        if (d->peers[i].map.data && decode_core_peer_idle(d->core, i) && !share_lives(&d->peers[i].map)) {
            decode_event(d, &(struct decode_event){.type = DECODE_PEER_LOST, .peer = i});
            decode_forget(d, i);
        }
}

/* Copies a page from where the peer has it to where it belongs, and then verifies it: only what nobody
 * else writes to any more can be verified. What is there if that fails is not used. */
static enum decode_event_type decode_place(struct decode *d, uint32_t peer,
                                           const struct msg_kv_page *p, uint32_t page_id)
{
    uint8_t *to = kv_pool_page(d->node->pool, page_id) +
                  kv_layout_k(&d->node->layout, p->layer, p->head_first);

    memcpy(to, d->peers[peer].map.data + p->place, p->bulk.size);
    if (hash64(to, p->bulk.size, 0) == p->checksum)
        return DECODE_PAGE_IN;
    log_warn("decode", "layer %u of KV page %u was read with a wrong checksum", p->layer, p->page);
    return DECODE_PAGE_BAD;
}

/* Verifies a page where it lies and copies it to where it belongs. */
static enum decode_event_type decode_page(struct decode *d, uint32_t peer, const struct msg *m)
{
    const struct msg_kv_page *p = &m->u.page;
    uint32_t page_id;
    enum decode_verdict v = decode_core_accepts_page(d->core, peer, m, &page_id);

    if (v != DECODE_PAGE_OK) {
        log_debug("decode", "a KV page was refused: %s", decode_verdict_text(v));
        return DECODE_PAGE_REFUSED;
    }
    if (m->type == MSG_KV_PLACE)
        return decode_place(d, peer, p, page_id);
    if (hash64(p->bulk.data, p->bulk.size, 0) != p->checksum) {
        log_warn("decode", "a KV page came with a wrong checksum: layer %u, page %u", p->layer,
                 p->page);
        return DECODE_PAGE_BAD;
    }
    kv_wire_import(kv_pool_page(d->node->pool, page_id), &d->node->layout, p->bulk.data,
                   d->node->wire, p->layer, p->head_first, p->head_count, p->n_tokens);
    return DECODE_PAGE_IN;
}

/* An identity is name#boot.n: what stands before the last point is the same for all connections of a
 * process. A peer that writes its own as it likes only keeps its own streams from being resumed. */
static uint64_t decode_life(const struct peer *id)
{
    uint32_t n = id->n;

    while (n && id->id[n - 1] != '.')
        n--;
    return hash64(id->id, n ? n : id->n, 0);
}

static void decode_on_kv(void *ctx, const struct peer *from, struct msg *m)
{
    struct decode *d = ctx;
    uint32_t peer = decode_peer_of(d, from);
    struct decode_event ev = {.type = DECODE_PEER, .peer = peer, .life = decode_life(from),
                              .msg = m};

    if (peer == UINT32_MAX) {
        log_warn("decode", "a prefill node more than %u was not served", DECODE_PEERS_MAX);
        return;
    }
    d->peers[peer].heard = clock_now();
    if (m->type == MSG_KV_HELLO && decode_core_welcomes(d->core, &m->u.hello))
        ev.mapped = decode_map(d, peer, &m->u.hello);
    if (m->type == MSG_KV_PAGE || m->type == MSG_KV_PLACE)
        ev.type = decode_page(d, peer, m);
    decode_event(d, &ev);
}

/* DRAIN, ROLE: what runs is finished, then we leave, or go on as something else. */
static void decode_leave(struct decode *d, enum node_role next)
{
    log_info("decode", "draining, then %s", next ? "a prefill node" : "leaving");
    d->next = next;
    decode_core_drain(d->core);
    member_beat(d->member);
    if (decode_core_idle(d->core))
        loop_stop(d->loop);
}

static void decode_on_router(void *ctx, struct msg *m)
{
    struct decode *d = ctx;

    if (m->type == MSG_DRAIN)
        decode_leave(d, ROLE_NONE);
    else if (m->type == MSG_ROLE && m->u.role == ROLE_PREFILL && d->options->change_role)
        decode_leave(d, ROLE_PREFILL);
    else
        decode_event(d, &(struct decode_event){.type = DECODE_ROUTER, .msg = m});
}

static void decode_on_joined(void *ctx)
{
    struct decode *d = ctx;

    node_joined(d->node);
    member_beat(d->member);
}

static void decode_on_lost(void *ctx)
{
    struct decode *d = ctx;

    decode_event(d, &(struct decode_event){.type = DECODE_ROUTER_LOST});
    if (d->stop_at)
        loop_stop(d->loop);
}

static void decode_on_refused(void *ctx, const char *sentence)
{
    struct decode *d = ctx;

    d->rc = err_set(d->err, ERR_PEER, "the router at %s refused this node: %s", d->options->router,
                    sentence);
    loop_stop(d->loop);
}

static struct msg_heartbeat decode_beat(const struct decode *d, const struct decode_stats *stats)
{
    const struct decode_stats s = *stats;
    uint32_t cached = prefix_evictable(d->node->prefix);

    return (struct msg_heartbeat){
        .queued = s.reserved,
        .running = s.running,
        .pages_free = kv_pool_free_count(d->node->pool) + cached,
        .pages_total = kv_pool_total(d->node->pool),
        .tokens = s.tokens,
        .steps = s.steps,
        .kv_bytes = s.kv_bytes,
        .draining = s.draining,
        .queued_tokens = s.queued_tokens,
        .busy_ns = s.busy_ns,
        .step_ns = s.step_ns,
        .local_tokens = s.local_tokens,
        .hit_tokens = s.hit_tokens,
        .preempted = s.preempted,
        .pages_bad = s.pages_bad,
        .leases_expired = s.leases_expired,
        .pages_cached = cached,
        .flops = (uint64_t)d->node->spent.flops,
        .read_bytes = (uint64_t)d->node->spent.bytes,
    };
}

static void decode_on_beat(void *ctx, struct msg_heartbeat *h)
{
    struct decode *d = ctx;
    struct decode_stats s;
    struct msg report;

    if (node_prefix_report(d->node, &report))
        member_send(d->member, &report);
    decode_core_stats(d->core, &s);
    *h = decode_beat(d, &s);
}

static bool decode_on_ready(void *ctx)
{
    struct decode *d = ctx;
    struct decode_stats s;

    decode_core_stats(d->core, &s);
    return member_up(d->member) && !s.draining;
}

static void decode_metrics(struct decode *d, const struct decode_stats *s, struct str *out)
{
    const struct node_figure own[] = {
        {"tandem_aside", "gauge", "Sequences set aside for want of KV pages.", s->aside},
        {"tandem_preempted_total", "counter", "Set aside, or given up, for want of KV pages.",
         (double)s->preempted},
        {"tandem_local_tokens_total", "counter", "Prompt tokens computed here.",
         (double)s->local_tokens},
        {"tandem_step_seconds", "gauge", "Of a step, smoothed.", (double)s->step_ns * 1e-9},
        {"tandem_kv_read_bytes_total", "counter", "KV read from the memory of prefill nodes here.",
         (double)s->read_bytes},
        {"tandem_pages_bad_total", "counter", "KV pages that came with a wrong checksum.",
         (double)s->pages_bad},
        {"tandem_pages_refused_total", "counter", "KV pages that no stream here was to get.",
         (double)s->pages_refused},
        {"tandem_leases_expired_total", "counter", "Reservations whose KV did not come.",
         (double)s->leases_expired},
    };
    const struct node_page page = {ROLE_DECODE, decode_beat(d, s), decode_on_ready(d), own,
                                   ARRAY_LEN(own)};

    node_metrics(d->node, d->options, &page, out);
}

static void decode_on_metrics(void *ctx, struct str *out)
{
    struct decode *d = ctx;
    struct decode_stats s;

    decode_core_stats(d->core, &s);
    decode_metrics(d, &s, out);
}

static void decode_on_computed(void *ctx)
{
    struct decode *d = ctx;
    struct compute_event ev;

    while (compute_poll(d->node->compute, &ev)) {
        node_ran(d->node, ev.job);
        for (uint32_t i = 0; i < ev.job->n; i++)
            d->tokens[i] = ev.job->samples[i].token;
        decode_event(d, &(struct decode_event){.type = DECODE_STEP_DONE, .tokens = d->tokens});
    }
}

static void decode_on_tick(void *ctx)
{
    struct decode *d = ctx;

    decode_unmap_dead(d);
    decode_event(d, &(struct decode_event){.type = DECODE_TICK});
    if (decode_core_drained(d->core) || (d->stop_at && clock_now() >= d->stop_at))
        loop_stop(d->loop);
}

/* The first signal lets what runs go on for a moment, the second does not. */
static void decode_on_signal(void *ctx)
{
    struct decode *d = ctx;

    decode_core_drain(d->core);
    if (d->stop_at || decode_core_idle(d->core) || !member_up(d->member)) {
        loop_stop(d->loop);
        return;
    }
    d->stop_at = clock_now() + STOP_NS;
    member_beat(d->member); /* draining */
}

/* As many prompt rows as take the time that a step takes to read the weights, so that a step with
 * them takes about twice as long as one without. */
static uint32_t decode_local_tokens(const struct decode *d)
{
    const struct engine *en = compute_engine(d->node->compute);
    const struct roofline *r = compute_roofline(d->node->compute);
    const struct batch_row row = {.want_logits = true};
    const struct batch one = {.rows = &row, .n = 1};
    double read = r->rate[ROOF_READ].median, multiply = r->rate[cost_roof(en)].median / ROOF_SHARE;
    struct cost c = {0};
    uint32_t rows;

    cost_add(&c, en, &one);
    if (read <= 0 || multiply <= 0)
        return LOCAL_MIXED_MIN;
    rows = (uint32_t)fmin(LOCAL_MIXED_MAX, c.bytes / read / (c.flops / multiply));
    return u32_max(LOCAL_MIXED_MIN, rows - rows % LOCAL_MIXED_MIN);
}

/* The largest step that the core may ask for, before anything was measured. */
static struct rows_budget decode_budget(const struct node_options *o)
{
    uint32_t mixed = o->local_tokens ? o->local_tokens : LOCAL_MIXED_MAX;

    return (struct rows_budget){mixed, u32_max(mixed, LOCAL_ALONE)};
}

/* Pages for what is set aside: mapped now, resident when used. */
static int decode_swap_open(struct decode *d, struct err *e)
{
    uint64_t pages = d->options->swap / d->node->layout.page_bytes;
    int rc;

    if (!d->options->swap)
        return 0;
    if (!pages)
        return err_set(e, ERR_CONFIG, "swap: %" PRIu64 " bytes hold no KV page, which has %zu; give 0 for none",
                       d->options->swap, (size_t)d->node->layout.page_bytes);
    rc = kv_pool_open(&d->swap, &d->node->layout, (uint32_t)(pages < UINT32_MAX ? pages : UINT32_MAX),
                      e);
    return rc ? err_wrap(e, "swap: %" PRIu64 " bytes", d->options->swap) : 0;
}

static int decode_core_open(struct decode *d, struct err *e)
{
    const struct node_options *o = d->options;
    struct decode_config c = {
        .model_hash = d->node->model_hash,
        .n_vocab = d->node->n_vocab,
        .ctx_max = d->node->ctx_max,
        .slots = o->slots,
        .wire = d->node->wire,
        .credit_bytes = o->credit_bytes,
        .ingest_bytes_s = pace_measure(&d->node->layout, d->node->wire),
        .prompt_rows = decode_budget(o),
        .lease_ns = LEASE_NS,
    };
    uint32_t n = rows_max(o->slots, &c.prompt_rows);
    struct slots_memory memory;
    int rc;

    if (!o->local_tokens)
        c.prompt_rows.mixed = decode_local_tokens(d);
    log_info("decode", "slots=%u local_tokens=%u ingest=%.0fMB/s", o->slots, c.prompt_rows.mixed,
             (double)c.ingest_bytes_s * 1e-6);
    snprintf(c.cluster, sizeof(c.cluster), "%s", o->common.cluster);
    d->rows = mem_calloc(n, sizeof(*d->rows));
    d->samples = mem_calloc(n, sizeof(*d->samples));
    d->tokens = mem_calloc(n, sizeof(*d->tokens));
    rc = decode_swap_open(d, e);
    if (rc)
        return rc;
    memory = (struct slots_memory){d->node->pool, d->node->prefix, d->swap};
    return decode_core_new(&d->core, &c, &d->node->layout, &memory, e);
}

/* The KV socket is bound before the router hears of the node. */
static int decode_net_open(struct decode *d, struct err *e)
{
    const struct sock_options kv = {.kind = SOCK_ROUTER, .lane = SOCK_DATA, .admits = KEYS_NODES};
    const struct sock_security security = {d->options->common.keys, KEYS_NODE,
                                           d->options->common.insecure};
    const struct member_events events = {d, decode_on_router, decode_on_joined, decode_on_lost,
                                         decode_on_refused, decode_on_beat};
    const struct probe_events probe = {d, decode_on_metrics, decode_on_ready};
    struct msg_register reg = {.role = ROLE_DECODE, .slots = d->options->slots,
                               .boot = rng_entropy()};
    int rc;

    node_register(d->node, d->options, &reg);
    d->loop = loop_new();
    d->ctx = sock_ctx_new();
    if ((rc = sock_ctx_secure(d->ctx, &security, e)) || (rc = sock_open(&d->kv, d->ctx, &kv, e)) || (rc = sock_bind(d->kv, d->options->kv, e)))
        return rc;
    if ((rc = probe_open(&d->probe, loop_base(d->loop), d->options->metrics, &probe, e)))
        return rc;
    probe_address(d->probe, reg.metrics, sizeof(reg.metrics));
    snprintf(reg.kv_endpoint, sizeof(reg.kv_endpoint), "%s", sock_endpoint(d->kv));
    loop_add_sock(d->loop, d->kv, decode_on_kv, d);
    d->timer = loop_add_timer(d->loop, TICK_MS, decode_on_tick, d);
    d->term = loop_add_signal(d->loop, SIGTERM, decode_on_signal, d);
    d->interrupt = loop_add_signal(d->loop, SIGINT, decode_on_signal, d);
    d->computed = loop_add_fd(d->loop, compute_fd(d->node->compute), decode_on_computed, d);
    return member_open(&d->member, d->loop, d->ctx, d->options->router, &reg, &events, e);
}

static void decode_close(struct decode *d)
{
    probe_close(&d->probe);
    member_close(&d->member);
    if (d->loop && d->kv)
        loop_del_sock(d->loop, d->kv);
    sock_close(&d->kv);
    loop_del_event(&d->timer);
    loop_del_event(&d->term);
    loop_del_event(&d->interrupt);
    loop_del_event(&d->computed);
    loop_free(&d->loop);
    sock_ctx_free(&d->ctx);
    for (uint32_t i = 0; i < DECODE_PEERS_MAX; i++)
        decode_forget(d, i);
    compute_wait(d->node->compute); /* before the pages of its step go back */
    decode_core_free(&d->core);
    kv_pool_close(&d->swap);
    decode_actions_fini(&d->actions);
    mem_free(d->rows);
    mem_free(d->samples);
    mem_free(d->tokens);
    mem_free(d);
}

static int decode_serve(struct node *n, const struct node_options *o, enum node_role *next,
                        struct err *e)
{
    struct decode *d = mem_zalloc(sizeof(*d));
    int rc;

    d->options = o;
    d->node = n;
    d->err = e;
    d->rc = decode_core_open(d, e);
    if (!d->rc)
        d->rc = decode_net_open(d, e);
    if (!d->rc) {
        loop_run(d->loop);
        member_bye(d->member, d->next ? "becomes a prefill node" : "stopped");
        log_info("decode", "stopped");
    }
    rc = d->rc;
    *next = d->next;
    decode_close(d);
    return rc;
}

static uint32_t decode_rows_max(const struct node_options *o)
{
    const struct rows_budget budget = decode_budget(o);

    return rows_max(o->slots, &budget);
}

static uint32_t decode_sequences(const struct node_options *o) { return o->slots; }

const struct role role_decode = {ROLE_DECODE, decode_rows_max, decode_sequences, decode_serve};
