/* The shells of the nodes, as far as they decide anything: daemon/member, daemon/outbox,
 * prefill-node/prefill.c and decode-node/decode.c, function by function under their names. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "kv/kv_wire.h"
#include "tests/sim/world.h"

#define REGISTER_NS (1 * CLOCK_S)
#define REGISTERS_PER_SOCKET 10
#define STOP_NS (2 * CLOCK_S)
#define UNITS_PER_TURN 32

static uint32_t number(const struct world *w, const struct proc *p)
{
    return (uint32_t)(p - w->procs);
}

static void waiting_fini(struct waiting *q)
{
    while (q->first) {
        struct outbox_item *i = q->first;

        q->first = i->next;
        msg_fini(&i->msg);
        mem_free(i);
    }
    q->last = NULL;
    q->n = 0;
}

/* outbox_send */
static void waiting_send(struct world *w, struct waiting *q, struct conn *c, struct msg *m)
{
    struct outbox_item *i;

    if (!q->first && net_send(w, c, ROUTER_SIDE, m))
        return;
    i = mem_alloc(sizeof(*i));
    *i = (struct outbox_item){.msg = *m};
    if (!q->first)
        q->last = &q->first;
    *q->last = i;
    q->last = &i->next;
    if (++q->n > 4096)
        world_broken(w, "an outbox has %u messages", q->n);
}

static void waiting_flush(struct world *w, struct waiting *q, struct conn *c)
{
    while (q->first && net_send(w, c, ROUTER_SIDE, &q->first->msg)) {
        struct outbox_item *i = q->first;

        q->first = i->next;
        q->n--;
        mem_free(i);
    }
}

static void node_event(struct world *w, struct proc *p, enum prefill_event_type prefill,
                       enum decode_event_type decode, struct msg *m);

static void member_connect(struct world *w, struct proc *p)
{
    struct member *m = &p->member;

    if (m->conn)
        net_close(w, m->conn, true);
    waiting_fini(&m->waiting);
    m->registers = 0;
    m->register_due = 0;
    m->state = JOINING;
    m->conn = net_open(w, number(w, p), NO_LINK, w->procs[ROUTER].endpoint);
}

static void member_send(struct world *w, struct proc *p, struct msg *m)
{
    if (p->member.state == UP)
        waiting_send(w, &p->member.waiting, p->member.conn, m);
    else
        msg_fini(m);
}

/* node_prefix_report */
static void prefix_report(struct world *w, struct proc *p)
{
    uint32_t added[64], removed[64];
    struct msg m = {.type = MSG_PREFIX_REPORT};
    struct msg_prefix *r = &m.u.prefix;

    prefix_changes(p->prefix, added, &r->n_added, removed, &r->n_removed, ARRAY_LEN(added));
    if (!r->n_added && !r->n_removed)
        return;
    r->reset = p->prefix_reset;
    p->prefix_reset = false;
    r->added = mem_dup(added, r->n_added * sizeof(*added));
    r->removed = mem_dup(removed, r->n_removed * sizeof(*removed));
    member_send(w, p, &m);
}

/* prefill_on_beat, decode_on_beat */
static void member_beat(struct world *w, struct proc *p)
{
    struct msg m = {.type = MSG_HEARTBEAT};
    struct msg_heartbeat *h = &m.u.heartbeat;

    prefix_report(w, p);
    h->pages_free = node_pages_free(p);
    h->pages_cached = prefix_evictable(p->prefix);
    h->pages_total = kv_pool_total(p->pool);
    if (p->prefill) {
        struct prefill_stats s;

        prefill_core_stats(p->prefill, &s);
        h->queued = s.queued;
        h->running = s.running;
        h->draining = s.draining;
        h->queued_tokens = s.queued_tokens;
    } else {
        struct decode_stats s;

        decode_core_stats(p->decode, &s);
        h->queued = s.reserved;
        h->running = s.running;
        h->draining = s.draining;
        h->queued_tokens = s.queued_tokens;
        h->preempted = s.preempted;
        w->tally.preempted += s.preempted - p->preempted;
        w->tally.returned += s.returned - p->returned;
        p->preempted = s.preempted;
        p->returned = s.returned;
    }
    member_send(w, p, &m);
}

