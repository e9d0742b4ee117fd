#include "router/stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static void stream_send_cancel(struct router_core *c, const struct session *s,
                               const struct node *node)
{
    struct msg m = {.type = MSG_CANCEL, .u.cancel.id = s->id};

    action_send(c, node, &m);
}

/* The prompt is computed, or will not be. */
static void stream_uncharge_prompt(struct session *s)
{
    struct node *node = s->local ? s->decode : s->prefill;

    if (node)
        node->queued_tokens -= s->queued_tokens;
    s->queued_tokens = 0;
}

static void stream_uncharge_prefill(struct session *s)
{
    if (!s->prefill)
        return;
    stream_uncharge_prompt(s);
    if (s->suspect)
        s->prefill->suspects--;
    s->prefill->running--;
    s->prefill = NULL;
}

static void stream_uncharge_decode(struct session *s)
{
    if (!s->decode)
        return;
    if (s->local)
        stream_uncharge_prompt(s);
    if (s->suspect)
        s->decode->suspects--;
    s->decode->running--;
    s->decode->pages_taken -= s->pages;
    s->decode->kv_tokens -= s->kv_tokens;
    s->pages = s->kv_tokens = 0;
    s->decode = NULL;
}

void stream_let_go(struct session *s, const struct node *node)
{
    if (s->prefill == node)
        stream_uncharge_prefill(s);
    if (s->decode == node)
        stream_uncharge_decode(s);
}

/* Takes the attempt away from its nodes, telling those that still have it. */
static void stream_leave_nodes(struct router_core *c, struct session *s)
{
    if (s->decode)
        stream_send_cancel(c, s, s->decode);
    if (s->prefill && s->state != SESSION_RESERVING) /* no job was sent yet */
        stream_send_cancel(c, s, s->prefill);
    stream_uncharge_prefill(s);
    stream_uncharge_decode(s);
    c->room = true;
}

static void stream_to_queue(struct router_core *c, struct session *s)
{
    s->state = SESSION_QUEUED;
    s->first_at = s->tokens_at = 0;
    s->n_ahead = 0;
    s->ahead_finish = FINISH_NONE;
    c->running--;
    queue_add(&c->queue, s, c->now);
}

/* Out of every table; freed at the start of the next step. */
static void stream_end(struct router_core *c, struct session *s)
{
    if (s->state == SESSION_QUEUED) {
        queue_remove(&c->queue, s);
    } else {
        c->running--;
        c->service_ns += (c->now - s->placed_at - c->service_ns) / 8;
    }
    if (*s->tenant)
        tenants_end(&c->tenants, s->tenant_id, s->n_delivered, c->now);
    if (s->tokens_at)
        s->stats.decode_ns = c->now - s->tokens_at;
    map_del(&c->by_request, s->id.request);
    map_del(&c->by_client, s->client);
    s->stats.output_tokens = s->n_delivered;
    s->next = c->ended;
    c->ended = s;
}

/* What `tandem explain` tells of a request that has ended. */
static void stream_keep_explain(struct router_core *c, struct session *s, int status,
                                enum finish finish, const char *text)
{
    struct explain_entry *x = s->explain;

    x->stats = s->stats;
    x->status = status;
    x->finish = finish;
    snprintf(x->text, sizeof(x->text), "%s", text);
    explain_keep(&c->explain, x);
    s->explain = NULL;
}

void stream_finish(struct router_core *c, struct session *s, enum finish finish)
{
    struct router_action *a;

    if (finish == FINISH_CANCELLED)
        quarantine_ends(c, s);
    stream_leave_nodes(c, s);
    stream_end(c, s);
    if (finish == FINISH_CANCELLED) {
        c->counters.cancelled++;
    } else {
        c->counters.finished++;
        roles_request(&c->roles, s->n_prompt, s->stats.cached_tokens, s->n_delivered);
    }
    a = action_add(c, ROUTER_FINISH);
    a->client = s->client;
    a->finish = finish;
    a->stats = s->stats;
    stream_keep_explain(c, s, 200, finish, "");
}

