#include "decode-node/stream.h"

#include <inttypes.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "decode-node/intake.h"
#include "decode-node/room.h"

#define STEP_SMOOTH 8 /* a step counts for so much of the smoothed time, inverse */

static const char *const finish_names[] = {"none", "stop", "length", "cancelled", "error"};

void stream_drop(struct decode_core *d, struct slot *slot, const char *why,
                 struct decode_actions *out)
{
    if (slot->state == SLOT_FILLING && slot->peer != SLOT_NO_PEER)
        actions_fail(actions_send_peer(out, slot->peer, MSG_KV_ABORT), slot->id, true, why);
    slots_drop(&d->slots, slot);
}

static void stream_break(struct decode_core *d, struct slot *slot, bool room, const char *why,
                         struct decode_actions *out)
{
    struct msg *m = actions_send_router(out, MSG_DECODE_FAILED);

    log_warn("decode", "request=%" PRIu64 " epoch=%u failed: %s", slot->id.request, slot->id.epoch,
             why);
    actions_fail(m, slot->id, true, why);
    m->u.failed.room = room;
    stream_drop(d, slot, why, out);
}

void stream_fail(struct decode_core *d, struct slot *slot, const char *why,
                 struct decode_actions *out)
{
    stream_break(d, slot, false, why, out);
}

void stream_evict(struct decode_core *d, struct slot *slot, const char *why,
                  struct decode_actions *out)
{
    stream_break(d, slot, true, why, out);
}

void stream_run_next(struct decode_core *d, int64_t now, struct decode_actions *out)
{
    struct decode_action *a;

    if (d->n_rows)
        return;
    room_make(d, out);
    d->n_rows = rows_next(&d->slots, &d->config.prompt_rows, d->rows);
    if (!d->n_rows)
        return;
    d->step_at = now;
    for (uint32_t i = 0; i < d->n_rows; i++) {
        struct slot *slot = &d->slots.items[d->rows[i].slot];

        if (!slot->started_at)
            slot->started_at = now;
    }
    a = actions_add(out, DECODE_RUN);
    a->rows = d->rows;
    a->n_rows = d->n_rows;
}

/* With this node's span of the stream; on a restart another one, and never the prefill node's. */
static void stream_log_end(const struct slot *slot, const struct msg_tokens *t, int64_t now)
{
    struct traceparent own = traceparent_child(&slot->trace, slot->id.epoch | (uint64_t)1 << 32);
    int64_t started = slot->started_at ? slot->started_at : now;

    log_info("decode",
             "request=%" PRIu64 " epoch=%u prompt=%u tokens=%u kv_bytes=%" PRIu64
             " finish=%s queue_ms=%.1f decode_ms=%.1f " TRACE_FMT,
             slot->id.request, slot->id.epoch, slot->n_tokens,
             t->index + t->n_tokens - slot->first_index, slot->kv_bytes, finish_names[t->finish],
             clock_ms(started - slot->ready_at), clock_ms(now - started),
             TRACE_ARGS(&own, &slot->trace));
}

static void stream_send_tokens(struct decode_core *d, const struct slot *slot,
                               const struct msg_tokens *t, int64_t now, struct decode_actions *out)
{
    actions_send_router(out, MSG_TOKENS)->u.tokens = *t;
    d->stats.tokens += t->n_tokens;
    if (t->finish != FINISH_NONE)
        stream_log_end(slot, t, now);
}

/* A row of the step gave `token`. */
static void stream_token(struct decode_core *d, struct slot *slot, uint32_t token, int64_t now,
                         struct decode_actions *out)
{
    struct msg_tokens t;

    rows_take_token(slot, token, &t);
    if (slot->pos == slot->n_tokens)
        slots_share(&d->slots, slot); /* a local prompt: others may begin alike */
    if (!slot->told) {
        slot->told = true;
        t.hit_tokens = slot->held;
        t.queue_ns = slot->started_at - slot->ready_at;
        t.compute_ns = slot->local ? now - slot->started_at : 0;
        t.step_ns = now - d->step_at;
    }
    stream_send_tokens(d, slot, &t, now, out);
    if (t.finish == FINISH_NONE)
        return;
    slot->in_step = false;
    slots_drop(&d->slots, slot);
}

