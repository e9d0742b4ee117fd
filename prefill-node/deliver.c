#include "prefill-node/deliver.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "kv/kv_wire.h"
#include "prefill-node/work.h"

static void link_close(struct prefill_core *p, uint32_t link, struct prefill_actions *out)
{
    output_add(out, PREFILL_CLOSE_LINK, link);
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
        work_refuse(job->id, true, why, out);
        work_drop(p, job);
    }
    link_close(p, link, out);
}

static void link_hello(struct prefill_core *p, uint32_t link, int64_t now,
                       struct prefill_actions *out)
{
    struct decode_link *k = &p->links.items[link];
    struct msg_kv_hello *h = &output_link(out, link, MSG_KV_HELLO)->u.hello;

    if (k->phase != LINK_HELLO) /* else it broke before the answer, which is still due */
        k->deadline = now + p->config.hello_ns;
    k->phase = LINK_HELLO;
    k->credit = (struct credit_out){0};
    k->places = false;
    h->protocol = MSG_PROTOCOL;
    memcpy(h->cluster, p->config.cluster, sizeof(h->cluster));
    memcpy(h->name, p->config.name, sizeof(h->name));
    h->model_hash = p->config.model_hash;
    h->offer = p->config.offer;
    h->geometry = (struct kv_geometry){p->layout.n_layer, p->layout.n_kv_head, p->layout.head_dim,
                                       KV_PAGE_TOKENS, p->config.wire};
}

uint32_t deliver_link(struct prefill_core *p, const char *name, const char *endpoint, int64_t now,
                      struct prefill_actions *out)
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
        snprintf(k->endpoint, sizeof(k->endpoint), "%s", endpoint);
        output_add(out, PREFILL_OPEN_LINK, link)->endpoint = k->endpoint;
    }
    k = &p->links.items[link];
    snprintf(k->name, sizeof(k->name), "%s", name);
    k->used = now;
    if (k->n_jobs++ == 0)
        link_hello(p, link, now, out);
    return link;
}

void deliver_end(struct prefill_core *p, struct job *job, int64_t now,
                 struct prefill_actions *out)
{
    struct msg_kv_end *end;

    if (job->state != JOB_SHIPPING || !ship_finished(job, &p->cut))
        return;
    end = &output_link(out, job->link, MSG_KV_END)->u.end;
    end->id = job->id;
    end->n_tokens = job->n_tokens;
    end->index = job->first_index;
    end->token = job->first_token;
    job->state = JOB_HELD;
    job->deadline = now + p->config.lease_ns;
}

void deliver_sent(struct prefill_core *p, const struct prefill_unit *u, int64_t now,
                  struct prefill_actions *out)
{
    struct job *job = &p->jobs.items[u->job];

    ASSERT(job->id.request == u->id.request && job->id.epoch == u->id.epoch);
    credit_out_sent(&p->links.items[u->link].credit, u->bytes);
    p->stats.kv_bytes += u->bytes;
    job->deadline = now + p->config.lease_ns;
    ship_sent(job, &p->cut);
    deliver_end(p, job, now, out);
}

void deliver_cut(struct prefill_core *p, uint32_t link, int64_t now, struct prefill_actions *out)
{
    struct decode_link *k = &p->links.items[link];

    if (k->phase == LINK_FREE)
        return;
    if (!k->n_jobs) {
        link_close(p, link, out);
        return;
    }
    log_warn("prefill", "the connection to decode node %s broke, %u streams go on on a new one",
             k->name, k->n_jobs);
    output_add(out, PREFILL_CLOSE_LINK, link);
    output_add(out, PREFILL_OPEN_LINK, link)->endpoint = k->endpoint;
    link_hello(p, link, now, out);
    for (uint32_t i = 0; i < p->jobs.n_order; i++) {
        struct job *job = &p->jobs.items[p->jobs.order[i]];

        if (job->link != link || !job->ship.started)
            continue;
        ship_resume(job);
        job->deadline = now + p->config.lease_ns;
        output_link(out, link, MSG_KV_RESUME)->u.cancel.id = job->id;
        p->stats.resumed++;
    }
}

/* KV_MISSING: HELD -> SHIPPING, if only to say KV_END again. */
static void on_missing(struct prefill_core *p, uint32_t link, struct msg_kv_missing *m, int64_t now,
                       struct prefill_actions *out)
{
    struct job *job = jobs_find(&p->jobs, m->id);
    struct err e = {0};