void stream_fail(struct router_core *c, struct session *s, int status, uint32_t retry_after_ms,
                 const char *text)
{
    struct router_action *a;

    quarantine_ends(c, s);
    stream_leave_nodes(c, s);
    stream_end(c, s);
    c->counters.failed++;
    a = action_add(c, ROUTER_FAIL);
    a->client = s->client;
    a->status = status;
    a->retry_after_ms = retry_after_ms;
    a->stats = s->stats;
    snprintf(a->text, sizeof(a->text), "%s", text);
    stream_keep_explain(c, s, status, FINISH_ERROR, text);
}

void stream_restart(struct router_core *c, struct session *s, uint64_t culprit, const char *why)
{
    char text[MSG_TEXT_MAX + 64];

    if (s->n_delivered - s->n_before >= ROUTER_PROGRESS)
        s->fruitless = 0;
    if (s->fruitless == ROUTER_RESTARTS_MAX) {
        snprintf(text, sizeof(text), "the request failed on %d attempts; the last: %s",
                 ROUTER_RESTARTS_MAX + 1, why);
        stream_fail(c, s, 503, core_retry_after_ms(c, s->client), text);
        return;
    }
    s->fruitless++;
    stream_again(c, s, culprit, why);
}

void stream_again(struct router_core *c, struct session *s, uint64_t culprit, const char *why)
{
    stream_leave_nodes(c, s);
    s->stats.restarts++;
    c->counters.restarts++;
    s->avoid = culprit;
    s->queued_at = c->now;
    action_note(c, LOG_WARN, "request=%" PRIu64 " epoch=%u restarts=%u delivered=%u: %s",
                s->id.request, s->id.epoch, s->stats.restarts, s->n_delivered, why);
    stream_to_queue(c, s);
}

void stream_refused(struct router_core *c, struct session *s)
{
    c->counters.reserve_refused++;
    s->decode->held_until = c->now + STREAM_HOLD;
    stream_let_go(s, s->decode);
    stream_leave_nodes(c, s);
    stream_to_queue(c, s);
}

void stream_reserved(struct router_core *c, struct session *s, uint32_t held_tokens)
{
    struct msg m = {.type = MSG_PREFILL_JOB};
    struct msg_prefill_job *j = &m.u.job;

    if (s->local) { /* its tokens come by themselves */
        s->state = SESSION_DECODE;
        return;
    }
    j->id = s->id;
    j->n_tokens = s->n_prompt + s->n_delivered;
    j->tokens = mem_dup(s->tokens, j->n_tokens * sizeof(*j->tokens));
    j->first_index = s->n_delivered;
    j->max_new = s->max_new - s->n_delivered;
    j->skip_tokens = held_tokens;
    j->salt = s->salt;
    j->priority = s->priority;
    j->trace = s->trace;
    j->sampling = s->sampling;
    j->n_stop_tokens = s->n_stop_tokens;
    memcpy(j->stop_tokens, s->stop_tokens, sizeof(j->stop_tokens));
    memcpy(j->decode_name, s->decode->reg.name, sizeof(j->decode_name));
    memcpy(j->kv_endpoint, s->decode->reg.kv_endpoint, sizeof(j->kv_endpoint));
    s->state = SESSION_PREFILL;
    s->job_at = c->now;
    action_send(c, s->prefill, &m);
}

/* The tokens from `first` on are the client's. The sequence has grown by them. */
static void stream_deliver(struct router_core *c, struct session *s, uint32_t first)
{
    struct router_action *a = action_add(c, ROUTER_DELIVER);
    uint32_t n = s->n_delivered - first;

    s->kv_tokens += n;
    s->decode->kv_tokens += n;
    a->client = s->client;
    a->index = first;
    a->tokens = s->tokens + s->n_prompt + first;
    a->n_tokens = s->n_delivered - first;
}

/* Ends the stream if `node` says so, or if all that was asked for is there. */
static void stream_end_if_done(struct router_core *c, struct session *s, const struct node *node,
                               enum finish finish)
{
    if (finish == FINISH_NONE && s->n_delivered < s->max_new)
        return;
    if (finish != FINISH_NONE)
        stream_let_go(s, node); /* it has ended the stream itself */
    stream_finish(c, s, finish == FINISH_NONE ? FINISH_LENGTH : finish);
}

