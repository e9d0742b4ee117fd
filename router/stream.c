#include "router/stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "kv/kv_layout.h"

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
    s->prefill->running--;
    s->prefill = NULL;
}

static void stream_uncharge_decode(struct session *s)
{
    if (!s->decode)
        return;
    if (s->local)
        stream_uncharge_prompt(s);
    s->decode->running--;
    s->decode->pages_taken -= s->pages;
    s->pages = 0;
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
}

static void stream_to_queue(struct router_core *c, struct session *s)
{
    s->state = SESSION_QUEUED;
    s->n_ahead = 0;
    s->ahead_finish = FINISH_NONE;
    c->running--;
    session_queue_add(&c->queue, s);
}

/* Out of every table; freed at the start of the next step. */
static void stream_end(struct router_core *c, struct session *s)
{
    if (s->state == SESSION_QUEUED) {
        session_queue_remove(&c->queue, s);
    } else {
        c->running--;
        c->service_ns += (c->now - s->placed_at - c->service_ns) / 8;
    }
    map_del(&c->by_request, s->id.request);
    map_del(&c->by_client, s->client);
    s->stats.output_tokens = s->n_delivered;
    s->next = c->ended;
    c->ended = s;
}

void stream_finish(struct router_core *c, struct session *s, enum finish finish)
{
    struct router_action *a;

    stream_leave_nodes(c, s);
    stream_end(c, s);
    if (finish == FINISH_CANCELLED)
        c->counters.cancelled++;
    else
        c->counters.finished++;
    a = action_add(c, ROUTER_FINISH);
    a->client = s->client;
    a->finish = finish;
    a->stats = s->stats;
}

void stream_fail(struct router_core *c, struct session *s, int status, uint32_t retry_after_ms,
                 const char *text)
{
    struct router_action *a;

    stream_leave_nodes(c, s);
    stream_end(c, s);
    c->counters.failed++;
    a = action_add(c, ROUTER_FAIL);
    a->client = s->client;
    a->status = status;
    a->retry_after_ms = retry_after_ms;
    a->stats = s->stats;
    snprintf(a->text, sizeof(a->text), "%s", text);
}

void stream_restart(struct router_core *c, struct session *s, uint64_t culprit, const char *why)
{
    char text[MSG_TEXT_MAX + 64];

    stream_leave_nodes(c, s);
    if (s->stats.restarts == ROUTER_RESTARTS_MAX) {
        snprintf(text, sizeof(text), "the request failed on %d attempts; the last: %s",
                 ROUTER_RESTARTS_MAX + 1, why);
        stream_fail(c, s, 503, core_retry_after_ms(c, s->client), text);
        return;
    }
    s->stats.restarts++;
    c->counters.restarts++;
    s->avoid = culprit;
    s->queued_at = c->now;
    action_note(c, LOG_WARN, "request=%" PRIu64 " epoch=%u restarts=%u delivered=%u: %s",
                s->id.request, s->id.epoch, s->stats.restarts, s->n_delivered, why);
    stream_to_queue(c, s);
}

static void stream_send_reserve(struct router_core *c, struct session *s)
{
    struct msg m = {.type = MSG_RESERVE};
    struct msg_reserve *r = &m.u.reserve;

    r->id = s->id;
    r->n_tokens = s->n_prompt + s->n_delivered;
    r->tokens = mem_dup(s->tokens, r->n_tokens * sizeof(*r->tokens));
    r->first_index = s->n_delivered;
    r->max_new = s->max_new - s->n_delivered;
    r->sampling = s->sampling;
    r->n_stop_tokens = s->n_stop_tokens;
    memcpy(r->stop_tokens, s->stop_tokens, sizeof(r->stop_tokens));
    r->local = s->local;
    action_send(c, s->decode, &m);
}

