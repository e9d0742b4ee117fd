#include "prefill-node/core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "kv/kv_wire.h"
#include "prefill-node/ship.h"

struct prefill_core {
    struct prefill_config config;
    struct kv_layout layout;
    struct kv_cut cut;
    struct jobs jobs;
    struct links links;
    struct span *spans; /* [queue_max], of the chunk in flight */
    uint32_t n_spans;   /* 0: no chunk is in flight */
    bool draining;
    struct prefill_stats stats;
};

void prefill_actions_fini(struct prefill_actions *a)
{
    mem_free(a->items);
    *a = (struct prefill_actions){0};
}

static struct prefill_action *action_add(struct prefill_actions *out,
                                         enum prefill_action_type type, uint32_t link)
{
    struct prefill_action *a;

    if (out->n == out->cap) {
        out->cap = out->cap ? 2 * out->cap : 16;
        out->items = mem_realloc(out->items, out->cap * sizeof(*out->items));
    }
    a = &out->items[out->n++];
    memset(a, 0, sizeof(*a));
    a->type = type;
    a->link = link;
    return a;
}

static struct msg *send_router(struct prefill_actions *out, enum msg_type type)
{
    struct prefill_action *a = action_add(out, PREFILL_SEND_ROUTER, 0);

    a->msg.type = type;
    return &a->msg;
}

static struct msg *send_link(struct prefill_actions *out, uint32_t link, enum msg_type type)
{
    struct prefill_action *a = action_add(out, PREFILL_SEND_LINK, link);

    a->msg.type = type;
    return &a->msg;
}

static void failed_fill(struct msg *m, struct stream_id id, bool retry, const char *text)
{
    m->u.failed.id = id;
    m->u.failed.retry = retry;
    snprintf(m->u.failed.text, sizeof(m->u.failed.text), "%s", text);
}

/* Any -> FREE (or ENDING). */
static void job_drop(struct prefill_core *p, struct job *job)
{
    ASSERT(p->links.items[job->link].n_jobs);
    p->links.items[job->link].n_jobs--;
    jobs_drop(&p->jobs, job);
}

/* As job_drop; the decode node hears that no more will come. */
static void job_abort(struct prefill_core *p, struct job *job, const char *why,
                      struct prefill_actions *out)
{
    failed_fill(send_link(out, job->link, MSG_KV_ABORT), job->id, true, why);
    job_drop(p, job);
}

static void job_refuse(struct stream_id id, bool retry, const char *why,
                       struct prefill_actions *out)
{
    log_warn("prefill", "request=%" PRIu64 " epoch=%u failed: %s", id.request, id.epoch, why);
    failed_fill(send_router(out, MSG_PREFILL_FAILED), id, retry, why);
}

/* Starts a chunk if none is in flight and some job has tokens to compute. */
static void run_next(struct prefill_core *p, int64_t now, struct prefill_actions *out)
{
    struct prefill_action *a;

    if (p->n_spans)
        return;
    p->n_spans = chunk_plan(&p->jobs, p->spans, p->config.chunk_tokens, now);
    if (!p->n_spans)
        return;
    a = action_add(out, PREFILL_RUN, 0);
    a->spans = p->spans;
    a->n_spans = p->n_spans;
}

static void link_close(struct prefill_core *p, uint32_t link, struct prefill_actions *out)
{
    action_add(out, PREFILL_CLOSE_LINK, link);
    p->links.items[link] = (struct decode_link){0};
}

/* HELLO, UP -> FREE: the jobs of the link go back to the router. */
static void link_fail(struct prefill_core *p, uint32_t link, const char *why,
                      struct prefill_actions *out)
{
    for (uint32_t i = p->jobs.n_order; i-- > 0;) {
        struct job *job = &p->jobs.items[p->jobs.order[i]];

        if (job->link != link)
            continue;
        job_refuse(job->id, true, why, out);
        job_drop(p, job);
    }
    link_close(p, link, out);
}

