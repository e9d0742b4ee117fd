/* The router's shell (router.c, under its names) and the clients, who know what they must get. */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "tests/sim/world.h"

#define TELLER (UINT64_MAX - 1) /* handle of whoever says ENDED: no node answers there */

static void router_later(struct world *w, enum router_event_type type, uint64_t handle)
{
    ASSERT(w->n_pending < ARRAY_LEN(w->pending));
    w->pending[w->n_pending].type = type;
    w->pending[w->n_pending++].handle = handle;
}

static void router_send(struct world *w, struct router_action *a)
{
    struct conn *c = w->conns[a->node - 1];

    if (!c->known || net_send(w, c, DEALER_SIDE, &a->msg))
        return;
    TRACE(w, "router: %s to %u finds no peer", msg_type_name(a->msg.type), c->id);
    router_later(w, ROUTER_LOST, a->node);
}

static void client_over(struct world *w, struct client *c)
{
    c->state = CLIENT_OVER;
    c->ended = w->now;
    w->n_over++;
    if (c->got && !c->probe && c->gap > w->tally.gap_max)
        w->tally.gap_max = c->gap;
}

static void client_tokens(struct world *w, struct client *c, const struct router_action *a)
{
    uint32_t n = (uint32_t)(c - w->clients);

    if (c->state != CLIENT_RUNS) {
        world_broken(w, "client %u got tokens after its end", n);
        return;
    }
    if (a->index != c->got || !a->n_tokens) {
        world_broken(w, "client %u has %u tokens and got %u from index %u", n, c->got, a->n_tokens,
                     a->index);
        return;
    }
    for (uint32_t i = 0; i < a->n_tokens; i++) {
        if (c->got + i >= c->n_want || a->tokens[i] != c->want[c->got + i]) {
            world_broken(w, "client %u: token %u is %u, not %d", n, c->got + i, a->tokens[i],
                         c->got + i < c->n_want ? (int)c->want[c->got + i] : -1);
            return;
        }
    }
    if (c->got && w->now - c->last_token > c->gap)
        c->gap = w->now - c->last_token;
    c->last_token = w->now;
    c->got += a->n_tokens;
    w->tally.tokens += a->n_tokens;
}

/* 503: faults may leave no nodes, and targets are missed with or without. 500 is for the poisoned, and for
 * those beside one or on lost nodes that nobody explained, where more goes wrong than that. */
static bool client_may_fail(const struct world *w, const struct client *c,
                            const struct router_action *a)
{
    const struct setup *s = &w->setup;
    bool faults = (s->faults || s->poison) && !c->probe;
    bool unheard = s->words != WORDS_PROMPT || s->kinds & (1u << FAULT_STOP | 1u << FAULT_CUT) ||
                   (s->poison && !world_is_tidy(w));

    if (a->status == 500)
        return strstr(a->text, "nodes when they crashed") && faults && (c->poisoned || unheard);
    return a->status == 503 && (faults || strstr(a->text, "and the target is"));
}

static void client_ends(struct world *w, struct client *c, const struct router_action *a)
{
    uint32_t n = (uint32_t)(c - w->clients);

    TRACE(w, "client %u ends with %u of %u tokens: %s", n, c->got, c->n_want,
          a->type == ROUTER_FAIL ? a->text : "finish");
    if (c->state != CLIENT_RUNS) {
        world_broken(w, "client %u ended twice", n);
        return;
    }
    w->tally.restarts += a->stats.restarts;
    client_over(w, c);
    if (a->type == ROUTER_FAIL) {
        w->tally.failed++;
        w->tally.quarantined += a->status == 500;
        if (!client_may_fail(w, c, a))
            world_broken(w, "client %u failed with %d: %s", n, a->status, a->text);
    } else if (c->gone) {
        w->tally.gone++;
    } else if (c->poisoned) {
        world_broken(w, "client %u finished, and is poisoned", n);
    } else {
        w->tally.finished++;
        if (a->finish != c->want_finish || c->got != c->n_want)
            world_broken(w, "client %u finished (%d) with %u tokens, not (%d) with %u", n,
                         a->finish, c->got, c->want_finish, c->n_want);
    }
}

static void router_act(struct world *w, struct router_action *a)
{
    switch (a->type) {
    case ROUTER_SEND:
        router_send(w, a);
        break;
    case ROUTER_DELIVER:
        client_tokens(w, &w->clients[a->client - 1], a);
        break;
    case ROUTER_FINISH:
    case ROUTER_FAIL:
        client_ends(w, &w->clients[a->client - 1], a);
        break;
    case ROUTER_DISCONNECT:
        if (a->node == TELLER)
            break;
        w->conns[a->node - 1]->known = false;
        break;
    case ROUTER_NOTE:
        TRACE(w, "router: %s", a->text);
        break;
    }
}

