/* What the router does with each message from a node. Nothing here is trusted: the sender's role,
 * the epoch and every number are checked; what does not fit is dropped and counted, or restarts the
 * stream that it belongs to. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "router/stream.h"

static void inbox_refuse(struct router_core *c, uint64_t handle, const char *text)
{
    struct msg m = {.type = MSG_REFUSED};
    struct node who = {.handle = handle};

    snprintf(m.u.text.text, sizeof(m.u.text.text), "%s", text);
    action_send(c, &who, &m);
    action_add(c, ROUTER_DISCONNECT)->node = handle;
}

static void inbox_refuse_register(struct router_core *c, uint64_t handle,
                                  const struct msg_register *reg, const char *why)
{
    action_note(c, LOG_WARN, "node=%.63s pid=%d refused: %s", reg->name, reg->pid, why);
    c->counters.nodes_refused++;
    inbox_refuse(c, handle, why);
}

/* Remembers the longest sequence of the nodes that are there. */
static void inbox_nodes_changed(struct router_core *c)
{
    c->ctx_max = schedule_ctx(c->nodes.snapshot, node_table_snapshot(&c->nodes, c->now),
                              c->config.mode);
    queue_unpark(&c->queue, c->now);
}

static void inbox_welcome(struct router_core *c, struct node *node)
{
    struct msg m = {.type = MSG_REGISTERED};
    char kinds[MSG_TEXT_MAX / 2];

    node_table_up(&c->nodes, node);
    c->room = true;
    link_init(&node->link, c->now, c->config.heartbeat_ms, c->config.dead_ms);
    m.u.registered.heartbeat_ms = c->config.heartbeat_ms;
    m.u.registered.dead_ms = c->config.dead_ms;
    action_send(c, node, &m);
    c->counters.nodes_registered++;
    inbox_nodes_changed(c);
    action_note(c, LOG_INFO, "node=%s role=%s tier=%s slots=%u ctx=%u pages=%u pid=%d registered",
                node->reg.name, node_role_name(node->reg.role), node->reg.tier, node->reg.slots,
                node->reg.ctx_max, node->reg.pages_total, node->reg.pid);
    if (node_table_mixed(&c->nodes, kinds, sizeof(kinds)))
        action_note(c, LOG_WARN,
                    "nodes of several kernel tiers or kv_type: %s; equal streams are promised only among "
                    "nodes of one kv_type, and of amx or of the others",
                    kinds);
}

static struct node *inbox_namesake(struct router_core *c, const struct node *node)
{
    for (size_t i = 0; i < c->nodes.n; i++) {
        struct node *other = c->nodes.items[i];

        if (other != node && !strcmp(other->reg.name, node->reg.name))
            return other;
    }
    return NULL;
}

/* The holder of a name is alive: the one that waits for the name is refused. */
static void inbox_refuse_waiting(struct router_core *c, const struct node *holder)
{
    struct node *other = c->nodes.n_waiting ? inbox_namesake(c, holder) : NULL; /* at each heartbeat */
    char text[MSG_TEXT_MAX];

    if (!other)
        return;
    snprintf(text, sizeof(text), "a node named '%s' is alive in the cluster (pid %d)",
             holder->reg.name, holder->reg.pid);
    inbox_refuse_register(c, other->handle, &other->reg, text);
    node_table_remove(&c->nodes, other);
}

/* Restarts every stream that the node has a part of. alive: it is told to let go of them. */
static void inbox_restart_streams(struct router_core *c, const struct node *node, enum node_end end,
                                  bool alive, const char *why)
{
    struct blame blame = quarantine_strike(c, node, end);
    struct session *s;
    size_t iter = 0;

    while ((s = map_next(&c->by_request, &iter))) {
        if (s->prefill != node && s->decode != node)
            continue;
        if (!alive)
            stream_let_go(s, node);
        if (quarantine_takes(c, s, &blame, node->reg.name))
            continue;
        if (end == NODE_KILLED)
            stream_again(c, s, node->handle, why);
        else
            stream_restart(c, s, node->handle, why);
    }
}