static void link_hello(struct prefill_core *p, uint32_t link, int64_t now,
                       struct prefill_actions *out)
{
    struct decode_link *k = &p->links.items[link];
    struct msg_kv_hello *h = &send_link(out, link, MSG_KV_HELLO)->u.hello;

    k->phase = LINK_HELLO;
    k->credit = (struct credit_out){0};
    k->deadline = now + p->config.hello_ns;
    h->protocol = MSG_PROTOCOL;
    memcpy(h->cluster, p->config.cluster, sizeof(h->cluster));
    memcpy(h->name, p->config.name, sizeof(h->name));
    h->model_hash = p->config.model_hash;
    h->geometry = (struct kv_geometry){p->layout.n_layer, p->layout.n_kv_head, p->layout.head_dim,
                                       KV_PAGE_TOKENS, p->config.wire};
}

/* The link for a new job to this decode node, opened if need be; UINT32_MAX: too many. */
static uint32_t link_for(struct prefill_core *p, const char *name, const char *endpoint,
                         int64_t now, struct prefill_actions *out)
{
    uint32_t link = links_find(&p->links, endpoint);
    struct decode_link *k;

    if (link == UINT32_MAX) {
        link = links_place(&p->links);
        if (link == UINT32_MAX)
            return link;
        k = &p->links.items[link];
        if (k->phase != LINK_FREE)
            link_close(p, link, out);
        k->phase = LINK_HELLO;
        snprintf(k->endpoint, sizeof(k->endpoint), "%s", endpoint);
        action_add(out, PREFILL_OPEN_LINK, link)->endpoint = k->endpoint;
    }
    k = &p->links.items[link];
    snprintf(k->name, sizeof(k->name), "%s", name);
    k->used = now;
    if (k->n_jobs++ == 0)
        link_hello(p, link, now, out);
    return link;
}

/* What no retry here can mend: ERR_LIMIT. What may go away: ERR_BUSY. */
static int job_check(const struct prefill_core *p, const struct msg_prefill_job *m, struct err *e)
{
    uint32_t total = kv_pool_total(p->jobs.pool);

    if (!m->n_tokens || !m->max_new)
        return err_set(e, ERR_LIMIT, "%u prompt tokens and %u new ones: both must be at least 1",
                       m->n_tokens, m->max_new);
    if (m->n_tokens >= p->config.ctx_max)
        return err_set(e, ERR_LIMIT, "the prompt has %u tokens, the context %u", m->n_tokens,
                       p->config.ctx_max);
    if (kv_layout_pages(m->n_tokens) > total)
        return err_set(e, ERR_LIMIT, "the prompt needs %u KV pages, the prefill node has %u",
                       kv_layout_pages(m->n_tokens), total);
    if (m->skip_tokens > m->n_tokens)
        return err_set(e, ERR_LIMIT, "%u tokens to skip of a prompt of %u", m->skip_tokens,
                       m->n_tokens);
    for (uint32_t i = 0; i < m->n_tokens; i++)
        if (m->tokens[i] >= p->config.n_vocab)
            return err_set(e, ERR_LIMIT, "token %u is %u, the vocabulary has %u", i, m->tokens[i],
                           p->config.n_vocab);
    if (p->draining)
        return err_set(e, ERR_BUSY, "the node is draining");
    return 0;
}

/* PREFILL_JOB: FREE -> QUEUED, or a refusal with the numbers. */
static void on_job(struct prefill_core *p, struct msg_prefill_job *m, int64_t now,
                   struct prefill_actions *out)
{
    struct job *job = jobs_find_request(&p->jobs, m->id.request);
    struct err e = {0};
    uint32_t link;
    int rc;