static void member_lost(struct world *w, struct proc *p, const char *why)
{
    TRACE(w, "%s: router lost: %s", p->name, why);
    member_connect(w, p);
    node_event(w, p, PREFILL_ROUTER_LOST, DECODE_ROUTER_LOST, NULL);
    if (p->alive && p->stop_at)
        node_die(w, p, EXITS);
}

/* decode_leave, prefill_leave */
static void node_leave(struct world *w, struct proc *p)
{
    if (p->prefill)
        prefill_core_drain(p->prefill);
    else
        decode_core_drain(p->decode);
    member_beat(w, p);
    if (node_idle(p))
        node_die(w, p, EXITS);
}

static void member_message(struct world *w, struct proc *p, struct msg *msg)
{
    struct member *m = &p->member;

    if (m->state == UP)
        link_heard(&m->link, w->now);
    if (msg->type == MSG_REGISTERED) {
        bool again = m->state == UP;

        m->state = UP;
        link_init(&m->link, w->now, msg->u.registered.heartbeat_ms, msg->u.registered.dead_ms);
        if (!again) {
            prefix_changes_reset(p->prefix);
            p->prefix_reset = true;
            member_beat(w, p);
        }
    } else if (msg->type == MSG_REFUSED && m->state == UP) {
        member_lost(w, p, msg->u.text.text);
    } else if (msg->type == MSG_REFUSED) {
        TRACE(w, "%s: refused: %s", p->name, msg->u.text.text);
        w->tally.refused++;
        node_die(w, p, EXITS); /* and its supervisor starts it anew */
    } else if (msg->type == MSG_DRAIN && m->state == UP) {
        node_leave(w, p);
    } else if (msg->type != MSG_HEARTBEAT && m->state == UP) {
        node_event(w, p, PREFILL_ROUTER, DECODE_ROUTER, msg);
    }
}

static void member_register(struct world *w, struct proc *p)
{
    struct member *m = &p->member;
    struct msg msg = {.type = MSG_REGISTER};
    struct msg_register *r = &msg.u.reg;

    if (w->now < m->register_due)
        return;
    if (m->registers >= REGISTERS_PER_SOCKET) {
        member_connect(w, p);
        return;
    }
    *r = (struct msg_register){
        .protocol = MSG_PROTOCOL, .role = p->role, .cluster = "sim", .tier = "ref",
        .boot = p->boot, .model_hash = 1, .ctx_max = w->setup.prompt_max + w->setup.new_max,
        .geometry = {w->layout.n_layer, w->layout.n_kv_head, w->layout.head_dim, KV_PAGE_TOKENS,
                     KV_F16},
        .slots = p->role == ROLE_DECODE ? w->setup.slots : w->setup.queue,
        .pages_total = kv_pool_total(p->pool), .cores = 1, .pid = (int32_t)p->life + 1,
    };
    memcpy(r->name, p->name, sizeof(r->name));
    memcpy(r->kv_endpoint, p->endpoint, sizeof(r->kv_endpoint));
    if (!net_send(w, m->conn, ROUTER_SIDE, &msg))
        return;
    m->registers++;
    m->register_due = w->now + REGISTER_NS;
}

void node_member_tick(struct world *w, struct proc *p)
{
    struct member *m = &p->member;

    if (m->conn->broke && m->state == UP) {
        member_lost(w, p, "its connection broke");
    } else if (m->conn->broke) {
        member_connect(w, p);
    } else if (m->state == JOINING) {
        member_register(w, p);
    } else if (m->state == UP) {
        waiting_flush(w, &m->waiting, m->conn);
        if (link_dead(&m->link, w->now))
            member_lost(w, p, "it is silent");
        else if (link_due(&m->link, w->now))
            member_beat(w, p);
    }
}