/* Gives the request to the nodes of the pair and charges them. */
static void stream_charge(struct router_core *c, struct session *s,
                          const struct schedule_pair *pair, uint32_t pages)
{
    const struct schedule_node *nodes = c->nodes.snapshot;

    s->local = pair->prefill == SCHEDULE_LOCAL;
    s->prefill = s->local ? NULL : node_table_get(&c->nodes, nodes[pair->prefill].node);
    s->decode = node_table_get(&c->nodes, nodes[pair->decode].node);
    s->pages = pages;
    s->queued_tokens = s->n_prompt + s->n_delivered;
    s->decode->running++;
    s->decode->pages_taken += s->pages;
    s->decode->last_used = ++c->next_use;
    if (s->prefill) {
        s->prefill->running++;
        s->prefill->last_used = c->next_use;
    }
    (s->local ? s->decode : s->prefill)->queued_tokens += s->queued_tokens;
    s->stats.local = s->local;
    memcpy(s->stats.prefill, (s->local ? s->decode : s->prefill)->reg.name, MSG_NAME_MAX);
    memcpy(s->stats.decode, s->decode->reg.name, MSG_NAME_MAX);
    c->counters.placed[pair->rung]++;
}

/* Puts a waiting request on nodes of the snapshot; false if there are none for it now. */
static bool stream_place(struct router_core *c, struct session *s, size_t n_nodes)
{
    uint32_t tokens = s->n_prompt + s->max_new;
    struct schedule_need need = {.tokens = tokens,
                                 .pages = kv_layout_pages(tokens),
                                 .avoid = s->avoid,
                                 .mode = c->config.mode};
    struct schedule_pair pair;

    if (!schedule_pick(&pair, c->nodes.snapshot, n_nodes, &need))
        return false;
    session_queue_remove(&c->queue, s);
    stream_charge(c, s, &pair, need.pages);
    s->id.epoch++;
    s->state = SESSION_RESERVING;
    s->placed_at = c->now;
    if (s->id.epoch == 1)
        s->stats.wait_ns = c->now - s->submitted_at;
    c->running++;
    stream_send_reserve(c, s);
    return true;
}

void stream_place_all(struct router_core *c)
{
    struct session *s, *next;

    for (s = c->queue.head; s; s = next) {
        next = s->next;
        if (stream_place(c, s, node_table_snapshot(&c->nodes, c->now)))
            continue;
        /* Strictly in order: a large request waits for room rather than being passed by small ones
         * for ever. One that no node here could ever hold (the large one left) blocks nobody. */
        if (s->n_prompt + s->max_new <= c->ctx_max)
            break;
    }
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
    j->sampling = s->sampling;
    j->n_stop_tokens = s->n_stop_tokens;
    memcpy(j->stop_tokens, s->stop_tokens, sizeof(j->stop_tokens));
    memcpy(j->decode_name, s->decode->reg.name, sizeof(j->decode_name));
    memcpy(j->kv_endpoint, s->decode->reg.kv_endpoint, sizeof(j->kv_endpoint));
    s->state = SESSION_PREFILL;
    action_send(c, s->prefill, &m);
}

static void stream_deliver(struct router_core *c, const struct session *s, uint32_t first)
{
    struct router_action *a = action_add(c, ROUTER_DELIVER);

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

void stream_first(struct router_core *c, struct session *s, const struct msg_prefill_token *m)
{
    uint32_t first = s->n_delivered;
    bool ahead;

    s->stats.queue_ns = m->queue_ns;
    s->stats.prefill_ns = m->compute_ns;
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
    if (first_missing) {
        stream_keep_ahead(s, m);
        return;
    }
    if (m->finish != FINISH_NONE)
        s->stats.kv_bytes = m->kv_bytes;
    stream_uncharge_prefill(s); /* the decode node has all the KV */
    if (s->local && s->queued_tokens) {
        stream_uncharge_prompt(s);
        s->stats.queue_ns = m->queue_ns;
        s->stats.prefill_ns = m->compute_ns;
    }
    if (verdict == SESSION_NEW)
        stream_deliver(c, s, first);
    stream_end_if_done(c, s, s->decode, m->finish);
}