static void inbox_end(struct router_core *c, struct node *node, const char *why, enum node_end end)
{
    char text[MSG_TEXT_MAX];
    struct node *heir = inbox_namesake(c, node);

    snprintf(text, sizeof(text), "node %s is lost: %.200s", node->reg.name, why);
    if (node->state != NODE_WAITING) {
        c->counters.nodes_lost++;
        action_note(c, end == NODE_LEFT ? LOG_INFO : LOG_WARN, "node=%s running=%u %s: %s", node->reg.name,
                    node->running, end == NODE_LEFT ? "left" : "lost", why);
        inbox_restart_streams(c, node, end, false, text);
    }
    action_add(c, ROUTER_DISCONNECT)->node = node->handle;
    if (node->state == NODE_WAITING)
        heir = NULL;
    node_table_remove(&c->nodes, node);
    inbox_nodes_changed(c);
    if (heir)
        inbox_welcome(c, heir);
}

void inbox_lost(struct router_core *c, struct node *node, const char *why)
{
    inbox_end(c, node, why, NODE_UNHEARD);
}

/* Of a process that runs under its supervisor's eyes: known before it is silent for long, or after. */
static void inbox_ended(struct router_core *c, uint64_t handle, const struct msg_ended *m)
{
    struct node *node = NULL;

    action_add(c, ROUTER_DISCONNECT)->node = handle;
    if (strcmp(m->cluster, c->config.expect.cluster) != 0) {
        action_note(c, LOG_WARN, "node=%s of cluster %s is none of ours", m->name, m->cluster);
        return;
    }
    for (size_t i = 0; i < c->nodes.n && !node; i++) {
        const struct msg_register *reg = &c->nodes.items[i]->reg;

        if (!strcmp(reg->name, m->name) && !strcmp(reg->host, m->host) && reg->pid == m->pid)
            node = c->nodes.items[i];
    }
    if (node)
        inbox_end(c, node, m->text, m->crashed ? NODE_CRASHED : NODE_KILLED);
    else
        quarantine_told(c, quarantine_process(m->name, m->host, m->pid), m->name, m->crashed);
}

/* A node that is here already registers: it gave us up, or did not get our answer. */
static void inbox_register_again(struct router_core *c, struct node *node,
                                 const struct msg_register *reg)
{
    if (node->reg.role != reg->role || strcmp(node->reg.name, reg->name) != 0) {
        inbox_end(c, node, "it registered again as another node", NODE_LEFT);
        return; /* and was disconnected */
    }
    if (node->state == NODE_WAITING)
        return;
    inbox_restart_streams(c, node, NODE_LEFT, true, "a node registered anew");
    node->reg = *reg;
    prefix_index_reset(&node->prefix, &c->nodes.prefix_blocks);
    inbox_welcome(c, node);
}

/* The same process waited for its name over a connection that it has given up since. */
static void inbox_forget_waiting(struct router_core *c, const struct msg_register *reg)
{
    for (size_t i = 0; i < c->nodes.n; i++) {
        struct node *other = c->nodes.items[i];

        if (other->state != NODE_WAITING || other->reg.boot != reg->boot ||
            strcmp(other->reg.name, reg->name) != 0)
            continue;
        action_add(c, ROUTER_DISCONNECT)->node = other->handle;
        node_table_remove(&c->nodes, other);
        return;
    }
}

static void inbox_register(struct router_core *c, uint64_t handle, const struct msg_register *reg)
{
    struct node *node = node_table_get(&c->nodes, handle), *holder;
    struct err e = {0};

    if (node_check(&c->nodes, &c->config.expect, reg, &e) == 0 && !node &&
        c->nodes.n == NODES_MAX)
        err_set(&e, ERR_LIMIT, "the cluster has %d nodes, and there can be no more", NODES_MAX);
    if (e.code) {
        if (node)
            inbox_end(c, node, "it registered again, wrongly", NODE_LEFT);
        inbox_refuse_register(c, handle, reg, e.text);
        return;
    }
    if (node) {
        inbox_register_again(c, node, reg);
        return;
    }
    inbox_forget_waiting(c, reg);
    quarantine_pardon(c, reg->boot);
    holder = node_table_named(&c->nodes, reg->name);
    if (holder && holder->reg.boot == reg->boot) {
        inbox_end(c, holder, "it came back over another connection", NODE_LEFT);
        holder = NULL;
    }
    node = node_table_add(&c->nodes, handle, reg);
    link_init(&node->link, c->now, c->config.heartbeat_ms, c->config.dead_ms);
    if (!holder) {
        inbox_welcome(c, node);
        return;
    }
    /* Killed and started again, or a second node of that name by mistake: the holder's next
     * heartbeat, or its absence, will tell. */
    action_note(c, LOG_INFO, "node=%s pid=%d waits: pid=%d has the name", reg->name, reg->pid,
                holder->reg.pid);
}