    if (job && job->id.epoch >= m->id.epoch) {
        log_warn("prefill", "request=%" PRIu64 " epoch=%u job dropped, epoch %u is here",
                 m->id.request, m->id.epoch, job->id.epoch);
        return;
    }
    if (job)
        job_abort(p, job, "a newer attempt at the request began", out);
    rc = job_check(p, m, &e);
    if (rc) {
        job_refuse(m->id, rc == ERR_BUSY, e.text, out);
        return;
    }
    job = jobs_add(&p->jobs, m, now);
    if (!job) {
        err_set(&e, ERR_BUSY, "all %u places of the prefill queue are taken", p->jobs.n);
        job_refuse(m->id, true, e.text, out);
        return;
    }
    link = link_for(p, m->decode_name, m->kv_endpoint, now, out);
    if (link == UINT32_MAX) {
        jobs_drop(&p->jobs, job);
        err_set(&e, ERR_BUSY, "all %u links to decode nodes have work", PREFILL_LINKS_MAX);
        job_refuse(m->id, true, e.text, out);
        return;
    }
    job->link = link;
    ship_init(job, &p->cut);
    run_next(p, now, out);
}

static void on_router(struct prefill_core *p, struct msg *m, int64_t now,
                      struct prefill_actions *out)
{
    struct job *job;

    switch (m->type) {
    case MSG_PREFILL_JOB:
        on_job(p, &m->u.job, now, out);
        break;
    case MSG_CANCEL: /* the router tells the decode node as well */
        job = jobs_find_request(&p->jobs, m->u.cancel.id.request);
        if (job && job->id.epoch <= m->u.cancel.id.epoch)
            job_drop(p, job);
        run_next(p, now, out); /* its pages may let another one start */
        break;
    case MSG_DRAIN:
        prefill_core_drain(p);
        break;
    default:
        log_warn("prefill", "%s from the router is not for a prefill node", msg_type_name(m->type));
    }
}

/* SHIPPING -> HELD when everything was sent. */
static void job_end(struct prefill_core *p, struct job *job, int64_t now,
                    struct prefill_actions *out)
{
    struct msg_kv_end *end;

    if (job->state != JOB_SHIPPING || !ship_finished(job, &p->cut))
        return;
    end = &send_link(out, job->link, MSG_KV_END)->u.end;
    end->id = job->id;
    end->n_tokens = job->n_tokens;
    end->index = job->first_index;
    end->token = job->first_token;
    job->state = JOB_HELD;
    job->deadline = now + p->config.lease_ns;
}

/* The prompt is computed: COMPUTING -> SHIPPING, or FREE if the first token is the last. */
static void job_first_token(struct prefill_core *p, struct job *job, uint32_t token, int64_t now,
                            struct prefill_actions *out)
{
    struct msg_prefill_token *first = &send_router(out, MSG_PREFILL_TOKEN)->u.first;

    first->id = job->id;
    first->index = job->first_index;
    first->token = token;
    first->queue_ns = job->started_at - job->queued_at;
    first->compute_ns = now - job->started_at;
    first->finish = job->max_new == 1 ? FINISH_LENGTH : FINISH_NONE;
    for (uint32_t i = 0; i < job->n_stop_tokens; i++)
        if (job->stop_tokens[i] == token)
            first->finish = FINISH_STOP;
    log_info("prefill", "request=%" PRIu64 " epoch=%u prompt=%u queue_ms=%.1f compute_ms=%.1f",
             job->id.request, job->id.epoch, job->n_tokens, (double)first->queue_ns / 1e6,
             (double)first->compute_ns / 1e6);
    if (first->finish != FINISH_NONE) {
        job_abort(p, job, "the first token ended the stream", out);
        return;
    }
    job->state = JOB_SHIPPING;
    job->first_token = token;
    job->deadline = now + p->config.lease_ns;
    job_end(p, job, now, out);
}

