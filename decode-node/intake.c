#include "decode-node/intake.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "decode-node/stream.h"
#include "kv/kv_wire.h"

void intake_peer_lost(struct decode_core *d, uint32_t peer, int64_t now)
{
    for (uint32_t i = 0; i < d->slots.n; i++) {
        struct slot *slot = &d->slots.items[i];

        if (slot->state != SLOT_FILLING || slot->peer != peer)
            continue;
        slot->peer = SLOT_NO_PEER;
        slot->deadline = now + d->config.lease_ns;
    }
    d->peers.items[peer].known = false;
}

/* The peer is not to be dealt with any more. */
static void intake_refuse(struct decode_core *d, uint32_t peer, const char *why,
                          struct decode_actions *out)
{
    const struct peer_state *p = &d->peers.items[peer];

    log_warn("decode", "peer=%s refused: %s", p->known ? p->name : "?", why);
    snprintf(actions_send_peer(out, peer, MSG_REFUSED)->u.text.text, MSG_TEXT_MAX, "%s", why);
    for (uint32_t i = 0; i < d->slots.n; i++) {
        struct slot *slot = &d->slots.items[i];

        if (slot->state != SLOT_FILLING || slot->peer != peer)
            continue;
        slot->peer = SLOT_NO_PEER; /* no ABORT: it hears that it was refused */
        stream_fail(d, slot, why, out);
    }
    d->peers.items[peer].known = false;
    actions_add(out, DECODE_DROP_PEER)->peer = peer;
}

/* A new connection of a node: of the same life it goes on with what the one before began; of another
 * it does not know of it. */
static void intake_take_over(struct decode_core *d, uint32_t peer, const struct peer_source *source,
                             int64_t now, struct decode_actions *out)
{
    for (uint32_t i = 0; i < d->slots.n; i++) {
        struct slot *slot = &d->slots.items[i];

        if (slot->state != SLOT_FILLING || !slot->fed || slot->peer != SLOT_NO_PEER ||
            slot->source.node != source->node)
            continue;
        if (slot->source.life == source->life) {
            slot->peer = peer;
            slot->deadline = now + d->config.lease_ns;
        } else {
            stream_fail(d, slot, "the prefill node has restarted", out);
        }
    }
}

static void intake_hello(struct decode_core *d, const struct decode_event *ev, int64_t now,
                         struct decode_actions *out)
{
    const struct msg_kv_hello *h = &ev->msg->u.hello;
    struct peer_source source = {hash64(h->name, strlen(h->name), 0), ev->life};
    struct err e = {0};
    uint32_t old;

    if (peers_check(&d->peers, h, &e)) {
        intake_refuse(d, ev->peer, e.text, out);
        return;
    }
    if (peers_namesake(&d->peers, ev->peer, h->name, &old)) {
        intake_peer_lost(d, old, now);
        actions_add(out, DECODE_DROP_PEER)->peer = old;
    }
    intake_take_over(d, ev->peer, &source, now, out);
    peers_welcome(&d->peers, ev->peer, h, &source, ev->mapped);
    actions_send_peer(out, ev->peer, MSG_KV_WELCOME)->u.credit =
        (struct msg_kv_credit){d->config.credit_bytes, ev->mapped > 0};
}

bool decode_core_welcomes(const struct decode_core *d, const struct msg_kv_hello *h)
{
    return !peers_check(&d->peers, h, NULL);
}

/* May the peer go on with, or begin to fill, a slot? */
static bool slot_is_open(const struct slot *slot, uint32_t peer)
{
    return slot->state == SLOT_FILLING &&
           (slot->peer == peer || (slot->peer == SLOT_NO_PEER && !slot->fed));
}

static void slot_feed(struct decode_core *d, struct slot *slot, uint32_t peer, int64_t now)
{
    slot->peer = peer;
    slot->fed = true;
    slot->source = d->peers.items[peer].source;
    slot->deadline = now + d->config.lease_ns;
}

/* The peer filled this slot, and it has started: what told the peer so was lost. */
static bool slot_has_started(const struct decode_core *d, const struct slot *slot, uint32_t peer)
{
    return slot->fed && slot->state != SLOT_FILLING &&
           slot->source.life == d->peers.items[peer].source.life;
}

static void intake_no_such(uint32_t peer, struct stream_id id, struct decode_actions *out)
{
    actions_fail(actions_send_peer(out, peer, MSG_KV_ABORT), id, true,
                 "the decode node has no such reservation");
}