/* A PREFILL_JOB got lost with a connection that ZeroMQ made again: the node has fewer jobs than it was
 * given dead_ms ago and has not answered since. Nobody knows which, so all of these start anew. */
static void inbox_lost_jobs(struct router_core *c, struct node *node, uint32_t jobs)
{
    int64_t before = c->now - c->config.dead_ms * CLOCK_MS;
    struct session *s;
    size_t iter = 0;
    uint32_t n = 0;

    while ((s = map_next(&c->by_request, &iter)))
        n += s->state == SESSION_PREFILL && s->prefill == node && s->job_at < before;
    for (iter = 0; n > jobs && (s = map_next(&c->by_request, &iter));)
        if (s->state == SESSION_PREFILL && s->prefill == node && s->job_at < before)
            stream_restart(c, s, 0, "the prefill node does not know the job");
}

static void inbox_heartbeat(struct router_core *c, struct node *node, const struct msg_heartbeat *m)
{
    node->beat = *m;
    if (node->state == NODE_WAITING)
        return;
    if (node->reg.role == ROLE_PREFILL && node->running > m->queued + m->running)
        inbox_lost_jobs(c, node, m->queued + m->running);
    if (m->draining && node->state == NODE_UP)
        action_note(c, LOG_INFO, "node=%s running=%u drains", node->reg.name, m->running);
    node->state = m->draining || node->drained ? NODE_DRAINING : NODE_UP;
    /* steps with rows of prompts say nothing about those without */
    if (node->reg.role == ROLE_DECODE && node->running && !m->queued_tokens)
        cost_saw_step(&node->cost, node->running, (double)node->kv_tokens, (int64_t)m->step_ns,
                      c->now);
    c->room = true;
    inbox_refuse_waiting(c, node);
}

static void inbox_prefix(struct router_core *c, struct node *node, const struct msg_prefix *m)
{
    uint32_t *total = &c->nodes.prefix_blocks;

    if (m->reset)
        prefix_index_reset(&node->prefix, total);
    for (uint32_t i = 0; i < m->n_removed; i++)
        prefix_index_remove(&node->prefix, m->removed[i], total);
    for (uint32_t i = 0; i < m->n_added; i++)
        prefix_index_add(&node->prefix, m->added[i], total);
}

static void inbox_fault(struct router_core *c, const struct node *node, const struct msg *m,
                        const char *what)
{
    c->counters.protocol_faults++;
    action_note(c, LOG_WARN, "node=%s message=%s dropped: %s", node->reg.name,
                msg_type_name(m->type), what);
}

/* The attempt that a node speaks of, if it is the current one and that node has that part of it. */
static struct session *inbox_session(struct router_core *c, const struct node *node,
                                     const struct stream_id *id)
{
    struct session *s = map_get(&c->by_request, id->request);
    const struct node *has = !s                               ? NULL
                             : node->reg.role == ROLE_PREFILL ? s->prefill
                                                              : s->decode;

    if (!s || s->id.epoch != id->epoch || has != node) {
        c->counters.stale_messages++;
        return NULL;
    }
    return s;
}

static void inbox_reserved(struct router_core *c, struct node *node, const struct msg *m)
{
    const struct msg_reserved *r = &m->u.reserved;
    struct session *s = inbox_session(c, node, &r->id);

    if (!s)
        return;
    if (s->state != SESSION_RESERVING) {
        inbox_fault(c, node, m, "the reservation was confirmed before");
    } else if (r->held_tokens >= s->n_prompt + s->n_delivered) {
        inbox_fault(c, node, m, "it claims to hold the whole prompt or more");
        stream_restart(c, s, node->handle, "the decode node broke the protocol");
    } else {
        stream_reserved(c, s, r->held_tokens);
    }
}

