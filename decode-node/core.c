#include "decode-node/core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "kv/kv_wire.h"

struct decode_core {
    struct decode_config config;
    struct kv_layout layout;
    struct slots slots;
    struct peers peers;
    struct decode_row *rows; /* [slots], of the step in flight */
    uint32_t n_rows;         /* 0: no step is in flight */
    bool draining;
    struct decode_stats stats;
};

static const char *const finish_names[] = {"none", "stop", "length", "cancelled", "error"};

void decode_actions_fini(struct decode_actions *a)
{
    mem_free(a->items);
    *a = (struct decode_actions){0};
}

static struct decode_action *action_add(struct decode_actions *out, enum decode_action_type type)
{
    struct decode_action *a;

    if (out->n == out->cap) {
        out->cap = out->cap ? 2 * out->cap : 16;
        out->items = mem_realloc(out->items, out->cap * sizeof(*out->items));
    }
    a = &out->items[out->n++];
    memset(a, 0, sizeof(*a));
    a->type = type;
    return a;
}

static struct msg *send_router(struct decode_actions *out, enum msg_type type)
{
    struct decode_action *a = action_add(out, DECODE_SEND_ROUTER);

    a->msg.type = type;
    return &a->msg;
}

static struct msg *send_peer(struct decode_actions *out, uint32_t peer, enum msg_type type)
{
    struct decode_action *a = action_add(out, DECODE_SEND_PEER);

    a->peer = peer;
    a->msg.type = type;
    return &a->msg;
}

static void failed_fill(struct msg *m, struct stream_id id, bool retry, const char *text)
{
    m->u.failed.id = id;
    m->u.failed.retry = retry;
    snprintf(m->u.failed.text, sizeof(m->u.failed.text), "%s", text);
}

/* Any -> FREE (or ENDING); a peer that is still sending is told to stop. */
static void stream_drop(struct decode_core *d, struct slot *slot, const char *why,
                        struct decode_actions *out)
{
    if (slot->state == SLOT_FILLING && slot->peer != SLOT_NO_PEER)
        failed_fill(send_peer(out, slot->peer, MSG_KV_ABORT), slot->id, true, why);
    slots_drop(&d->slots, slot);
}

/* Any -> FREE: the router hears that the stream broke here, and may start it anew. */
static void stream_fail(struct decode_core *d, struct slot *slot, const char *why,
                        struct decode_actions *out)
{
    log_warn("decode", "request=%" PRIu64 " epoch=%u failed: %s", slot->id.request, slot->id.epoch,
             why);
    failed_fill(send_router(out, MSG_DECODE_FAILED), slot->id, true, why);
    stream_drop(d, slot, why, out);
}

/* Starts a step if none is in flight and some sequence runs. */
static void run_next(struct decode_core *d, struct decode_actions *out)
{
    struct decode_action *a;

    if (d->n_rows)
        return;
    d->n_rows = rows_next(&d->slots, d->rows);
    if (!d->n_rows)
        return;
    a = action_add(out, DECODE_RUN);
    a->rows = d->rows;
    a->n_rows = d->n_rows;
}

static void tokens_send(struct decode_core *d, const struct slot *slot,
                        const struct msg_tokens *t, struct decode_actions *out)
{
    send_router(out, MSG_TOKENS)->u.tokens = *t;
    d->stats.tokens += t->n_tokens;
    if (t->finish != FINISH_NONE)
        log_info("decode", "request=%" PRIu64 " epoch=%u prompt=%u tokens=%u kv_bytes=%" PRIu64
                 " finish=%s", slot->id.request, slot->id.epoch, slot->n_tokens,
                 t->index + t->n_tokens - slot->first_index, slot->kv_bytes,
                 finish_names[t->finish]);
}

static void step_done(struct decode_core *d, const uint32_t *tokens, struct decode_actions *out)
{
    ASSERT(d->n_rows);
    for (uint32_t i = 0; i < d->n_rows; i++) {
        struct slot *slot = &d->slots.items[d->rows[i].slot];
        struct msg_tokens t;

        if (slot->state != SLOT_RUNNING) /* cancelled meanwhile */
            continue;
        rows_take_token(slot, tokens[i], &t);
        tokens_send(d, slot, &t, out);
        slot->in_step = false;
        if (t.finish != FINISH_NONE)
            slots_drop(&d->slots, slot);
    }
    slots_step_over(&d->slots);
    d->n_rows = 0;
    d->stats.steps++;
    run_next(d, out);
}