    if (!job || job->link != link || !job->ship.resuming)
        return;
    if (!ship_missing(job, &p->cut, m)) {
        err_set(&e, ERR_PEER, "decode node %s misses KV that request %" PRIu64 " has not: %u tokens",
                p->links.items[link].name, job->id.request, job->n_tokens);
        work_refuse(job->id, true, e.text, out);
        work_abort(p, job, e.text, out);
        return;
    }
    if (job->state == JOB_HELD)
        job->state = JOB_SHIPPING;
    deliver_end(p, job, now, out);
}

/* The decode node gave the stream up, and the router may not know yet. But if the stream was all sent
 * before the connection broke, it may well be over by now. */
static void on_abort(struct prefill_core *p, uint32_t link, const struct msg_failed *f,
                     struct prefill_actions *out)
{
    struct job *job = jobs_find(&p->jobs, f->id);

    if (!job || job->link != link)
        return;
    if (job->state != JOB_HELD || !job->ship.resuming)
        work_refuse(job->id, f->retry, f->text, out);
    work_drop(p, job);
}

/* What was not right where it lay it gets, and so all that follows until the next KV_HELLO. */
static void on_again(struct prefill_core *p, uint32_t link, const struct msg_kv_page *m)
{
    struct job *job = jobs_find(&p->jobs, m->id);
    struct kv_unit u = {m->layer, m->page, m->head_first, m->head_count, m->n_tokens};

    if (!job || job->link != link || !ship_again(job, &p->cut, &u))
        return;
    p->links.items[link].places = false;
    p->stats.pages_again++;
    job->state = JOB_SHIPPING;
}

/* KV_WELCOME answers a KV_HELLO; a second one would forge credit. */
static void on_welcome(struct decode_link *k, const struct msg_kv_credit *welcome)
{
    if (k->phase != LINK_HELLO)
        return;
    k->phase = LINK_UP;
    k->places = welcome->places;
    credit_out_grant(&k->credit, welcome->bytes);
}

void deliver_message(struct prefill_core *p, uint32_t link, struct msg *m, int64_t now,
                     struct prefill_actions *out)
{
    struct decode_link *k = &p->links.items[link];
    struct job *job;
    struct err e = {0};

    if (k->phase == LINK_FREE)
        return;
    switch (m->type) {
    case MSG_KV_WELCOME:
        on_welcome(k, &m->u.credit);
        break;
    case MSG_KV_CREDIT: /* in HELLO: of the accounts before, void */
        if (k->phase == LINK_UP && !credit_out_grant(&k->credit, m->u.credit.bytes))
            link_fail(p, link, "the decode node granted more credit than there are numbers", out);
        break;
    case MSG_KV_AGAIN:
        on_again(p, link, &m->u.page);
        break;
    case MSG_KV_MISSING:
        on_missing(p, link, &m->u.missing, now, out);
        break;
    case MSG_KV_DONE:
        job = jobs_find(&p->jobs, m->u.cancel.id);
        if (job && job->link == link && job->state == JOB_HELD)
            work_shipped(p, job, now);
        break;
    case MSG_KV_ABORT:
        on_abort(p, link, &m->u.failed, out);
        break;
    case MSG_REFUSED:
        err_set(&e, ERR_PEER, "decode node %s refused: %s", k->name, m->u.text.text);
        link_fail(p, link, e.text, out);
        break;
    default:
        log_warn("prefill", "%s from decode node %s is not for a prefill node",
                 msg_type_name(m->type), k->name);
    }
    work_next(p, now, out); /* pages may have come back */
}

void deliver_tick(struct prefill_core *p, int64_t now, struct prefill_actions *out)
{
    struct err e;

    for (uint32_t i = 0; i < PREFILL_LINKS_MAX; i++) {
        const struct decode_link *k = &p->links.items[i];

        if (k->phase != LINK_HELLO || now < k->deadline)
            continue;
        err_set(&e, ERR_TIMEOUT, "decode node %s at %s does not answer", k->name, k->endpoint);
        link_fail(p, i, e.text, out);
    }
}

bool prefill_core_next_unit(const struct prefill_core *p, const bool *blocked,
                            struct prefill_unit *out)
{
    bool poor[PREFILL_LINKS_MAX] = {false}; /* no credit for its first job: those behind wait too */

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
            out->place = k->places && kv_wire_whole(&p->layout, p->config.wire);
            return true;
        }
        poor[job->link] = true;
    }
    return false;
}