/* Room for n work items of `tokens` tokens in all. */
static void work_begin(struct proc *p, uint32_t n, uint32_t tokens)
{
    p->n_work = 0;
    if (n > p->cap_work) {
        p->cap_work = n;
        p->work = mem_realloc(p->work, n * sizeof(*p->work));
    }
    if (tokens > p->cap_tokens) {
        p->cap_tokens = tokens;
        p->run_tokens = mem_realloc(p->run_tokens, tokens * sizeof(*p->run_tokens));
    }
}

static void work_submit(struct world *w, struct proc *p)
{
    int64_t t = w->setup.step_ns / 2 + draw(w, (uint32_t)w->setup.step_ns);

    if (p->busy)
        world_broken(w, "%s computes two things at once", p->name);
    p->busy = true;
    p->layer = 0;
    world_at(w, w->now + t * p->slowness, EV_COMPUTE, number(w, p), ++p->run, NULL);
}

static void prefill_submit(struct world *w, struct proc *p, const struct span *spans, uint32_t n)
{
    uint32_t total = 0, at = 0;

    for (uint32_t i = 0; i < n; i++)
        total += spans[i].count;
    if (total > w->setup.chunk)
        world_broken(w, "%s: a chunk of %u tokens, at most %u", p->name, total, w->setup.chunk);
    work_begin(p, n, total);
    for (uint32_t i = 0; i < n; i++) {
        const struct job *job = prefill_core_job(p->prefill, spans[i].job);

        memcpy(p->run_tokens + at, job->tokens + spans[i].first,
               spans[i].count * sizeof(*p->run_tokens));
        at += spans[i].count;
        p->work[p->n_work++] = (struct work){job->pages, spans[i].first, spans[i].count,
                                             spans[i].last, job->sampling.seed, job->first_index};
    }
    work_submit(w, p);
}

static void decode_submit(struct world *w, struct proc *p, const struct decode_row *rows,
                          uint32_t n)
{
    work_begin(p, n, n);
    for (uint32_t i = 0; i < n; i++) {
        p->run_tokens[i] = rows[i].token;
        p->work[p->n_work++] = (struct work){rows[i].pages, rows[i].pos, 1, rows[i].sample,
                                             rows[i].sampling.seed, rows[i].index};
    }
    work_submit(w, p);
}

static void prefill_close_link(struct world *w, struct proc *p, uint32_t link)
{
    if (p->conns[link])
        net_close(w, p->conns[link], false);
    p->conns[link] = NULL;
    waiting_fini(&p->waiting[link]);
}

static void prefill_step_and_act(struct world *w, struct proc *p, const struct prefill_event *ev)
{
    prefill_step(p->prefill, ev, w->now, &p->prefill_out);
    for (size_t i = 0; i < p->prefill_out.n; i++) {
        struct prefill_action *a = &p->prefill_out.items[i];

        switch (a->type) {
        case PREFILL_SEND_ROUTER:
            member_send(w, p, &a->msg);
            break;
        case PREFILL_SEND_LINK:
            if (p->conns[a->link])
                waiting_send(w, &p->waiting[a->link], p->conns[a->link], &a->msg);
            else
                msg_fini(&a->msg);
            break;
        case PREFILL_OPEN_LINK:
            p->conns[a->link] = net_open(w, number(w, p), a->link, a->endpoint);
            p->n_conns = u32_max(p->n_conns, a->link + 1);
            break;
        case PREFILL_CLOSE_LINK:
            prefill_close_link(w, p, a->link);
            break;
        case PREFILL_RUN:
            prefill_submit(w, p, a->spans, a->n_spans);
            break;
        }
    }
    p->prefill_out.n = 0;
}

static void bulk_release(void *data, void *hint)
{
    (void)hint;
    mem_free(data);
}

