#include "decode-node/core.h"

#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "decode-node/core_state.h"
#include "decode-node/intake.h"
#include "decode-node/stream.h"

static void on_router(struct decode_core *d, const struct msg *m, int64_t now,
                      struct decode_actions *out)
{
    switch (m->type) {
    case MSG_RESERVE:
        stream_reserve(d, &m->u.reserve, now, out);
        break;
    case MSG_CANCEL:
        stream_cancel(d, m->u.cancel.id);
        break;
    case MSG_DRAIN:
        decode_core_drain(d);
        break;
    default:
        log_warn("decode", "%s from the router is not for a decode node", msg_type_name(m->type));
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
        intake_message(d, ev, now, out);
        break;
    case DECODE_PAGE_IN:
    case DECODE_PAGE_BAD:
    case DECODE_PAGE_REFUSED:
        intake_page(d, ev, now, out);
        break;
    case DECODE_STEP_DONE:
        stream_step_done(d, ev->tokens, now, out);
        break;
    case DECODE_PEER_LOST:
        intake_peer_lost(d, ev->peer, now);
        break;
    case DECODE_ROUTER_LOST:
        stream_router_lost(d, out);
        break;
    case DECODE_TICK:
        intake_tick(d, now, out);
        break;
    }
    stream_run_next(d, now, out); /* something may run now, or have room to come back */
}

int decode_core_new(struct decode_core **core, const struct decode_config *c,
                    const struct kv_layout *l, const struct slots_memory *memory, struct err *e)
{
    struct kv_cut cut;
    struct decode_core *d;

    ASSERT(c->slots && c->ctx_max && c->prompt_rows.mixed && c->prompt_rows.alone &&
           c->credit_bytes >= 2 * (uint64_t)MSG_BULK_MAX);
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
    d->rows = mem_calloc(rows_max(c->slots, &c->prompt_rows), sizeof(*d->rows));
    slots_init(&d->slots, c->slots, c->ctx_max, &cut, memory, l->page_bytes);
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
        const struct slot *slot = &d->slots.items[i];

        out->reserved += slot->state == SLOT_FILLING;
        out->running += slot->state == SLOT_RUNNING;
        out->aside += slot->state == SLOT_ASIDE;
        if ((slot->state == SLOT_RUNNING || slot->state == SLOT_ASIDE) &&
            slot->pos < slot->n_tokens)
            out->queued_tokens += slot->n_tokens - slot->pos;
    }
}

bool decode_core_idle(const struct decode_core *d)
{
    return d->slots.n_free == d->slots.n && !d->n_rows;
}

void decode_core_drain(struct decode_core *d) { d->draining = true; }

bool decode_core_drained(const struct decode_core *d)
{
    return d->draining && decode_core_idle(d);
}