static void chunk_done(struct prefill_core *p, const uint32_t *tokens, int64_t now,
                       struct prefill_actions *out)
{
    ASSERT(p->n_spans);
    for (uint32_t i = 0; i < p->n_spans; i++) {
        const struct span *span = &p->spans[i];
        struct job *job = &p->jobs.items[span->job];

        p->stats.tokens += span->count;
        if (job->state != JOB_COMPUTING) /* dropped meanwhile */
            continue;
        job->in_chunk = false;
        job->done = job->chunk_end;
        job->chunk_layers = 0;
        ship_advance(job, &p->cut);
        if (span->last)
            job_first_token(p, job, tokens[i], now, out);
    }
    jobs_chunk_over(&p->jobs);
    p->n_spans = 0;
    p->stats.steps++;
    run_next(p, now, out);
}

static void layer_done(struct prefill_core *p, uint32_t layer)
{
    ASSERT(p->n_spans && layer < p->cut.n_layer);
    for (uint32_t i = 0; i < p->n_spans; i++) {
        struct job *job = &p->jobs.items[p->spans[i].job];

        job->chunk_layers = layer + 1;
        ship_advance(job, &p->cut);
    }
}

static void unit_sent(struct prefill_core *p, const struct prefill_unit *u, int64_t now,
                      struct prefill_actions *out)
{
    struct job *job = &p->jobs.items[u->job];

    ASSERT(job->id.request == u->id.request && job->id.epoch == u->id.epoch);
    credit_out_sent(&p->links.items[u->link].credit, u->bytes);
    p->stats.kv_bytes += u->bytes;
    job->deadline = now + p->config.lease_ns;
    ship_sent(job, &p->cut);
    job_end(p, job, now, out);
}

/* The decode node gave the stream up, and the router may not know yet. */
static void on_abort(struct prefill_core *p, uint32_t link, const struct msg_failed *f, int64_t now,
                     struct prefill_actions *out)
{
    struct job *job = jobs_find(&p->jobs, f->id);

    if (!job || job->link != link)
        return;
    job_refuse(job->id, f->retry, f->text, out);
    job_drop(p, job);
    run_next(p, now, out);
}

static void on_again(struct prefill_core *p, uint32_t link, const struct msg_kv_page *m)
{
    struct job *job = jobs_find(&p->jobs, m->id);
    struct kv_unit u = {m->layer, m->page, m->head_first, m->head_count, m->n_tokens};

    if (!job || job->link != link || !ship_again(job, &p->cut, &u))
        return;
    p->stats.pages_again++;
    job->state = JOB_SHIPPING;
}

/* KV_WELCOME answers a KV_HELLO; a second one would forge credit. */
static void on_welcome(struct decode_link *k, uint64_t bytes)
{
    if (k->phase != LINK_HELLO)
        return;
    k->phase = LINK_UP;
    credit_out_grant(&k->credit, bytes);
}

static void on_link(struct prefill_core *p, uint32_t link, const struct msg *m, int64_t now,
                    struct prefill_actions *out)
{
    struct decode_link *k = &p->links.items[link];
    struct job *job;
    struct err e = {0};

    if (k->phase == LINK_FREE)
        return;
    switch (m->type) {
    case MSG_KV_WELCOME:
        on_welcome(k, m->u.credit.bytes);
        break;
    case MSG_KV_CREDIT: /* in HELLO: of the accounts before, void */
        if (k->phase == LINK_UP && !credit_out_grant(&k->credit, m->u.credit.bytes))
            link_fail(p, link, "the decode node granted more credit than there are numbers", out);
        break;
    case MSG_KV_AGAIN:
        on_again(p, link, &m->u.page);
        break;
    case MSG_KV_DONE:
        job = jobs_find(&p->jobs, m->u.cancel.id);
        if (job && job->link == link && job->state == JOB_HELD)
            job_drop(p, job);
        break;
    case MSG_KV_ABORT:
        on_abort(p, link, &m->u.failed, now, out);
        break;
    case MSG_REFUSED:
        err_set(&e, ERR_PEER, "decode node %s refused: %s", k->name, m->u.text.text);
        link_fail(p, link, e.text, out);
        break;
    default:
        log_warn("prefill", "%s from decode node %s is not for a prefill node",
                 msg_type_name(m->type), k->name);
    }
    run_next(p, now, out); /* pages may have come back */
}

