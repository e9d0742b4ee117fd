/* A schedule: what a seed makes of a cluster, its clients and its faults; the clock; and what must be
 * true at the end. */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/mem.h"

#define SWAP_PAGES 6
#define PROBES 3         /* clients after the last fault */
#define QUIET_NS (400 * CLOCK_MS)
#define PENDING_MAX 100000 /* nothing that is bounded has so many messages under way */
#define EVENTS_MAX 20000000 /* of a schedule: something spins */

uint64_t draw64(struct world *w)
{
    uint64_t x = w->rng += 0x9e3779b97f4a7c15u; /* splitmix64 */

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint32_t draw(struct world *w, uint32_t below)
{
    return below ? (uint32_t)(((draw64(w) >> 32) * below) >> 32) : 0;
}

void world_at(struct world *w, int64_t at, enum event_kind kind, uint32_t proc, uint32_t arg,
              void *data)
{
    heap_push(&w->heap, (struct event){.at = at, .kind = kind, .proc = proc,
                                       .life = w->procs[proc].life, .arg = arg, .data = data});
}

void world_trace(const struct world *w, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "%12.6f  ", clock_s(w->now));
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void world_broken(struct world *w, const char *fmt, ...)
{
    va_list ap;
    int n;

    if (w->broken[0])
        return;
    n = snprintf(w->broken, sizeof(w->broken), "at %.3f s: ", clock_s(w->now));
    va_start(ap, fmt);
    vsnprintf(w->broken + n, sizeof(w->broken) - (size_t)n, fmt, ap);
    va_end(ap);
    TRACE(w, "BROKEN %s", w->broken);
}

/* Layers, heads, dimensions: KV in two parts a layer, in one, and a small one. */
static const uint32_t models[MODELS][3] = {{2, 5, 512}, {3, 4, 128}, {1, 1, 64}};
static const uint32_t pool_pages[POOL_SIZES] = {8, 10, 13, 20, 128};

/* Short prompts and long answers, all at once: the router charges half of an answer, so that nodes of 8
 * or 10 pages run out of them. */
static void setup_crowd(struct world *w, struct setup *s)
{
    s->crowded = true;
    s->pool = draw(w, 2);
    s->slots = 3 + draw(w, 6);
    s->clients = 8 + draw(w, 17);
    s->prompt_max = 30 + draw(w, 40);
    s->new_max = 150;
    s->step_ns = (1 + draw(w, 3)) * CLOCK_MS;
    s->swap = draw(w, 4) != 0;
    s->targets = false;
    s->prefix_pages = draw(w, 2) ? 0 : 1 + draw(w, pool_pages[s->pool]);
}

static void setup_init(struct world *w, struct setup *s)
{
    uint32_t mood = draw(w, 10);

    s->model = draw(w, MODELS);
    s->mode = draw(w, 2) ? ROUTER_DISAGGREGATED : draw(w, 4) ? ROUTER_AUTO : ROUTER_AGGREGATED;
    s->prefills = s->mode == ROUTER_AGGREGATED ? 0 : 1 + draw(w, 3);
    s->decodes = 1 + draw(w, 3);
    s->clients = 4 + draw(w, 13);
    s->slots = 2 + draw(w, 5);
    s->chunk = 32 * (1 + draw(w, 4));
    s->queue = 2 + draw(w, 7);
    s->prompt_max = draw(w, 4) ? 70 : 200;
    s->new_max = 40;
    s->pool = draw(w, 4);
    s->heartbeat_ms = draw(w, 3) ? 50 : 250;
    s->dead_ms = 8 * s->heartbeat_ms;
    s->active_ns = (500 + draw(w, 2000)) * CLOCK_MS;
    s->lease_ns = (300 + draw(w, 1000)) * CLOCK_MS;
    s->hello_ns = 500 * CLOCK_MS;
    s->delay_ns = draw(w, 3) ? 200 * CLOCK_US : 3 * CLOCK_MS;
    s->tail_in = draw(w, 2) ? 20 : 0;
    s->tail_ns = draw(w, 3) ? 20 * CLOCK_MS : 300 * CLOCK_MS;
    s->step_ns = (1 + draw(w, 10)) * CLOCK_MS;
    s->spoil_in = draw(w, 3) ? 0 : 20 + draw(w, 100);
    s->cancel_in = draw(w, 2) ? 0 : 2 + draw(w, 5);
    s->cancel_ns = 400 * CLOCK_MS;
    s->faults = mood == 0 ? 0 : 1 + draw(w, mood < 5 ? 3 : 12);
    s->kinds = 1 + draw(w, (1 << FAULT_KINDS) - 1);
    if (draw(w, 4)) /* a router's end is every client's: most schedules go without */
        s->kinds &= ~(1u << FAULT_ROUTER);
    if (!s->kinds)
        s->faults = 0;
    if (!s->faults) /* there and back and a heartbeat: still no silence that kills */
        s->tail_ns = u32_min((uint32_t)(s->tail_ns / CLOCK_MS), s->dead_ms / 4) * CLOCK_MS;
    s->prefix_pages = draw(w, 2) ? 0 : 1 + draw(w, pool_pages[s->pool]);
    s->swap = draw(w, 2);
    s->targets = draw(w, 2);
    s->fixed_endpoints = draw(w, 2);
    s->codec = draw(w, 16) == 0;
    s->words = draw(w, 4) ? WORDS_PROMPT : draw(w, 2) ? WORDS_LATE : WORDS_NONE;
    s->poison = draw(w, 6) == 0;
    s->places = draw(w, 3) > 0;
    if (draw(w, 3) == 0)
        setup_crowd(w, s);
}

static struct client *client_add(struct world *w, int64_t at, bool probe)
{
    struct client *c;

    if (w->n_clients == w->cap_clients) {
        w->cap_clients = w->cap_clients ? 2 * w->cap_clients : 32;
        w->clients = mem_realloc(w->clients, w->cap_clients * sizeof(*w->clients));
    }
    c = &w->clients[w->n_clients++];
    *c = (struct client){.at = at, .probe = probe, .seed = draw64(w)};
    c->n_prompt = 1 + draw(w, draw(w, 3) ? w->setup.prompt_max / 3 : w->setup.prompt_max);
    c->max_new = 1 + draw(w, w->setup.new_max);
    if (w->setup.crowded && draw(w, 4))
        c->max_new = w->setup.new_max;
    c->prompt = mem_calloc(c->n_prompt, sizeof(*c->prompt));
    /* one of three beginnings, then its own: what a prefix cache is for; or a beginning of its own and
     * then blocks that others have too, which a cache must not mistake for theirs */
    for (uint32_t i = 0, kind = draw(w, 4), shared = draw(w, c->n_prompt); i < c->n_prompt; i++)
        c->prompt[i] = kind < 3 ? (i < shared ? i * (kind + 3) % POISON : draw(w, POISON))
                       : i < KV_PAGE_TOKENS ? draw(w, POISON) : i * 3 % POISON;
    c->tenant = draw(w, 3);
    c->priority = draw(w, 3);
    compute_want(c, w->planes);
    world_at(w, at, EV_CLIENT, ROUTER, w->n_clients - 1, NULL);
    if (!probe && w->setup.cancel_in && draw(w, w->setup.cancel_in) == 0)
        world_at(w, at + draw(w, (uint32_t)w->setup.cancel_ns), EV_CANCEL, ROUTER, w->n_clients - 1, NULL);
    return c;
}

static void client_poison(struct world *w, struct client *c)
{
    c->poisoned = true;
    c->prompt[draw(w, c->n_prompt)] = POISON;
    c->n_want = 0;
}

static void fault_cut(struct world *w)
{
    struct conn *c = w->conns[draw(w, w->n_conns)];
    int64_t longest = draw(w, 2) ? 20 * CLOCK_MS : 3 * CLOCK_S;

    if (!c->open)
        return;
    TRACE(w, "fault: connection %u of %s is cut", c->id, w->procs[c->dealer].name);
    c->cut_until = w->now + draw(w, (uint32_t)(longest / 2));
    net_break(w, c, draw(w, (uint32_t)longest), draw(w, (uint32_t)longest));
}

/* It runs again when the faults end, at the latest. */
static void fault_stop(struct world *w, struct proc *p)
{
    int64_t end = w->setup.active_ns + 100 * CLOCK_MS;

    p->stopped_until = w->now + draw(w, draw(w, 2) ? 100 * CLOCK_MS : 4 * CLOCK_S - 1);
    if (p->stopped_until > end)
        p->stopped_until = end;
}

static void fault_happens(struct world *w)
{
    struct proc *p = &w->procs[1 + draw(w, w->n_procs - 1)];
    uint32_t kind = draw(w, FAULT_KINDS);

    while (!(w->setup.kinds & (1u << kind)))
        kind = (kind + 1) % FAULT_KINDS;
    w->tally.faults[kind]++;
    if (kind == FAULT_STOP && draw(w, 8) == 0)
        p = &w->procs[ROUTER];
    if (kind == FAULT_ROUTER && w->procs[ROUTER].alive)
        front_die(w);
    else if (kind == FAULT_CUT && w->n_conns)
        fault_cut(w);
    else if (!p->alive || p->stopped_until > w->now)
        return;
    else if (kind == FAULT_KILL)
        node_die(w, p, KILLED);
    else if (kind == FAULT_TERM)
        node_term(w, p);
    else if (kind == FAULT_DRAIN)
        front_drain(w, p);
    else if (kind == FAULT_SLOW)
        p->slowness = 1 + draw(w, 30);
    else if (kind == FAULT_STOP)
        fault_stop(w, p);
    TRACE(w, "fault: %u of %s until %.3f", kind, p->name, clock_s(p->stopped_until));
}

/* The event's process is stopped: it waits, in its place. */
static bool event_waits(struct world *w, struct event *e)
{
    const struct proc *p = &w->procs[e->proc];

    if (p->stopped_until <= w->now || e->kind == EV_FAULT)
        return false;
    e->at = p->stopped_until;
    heap_push(&w->heap, *e);
    return true;
}

static void event_start(struct world *w, struct proc *p)
{
    if (p == &w->procs[ROUTER])
        front_start(w);
    else
        node_start(w, p);
}

/* Of a process that is alive, in the life that the event is of. */
static void event_of_proc(struct world *w, const struct event *e)
{
    struct proc *p = &w->procs[e->proc];
    bool router = e->proc == ROUTER;

    switch ((enum event_kind)e->kind) {
    case EV_TICK:
        if (router)
            front_tick(w);
        else
            node_tick(w, p);
        if (p->alive)
            world_at(w, w->now + (p->prefill || router ? 50 : 100) * CLOCK_MS /
                     (w->setup.heartbeat_ms < 100 ? 4 : 1), EV_TICK, e->proc, 0, NULL);
        break;
    case EV_MEMBER:
        node_member_tick(w, p);
        if (p->alive)
            world_at(w, w->now + u32_min(50, w->setup.heartbeat_ms / 2) * CLOCK_MS, EV_MEMBER,
                     e->proc, 0, NULL);
        break;
    case EV_COMPUTE:
        if (p->busy && p->run == e->arg)
            node_computed(w, p);
        break;
    default:
        UNREACHABLE();
    }
}

static void event_packet(struct world *w, const struct event *e)
{
    struct packet *m = e->data;
    const struct proc *p = &w->procs[e->proc];

    if (p->alive && p->life == e->life && net_arrives(w, m)) {
        TRACE(w, "%s <- %s, connection %u", p->name, msg_type_name(m->msg.type), m->conn->id);
        if (e->proc == ROUTER)
            front_message(w, m);
        else
            node_message(w, &w->procs[e->proc], m);
    }
    net_packet_free(w, m);
}

static void event_happens(struct world *w, struct event *e)
{
    struct proc *p = &w->procs[e->proc];

    w->tally.events++;
    switch ((enum event_kind)e->kind) {
    case EV_MSG:
        event_packet(w, e);
        break;
    case EV_CONNECT:
        net_connect(w, e->data);
        break;
    case EV_NOTICE:
        net_notice(w, e->data, e->arg);
        break;
    case EV_FAULT:
        fault_happens(w);
        break;
    case EV_CLIENT:
        front_client(w, e->arg);
        break;
    case EV_CANCEL:
        front_cancel(w, e->arg);
        break;
    case EV_TOLD:
        if (p->alive && p->life == e->life)
            front_told(w, e->arg);
        break;
    case EV_START:
        if (!p->alive && p->life == e->life)
            event_start(w, p);
        break;
    default:
        if (p->alive && p->life == e->life)
            event_of_proc(w, e);
    }
}

/* Plays until `until`, or until something broke. */
static void world_run(struct world *w, int64_t until)
{
    struct event e;

    while (!w->broken[0] && w->heap.n && w->heap.items[0].at <= until) {
        heap_pop(&w->heap, &e);
        w->now = e.at;
        if (!event_waits(w, &e))
            event_happens(w, &e);
        if (w->tally.events > EVENTS_MAX || w->heap.n > PENDING_MAX)
            world_broken(w, "%" PRIu64 " events were and %zu are to come", w->tally.events, w->heap.n);
    }
    if (!w->broken[0])
        w->now = until;
}

/* Pages lie far apart in a pool and hold little here: no huge pages. */
static struct kv_pool *pool_of(struct world *w, struct kv_pool **p, uint32_t pages)
{
    size_t bytes;
    void *memory;

    if (!*p) {
        ASSERT(kv_pool_open(p, &w->layout, pages, NULL) == 0);
        memory = kv_pool_memory(*p, &bytes);
        madvise(memory, bytes, MADV_NOHUGEPAGE);
    }
    compute_scrub(w, *p);
    return *p;
}

void pools_close(struct pools *pools)
{
    struct kv_pool **p = &pools->items[0][0][0];

    for (size_t i = 0; i < sizeof(*pools) / sizeof(*p); i++) /* both are arrays of these */
        kv_pool_close(&p[i]);
}

static void world_init(struct world *w, struct pools *pools)
{
    const struct setup *s = &w->setup;
    const uint32_t *m = models[s->model];

    kv_layout_init(&w->layout, KV_F16, m[0], m[1], m[2]);
    kv_cut_init(&w->cut, &w->layout, KV_F16, MSG_BULK_MAX);
    w->planes = m[0] * w->cut.parts;
    ASSERT(w->planes <= PLANES_MAX);
    w->n_procs = 1 + s->prefills + s->decodes;
    snprintf(w->procs[ROUTER].name, MSG_NAME_MAX, "router");
    snprintf(w->procs[ROUTER].endpoint, MSG_ENDPOINT_MAX, "ipc://router");
    for (uint32_t i = 0; i < w->n_procs; i++) {
        struct proc *p = &w->procs[i];

        if (i) {
            p->role = i <= s->prefills ? ROLE_PREFILL : ROLE_DECODE;
            snprintf(p->name, sizeof(p->name), "%s-%u", node_role_name(p->role), i);
            p->pool = pool_of(w, &pools->items[s->model][s->pool][i], pool_pages[s->pool]);
            if (s->swap && p->role == ROLE_DECODE)
                p->swap = pool_of(w, &pools->swaps[s->model][i], SWAP_PAGES);
        }
        world_at(w, draw(w, 20 * CLOCK_MS), EV_START, i, 0, NULL);
    }
}

/* No fault any more: what was stopped runs already, what is slow is fast, what is cut connects. */
static void world_calm(struct world *w)
{
    TRACE(w, "calm");
    w->calm = true;
    for (uint32_t i = 0; i < w->n_procs; i++)
        w->procs[i].slowness = 1;
    for (uint32_t i = 0; i < w->n_conns; i++)
        w->conns[i]->cut_until = 0;
    w->setup.tail_ns /= 10;
}

static bool world_quiet(const struct world *w)
{
    if (w->n_over < w->n_clients || w->n_notices || !front_idle(w))
        return false;
    for (uint32_t i = 1; i < w->n_procs; i++) {
        const struct proc *p = &w->procs[i];

        if (!p->alive || p->member.state != UP || !p->member.conn->live || p->member.conn->deaf ||
            !node_idle(p) || !node_pages_back(p))
            return false;
    }
    return router_core_node_count(w->router) == w->n_procs - 1;
}

/* What is not as it should be, for the report. */
static void world_stuck(struct world *w, const char *when)
{
    char text[400];
    size_t n = 0;

    text[0] = 0;
    for (uint32_t i = 0; i < w->n_clients && n < 100; i++)
        if (w->clients[i].state != CLIENT_OVER)
            n += (size_t)snprintf(text + n, sizeof(text) - n, " client %u has %u of %u tokens;", i,
                                  w->clients[i].got, w->clients[i].n_want);
    for (uint32_t i = 1; i < w->n_procs && n < 300; i++) {
        const struct proc *p = &w->procs[i];

        if (!p->alive)
            n += (size_t)snprintf(text + n, sizeof(text) - n, " %s: dead;", p->name);
        else if (p->member.state != UP || !node_idle(p) || !node_pages_back(p))
            n += (size_t)snprintf(text + n, sizeof(text) - n, " %s: %s, %u of %u pages free;",
                                  p->name,
                                  p->member.state != UP ? "not joined"
                                  : node_idle(p)        ? "idle"
                                                        : "busy",
                                  node_pages_free(p), kv_pool_total(p->pool));
    }
    world_broken(w, "%s:%s router: %s, %u queued, %u running", when, text,
                 w->router && front_idle(w) ? "idle" : "charged",
                 w->router ? router_core_queued(w->router) : 0,
                 w->router ? router_core_running(w->router) : 0);
}

/* From calm to silence. The longest that a stream may wait for what was lost with a connection is
 * the decode node's lease until the first page, then the queue's deadline. */
static void world_settle(struct world *w)
{
    int64_t bound = w->now + (DECODE_QUEUE_LEASES + 3) * w->setup.lease_ns + 12 * CLOCK_S +
                    4 * w->setup.dead_ms * CLOCK_MS;

    while (!w->broken[0] && !world_quiet(w)) {
        if (w->now >= bound)
            world_stuck(w, "streams, nodes or pages do not come to rest");
        world_run(w, w->now + 100 * CLOCK_MS);
    }
}

/* An attempt that ends for another reason may leave a node computing, whose crash is then nobody's. */
bool world_is_tidy(const struct world *w)
{
    const struct setup *s = &w->setup;

    return s->words == WORDS_PROMPT && !s->faults && !s->cancel_in && !s->spoil_in && !s->crowded;
}

/* The poisoned request costs two nodes; a third if another request was beside it both times. */
static void world_check_crashes(struct world *w)
{
    if (world_is_tidy(w) && w->tally.crashes > 3)
        world_broken(w, "the poisoned request crashed %" PRIu64 " nodes", w->tally.crashes);
}

static void world_count(struct world *w)
{
    world_check_crashes(w);
    w->tally.seconds += (uint64_t)(w->now / CLOCK_S);
    if (w->router)
        w->tally.stale += router_core_counters(w->router)->stale_messages;
}

void world_play(struct world *w, uint64_t seed, struct pools *pools, bool trace)
{
    int64_t wave;

    memset(w, 0, sizeof(*w));
    w->seed = seed;
    w->rng = seed * 0xd1342543de82ef95u + 1;
    w->trace = trace;
    setup_init(w, &w->setup);
    world_init(w, pools);
    for (uint32_t i = 0; i < w->setup.clients; i++) /* a few may come before the nodes */
        client_add(w, draw(w, (uint32_t)(w->setup.active_ns * 3 / (w->setup.crowded ? 16 : 4))) +
                      (w->setup.faults ? 0 : 500 * CLOCK_MS), false);
    if (w->setup.poison)
        client_poison(w, &w->clients[draw(w, w->n_clients)]);
    for (uint32_t i = 0; i < w->setup.faults; i++)
        world_at(w, 100 * CLOCK_MS + draw(w, (uint32_t)w->setup.active_ns), EV_FAULT, ROUTER, 0,
                 NULL);
    world_run(w, w->setup.active_ns + 100 * CLOCK_MS);
    world_calm(w);
    world_run(w, w->now + 2 * w->setup.dead_ms * CLOCK_MS); /* who was silent has been noticed */
    world_settle(w);
    wave = w->now;
    for (uint32_t i = 0; i < PROBES && !w->broken[0]; i++)
        client_add(w, wave + draw(w, 100 * CLOCK_MS), true);
    world_run(w, wave + QUIET_NS);
    world_settle(w);
    world_count(w);
}

void world_play_disconnects(struct world *w, uint64_t seed, struct pools *pools, uint32_t clients)
{
    memset(w, 0, sizeof(*w));
    w->seed = seed;
    w->rng = seed;
    w->setup = (struct setup){
        .prefills = 2, .decodes = 2, .clients = clients, .slots = 16, .pool = 4, .chunk = 128,
        .queue = 16, .heartbeat_ms = 250, .dead_ms = 2000,
        .lease_ns = 30 * CLOCK_S, .hello_ns = 5 * CLOCK_S, .delay_ns = 200 * CLOCK_US,
        .step_ns = CLOCK_MS, .prefix_pages = 128, .prompt_max = 200, .new_max = 40,
        .cancel_in = 1, .cancel_ns = 30 * CLOCK_MS};
    world_init(w, pools);
    for (uint32_t i = 0; i < clients; i++)
        client_add(w, CLOCK_S + i * 4 * CLOCK_MS, false);
    for (uint32_t i = 0; i < DISCONNECT_WITNESSES; i++)
        client_add(w, CLOCK_S + draw(w, clients * 4) * CLOCK_MS, true);
    world_run(w, CLOCK_S + clients * 4 * CLOCK_MS + 400 * CLOCK_MS);
    world_run(w, w->now + CLOCK_S);
    if (!world_quiet(w))
        world_stuck(w, "1 s after the last client");
    if (!w->broken[0] && (w->tally.gone < clients / 2 || w->tally.finished < DISCONNECT_WITNESSES))
        world_broken(w, "only %" PRIu64 " clients went, %" PRIu64 " stayed", w->tally.gone,
                     w->tally.finished);
    world_count(w);
}

static void proc_fini(struct world *w, struct proc *p)
{
    (void)w;
    prefill_core_free(&p->prefill);
    decode_core_free(&p->decode);
    prefix_free(&p->prefix);
    prefill_actions_fini(&p->prefill_out);
    decode_actions_fini(&p->decode_out);
    mem_free(p->work);
    mem_free(p->run_tokens);
    for (struct waiting *q = p->waiting; q < p->waiting + PREFILL_LINKS_MAX; q++)
        for (; q->first; q->n--) {
            struct outbox_item *i = q->first;

            q->first = i->next;
            msg_fini(&i->msg);
            mem_free(i);
        }
}

void world_fini(struct world *w)
{
    struct event e;

    while (heap_pop(&w->heap, &e))
        if (e.kind == EV_MSG)
            net_packet_free(w, e.data);
    heap_fini(&w->heap);
    for (uint32_t i = 0; i < w->n_procs; i++)
        proc_fini(w, &w->procs[i]);
    router_core_free(&w->router);
    router_actions_fini(&w->router_out);
    while (w->free_packets) {
        struct packet *p = w->free_packets;

        w->free_packets = p->next;
        mem_free(p);
    }
    for (uint32_t i = 0; i < w->n_conns; i++)
        mem_free(w->conns[i]);
    mem_free(w->conns);
    for (uint32_t i = 0; i < w->n_clients; i++) {
        mem_free(w->clients[i].prompt);
        mem_free(w->clients[i].want);
    }
    mem_free(w->clients);
}