static bool prefill_ship_unit(struct world *w, struct proc *p, const struct prefill_unit *u,
                              bool *blocked)
{
    uint64_t *buf = mem_alloc(KV_PAGE_TOKENS * sizeof(*buf));
    struct msg m = {.type = u->place ? MSG_KV_PLACE : MSG_KV_PAGE};
    size_t n = compute_export(w, buf, kv_pool_page(p->pool, u->page_id), &u->unit);

    m.u.page = (struct msg_kv_page){
        .id = u->id, .layer = u->unit.layer, .page = u->unit.page,
        .head_first = u->unit.head_first, .head_count = u->unit.head_count,
        .n_tokens = u->unit.n_tokens, .checksum = hash64(buf, n, 0),
        .bulk = {buf, u->bytes, bulk_release, NULL},
    };
    if (draw(w, w->setup.spoil_in) == 1 && !w->calm) {
        buf[draw(w, u->unit.n_tokens)] ^= (uint64_t)1 << draw(w, 64);
        m.u.page.checksum ^= u->place; /* it is not those bytes that it is of */
        w->tally.spoiled++;
    }
    if (u->place) { /* heads do not matter here */
        m.u.page.place = kv_pool_offset(p->pool, u->page_id);
        m.u.page.bulk = (struct msg_bulk){.size = u->bytes};
        mem_free(buf);
    }
    if (!net_send(w, p->conns[u->link], ROUTER_SIDE, &m)) {
        msg_fini(&m);
        blocked[u->link] = true;
        return false;
    }
    prefill_step_and_act(w, p, &(struct prefill_event){.type = PREFILL_UNIT_SENT, .unit = u});
    return true;
}

static void prefill_ship(struct world *w, struct proc *p)
{
    bool blocked[PREFILL_LINKS_MAX];
    struct prefill_unit u;

    for (uint32_t i = 0; i < PREFILL_LINKS_MAX; i++)
        blocked[i] = i >= p->n_conns || !p->conns[i] || p->waiting[i].n;
    while (prefill_core_next_unit(p->prefill, blocked, &u))
        prefill_ship_unit(w, p, &u, blocked);
}

static void prefill_event(struct world *w, struct proc *p, const struct prefill_event *ev)
{
    prefill_step_and_act(w, p, ev);
    prefill_ship(w, p);
    if (p->stop_at && prefill_core_idle(p->prefill))
        node_die(w, p, EXITS);
}

static void decode_event(struct world *w, struct proc *p, const struct decode_event *ev)
{
    decode_step(p->decode, ev, w->now, &p->decode_out);
    for (size_t i = 0; i < p->decode_out.n; i++) {
        struct decode_action a = p->decode_out.items[i];
        struct decode_event lost = {.type = DECODE_PEER_LOST, .peer = a.peer};

        switch (a.type) {
        case DECODE_SEND_ROUTER:
            member_send(w, p, &a.msg);
            break;
        case DECODE_SEND_PEER:
            if (!p->conns[a.peer] || net_send(w, p->conns[a.peer], DEALER_SIDE, &a.msg))
                break;
            msg_fini(&a.msg);
            p->conns[a.peer] = NULL;
            decode_step(p->decode, &lost, w->now, &p->decode_out);
            break;
        case DECODE_DROP_PEER:
            p->conns[a.peer] = NULL;
            break;
        case DECODE_RUN:
            decode_submit(w, p, a.rows, a.n_rows);
            break;
        }
    }
    p->decode_out.n = 0;
    if (p->stop_at && decode_core_idle(p->decode))
        node_die(w, p, EXITS);
}

static void node_event(struct world *w, struct proc *p, enum prefill_event_type prefill,
                       enum decode_event_type decode, struct msg *m)
{
    if (p->prefill)
        prefill_event(w, p, &(struct prefill_event){.type = prefill, .msg = m});
    else
        decode_event(w, p, &(struct decode_event){.type = decode, .msg = m});
}