/* The prompt was computed: how long it took, and what a cache saved. */
static void stream_prompt_done(struct router_core *c, struct session *s, int64_t queue_ns,
                               int64_t compute_ns, uint32_t hit_tokens)
{
    struct node *node = s->local ? s->decode : s->prefill;
    uint32_t n = s->kv_tokens; /* nothing of this attempt was delivered yet */

    s->stats.queue_ns = queue_ns;
    s->stats.prefill_ns = compute_ns;
    if (s->id.epoch == 1) {
        s->stats.cached_tokens = u32_min(hit_tokens, s->n_prompt);
        c->counters.cached_tokens += s->stats.cached_tokens;
    }
    cost_saw_prompt(&node->cost, n - u32_min(hit_tokens, n), compute_ns, c->now);
}

/* The decode node's first tokens of this attempt. */
static void stream_decode_begins(struct router_core *c, struct session *s,
                                 const struct msg_tokens *m)
{
    int64_t since = s->first_at ? c->now - s->first_at : 0;

    s->tokens_at = c->now;
    if (s->local) {
        stream_prompt_done(c, s, m->queue_ns, m->compute_ns, m->hit_tokens);
        stream_uncharge_prompt(s);
        return;
    }
    s->stats.decode_queue_ns = m->queue_ns;
    if (m->queue_ns < since && m->step_ns < since - m->queue_ns) /* the node's word, of any size */
        s->stats.handoff_ns = since - m->queue_ns - m->step_ns;
}

void stream_first(struct router_core *c, struct session *s, const struct msg_prefill_token *m)
{
    uint32_t first = s->n_delivered;
    bool ahead;

    stream_prompt_done(c, s, m->queue_ns, m->compute_ns, m->hit_tokens);
    s->first_at = c->now;
    stream_uncharge_prompt(s); /* computed; its KV may still be on the way */
    s->state = SESSION_DECODE;
    ahead = s->n_ahead || s->ahead_finish != FINISH_NONE;
    if (m->finish == FINISH_STOP && !ahead) { /* a stop token is not part of the stream */
        stream_end_if_done(c, s, s->prefill, m->finish);
        return;
    }
    session_first(s, m->token);
    stream_deliver(c, s, first);
    if (!ahead) {
        stream_end_if_done(c, s, s->prefill, m->finish);
        return;
    }
    stream_uncharge_prefill(s); /* the decode node has all the KV */
    stream_end_if_done(c, s, s->decode, s->ahead_finish);
}

/* TOKENS that came before the first token: in the journal, to be delivered behind it. */
static void stream_keep_ahead(struct session *s, const struct msg_tokens *m)
{
    if (m->finish == FINISH_NONE)
        return;
    s->ahead_finish = m->finish;
    s->stats.kv_bytes = m->kv_bytes;
}

void stream_tokens(struct router_core *c, struct session *s, const struct msg_tokens *m)
{
    bool first_missing = s->state == SESSION_PREFILL;
    enum session_verdict verdict;
    uint32_t first;

    verdict = session_tokens(s, &first, m->index, m->tokens, m->n_tokens, first_missing);
    if (verdict == SESSION_FAULT) {
        c->counters.protocol_faults++;
        stream_restart(c, s, s->decode->handle, "the decode node sent tokens out of order");
        return;
    }
    if (s->suspect)
        quarantine_got_on(c, s);
    if (!s->tokens_at)
        stream_decode_begins(c, s, m);
    if (first_missing) {
        stream_keep_ahead(s, m);
        return;
    }
    if (m->finish != FINISH_NONE)
        s->stats.kv_bytes = m->kv_bytes;
    stream_uncharge_prefill(s); /* the decode node has all the KV */
    if (verdict == SESSION_NEW)
        stream_deliver(c, s, first);
    stream_end_if_done(c, s, s->decode, m->finish);
}