static void stream_step_time(struct decode_core *d, int64_t now)
{
    uint64_t ns = (uint64_t)(now - d->step_at);

    d->stats.steps++;
    d->stats.busy_ns += ns;
    if (d->stats.step_ns)
        ns = d->stats.step_ns - d->stats.step_ns / STEP_SMOOTH + ns / STEP_SMOOTH;
    d->stats.step_ns = ns;
}

void stream_step_done(struct decode_core *d, const uint32_t *tokens, int64_t now,
                      struct decode_actions *out)
{
    ASSERT(d->n_rows);
    for (uint32_t i = 0; i < d->n_rows; i++) {
        struct slot *slot = &d->slots.items[d->rows[i].slot];

        if (slot->state != SLOT_RUNNING) /* cancelled meanwhile */
            continue;
        slot->pos = d->rows[i].pos + 1;
        d->stats.local_tokens += d->rows[i].pos < slot->n_tokens;
        if (d->rows[i].sample)
            stream_token(d, slot, tokens[i], now, out);
    }
    slots_step_over(&d->slots);
    d->n_rows = 0;
    stream_step_time(d, now);
    stream_run_next(d, now, out);
    intake_step_over(d, out);
}

/* What the engine would trust. */
static int reserve_check(const struct decode_core *d, const struct msg_reserve *r, struct err *e)
{
    for (uint32_t i = 0; i < r->n_tokens; i++)
        if (r->tokens[i] >= d->config.n_vocab)
            return err_set(e, ERR_PEER, "token %u of the prompt is %u, the vocabulary has %u", i,
                           r->tokens[i], d->config.n_vocab);
    return 0;
}

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
        actions_fail(actions_send_router(out, MSG_RESERVE_REFUSED), r->id, true,
                     "the node is draining");
        return;
    }
    rc = reserve_check(d, r, &e);
    if (!rc)
        rc = slots_take(&d->slots, &slot, r, &e);
    if (rc) {
        actions_fail(actions_send_router(out, MSG_RESERVE_REFUSED), r->id, rc == ERR_BUSY, e.text);
        return;
    }
    slot->ready_at = now;
    slot->deadline = now + DECODE_QUEUE_LEASES * d->config.lease_ns;
    d->stats.hit_tokens += slot->held;
    actions_send_router(out, MSG_RESERVED)->u.reserved =
        (struct msg_reserved){.id = r->id, .held_tokens = slot->held};
}

/* The router tells the prefill node as well; what it has sent until then is refused. */
void stream_cancel(struct decode_core *d, struct stream_id id)
{
    struct slot *slot = slots_find_request(&d->slots, id.request);

    if (slot && slot->id.epoch <= id.epoch)
        slots_drop(&d->slots, slot);
}

void stream_start(struct decode_core *d, struct slot *slot, uint32_t token, int64_t now,
                  struct decode_actions *out)
{
    actions_send_peer(out, slot->peer, MSG_KV_DONE)->u.cancel.id = slot->id;
    slots_start(&d->slots, slot, token);
    slot->ready_at = now;
    if (slot->max_new == 1) { /* the context had room for the first token only */
        struct msg_tokens t = {.id = slot->id, .index = slot->index, .finish = FINISH_LENGTH,
                               .kv_bytes = slot->kv_bytes, .hit_tokens = slot->held};

        stream_send_tokens(d, slot, &t, now, out);
        slots_drop(&d->slots, slot);
    }
}

void stream_router_lost(struct decode_core *d, struct decode_actions *out)
{
    for (uint32_t i = 0; i < d->slots.n; i++) {
        struct slot *slot = &d->slots.items[i];

        if (slot->state != SLOT_FREE && slot->state != SLOT_ENDING)
            stream_drop(d, slot, "the router is gone", out);
    }
}