static void inbox_first(struct router_core *c, struct node *node, const struct msg *m)
{
    const struct msg_prefill_token *t = &m->u.first;
    struct session *s = inbox_session(c, node, &t->id);

    if (!s)
        return;
    if (s->state == SESSION_DECODE) {
        c->counters.stale_messages++; /* a repeat */
    } else if (s->state != SESSION_PREFILL || t->index != s->n_delivered ||
               t->token >= c->config.expect.n_vocab || t->finish > FINISH_LENGTH) {
        inbox_fault(c, node, m, "wrong state, index, token or finish");
        stream_restart(c, s, node->handle, "the prefill node broke the protocol");
    } else {
        stream_first(c, s, t);
    }
}

static void inbox_tokens(struct router_core *c, struct node *node, const struct msg *m)
{
    const struct msg_tokens *t = &m->u.tokens;
    struct session *s = inbox_session(c, node, &t->id);
    bool ok = t->n_tokens <= MSG_TOKENS_BATCH_MAX && t->finish <= FINISH_LENGTH;

    if (!s)
        return;
    for (uint32_t i = 0; ok && i < t->n_tokens; i++)
        ok = t->tokens[i] < c->config.expect.n_vocab;
    if (!ok || s->state == SESSION_RESERVING) {
        inbox_fault(c, node, m, "wrong state, token or finish");
        stream_restart(c, s, node->handle, "the decode node broke the protocol");
        return;
    }
    stream_tokens(c, s, t);
}

/* RESERVE_REFUSED, PREFILL_FAILED, DECODE_FAILED */
static void inbox_failed(struct router_core *c, struct node *node, const struct msg *m)
{
    const struct msg_failed *f = &m->u.failed;
    struct session *s = inbox_session(c, node, &f->id);
    char why[MSG_TEXT_MAX + MSG_NAME_MAX + 16];

    if (!s)
        return;
    snprintf(why, sizeof(why), "node %s: %s", node->reg.name, f->text);
    if (m->type == MSG_RESERVE_REFUSED && s->state == SESSION_RESERVING && f->retry) {
        stream_refused(c, s);
        return;
    }
    node->held_until = c->now + STREAM_HOLD;
    stream_let_go(s, node);
    if (f->retry && f->room) /* who has its pages gets on, so its turn comes */
        stream_again(c, s, node->handle, why);
    else if (f->retry || m->type == MSG_RESERVE_REFUSED)
        stream_restart(c, s, node->handle, why);
    else
        stream_fail(c, s, 500, 0, why);
}

static bool inbox_is_failure(enum msg_type type, enum node_role role)
{
    if (role == ROLE_PREFILL)
        return type == MSG_PREFILL_FAILED;
    return type == MSG_RESERVE_REFUSED || type == MSG_DECODE_FAILED;
}

void inbox_message(struct router_core *c, uint64_t handle, const struct msg *m)
{
    struct node *node = node_table_get(&c->nodes, handle);

    if (m->type == MSG_REGISTER) {
        inbox_register(c, handle, &m->u.reg);
        return;
    }
    if (m->type == MSG_ENDED && !node) {
        inbox_ended(c, handle, &m->u.ended);
        return;
    }
    if (!node) {
        /* Given up by us, or we were started anew. Who leaves anyway needs no answer. */
        c->counters.stale_messages++;
        if (m->type == MSG_BYE)
            action_add(c, ROUTER_DISCONNECT)->node = handle;
        else
            inbox_refuse(c, handle, "not registered: register again");
        return;
    }
    link_heard(&node->link, c->now);
    if (m->type == MSG_HEARTBEAT)
        inbox_heartbeat(c, node, &m->u.heartbeat);
    else if (m->type == MSG_BYE)
        inbox_end(c, node, m->u.text.text[0] ? m->u.text.text : "it said BYE", NODE_LEFT);
    else if (node->state == NODE_WAITING)
        inbox_fault(c, node, m, "it is not registered yet");
    else if (m->type == MSG_PREFIX_REPORT)
        inbox_prefix(c, node, &m->u.prefix);
    else if (m->type == MSG_PREFILL_TOKEN && node->reg.role == ROLE_PREFILL)
        inbox_first(c, node, m);
    else if (m->type == MSG_RESERVED && node->reg.role == ROLE_DECODE)
        inbox_reserved(c, node, m);
    else if (m->type == MSG_TOKENS && node->reg.role == ROLE_DECODE)
        inbox_tokens(c, node, m);
    else if (inbox_is_failure(m->type, node->reg.role))
        inbox_failed(c, node, m);
    else
        inbox_fault(c, node, m, "not for a node of its role to send");
}