/* Gives bytes that were consumed back to the peer's credit, as many as may be given now. */
static void intake_pay(struct decode_core *d, uint32_t peer, struct decode_actions *out)
{
    struct peer_state *s = &d->peers.items[peer];
    uint64_t bytes = s->owed, grant;

    if (d->n_rows && d->config.ingest_bytes_s) {
        if (d->ingest_left <= 0)
            return;
        if (bytes > (uint64_t)d->ingest_left)
            bytes = (uint64_t)d->ingest_left;
        d->ingest_left -= (int64_t)bytes;
    }
    s->owed -= bytes;
    grant = credit_in_consumed(&s->credit, bytes);
    if (grant)
        actions_send_peer(out, peer, MSG_KV_CREDIT)->u.credit.bytes = grant;
}

void intake_step_over(struct decode_core *d, struct decode_actions *out)
{
    double bytes = (double)d->stats.step_ns * 1e-9 * (double)d->config.ingest_bytes_s;

    d->ingest_left = (int64_t)(bytes / DECODE_INGEST_SHARE) + 1;
    for (uint32_t i = 0; i < DECODE_PEERS_MAX; i++) {
        uint32_t peer = (d->ingest_next + i) % DECODE_PEERS_MAX;

        if (!d->peers.items[peer].known || !d->peers.items[peer].owed)
            continue;
        intake_pay(d, peer, out);
        if (d->n_rows && d->ingest_left <= 0) {
            d->ingest_next = peer;
            return;
        }
    }
}

/* The bytes of a page were consumed, for good or bad. False: the peer sent more than it was granted,
 * or never said hello, and was dropped. */
static bool intake_consumed(struct decode_core *d, uint32_t peer, size_t bytes,
                            struct decode_actions *out)
{
    struct peer_state *s = &d->peers.items[peer];

    if (!s->known) {
        intake_refuse(d, peer, "KV_PAGE before KV_HELLO", out);
        return false;
    }
    if (!credit_in_received(&s->credit, bytes)) {
        intake_refuse(d, peer, "more KV bytes than the credit granted", out);
        return false;
    }
    s->owed += bytes;
    intake_pay(d, peer, out);
    return true;
}

void intake_page(struct decode_core *d, const struct decode_event *ev, int64_t now,
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
    if (!intake_consumed(d, ev->peer, p->bulk.size, out) || ev->type == DECODE_PAGE_REFUSED)
        return;
    ASSERT(slot && slot->state == SLOT_FILLING && /* or the shell did not ask */
           kv_cut_index(&d->slots.cut, &unit, &u, slot->n_tokens));
    slot_feed(d, slot, ev->peer, now);
    if (ev->type == DECODE_PAGE_BAD)
        return; /* missing at KV_END, asked for again then */
    slot_got(slot, unit);
    slot->kv_bytes += p->bulk.size;
    d->stats.kv_bytes += p->bulk.size;
    d->stats.read_bytes += ev->msg->type == MSG_KV_PLACE ? p->bulk.size : 0;
}

/* KV_END with units missing: asks for the first; the peer sends it and KV_END once more. One at a time, so
 * that no two answers can cross: a checksum fails once in a blue moon. */
static void intake_ask_again(struct decode_core *d, struct slot *slot, struct decode_actions *out)
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
    actions_send_peer(out, slot->peer, MSG_KV_AGAIN)->u.page = (struct msg_kv_page){
        .id = slot->id, .layer = u.layer, .page = u.page, .head_first = u.head_first,
        .head_count = u.head_count, .n_tokens = u.n_tokens,
    };
}

/* KV_RESUME: what the stream still lacks. */
static void intake_resume(struct decode_core *d, uint32_t peer, struct stream_id id, int64_t now,
                          struct decode_actions *out)
{
    struct slot *slot = slots_find(&d->slots, id);
    struct msg_kv_missing *m;

    if (slot && slot_has_started(d, slot, peer)) {
        actions_send_peer(out, peer, MSG_KV_DONE)->u.cancel.id = id;
        return;
    }
    if (!slot || !slot_is_open(slot, peer)) {
        intake_no_such(peer, id, out);
        return;
    }
    slot_feed(d, slot, peer, now);
    slot->barren_asks = 0;
    m = &actions_send_peer(out, peer, MSG_KV_MISSING)->u.missing;
    m->id = id;
    m->units = mem_calloc(MSG_UNITS_MAX, sizeof(*m->units));
    m->n_units = slot_missing(slot, m->units, MSG_UNITS_MAX);
    log_info("decode", "request=%" PRIu64 " epoch=%u goes on: %zu of %zu units are here", id.request,
             id.epoch, slot->n_got, slot->n_units);
}