/* RESERVE: FREE -> FILLING, or a refusal with the numbers. */
static void on_reserve(struct decode_core *d, const struct msg_reserve *r, int64_t now,
                       struct decode_actions *out)
{
    struct slot *slot = slots_find_request(&d->slots, r->id.request);
    struct err e = {0};
    int rc;

    if (slot && slot->id.epoch >= r->id.epoch) {
        log_warn("decode", "request=%" PRIu64 " epoch=%u reserve dropped, epoch %u is here",
                 r->id.request, r->id.epoch, slot->id.epoch);
        return;
    }
    if (slot)
        stream_drop(d, slot, "a newer attempt at the request began", out);
    if (d->draining) {
        failed_fill(send_router(out, MSG_RESERVE_REFUSED), r->id, true, "the node is draining");
        return;
    }
    rc = slots_take(&d->slots, &slot, r, &e);
    if (rc) {
        failed_fill(send_router(out, MSG_RESERVE_REFUSED), r->id, rc == ERR_BUSY, e.text);
        return;
    }
    slot->deadline = now + DECODE_QUEUE_LEASES * d->config.lease_ns;
    send_router(out, MSG_RESERVED)->u.reserved.id = r->id;
}

/* The router tells the prefill node as well; what it has sent until then is refused. */
static void on_cancel(struct decode_core *d, struct stream_id id)
{
    struct slot *slot = slots_find_request(&d->slots, id.request);

    if (slot && slot->id.epoch <= id.epoch)
        slots_drop(&d->slots, slot);
}

static void on_router(struct decode_core *d, const struct msg *m, int64_t now,
                      struct decode_actions *out)
{
    switch (m->type) {
    case MSG_RESERVE:
        on_reserve(d, &m->u.reserve, now, out);
        break;
    case MSG_CANCEL:
        on_cancel(d, m->u.cancel.id);
        break;
    case MSG_DRAIN:
        decode_core_drain(d);
        break;
    default:
        log_warn("decode", "%s from the router is not for a decode node", msg_type_name(m->type));
    }
}

/* The peer is gone: what it was filling cannot be completed. */
static void peer_lost(struct decode_core *d, uint32_t peer, const char *why,
                      struct decode_actions *out)
{
    for (uint32_t i = 0; i < d->slots.n; i++) {
        struct slot *slot = &d->slots.items[i];

        if (slot->state == SLOT_FILLING && slot->peer == peer) {
            slot->peer = SLOT_NO_PEER; /* no ABORT to the dead */
            stream_fail(d, slot, why, out);
        }
    }
    d->peers.items[peer].known = false;
}

static void peer_refuse(struct decode_core *d, uint32_t peer, const char *why,
                        struct decode_actions *out)
{
    log_warn("decode", "peer=%s refused: %s", d->peers.items[peer].known ? d->peers.items[peer].name : "?", why);
    snprintf(send_peer(out, peer, MSG_REFUSED)->u.text.text, MSG_TEXT_MAX, "%s", why);
    peer_lost(d, peer, why, out);
    action_add(out, DECODE_DROP_PEER)->peer = peer;
}

static void on_hello(struct decode_core *d, uint32_t peer, const struct msg_kv_hello *h,
                     struct decode_actions *out)
{
    struct err e = {0};
    uint32_t old;

    if (peers_check(&d->peers, h, &e)) {
        peer_refuse(d, peer, e.text, out);
        return;
    }
    if (peers_namesake(&d->peers, peer, h->name, &old)) {
        peer_lost(d, old, "the prefill node has restarted", out);
        action_add(out, DECODE_DROP_PEER)->peer = old;
    }
    peers_welcome(&d->peers, peer, h);
    send_peer(out, peer, MSG_KV_WELCOME)->u.credit.bytes = d->config.credit_bytes;
}

/* The bytes of a page were consumed, for good or bad. False: the peer sent more than it was granted,
 * or never said hello, and was dropped. */
