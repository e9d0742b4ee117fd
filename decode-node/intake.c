#include "decode-node/intake.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "base/log.h"
#include "decode-node/stream.h"
#include "kv/kv_wire.h"

/* The peer is gone: what it was filling cannot be completed. */
void intake_peer_lost(struct decode_core *d, uint32_t peer, const char *why,
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

static void intake_refuse(struct decode_core *d, uint32_t peer, const char *why,
                          struct decode_actions *out)
{
    log_warn("decode", "peer=%s refused: %s", d->peers.items[peer].known ? d->peers.items[peer].name : "?", why);
    snprintf(actions_send_peer(out, peer, MSG_REFUSED)->u.text.text, MSG_TEXT_MAX, "%s", why);
    intake_peer_lost(d, peer, why, out);
    actions_add(out, DECODE_DROP_PEER)->peer = peer;
}

static void intake_hello(struct decode_core *d, uint32_t peer, const struct msg_kv_hello *h,
                         struct decode_actions *out)
{
    struct err e = {0};
    uint32_t old;

    if (peers_check(&d->peers, h, &e)) {
        intake_refuse(d, peer, e.text, out);
        return;
    }
    if (peers_namesake(&d->peers, peer, h->name, &old)) {
        intake_peer_lost(d, old, "the prefill node has restarted", out);
        actions_add(out, DECODE_DROP_PEER)->peer = old;
    }
    peers_welcome(&d->peers, peer, h);
    actions_send_peer(out, peer, MSG_KV_WELCOME)->u.credit.bytes = d->config.credit_bytes;
}

/* The bytes of a page were consumed, for good or bad. False: the peer sent more than it was granted,
 * or never said hello, and was dropped. */
static bool intake_consumed(struct decode_core *d, uint32_t peer, size_t bytes,
                            struct decode_actions *out)
{
    struct peer_state *s = &d->peers.items[peer];
    uint64_t grant;

    if (!s->known) {
        intake_refuse(d, peer, "KV_PAGE before KV_HELLO", out);
        return false;
    }
    if (!credit_in_received(&s->credit, bytes)) {
        intake_refuse(d, peer, "more KV bytes than the credit granted", out);
        return false;
    }
    grant = credit_in_consumed(&s->credit, bytes);
    if (grant)
        actions_send_peer(out, peer, MSG_KV_CREDIT)->u.credit.bytes = grant;
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

static void intake_end(struct decode_core *d, uint32_t peer, const struct msg_kv_end *end, int64_t now,
                       struct decode_actions *out)
{
    struct slot *slot = slots_find(&d->slots, end->id);

    if (!slot || slot->state != SLOT_FILLING ||
        (slot->peer != SLOT_NO_PEER && slot->peer != peer)) {
        actions_fail(actions_send_peer(out, peer, MSG_KV_ABORT), end->id, true,
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

    if (slot && slot->state == SLOT_FILLING &&
        (slot->peer == SLOT_NO_PEER || slot->peer == peer))
        slots_drop(&d->slots, slot);
}

void intake_message(struct decode_core *d, uint32_t peer, const struct msg *m, int64_t now,
                    struct decode_actions *out)
{
    if (m->type == MSG_KV_HELLO) {
        intake_hello(d, peer, &m->u.hello, out);
        return;
    }
    if (!d->peers.items[peer].known) {
        intake_refuse(d, peer, "the first message must be KV_HELLO", out);
        return;
    }
    switch (m->type) {
    case MSG_KV_END:
        intake_end(d, peer, &m->u.end, now, out);
        break;
    case MSG_KV_ABORT:
        intake_abort(d, peer, m->u.failed.id);
        break;
    default:
        intake_refuse(d, peer, "a message that is not for a decode node", out);
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

bool decode_core_peer_idle(const struct decode_core *d, uint32_t peer)
{
    for (uint32_t i = 0; i < d->slots.n; i++)
        if (d->slots.items[i].state == SLOT_FILLING && d->slots.items[i].peer == peer)
            return false;
    return true;
}
