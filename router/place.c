/* Giving waiting requests to nodes: the snapshot, the choice, the charge. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "kv/kv_layout.h"
#include "router/stream.h"

static void place_send_reserve(struct router_core *c, struct session *s)
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
    r->salt = s->salt;
    r->priority = s->priority;
    r->local = s->local;
    r->trace = s->trace;
    action_send(c, s->decode, &m);
}

/* Tokens of the request that each node of the snapshot has cached; never all of them. */
static void place_hits(struct router_core *c, struct session *s, size_t n_nodes)
{
    uint32_t n = s->n_prompt + s->n_delivered;

    session_name_blocks(s);
    for (size_t i = 0; i < n_nodes; i++) {
        struct schedule_node *node = &c->nodes.snapshot[i];
        uint32_t run = prefix_index_run(&c->nodes.snapshot_of[i]->prefix, s->names, s->n_names);

        node->open &= !(s->suspect && c->nodes.snapshot_of[i]->suspects);
        node->hit_tokens = u32_min(run, (n - 1) / KV_PAGE_TOKENS) * KV_PAGE_TOKENS;
    }
}

static void place_count_hits(struct router_core *c, const struct schedule_score *s)
{
    uint32_t tokens = s->prefill == SCHEDULE_LOCAL ? s->hit_decode : s->hit_prefill;

    c->counters.prefix_hits += tokens > 0;
    c->counters.prefix_hit_tokens += tokens;
}

/* Gives the request to the nodes of the choice and charges them. */
static void place_charge(struct router_core *c, struct session *s,
                         const struct schedule_choice *choice, uint32_t pages)
{
    const struct schedule_score *best = &choice->best[0];
    struct node *computes; /* the prompt */

    s->local = best->prefill == SCHEDULE_LOCAL;
    s->prefill = s->local ? NULL : c->nodes.snapshot_of[best->prefill];
    s->decode = c->nodes.snapshot_of[best->decode];
    s->pages = pages;
    s->kv_tokens = s->n_prompt + s->n_delivered;
    s->uncached = s->kv_tokens - (s->local ? best->hit_decode : best->hit_prefill);
    s->queued_tokens = s->uncached;
    s->decode->suspects += s->suspect;
    s->decode->running++;
    s->decode->pages_taken += s->pages;
    s->decode->kv_tokens += s->kv_tokens;
    s->decode->last_used = ++c->next_use;
    if (s->prefill) {
        s->prefill->suspects += s->suspect;
        s->prefill->running++;
        s->prefill->last_used = c->next_use;
    }
    computes = s->prefill ? s->prefill : s->decode;
    computes->queued_tokens += s->queued_tokens;
    s->stats.local = s->local;
    memcpy(s->stats.prefill, computes->reg.name, MSG_NAME_MAX);
    memcpy(s->stats.decode, s->decode->reg.name, MSG_NAME_MAX);
    c->counters.placed[choice->rung]++;
    place_count_hits(c, best);
}

static const char *place_name(void *ctx, uint64_t handle)
{
    return node_table_get(ctx, handle)->reg.name;
}

static void place_explain(struct router_core *c, struct session *s,
                          const struct schedule_choice *choice)
{
    struct explain_entry *x = s->explain;

    x->epoch = s->id.epoch;
    x->placed_after_ns = c->now - s->submitted_at;
    x->delivered = s->n_delivered;
    explain_choice(&c->explain, x, choice, c->nodes.snapshot, place_name, &c->nodes);
}

/* Decode nodes take pages as a stream grows, and most streams end early or are young: a request is
 * charged with its prompt and half of what it may generate. Where that was too little, the node sets a
 * sequence aside for a while. */
#define PLACE_OUT_SHARE 2

static struct schedule_need place_need(const struct router_core *c, const struct session *s)
{
    uint32_t tokens = s->n_prompt + s->max_new, known = s->n_prompt + s->n_delivered;

    return (struct schedule_need){
        .tokens = tokens,
        .pages = kv_layout_pages(known + (tokens - known + 1) / PLACE_OUT_SHARE),
        .n = s->n_prompt + s->n_delivered,
        .max_new = s->max_new - s->n_delivered,
        .avoid = s->avoid,
        .mode = c->config.mode,
        .ttft_s = c->config.slo_ttft_ms / 1e3,
        .tpot_s = c->config.slo_tpot_ms / 1e3,
    };
}

/* Puts a waiting request on nodes of the snapshot; false if there are none for it now. */
static bool place_one(struct router_core *c, struct session *s)
{
    struct schedule_need need = place_need(c, s);
    size_t n = node_table_snapshot(&c->nodes, c->now);
    struct schedule_choice choice;

    place_hits(c, s, n);
    if (!schedule_pick(&choice, c->nodes.snapshot, n, &need))
        return false;
    queue_take(&c->queue, s, c->now);
    place_charge(c, s, &choice, need.pages);
    s->id.epoch++;
    s->state = SESSION_RESERVING;
    s->placed_at = c->now;
    s->n_before = s->n_delivered;
    if (s->id.epoch == 1)
        s->stats.wait_ns = c->now - s->submitted_at;
    c->running++;
    place_explain(c, s, &choice);
    place_send_reserve(c, s);
    return true;
}

bool place_misses(struct router_core *c, struct session *s, char *text, size_t bytes)
{
    struct schedule_need need = place_need(c, s);
    struct schedule_choice choice;
    const struct schedule_score *best = &choice.best[0];
    size_t n;

    if (need.ttft_s <= 0 && need.tpot_s <= 0)
        return false;
    n = node_table_snapshot(&c->nodes, c->now);
    place_hits(c, s, n);
    if (schedule_pick(&choice, c->nodes.snapshot, n, &need)) {
        if (!best->misses || !c->nodes.snapshot[best->decode].cost.known)
            return false;
        place_explain(c, s, &choice);
        if (need.ttft_s > 0 && best->ttft_s > need.ttft_s)
            snprintf(text, bytes, "the first token is predicted after %.0f ms, and the target is "
                     "%u ms", best->ttft_s * 1e3, c->config.slo_ttft_ms);
        else
            snprintf(text, bytes, "a token is predicted to take %.1f ms, and the target is %u ms",
                     best->tpot_s * 1e3, c->config.slo_tpot_ms);
        return true;
    }
    n = c->queue.n * (uint64_t)(c->service_ns / CLOCK_MS) / u32_max(c->running, 1);
    if (need.ttft_s <= 0 || n <= c->config.slo_ttft_ms)
        return false;
    snprintf(text, bytes, "%u requests wait, the first token is predicted after %zu ms, and the "
             "target is %u ms", c->queue.n, n, c->config.slo_ttft_ms);
    return true;
}

void place_all(struct router_core *c)
{
    struct session *s;

    if (!c->room)
        return;
    c->room = false;
    if (c->suspects_parked)
        queue_unpark(&c->queue, c->now);
    c->suspects_parked = false;
    while ((s = queue_next(&c->queue, c->now))) {
        if (!quarantine_holds(c, s) && place_one(c, s))
            continue;
        /* Strictly in order: a large request waits for room rather than being passed by small ones
         * for ever. But one that no node here could ever hold (the large one left), or that waits to
         * be alone on a node or for a word, blocks nobody. */
        if (s->n_prompt + s->max_new <= c->ctx_max && !s->suspect &&
            !quarantine_holds(c, s))
            break;
        queue_park(&c->queue, s);
        c->suspects_parked |= s->suspect;
    }
}
