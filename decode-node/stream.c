#include "decode-node/stream.h"

#include <inttypes.h>

#include "base/check.h"
#include "base/log.h"

static const char *const finish_names[] = {"none", "stop", "length", "cancelled", "error"};

/* Any -> FREE (or ENDING); a peer that is still sending is told to stop. */
void stream_drop(struct decode_core *d, struct slot *slot, const char *why,
                 struct decode_actions *out)
{
    if (slot->state == SLOT_FILLING && slot->peer != SLOT_NO_PEER)
        actions_fail(actions_send_peer(out, slot->peer, MSG_KV_ABORT), slot->id, true, why);
    slots_drop(&d->slots, slot);
}

/* Any -> FREE: the router hears that the stream broke here, and may start it anew. */
void stream_fail(struct decode_core *d, struct slot *slot, const char *why,
                 struct decode_actions *out)
{
    log_warn("decode", "request=%" PRIu64 " epoch=%u failed: %s", slot->id.request, slot->id.epoch,
             why);
    actions_fail(actions_send_router(out, MSG_DECODE_FAILED), slot->id, true, why);
    stream_drop(d, slot, why, out);
}

/* Starts a step if none is in flight and some sequence runs. */
void stream_run_next(struct decode_core *d, struct decode_actions *out)
{
    struct decode_action *a;

    if (d->n_rows)
        return;
    d->n_rows = rows_next(&d->slots, d->rows);
    if (!d->n_rows)
        return;
    a = actions_add(out, DECODE_RUN);
    a->rows = d->rows;
    a->n_rows = d->n_rows;
}

static void stream_send_tokens(struct decode_core *d, const struct slot *slot,
                               const struct msg_tokens *t, struct decode_actions *out)
{
    actions_send_router(out, MSG_TOKENS)->u.tokens = *t;
    d->stats.tokens += t->n_tokens;
    if (t->finish != FINISH_NONE)
        log_info("decode", "request=%" PRIu64 " epoch=%u prompt=%u tokens=%u kv_bytes=%" PRIu64
                 " finish=%s", slot->id.request, slot->id.epoch, slot->n_tokens,
                 t->index + t->n_tokens - slot->first_index, slot->kv_bytes,
                 finish_names[t->finish]);
}

void stream_step_done(struct decode_core *d, const uint32_t *tokens, struct decode_actions *out)
{
    ASSERT(d->n_rows);
    for (uint32_t i = 0; i < d->n_rows; i++) {
        struct slot *slot = &d->slots.items[d->rows[i].slot];
        struct msg_tokens t;

        if (slot->state != SLOT_RUNNING) /* cancelled meanwhile */
            continue;
        rows_take_token(slot, tokens[i], &t);
        stream_send_tokens(d, slot, &t, out);
        slot->in_step = false;
        if (t.finish != FINISH_NONE)
            slots_drop(&d->slots, slot);
    }
    slots_step_over(&d->slots);
    d->n_rows = 0;
    d->stats.steps++;
    stream_run_next(d, out);
}

/* RESERVE: FREE -> FILLING, or a refusal with the numbers. */
void stream_reserve(struct decode_core *d, const struct msg_reserve *r, int64_t now,
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
        actions_fail(actions_send_router(out, MSG_RESERVE_REFUSED), r->id, true, "the node is draining");
        return;
    }
    rc = slots_take(&d->slots, &slot, r, &e);
    if (rc) {
        actions_fail(actions_send_router(out, MSG_RESERVE_REFUSED), r->id, rc == ERR_BUSY, e.text);
        return;
    }
    slot->deadline = now + DECODE_QUEUE_LEASES * d->config.lease_ns;
    actions_send_router(out, MSG_RESERVED)->u.reserved.id = r->id;
}

/* The router tells the prefill node as well; what it has sent until then is refused. */
void stream_cancel(struct decode_core *d, struct stream_id id)
{
    struct slot *slot = slots_find_request(&d->slots, id.request);

    if (slot && slot->id.epoch <= id.epoch)
        slots_drop(&d->slots, slot);
}

/* KV_END, everything is here: FILLING -> RUNNING, in the next step. */
void stream_start(struct decode_core *d, struct slot *slot, uint32_t token,
                  struct decode_actions *out)
{
    actions_send_peer(out, slot->peer, MSG_KV_DONE)->u.cancel.id = slot->id;
    slot->state = SLOT_RUNNING;
    slot->token = token;
    slot->pos = slot->n_tokens;
    slot->index = slot->first_index + 1;
    if (slot->max_new == 1) { /* the context had room for the first token only */
        struct msg_tokens t = {.id = slot->id, .index = slot->index, .finish = FINISH_LENGTH,
                               .kv_bytes = slot->kv_bytes};

        stream_send_tokens(d, slot, &t, out);
        slots_drop(&d->slots, slot);
    }
    stream_run_next(d, out);
}

void stream_router_lost(struct decode_core *d, struct decode_actions *out)
{
    for (uint32_t i = 0; i < d->slots.n; i++) {
        struct slot *slot = &d->slots.items[i];

        if (slot->state == SLOT_FILLING || slot->state == SLOT_RUNNING)
            stream_drop(d, slot, "the router is gone", out);
    }
}