static bool peer_consumed(struct decode_core *d, uint32_t peer, size_t bytes,
                          struct decode_actions *out)
{
    struct peer_state *s = &d->peers.items[peer];
    uint64_t grant;

    if (!s->known) {
        peer_refuse(d, peer, "KV_PAGE before KV_HELLO", out);
        return false;
    }
    if (!credit_in_received(&s->credit, bytes)) {
        peer_refuse(d, peer, "more KV bytes than the credit granted", out);
        return false;
    }
    grant = credit_in_consumed(&s->credit, bytes);
    if (grant)
        send_peer(out, peer, MSG_KV_CREDIT)->u.credit.bytes = grant;
    return true;
}

static void on_page(struct decode_core *d, const struct decode_event *ev, int64_t now,
                    struct decode_actions *out)
{
    const struct msg_kv_page *p = &ev->msg->u.page;
    struct slot *slot = slots_find(&d->slots, p->id);
    struct kv_unit u = {p->layer, p->page, p->head_first, p->head_count, p->n_tokens};
    size_t unit;

    if (ev->type == DECODE_PAGE_REFUSED)
        d->stats.pages_refused++;
    else if (ev->type == DECODE_PAGE_BAD)
        d->stats.pages_bad++;
    if (!peer_consumed(d, ev->peer, p->bulk.size, out) || ev->type == DECODE_PAGE_REFUSED)
        return;
    ASSERT(slot && slot->state == SLOT_FILLING && /* or the shell did not ask */
           kv_cut_index(&d->slots.cut, &unit, &u, slot->n_tokens));
    slot->peer = ev->peer;
    if (ev->type == DECODE_PAGE_BAD)
        return; /* missing at KV_END, asked for again then */
    slot_got(slot, unit);
    slot->kv_bytes += p->bulk.size;
    slot->deadline = now + d->config.lease_ns;
    d->stats.kv_bytes += p->bulk.size;
}

/* KV_END with units missing: asks for the first; the peer sends it and KV_END once more. One at a time:
 * a checksum fails once in a blue moon, and so no two answers can cross. */
static void ask_again(struct decode_core *d, struct slot *slot, struct decode_actions *out)
{
    struct kv_unit u;
    size_t i = 0;

    slot->barren_asks = slot->n_got == slot->n_got_asked ? slot->barren_asks + 1 : 0;
    slot->n_got_asked = slot->n_got;
    if (slot->barren_asks >= DECODE_BARREN_ASKS_MAX) {
        stream_fail(d, slot, "a KV page was asked for again and did not come", out);
        return;
    }
    while (slot_has(slot, i))
        i++;
    u = kv_cut_unit(&d->slots.cut, i, slot->n_tokens);
    send_peer(out, slot->peer, MSG_KV_AGAIN)->u.page = (struct msg_kv_page){
        .id = slot->id, .layer = u.layer, .page = u.page, .head_first = u.head_first,
        .head_count = u.head_count, .n_tokens = u.n_tokens,
    };
}

/* KV_END, everything is here: FILLING -> RUNNING, in the next step. */
static void stream_start(struct decode_core *d, struct slot *slot, uint32_t token,
                         struct decode_actions *out)
{
    send_peer(out, slot->peer, MSG_KV_DONE)->u.cancel.id = slot->id;
    slot->state = SLOT_RUNNING;
    slot->token = token;
    slot->pos = slot->n_tokens;
    slot->index = slot->first_index + 1;
    if (slot->max_new == 1) { /* the context had room for the first token only */
        struct msg_tokens t = {.id = slot->id, .index = slot->index, .finish = FINISH_LENGTH,
                               .kv_bytes = slot->kv_bytes};

        tokens_send(d, slot, &t, out);
        slots_drop(&d->slots, slot);
    }
    run_next(d, out);
}

static void on_end(struct decode_core *d, uint32_t peer, const struct msg_kv_end *end, int64_t now,
                   struct decode_actions *out)
{
    struct slot *slot = slots_find(&d->slots, end->id);

