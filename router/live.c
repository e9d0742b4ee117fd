#include "router/live.h"

#include <math.h>

#include "base/clock.h"
#include "base/mem.h"

/* The last heartbeats, one a tick. */
struct live_node {
    uint64_t tick; /* of the newest */
    uint64_t n;    /* samples ever */
    struct {
        int64_t at;
        struct msg_heartbeat beat;
    } ring[LIVE_RATE_S + 1];
};
#define RING (LIVE_RATE_S + 1)

void live_fini(struct live *l)
{
    struct live_node *node;
    size_t iter = 0;

    while ((node = map_next(&l->nodes, &iter)))
        mem_free(node);
    map_fini(&l->nodes);
}

void live_time(struct live *l, enum live_time what, int64_t ns) { hist_add(&l->times[what][l->slot], ns); }

void live_window(const struct live *l, enum live_time what, struct hist *out)
{
    *out = (struct hist){0};
    for (size_t i = 0; i < LIVE_SLOTS; i++)
        hist_merge(out, &l->times[what][i]);
}

static void live_turn_window(struct live *l)
{
    if (++l->slot_s < LIVE_SLOT_S)
        return;
    l->slot_s = 0;
    l->slot = (l->slot + 1) % LIVE_SLOTS;
    for (size_t i = 0; i < LIVE_TIMES; i++)
        l->times[i][l->slot] = (struct hist){0};
}

/* Of a counter; one that fell began anew. */
static uint64_t growth(uint64_t now, uint64_t then) { return now > then ? now - then : 0; }

/* A second. */
static double speed(uint64_t now, uint64_t then, double seconds)
{
    return seconds > 0 ? (double)growth(now, then) / seconds : 0;
}

static void live_sample(struct live *l, const struct node *n, int64_t now)
{
    struct live_node *s = map_get(&l->nodes, n->handle);

    if (!s) {
        s = mem_zalloc(sizeof(*s));
        map_put(&l->nodes, n->handle, s);
    } else if (n->reg.role == ROLE_DECODE) {
        l->kv_bytes += growth(n->beat.kv_bytes, s->ring[(s->n - 1) % RING].beat.kv_bytes);
    }
    s->tick = l->n_totals;
    s->ring[s->n % RING].at = now;
    s->ring[s->n++ % RING].beat = n->beat;
}

/* Those that were not sampled in this tick have left. */
static void live_forget(struct live *l)
{
    struct live_node *s;
    size_t iter = 0;

    while ((s = map_next(&l->nodes, &iter))) {
        if (s->tick == l->n_totals)
            continue;
        map_del(&l->nodes, map_key(&l->nodes, iter));
        mem_free(s);
    }
}

static void live_percentiles(const struct live *l, enum live_time what, float *p50, float *p99)
{
    struct hist *h = mem_zalloc(sizeof(*h));

    live_window(l, what, h);
    *p50 = h->count ? (float)clock_ms(hist_percentile(h, 50)) : -1;
    *p99 = h->count ? (float)clock_ms(hist_percentile(h, 99)) : -1;
    mem_free(h);
}

static void live_point(struct live *l, const struct router_core *core)
{
    struct live_rates r = live_rates(l);
    struct live_point *p = &l->history[l->n_history++ % LIVE_HISTORY];

    *p = (struct live_point){
        .requests_s = (float)r.requests,
        .prompt_tokens_s = (float)r.prompt_tokens,
        .output_tokens_s = (float)r.output_tokens,
        .kv_bytes_s = (float)r.kv_bytes,
        .queued = router_core_queued(core),
        .running = router_core_running(core),
    };
    live_percentiles(l, LIVE_TTFT, &p->ttft_p50, &p->ttft_p99);
    live_percentiles(l, LIVE_TPOT, &p->tpot_p50, &p->tpot_p99);
}

void live_tick(struct live *l, const struct router_core *core, const struct live_totals *totals,
               int64_t now)
{
    struct live_totals t = *totals;

    l->n_totals++;
    for (size_t i = 0; i < router_core_node_count(core); i++) {
        const struct node *n = router_core_node(core, i);

        if (n->state != NODE_WAITING)
            live_sample(l, n, now);
    }
    live_forget(l);
    t.kv_bytes = l->kv_bytes;
    l->at[(l->n_totals - 1) % RING] = now;
    l->totals[(l->n_totals - 1) % RING] = t;
    live_turn_window(l);
    live_point(l, core);
}

struct live_rates live_rates(const struct live *l)
{
    uint64_t back = l->n_totals > LIVE_RATE_S ? LIVE_RATE_S : l->n_totals ? l->n_totals - 1 : 0;
    const struct live_totals *a, *b;
    double s;

    if (!back)
        return (struct live_rates){0};
    a = &l->totals[(l->n_totals - 1 - back) % RING];
    b = &l->totals[(l->n_totals - 1) % RING];
    s = clock_s(l->at[(l->n_totals - 1) % RING] - l->at[(l->n_totals - 1 - back) % RING]);
    return (struct live_rates){speed(b->requests, a->requests, s),
                               speed(b->prompt_tokens, a->prompt_tokens, s),
                               speed(b->output_tokens, a->output_tokens, s),
                               speed(b->kv_bytes, a->kv_bytes, s)};
}

struct live_node_rates live_node_rates(const struct live *l, const struct node *n)
{
    const struct live_node *s = map_get(&l->nodes, n->handle);
    uint64_t back = !s ? 0 : s->n > LIVE_RATE_S ? LIVE_RATE_S : s->n - 1;
    const struct msg_heartbeat *a, *b;
    double seconds;

    if (!back)
        return (struct live_node_rates){0};
    a = &s->ring[(s->n - 1 - back) % RING].beat;
    b = &s->ring[(s->n - 1) % RING].beat;
    seconds = clock_s(s->ring[(s->n - 1) % RING].at - s->ring[(s->n - 1 - back) % RING].at);
    return (struct live_node_rates){
        .tokens = speed(b->tokens, a->tokens, seconds),
        .steps = speed(b->steps, a->steps, seconds),
        .kv_bytes = speed(b->kv_bytes, a->kv_bytes, seconds),
        .busy = fmin(1, speed(b->busy_ns, a->busy_ns, seconds) * 1e-9),
        .mfu = n->reg.flops_s ? speed(b->flops, a->flops, seconds) / (double)n->reg.flops_s : 0,
        .mbu = n->reg.read_bytes_s
                   ? speed(b->read_bytes, a->read_bytes, seconds) / (double)n->reg.read_bytes_s
                   : 0,
    };
}