static void router_event(struct world *w, const struct router_event *first)
{
    struct router_event event = *first;

    for (;;) {
        router_actions_clear(&w->router_out);
        router_step(w->router, &event, w->now, &w->router_out);
        for (size_t i = 0; i < w->router_out.n; i++)
            router_act(w, &w->router_out.items[i]);
        if (!w->n_pending)
            break;
        w->n_pending--;
        event = (struct router_event){.type = w->pending[w->n_pending].type,
                                      .client = w->pending[w->n_pending].handle,
                                      .node = w->pending[w->n_pending].handle};
    }
}

void front_start(struct world *w)
{
    const struct setup *s = &w->setup;
    struct router_config c = {
        .expect = {.cluster = "sim", .model_hash = 1, .ctx_max = s->prompt_max + s->new_max,
                   .geometry = {w->layout.n_layer, w->layout.n_kv_head, w->layout.head_dim,
                                KV_PAGE_TOKENS, KV_F16},
                   .n_vocab = VOCAB},
        .mode = s->mode, .slo_ttft_ms = s->targets ? 100 : 0, .slo_tpot_ms = s->targets ? 20 : 0,
        .heartbeat_ms = s->heartbeat_ms, .dead_ms = s->dead_ms, .queue_max = 20000,
        .queue_deadline_ms = 10000, .first_request = draw64(w) & ~(uint64_t)0xffffffff,
    };

    w->router = router_core_new(&c);
    w->procs[ROUTER].alive = true;
    world_at(w, w->now + CLOCK_MS, EV_TICK, ROUTER, 0, NULL);
}

void front_die(struct world *w)
{
    TRACE(w, "the router is killed");
    net_dead(w, ROUTER);
    router_actions_clear(&w->router_out);
    router_core_free(&w->router);
    w->procs[ROUTER].alive = false;
    w->procs[ROUTER].life++;
    for (uint32_t i = 0; i < w->n_clients; i++) {
        if (w->clients[i].state != CLIENT_RUNS)
            continue;
        client_over(w, &w->clients[i]);
        w->tally.gone++;
    }
    world_at(w, w->now + 10 * CLOCK_MS + draw(w, 1000 * CLOCK_MS), EV_START, ROUTER, 0, NULL);
}

void front_message(struct world *w, struct packet *m)
{
    m->conn->known = true;
    router_event(w, &(struct router_event){.type = ROUTER_MSG, .node = m->conn->id,
                                           .msg = &m->msg});
}

void front_tick(struct world *w) { router_event(w, &(struct router_event){.type = ROUTER_TICK}); }

void front_client(struct world *w, uint32_t client)
{
    struct client *c = &w->clients[client];
    struct router_event event = {.type = ROUTER_SUBMIT};

    if (!w->router) { /* connection refused */
        client_over(w, c);
        w->tally.failed++;
        if (c->probe)
            world_broken(w, "client %u finds no router", client);
        return;
    }
    TRACE(w, "client %u begins: %u tokens, %u more", client, c->n_prompt, c->max_new);
    c->state = CLIENT_RUNS;
    event.submit = (struct router_submit){
        .client = client + 1, .tokens = mem_dup(c->prompt, c->n_prompt * sizeof(*c->prompt)),
        .n_tokens = c->n_prompt, .max_new = c->max_new, .sampling = {.top_p = 1, .seed = c->seed},
        .n_stop_tokens = 1, .stop_tokens = {STOP_TOKEN}, .priority = c->priority};
    if (c->tenant)
        event.submit.tenant[0] = (char)('a' + c->tenant);
    router_event(w, &event);
}

void front_cancel(struct world *w, uint32_t client)
{
    struct client *c = &w->clients[client];

    if (c->state != CLIENT_RUNS || !w->router)
        return;
    c->gone = true;
    router_event(w, &(struct router_event){.type = ROUTER_CANCEL, .client = client + 1});
}

void front_drain(struct world *w, struct proc *p)
{
    if (w->router && p->member.conn)
        router_event(w, &(struct router_event){.type = ROUTER_DRAIN, .node = p->member.conn->id});
}

void front_told(struct world *w, uint32_t arg)
{
    struct msg m = {.type = MSG_ENDED,
                    .u.ended = {.cluster = "sim", .pid = (int32_t)(arg >> 5) + 1, .crashed = arg >> 4 & 1,
                                .text = "told"}};

    memcpy(m.u.ended.name, w->procs[arg & 15].name, sizeof(m.u.ended.name));
    router_event(w, &(struct router_event){.type = ROUTER_MSG, .node = TELLER, .msg = &m});
}

bool front_idle(const struct world *w)
{
    if (!w->router || router_core_queued(w->router) || router_core_running(w->router))
        return false;
    for (size_t i = 0; i < router_core_node_count(w->router); i++) {
        const struct node *n = router_core_node(w->router, i);

        if (n->state != NODE_UP || n->running || n->pages_taken || n->queued_tokens)
            return false;
    }
    return true;
}