    if (!slot || slot->state != SLOT_FILLING ||
        (slot->peer != SLOT_NO_PEER && slot->peer != peer)) {
        failed_fill(send_peer(out, peer, MSG_KV_ABORT), end->id, true,
                    "the decode node has no such reservation");
        return;
    }
    slot->peer = peer;
    slot->deadline = now + d->config.lease_ns;
    if (end->n_tokens != slot->n_tokens || end->index != slot->first_index ||
        end->token >= d->config.n_vocab) {
        struct err e;

        err_set(&e, ERR_PEER, "KV_END says %u tokens, index %u, token %u; reserved were %u tokens, "
                "index %u, of %u in the vocabulary", end->n_tokens, end->index, end->token,
                slot->n_tokens, slot->first_index, d->config.n_vocab);
        stream_fail(d, slot, e.text, out);
    } else if (slot->n_got < slot->n_units) {
        ask_again(d, slot, out);
    } else {
        stream_start(d, slot, end->token, out);
    }
}

/* KV_ABORT: the prefill node gave the stream up, or the first token ended it, and it has told the
 * router which. */
static void on_abort(struct decode_core *d, uint32_t peer, struct stream_id id)
{
    struct slot *slot = slots_find(&d->slots, id);

    if (slot && slot->state == SLOT_FILLING &&
        (slot->peer == SLOT_NO_PEER || slot->peer == peer))
        slots_drop(&d->slots, slot);
}

static void on_peer(struct decode_core *d, uint32_t peer, const struct msg *m, int64_t now,
                    struct decode_actions *out)
{
    if (m->type == MSG_KV_HELLO) {
        on_hello(d, peer, &m->u.hello, out);
        return;
    }
    if (!d->peers.items[peer].known) {
        peer_refuse(d, peer, "the first message must be KV_HELLO", out);
        return;
    }
    switch (m->type) {
    case MSG_KV_END:
        on_end(d, peer, &m->u.end, now, out);
        break;
    case MSG_KV_ABORT:
        on_abort(d, peer, m->u.failed.id);
        break;
    default:
        peer_refuse(d, peer, "a message that is not for a decode node", out);
    }
}

static void on_router_lost(struct decode_core *d, struct decode_actions *out)
{
    for (uint32_t i = 0; i < d->slots.n; i++) {
        struct slot *slot = &d->slots.items[i];

        if (slot->state == SLOT_FILLING || slot->state == SLOT_RUNNING)
            stream_drop(d, slot, "the router is gone", out);
    }
}

static void on_tick(struct decode_core *d, int64_t now, struct decode_actions *out)
{
    for (uint32_t i = 0; i < d->slots.n; i++) {
        struct slot *slot = &d->slots.items[i];
        struct err e;

        if (slot->state != SLOT_FILLING || now < slot->deadline)
            continue;
        d->stats.leases_expired++;
        err_set(&e, ERR_TIMEOUT, "the KV stopped coming: %zu of %zu units are here",
                slot->n_got, slot->n_units);
        stream_fail(d, slot, e.text, out);
    }
}

void decode_step(struct decode_core *d, const struct decode_event *ev, int64_t now,
                 struct decode_actions *out)
{
    ASSERT(ev->peer < DECODE_PEERS_MAX);
    switch (ev->type) {
    case DECODE_ROUTER:
        on_router(d, ev->msg, now, out);
        break;
    case DECODE_PEER:
        on_peer(d, ev->peer, ev->msg, now, out);
        break;
    case DECODE_PAGE_IN:
    case DECODE_PAGE_BAD:
    case DECODE_PAGE_REFUSED:
        on_page(d, ev, now, out);
        break;
    case DECODE_STEP_DONE:
        step_done(d, ev->tokens, out);
        break;
    case DECODE_PEER_LOST:
        peer_lost(d, ev->peer, "the prefill node is gone", out);
        break;
    case DECODE_ROUTER_LOST:
        on_router_lost(d, out);
        break;
    case DECODE_TICK:
        on_tick(d, now, out);
        break;
    }
}

const char *decode_verdict_text(enum decode_verdict v)
{
    static const char *const texts[DECODE_VERDICT_COUNT] = {
        [DECODE_PAGE_OK] = "welcome",
        [DECODE_PAGE_STRANGER] = "from a peer that did not say hello",
        [DECODE_PAGE_NO_CREDIT] = "more bytes than granted",
        [DECODE_PAGE_NO_STREAM] = "of no stream that waits for KV",
        [DECODE_PAGE_NOT_YOURS] = "of a stream that another peer fills",
        [DECODE_PAGE_NO_UNIT] = "layer, page, heads or tokens that do not exist",
        [DECODE_PAGE_SIZE] = "of the wrong size",
        [DECODE_PAGE_REPEATED] = "here already",
    };

    return texts[v];
}