static void on_tick(struct prefill_core *p, int64_t now, struct prefill_actions *out)
{
    struct err e;

    for (uint32_t i = 0; i < PREFILL_LINKS_MAX; i++) {
        const struct decode_link *k = &p->links.items[i];

        if (k->phase != LINK_HELLO || now < k->deadline)
            continue;
        err_set(&e, ERR_TIMEOUT, "decode node %s at %s does not answer", k->name, k->endpoint);
        link_fail(p, i, e.text, out);
    }
    for (uint32_t i = p->jobs.n_order; i-- > 0;) {
        struct job *job = &p->jobs.items[p->jobs.order[i]];

        if ((job->state != JOB_SHIPPING && job->state != JOB_HELD) || now < job->deadline)
            continue;
        p->stats.leases_expired++;
        err_set(&e, ERR_TIMEOUT, "decode node %s does not %s the KV",
                p->links.items[job->link].name, job->state == JOB_HELD ? "confirm" : "take");
        job_refuse(job->id, true, e.text, out);
        job_abort(p, job, e.text, out);
    }
    run_next(p, now, out);
}

static void on_router_lost(struct prefill_core *p, struct prefill_actions *out)
{
    while (p->jobs.n_order)
        job_abort(p, &p->jobs.items[p->jobs.order[0]], "the router is gone", out);
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
        on_link(p, ev->link, ev->msg, now, out);
        break;
    case PREFILL_LAYER_DONE:
        layer_done(p, ev->layer);
        break;
    case PREFILL_CHUNK_DONE:
        chunk_done(p, ev->tokens, now, out);
        break;
    case PREFILL_UNIT_SENT:
        unit_sent(p, ev->unit, now, out);
        break;
    case PREFILL_ROUTER_LOST:
        on_router_lost(p, out);
        break;
    case PREFILL_TICK:
        on_tick(p, now, out);
        break;
    }
}

bool prefill_core_next_unit(const struct prefill_core *p, const bool *blocked,
                            struct prefill_unit *out)
{
    bool poor[PREFILL_LINKS_MAX] = {false}; /* no credit for its oldest job: younger ones wait too */

    for (uint32_t i = 0; i < p->jobs.n_order; i++) {
        uint32_t place = p->jobs.order[i];
        const struct job *job = &p->jobs.items[place];
        const struct decode_link *k = &p->links.items[job->link];

        if (k->phase != LINK_UP || poor[job->link] || (blocked && blocked[job->link]) ||
            !ship_next(job, &p->cut, &out->unit))
            continue;
        out->bytes = kv_wire_bytes(&p->layout, p->config.wire, out->unit.head_count,
                                   out->unit.n_tokens);
        if (credit_out_can_send(&k->credit, out->bytes)) {
            out->id = job->id;
            out->job = place;
            out->link = job->link;
            out->page_id = job->page_ids[out->unit.page];
            return true;
        }
        poor[job->link] = true;
    }
    return false;
}

const struct job *prefill_core_job(const struct prefill_core *p, uint32_t job)
{
    return &p->jobs.items[job];
}

int prefill_core_new(struct prefill_core **core, const struct prefill_config *c,
                     const struct kv_layout *l, struct kv_pool *pool, struct err *e)
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
    jobs_init(&p->jobs, c->queue_max, c->ctx_max, pool);
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
        bool queued = p->jobs.items[p->jobs.order[i]].state == JOB_QUEUED;

        out->queued += queued;
        out->running += !queued;
    }
}

bool prefill_core_idle(const struct prefill_core *p) { return !p->jobs.n_order && !p->n_spans; }

void prefill_core_drain(struct prefill_core *p) { p->draining = true; }