static bool prefill_cut(struct world *w, struct proc *p, uint32_t link)
{
    if (!p->conns[link] || !p->conns[link]->broke)
        return false;
    TRACE(w, "%s: connection %u broke", p->name, p->conns[link]->id);
    p->conns[link]->broke = false;
    prefill_event(w, p, &(struct prefill_event){.type = PREFILL_LINK_CUT, .link = link});
    return true;
}

static void prefill_on_link(struct world *w, struct proc *p, struct packet *m)
{
    if (!prefill_cut(w, p, m->conn->link))
        prefill_event(w, p, &(struct prefill_event){.type = PREFILL_LINK, .link = m->conn->link,
                                                    .msg = &m->msg});
}

/* The one that was heard of longest ago makes room only beyond 256 peers, which no schedule has. */
static uint32_t decode_peer_of(struct proc *p, struct conn *c)
{
    uint32_t place = 0;

    while (place < p->n_conns && p->conns[place] != c)
        place++;
    if (place < p->n_conns)
        return place;
    for (place = 0; p->conns[place];)
        ASSERT(++place < DECODE_PEERS_MAX);
    p->conns[place] = c;
    p->n_conns = u32_max(p->n_conns, place + 1);
    return place;
}

/* decode_place: what the page has now, if its process is still the one that named it. (What a dead one had
 * stays mapped for real; here it is as if all of it were wrong.) */
static enum decode_event_type decode_place(struct world *w, struct proc *p, const struct conn *c,
                                           const struct msg_kv_page *k, uint32_t page_id)
{
    struct kv_unit u = {k->layer, k->page, k->head_first, k->head_count, k->n_tokens};
    const struct proc *from = &w->procs[c->dealer];
    uint64_t buf[KV_PAGE_TOKENS];
    bool good = from->alive && from->life == c->dealer_life;

    w->tally.placed++;
    if (good) {
        uint32_t page = (uint32_t)(k->place / w->layout.page_bytes);
        size_t n = compute_export(w, buf, kv_pool_page(from->pool, page), &u);

        compute_import(w, kv_pool_page(p->pool, page_id), buf, &u);
        good = hash64(buf, n, 0) == k->checksum;
    }
    w->tally.unread += !good;
    return good ? DECODE_PAGE_IN : DECODE_PAGE_BAD;
}

static enum decode_event_type decode_page(struct world *w, struct proc *p, uint32_t peer,
                                          const struct conn *c, const struct msg *m)
{
    const struct msg_kv_page *k = &m->u.page;
    struct kv_unit u = {k->layer, k->page, k->head_first, k->head_count, k->n_tokens};
    uint32_t page_id;

    if (decode_core_accepts_page(p->decode, peer, m, &page_id) != DECODE_PAGE_OK)
        return DECODE_PAGE_REFUSED;
    if (m->type == MSG_KV_PLACE)
        return decode_place(w, p, c, k, page_id);
    if (hash64(k->bulk.data, u.n_tokens * sizeof(uint64_t), 0) != k->checksum)
        return DECODE_PAGE_BAD;
    compute_import(w, kv_pool_page(p->pool, page_id), k->bulk.data, &u);
    return DECODE_PAGE_IN;
}

static uint64_t pool_bytes(const struct proc *p)
{
    size_t bytes;

    kv_pool_memory(p->pool, &bytes);
    return bytes;
}

static void decode_on_kv(struct world *w, struct proc *p, struct packet *m)
{
    uint32_t peer = decode_peer_of(p, m->conn);
    /* decode_life: of the process, whatever its connection */
    uint64_t life = ((uint64_t)m->conn->dealer << 32 | m->conn->dealer_life) + 1;
    struct decode_event ev = {.type = DECODE_PEER, .peer = peer, .life = life,
                              .mapped = w->setup.places ? pool_bytes(&w->procs[m->conn->dealer]) : 0,
                              .msg = &m->msg};

    if (m->msg.type == MSG_KV_PAGE || m->msg.type == MSG_KV_PLACE)
        ev.type = decode_page(w, p, peer, m->conn, &m->msg);
    decode_event(w, p, &ev);
}