enum decode_verdict decode_core_accepts_page(const struct decode_core *d, uint32_t peer,
                                             const struct msg_kv_page *p, uint32_t *page_id)
{
    const struct slot *slot = slots_find(&d->slots, p->id);
    struct kv_unit u = {p->layer, p->page, p->head_first, p->head_count, p->n_tokens};
    size_t unit;

    ASSERT(peer < DECODE_PEERS_MAX);
    if (!d->peers.items[peer].known)
        return DECODE_PAGE_STRANGER;
    if (p->bulk.size > d->peers.items[peer].credit.left)
        return DECODE_PAGE_NO_CREDIT;
    if (!slot || slot->state != SLOT_FILLING)
        return DECODE_PAGE_NO_STREAM;
    if (slot->peer != SLOT_NO_PEER && slot->peer != peer)
        return DECODE_PAGE_NOT_YOURS;
    if (!kv_cut_index(&d->slots.cut, &unit, &u, slot->n_tokens))
        return DECODE_PAGE_NO_UNIT;
    if (p->bulk.size != kv_wire_bytes(&d->layout, d->config.wire, u.head_count, u.n_tokens))
        return DECODE_PAGE_SIZE;
    if (slot_has(slot, unit))
        return DECODE_PAGE_REPEATED;
    *page_id = slot->page_ids[p->page];
    return DECODE_PAGE_OK;
}

int decode_core_new(struct decode_core **core, const struct decode_config *c,
                    const struct kv_layout *l, struct kv_pool *pool, struct err *e)
{
    struct kv_cut cut;
    struct decode_core *d;

    ASSERT(c->slots && c->ctx_max && c->credit_bytes >= 2 * (uint64_t)MSG_BULK_MAX);
    *core = NULL;
    if (!kv_cut_init(&cut, l, c->wire, MSG_BULK_MAX))
        return err_set(e, ERR_LIMIT, "a KV head of %u values does not fit into %u bytes",
                       l->head_dim, MSG_BULK_MAX);
    d = mem_zalloc(sizeof(*d));
    d->config = *c;
    d->layout = *l;
    d->peers = (struct peers){
        .model_hash = c->model_hash,
        .geometry = {l->n_layer, l->n_kv_head, l->head_dim, KV_PAGE_TOKENS, c->wire},
        .credit_bytes = c->credit_bytes,
    };
    memcpy(d->peers.cluster, c->cluster, sizeof(d->peers.cluster));
    d->rows = mem_calloc(c->slots, sizeof(*d->rows));
    slots_init(&d->slots, c->slots, c->ctx_max, &cut, pool);
    *core = d;
    return 0;
}

void decode_core_free(struct decode_core **core)
{
    struct decode_core *d = *core;

    if (!d)
        return;
    slots_step_over(&d->slots);
    for (uint32_t i = 0; i < d->slots.n; i++)
        if (d->slots.items[i].state != SLOT_FREE)
            slots_drop(&d->slots, &d->slots.items[i]);
    slots_fini(&d->slots);
    mem_free(d->rows);
    mem_free(d);
    *core = NULL;
}

void decode_core_stats(const struct decode_core *d, struct decode_stats *out)
{
    *out = d->stats;
    out->draining = d->draining;
    for (uint32_t i = 0; i < d->slots.n; i++) {
        out->reserved += d->slots.items[i].state == SLOT_FILLING;
        out->running += d->slots.items[i].state == SLOT_RUNNING;
    }
}

bool decode_core_idle(const struct decode_core *d)
{
    return d->slots.n_free == d->slots.n && !d->n_rows;
}

void decode_core_drain(struct decode_core *d) { d->draining = true; }

bool decode_core_peer_idle(const struct decode_core *d, uint32_t peer)
{
    for (uint32_t i = 0; i < d->slots.n; i++)
        if (d->slots.items[i].state == SLOT_FILLING && d->slots.items[i].peer == peer)
            return false;
    return true;
}