static void intake_end(struct decode_core *d, uint32_t peer, const struct msg_kv_end *end, int64_t now,
                       struct decode_actions *out)
{
    struct slot *slot = slots_find(&d->slots, end->id);

    if (slot && slot_has_started(d, slot, peer)) {
        actions_send_peer(out, peer, MSG_KV_DONE)->u.cancel.id = end->id;
        return;
    }
    if (!slot || !slot_is_open(slot, peer)) {
        intake_no_such(peer, end->id, out);
        return;
    }
    slot_feed(d, slot, peer, now);
    if (end->n_tokens != slot->n_tokens || end->index != slot->first_index ||
        end->token >= d->config.n_vocab) {
        struct err e;

        err_set(&e, ERR_PEER, "KV_END says %u tokens, index %u, token %u; reserved were %u tokens, "
                "index %u, of %u in the vocabulary", end->n_tokens, end->index, end->token,
                slot->n_tokens, slot->first_index, d->config.n_vocab);
        slot->doubtful = true;
        stream_fail(d, slot, e.text, out);
    } else if (slot->n_got < slot->n_units) {
        intake_ask_again(d, slot, out);
    } else {
        stream_start(d, slot, end->token, now, out);
    }
}

/* KV_ABORT: the prefill node gave the stream up, or the first token ended it, and it has told the
 * router which. */
static void intake_abort(struct decode_core *d, uint32_t peer, struct stream_id id)
{
    struct slot *slot = slots_find(&d->slots, id);

    if (slot && slot_is_open(slot, peer))
        slots_drop(&d->slots, slot);
}

void intake_message(struct decode_core *d, const struct decode_event *ev, int64_t now,
                    struct decode_actions *out)
{
    const struct msg *m = ev->msg;

    if (m->type == MSG_KV_HELLO) {
        intake_hello(d, ev, now, out);
        return;
    }
    if (!d->peers.items[ev->peer].known) {
        intake_refuse(d, ev->peer, "the first message must be KV_HELLO", out);
        return;
    }
    switch (m->type) {
    case MSG_KV_END:
        intake_end(d, ev->peer, &m->u.end, now, out);
        break;
    case MSG_KV_RESUME:
        intake_resume(d, ev->peer, m->u.cancel.id, now, out);
        break;
    case MSG_KV_ABORT:
        intake_abort(d, ev->peer, m->u.failed.id);
        break;
    default:
        intake_refuse(d, ev->peer, "a message that is not for a decode node", out);
    }
}

void intake_tick(struct decode_core *d, int64_t now, struct decode_actions *out)
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
        [DECODE_PAGE_NO_PLACE] = "at a place that is not mapped here",
    };

    return texts[v];
}

static bool intake_place_is_mapped(const struct decode_core *d, uint32_t peer, const struct msg_kv_page *p)
{
    uint64_t mapped = d->peers.items[peer].mapped;

    return kv_wire_whole(&d->layout, d->config.wire) && p->bulk.size <= mapped &&
           p->place <= mapped - p->bulk.size;
}

enum decode_verdict decode_core_accepts_page(const struct decode_core *d, uint32_t peer,
                                             const struct msg *m, uint32_t *page_id)
{
    const struct msg_kv_page *p = &m->u.page;
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
    if (!slot_is_open(slot, peer))
        return DECODE_PAGE_NOT_YOURS;
    if (!kv_cut_index(&d->slots.cut, &unit, &u, slot->n_tokens))
        return DECODE_PAGE_NO_UNIT;
    if (p->bulk.size != kv_wire_bytes(&d->layout, d->config.wire, u.head_count, u.n_tokens))
        return DECODE_PAGE_SIZE;
    if (slot_has(slot, unit))
        return DECODE_PAGE_REPEATED;
    if (m->type == MSG_KV_PLACE && !intake_place_is_mapped(d, peer, p))
        return DECODE_PAGE_NO_PLACE;
    *page_id = slot->page_ids[p->page];
    return DECODE_PAGE_OK;
}

bool decode_core_peer_idle(const struct decode_core *d, uint32_t peer)
{
    for (uint32_t i = 0; i < d->slots.n; i++)
        if (d->slots.items[i].state == SLOT_FILLING && d->slots.items[i].peer == peer)
            return false;
    return true;
}