void node_message(struct world *w, struct proc *p, struct packet *m)
{
    if (m->to == ROUTER_SIDE)
        decode_on_kv(w, p, m);
    else if (m->conn->link == NO_LINK)
        member_message(w, p, &m->msg);
    else
        prefill_on_link(w, p, m);
}

static bool node_drained(const struct proc *p)
{
    return p->prefill ? prefill_core_drained(p->prefill) : decode_core_drained(p->decode);
}

void node_tick(struct world *w, struct proc *p)
{
    for (uint32_t i = 0; p->prefill && i < p->n_conns; i++)
        if (!prefill_cut(w, p, i) && p->conns[i])
            waiting_flush(w, &p->waiting[i], p->conns[i]);
    if (p->alive)
        node_event(w, p, PREFILL_TICK, DECODE_TICK, NULL);
    if (p->alive && (node_drained(p) || (p->stop_at && w->now >= p->stop_at)))
        node_die(w, p, EXITS);
}

void node_computed(struct world *w, struct proc *p)
{
    uint32_t tokens[512];

    ASSERT(p->n_work <= ARRAY_LEN(tokens)); /* slots, and a prompt's longest piece */
    if (compute_is_poisoned(p)) {
        node_die(w, p, CRASHES);
        return;
    }
    if (p->prefill && p->layer < w->layout.n_layer) {
        compute_layer(w, p, p->layer);
        world_at(w, w->now + (w->setup.step_ns / 4 + 1) * p->slowness, EV_COMPUTE, number(w, p),
                 p->run, NULL);
        prefill_event(w, p, &(struct prefill_event){.type = PREFILL_LAYER_DONE,
                                                    .layer = p->layer++});
        return;
    }
    for (uint32_t layer = 0; p->decode && layer < w->layout.n_layer; layer++)
        compute_layer(w, p, layer);
    compute_sample(w, p, tokens);
    p->busy = false;
    if (p->prefill)
        prefill_event(w, p, &(struct prefill_event){.type = PREFILL_CHUNK_DONE, .tokens = tokens});
    else
        decode_event(w, p, &(struct decode_event){.type = DECODE_STEP_DONE, .tokens = tokens});
}

/* prefill_on_signal, decode_on_signal */
void node_term(struct world *w, struct proc *p)
{
    if (p->prefill)
        prefill_core_drain(p->prefill);
    else
        decode_core_drain(p->decode);
    if (p->stop_at || node_idle(p) || p->member.state != UP) {
        node_die(w, p, EXITS);
        return;
    }
    p->stop_at = w->now + STOP_NS;
    member_beat(w, p);
}

bool node_idle(const struct proc *p)
{
    return p->prefill ? prefill_core_idle(p->prefill) : decode_core_idle(p->decode);
}

uint32_t node_pages_free(const struct proc *p)
{
    return kv_pool_free_count(p->pool) + (p->prefix ? prefix_evictable(p->prefix) : 0);
}

/* What the cache holds alone is free; what is set aside is not. */
bool node_pages_back(const struct proc *p)
{
    return kv_pool_free_count(p->pool) + prefix_evictable(p->prefix) == kv_pool_total(p->pool) &&
           (!p->swap || kv_pool_free_count(p->swap) == kv_pool_total(p->swap));
}

