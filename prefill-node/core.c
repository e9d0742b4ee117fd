#include "prefill-node/core.h"

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "prefill-node/core_state.h"
#include "prefill-node/deliver.h"
#include "prefill-node/work.h"

static void on_router(struct prefill_core *p, struct msg *m, int64_t now,
                      struct prefill_actions *out)
{
    switch (m->type) {
    case MSG_PREFILL_JOB:
        work_take(p, &m->u.job, now, out);
        break;
    case MSG_CANCEL:
        work_cancel(p, m->u.cancel.id);
        work_next(p, now, out); /* its pages may let another one start */
        break;
    case MSG_DRAIN:
        prefill_core_drain(p);
        break;
    default:
        log_warn("prefill", "%s from the router is not for a prefill node", msg_type_name(m->type));
    }
}

static void on_tick(struct prefill_core *p, int64_t now, struct prefill_actions *out)
{
    struct err e;

    deliver_tick(p, now, out);
    for (uint32_t i = p->jobs.n_order; i-- > 0;) {
        struct job *job = &p->jobs.items[p->jobs.order[i]];

        if ((job->state != JOB_SHIPPING && job->state != JOB_HELD) || now < job->deadline)
            continue;
        p->stats.leases_expired++;
        err_set(&e, ERR_TIMEOUT, "decode node %s does not %s the KV",
                p->links.items[job->link].name, job->state == JOB_HELD ? "confirm" : "take");
        work_refuse(job->id, true, e.text, out);
        work_abort(p, job, e.text, out);
    }
    work_next(p, now, out);
}

static void on_router_lost(struct prefill_core *p, struct prefill_actions *out)
{
    while (p->jobs.n_order)
        work_abort(p, &p->jobs.items[p->jobs.order[0]], "the router is gone", out);
}

void prefill_step(struct prefill_core *p, const struct prefill_event *ev, int64_t now,
                  struct prefill_actions *out)
{
    ASSERT(ev->link < PREFILL_LINKS_MAX);
    switch (ev->type) {
    case PREFILL_ROUTER:
        on_router(p, ev->msg, now, out);
        break;
    case PREFILL_LINK:
        deliver_message(p, ev->link, ev->msg, now, out);
        break;
    case PREFILL_LINK_CUT:
        deliver_cut(p, ev->link, now, out);
        break;
    case PREFILL_LAYER_DONE:
        work_layer_done(p, ev->layer);
        break;
    case PREFILL_CHUNK_DONE:
        work_chunk_done(p, ev->tokens, now, out);
        break;
    case PREFILL_UNIT_SENT:
        deliver_sent(p, ev->unit, now, out);
        break;
    case PREFILL_ROUTER_LOST:
        on_router_lost(p, out);
        break;
    case PREFILL_TICK:
        on_tick(p, now, out);
        break;
    }
}

const struct job *prefill_core_job(const struct prefill_core *p, uint32_t job)
{
    return &p->jobs.items[job];
}

int prefill_core_new(struct prefill_core **core, const struct prefill_config *c,
                     const struct kv_layout *l, struct kv_pool *pool, struct prefix *prefix,
                     struct err *e)
{
    struct kv_cut cut;
    struct prefill_core *p;

    ASSERT(c->queue_max && c->ctx_max && c->chunk_tokens && c->chunk_tokens % KV_PAGE_TOKENS == 0);
    *core = NULL;
    if (!kv_cut_init(&cut, l, c->wire, MSG_BULK_MAX))
        return err_set(e, ERR_LIMIT, "a KV head of %u values does not fit into %u bytes",
                       l->head_dim, MSG_BULK_MAX);
    p = mem_zalloc(sizeof(*p));
    p->config = *c;
    p->layout = *l;
    p->cut = cut;
    p->spans = mem_calloc(c->queue_max, sizeof(*p->spans));
    jobs_init(&p->jobs, c->queue_max, c->ctx_max, pool, prefix);
    *core = p;
    return 0;
}

void prefill_core_free(struct prefill_core **core)
{
    struct prefill_core *p = *core;

    if (!p)
        return;
    jobs_chunk_over(&p->jobs);
    while (p->jobs.n_order)
        jobs_drop(&p->jobs, &p->jobs.items[p->jobs.order[0]]);
    jobs_fini(&p->jobs);
    mem_free(p->spans);
    mem_free(p);
    *core = NULL;
}

void prefill_core_stats(const struct prefill_core *p, struct prefill_stats *out)
{
    *out = p->stats;
    out->draining = p->draining;
    for (uint32_t i = 0; i < p->jobs.n_order; i++) {
        const struct job *job = &p->jobs.items[p->jobs.order[i]];
        bool queued = job->state == JOB_QUEUED;

        out->queued += queued;
        out->running += !queued;
        out->queued_tokens += job->n_tokens - job->done;
    }
}

bool prefill_core_idle(const struct prefill_core *p) { return !p->jobs.n_order && !p->n_spans; }

void prefill_core_drain(struct prefill_core *p) { p->draining = true; }

bool prefill_core_drained(const struct prefill_core *p)
{
    return p->draining && prefill_core_idle(p);
}
