#include "prefill-node/work.h"

#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "prefill-node/deliver.h"

void work_drop(struct prefill_core *p, struct job *job)
{
    ASSERT(p->links.items[job->link].n_jobs);
    p->links.items[job->link].n_jobs--;
    jobs_drop(&p->jobs, job);
}

void work_abort(struct prefill_core *p, struct job *job, const char *why,
                  struct prefill_actions *out)
{
    output_fail(output_link(out, job->link, MSG_KV_ABORT), job->id, true, why);
    work_drop(p, job);
}

void work_refuse(struct stream_id id, bool retry, const char *why, struct prefill_actions *out)
{
    log_warn("prefill", "request=%" PRIu64 " epoch=%u failed: %s", id.request, id.epoch, why);
    output_fail(output_router(out, MSG_PREFILL_FAILED), id, retry, why);
}

void work_next(struct prefill_core *p, int64_t now, struct prefill_actions *out)
{
    struct prefill_action *a;

    if (p->n_spans)
        return;
    p->n_spans = chunk_plan(&p->jobs, p->spans, p->config.chunk_tokens, now);
    if (!p->n_spans)
        return;
    for (uint32_t i = 0; i < p->n_spans; i++) /* what the prefix cache had may leave at once */
        ship_advance(&p->jobs.items[p->spans[i].job], &p->cut);
    a = output_add(out, PREFILL_RUN, 0);
    a->spans = p->spans;
    a->n_spans = p->n_spans;
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

void work_cancel(struct prefill_core *p, struct stream_id id)
{
    struct job *job = jobs_find_request(&p->jobs, id.request);

    if (job && job->id.epoch <= id.epoch)
        work_drop(p, job);
}

void work_take(struct prefill_core *p, struct msg_prefill_job *m, int64_t now,
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
        work_abort(p, job, "a newer attempt at the request began", out);
    rc = job_check(p, m, &e);
    if (rc) {
        work_refuse(m->id, rc == ERR_BUSY, e.text, out);
        return;
    }
    job = jobs_add(&p->jobs, m, now);
    if (!job) {
        err_set(&e, ERR_BUSY, "all %u places of the prefill queue are taken", p->jobs.n);
        work_refuse(m->id, true, e.text, out);
        return;
    }
    link = deliver_link(p, m->decode_name, m->kv_endpoint, now, out);
    if (link == UINT32_MAX) {
        jobs_drop(&p->jobs, job);
        err_set(&e, ERR_BUSY, "all %u links to decode nodes have work", PREFILL_LINKS_MAX);
        work_refuse(m->id, true, e.text, out);
        return;
    }
    job->link = link;
    ship_init(job, &p->cut);
    work_next(p, now, out);
}

/* This node's span of the job; on a restart another one. */
static struct traceparent work_trace(const struct job *job)
{
    return traceparent_child(&job->trace, job->id.epoch);
}

static void work_log_computed(const struct job *job, const struct msg_prefill_token *first)
{
    struct traceparent own = work_trace(job);

    log_info("prefill",
             "request=%" PRIu64 " epoch=%u prompt=%u hit=%u queue_ms=%.1f compute_ms=%.1f " TRACE_FMT,
             job->id.request, job->id.epoch, job->n_tokens, job->hit_tokens,
             clock_ms(first->queue_ns), clock_ms(first->compute_ns), TRACE_ARGS(&own, &job->trace));
}

void work_shipped(struct prefill_core *p, struct job *job, int64_t now)
{
    struct traceparent own = work_trace(job);

    log_info("prefill", "request=%" PRIu64 " epoch=%u shipped=%u ship_ms=%.1f " TRACE_FMT,
             job->id.request, job->id.epoch, job->n_tokens - job->skip_tokens,
             clock_ms(now - job->sampled_at), TRACE_ARGS(&own, &job->trace));
    work_drop(p, job);
}

/* The prompt is computed: COMPUTING -> SHIPPING, or FREE if the first token is the last. */
static void job_first_token(struct prefill_core *p, struct job *job, uint32_t token, int64_t now,
                            struct prefill_actions *out)
{
    struct msg_prefill_token *first = &output_router(out, MSG_PREFILL_TOKEN)->u.first;

    first->id = job->id;
    first->index = job->first_index;
    first->token = token;
    first->queue_ns = job->started_at - job->queued_at;
    first->compute_ns = now - job->started_at;
    first->hit_tokens = job->hit_tokens;
    p->stats.hit_tokens += job->hit_tokens;
    first->finish = job->max_new == 1 ? FINISH_LENGTH : FINISH_NONE;
    for (uint32_t i = 0; i < job->n_stop_tokens; i++)
        if (job->stop_tokens[i] == token)
            first->finish = FINISH_STOP;
    job->sampled_at = now;
    work_log_computed(job, first);
    if (first->finish != FINISH_NONE) {
        work_abort(p, job, "the first token ended the stream", out);
        return;
    }
    job->state = JOB_SHIPPING;
    job->first_token = token;
    job->deadline = now + p->config.lease_ns;
    deliver_end(p, job, now, out);
}

void work_chunk_done(struct prefill_core *p, const uint32_t *tokens, int64_t now,
                       struct prefill_actions *out)
{
    ASSERT(p->n_spans);
    for (uint32_t i = 0; i < p->n_spans; i++) {
        const struct span *span = &p->spans[i];
        struct job *job = &p->jobs.items[span->job];

        p->stats.tokens += span->count;
        prefix_insert(p->jobs.prefix, job->salt, job->tokens, job->chunk_end, job->page_ids);
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
    work_next(p, now, out);
}

void work_layer_done(struct prefill_core *p, uint32_t layer)
{
    ASSERT(p->n_spans && layer < p->cut.n_layer);
    for (uint32_t i = 0; i < p->n_spans; i++) {
        struct job *job = &p->jobs.items[p->spans[i].job];

        job->chunk_layers = layer + 1;
        ship_advance(job, &p->cut);
    }
}