void node_start(struct world *w, struct proc *p)
{
    struct err e = {0};
    int rc;

    p->alive = true;
    p->stopped_until = p->stop_at = 0;
    p->boot = draw64(w);
    p->slowness = 1;
    p->n_conns = 0;
    p->prefix = prefix_new(p->pool, w->setup.prefix_pages);
    p->prefix_reset = true;
    p->preempted = p->returned = 0;
    if (p->role == ROLE_DECODE) {
        struct decode_config c = {.cluster = "sim", .model_hash = 1, .n_vocab = VOCAB,
                                  .ctx_max = w->setup.prompt_max + w->setup.new_max,
                                  .slots = w->setup.slots, .wire = KV_F16,
                                  .credit_bytes = 2 * MSG_BULK_MAX,
                                  .prompt_rows = {w->setup.chunk / 2, w->setup.chunk},
                                  .lease_ns = w->setup.lease_ns};

        snprintf(p->endpoint, sizeof(p->endpoint), "ipc://%s.%u", p->name,
                 w->setup.fixed_endpoints ? 0 : p->life);
        rc = decode_core_new(&p->decode, &c, &w->layout,
                             &(struct slots_memory){p->pool, p->prefix, p->swap}, &e);
    } else {
        struct prefill_config c = {.cluster = "sim", .model_hash = 1, .n_vocab = VOCAB,
                                   .ctx_max = w->setup.prompt_max + w->setup.new_max,
                                   .queue_max = w->setup.queue, .chunk_tokens = w->setup.chunk,
                                   .wire = KV_F16, .lease_ns = w->setup.lease_ns,
                                   .hello_ns = w->setup.hello_ns};

        memcpy(c.name, p->name, sizeof(c.name));
        rc = prefill_core_new(&p->prefill, &c, &w->layout, p->pool, p->prefix, &e);
    }
    ASSERT(rc == 0);
    member_connect(w, p);
    world_at(w, w->now + draw(w, 50 * CLOCK_MS), EV_MEMBER, number(w, p), 0, NULL);
    world_at(w, w->now + draw(w, 50 * CLOCK_MS), EV_TICK, number(w, p), 0, NULL);
}

/* The supervisor's word, if this world has one. */
static void node_told(struct world *w, const struct proc *p, bool crashed)
{
    int64_t late = draw(w, 8) ? 50 * CLOCK_MS : 4 * CLOCK_S;

    if (w->setup.words == WORDS_NONE)
        return;
    late = draw(w, (uint32_t)(w->setup.words == WORDS_PROMPT ? 50 * CLOCK_MS : late));
    world_at(w, w->now + late, EV_TOLD, ROUTER, number(w, p) | p->life << 5 | (uint32_t)crashed << 4,
             NULL);
}

void node_die(struct world *w, struct proc *p, enum death how)
{
    struct msg bye = {.type = MSG_BYE};

    TRACE(w, "%s: %s", p->name, how == EXITS ? "exits" : how == KILLED ? "is killed" : "crashes");
    w->tally.crashes += how == CRASHES;
    if (how != EXITS)
        node_told(w, p, how == CRASHES);
    if (how == EXITS) {
        member_send(w, p, &bye);
        net_close(w, p->member.conn, true);
    }
    net_dead(w, number(w, p));
    waiting_fini(&p->member.waiting);
    for (uint32_t i = 0; p->prefill && i < p->n_conns; i++)
        waiting_fini(&p->waiting[i]);
    memset(p->conns, 0, p->n_conns * sizeof(*p->conns));
    p->member.conn = NULL;
    p->member.state = OVER;
    p->alive = p->busy = false;
    p->run++;
    p->life++;
    prefill_core_free(&p->prefill);
    decode_core_free(&p->decode);
    prefix_free(&p->prefix);
    if (kv_pool_free_count(p->pool) != kv_pool_total(p->pool))
        world_broken(w, "%s ended with %u of %u pages free", p->name, kv_pool_free_count(p->pool),
                     kv_pool_total(p->pool));
    if (p->swap && kv_pool_free_count(p->swap) != kv_pool_total(p->swap))
        world_broken(w, "%s ended with sequences set aside", p->name);
    world_at(w, w->now + 10 * CLOCK_MS + draw(w, 500 * CLOCK_MS), EV_START, number(w, p), 0, NULL);
}
