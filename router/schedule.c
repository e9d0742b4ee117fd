#include "router/schedule.h"

#include <math.h>

#include "base/check.h"
#include "kv/kv_layout.h"

const char *const schedule_rung_names[] = {"pair", "other_pair", "local", "cheaper", "no_prefill"};

static bool schedule_fits(const struct schedule_node *n, const struct schedule_need *need)
{
    if (!n->open || n->running >= n->slots || need->tokens > n->ctx_max)
        return false;
    return n->role == ROLE_PREFILL ||
           (need->pages <= n->pages_total - n->pages_taken &&
            kv_layout_pages(need->tokens) <= n->pages_total);
}

static double score_out(const struct schedule_need *need)
{
    return need->max_new < SCHEDULE_OUT ? need->max_new : SCHEDULE_OUT;
}

/* Tokens that are not cached there; at least one is always computed. */
static double score_uncached(const struct schedule_node *node, const struct schedule_need *need)
{
    return need->n > node->hit_tokens ? need->n - node->hit_tokens : 1;
}

static bool score_one_host(const struct schedule_node *p, const struct schedule_node *d)
{
    return p->host && p->host == d->host;
}

static void score_pair(struct schedule_score *s, const struct schedule_node *p,
                       const struct schedule_node *d, const struct schedule_need *need)
{
    bool host = score_one_host(p, d);
    double held = d->hit_tokens < need->n ? d->hit_tokens : need->n;
    double bytes = (need->n - held) * d->cost.kv_token_bytes;
    double link_s = bytes / (host ? SCHEDULE_LINK_HOST : SCHEDULE_LINK_NET);

    s->queue_s = (double)p->queued_tokens * p->cost.token_s;
    s->prefill_s = score_uncached(p, need) * p->cost.token_s;
    s->ttft_s = s->queue_s + s->prefill_s;
    s->ship_s = fmax(0, link_s - s->prefill_s) +
                (!host                    ? SCHEDULE_HANDOFF_NET
                 : p->domain == d->domain ? SCHEDULE_HANDOFF_DOMAIN
                                          : SCHEDULE_HANDOFF_HOST);
    s->hit_prefill = p->hit_tokens;
}

static void score_local(struct schedule_score *s, const struct schedule_node *d,
                        const struct schedule_need *need)
{
    double tokens = score_uncached(d, need), chunk = SCHEDULE_CHUNK;
    double step = cost_step_s(&d->cost, d->running, (double)d->kv_tokens);

    s->queue_s = (double)d->queued_tokens * d->cost.token_s;
    s->prefill_s = tokens * d->cost.token_s;
    if (d->running) {
        if (need->tpot_s > 0 && d->cost.token_s > 0) {
            chunk = fmax(1, floor((need->tpot_s - step) / d->cost.token_s));
            s->misses = step + d->cost.token_s > need->tpot_s;
        }
        s->prefill_s += ceil(tokens / chunk) * step;
    }
    s->others_s = u32_max(d->running, 1) * tokens * d->cost.token_s;
    s->ttft_s = s->queue_s + s->prefill_s;
}

void schedule_score(struct schedule_score *s, const struct schedule_node *nodes, size_t prefill,
                    size_t decode, const struct schedule_need *need)
{
    const struct schedule_node *d = &nodes[decode];
    double slow = d->running * (d->cost.step_row_s + need->n * d->cost.step_kv_s);

    *s = (struct schedule_score){.prefill = prefill, .decode = decode,
                                 .hit_decode = d->hit_tokens, .avoided = d->node == need->avoid};
    s->tpot_s = cost_step_s(&d->cost, d->running + 1.0, (double)(d->kv_tokens + need->n));
    if (prefill == SCHEDULE_LOCAL) {
        score_local(s, d, need);
    } else {
        score_pair(s, &nodes[prefill], d, need);
        s->avoided |= nodes[prefill].node == need->avoid;
    }
    s->avoided &= need->avoid != 0;
    s->misses |= (need->ttft_s > 0 && s->ttft_s > need->ttft_s) ||
                 (need->tpot_s > 0 && s->tpot_s > need->tpot_s);
    s->others_s += score_out(need) * slow;
    s->score_s = s->ttft_s + s->ship_s + s->others_s + score_out(need) * s->tpot_s;
}

/* Three-way comparison: negative if a is the smaller. */
static int cmp_u64(uint64_t a, uint64_t b) { return (a > b) - (a < b); }
static int cmp_f64(double a, double b) { return (a > b) - (a < b); }

/* Negative if a is the better place by load alone; both have the same role. */
static int cmp_load(const struct schedule_node *a, const struct schedule_node *b)
{
    int order = 0;

    if (a->role == ROLE_PREFILL)
        order = cmp_u64(a->queued_tokens, b->queued_tokens);
    if (!order)
        order = cmp_u64(a->running, b->running);
    if (!order && a->role == ROLE_DECODE)
        order = cmp_u64(b->pages_total - b->pages_taken, a->pages_total - a->pages_taken);
    if (!order)
        order = cmp_u64(a->last_used, b->last_used);
    return order;
}

/* The coarse order of candidates, before the score. */
static int cmp_class(const struct schedule_score *a, const struct schedule_score *b)
{
    int order = cmp_u64(a->avoided, b->avoided);

    return order ? order : cmp_u64(a->misses, b->misses);
}

/* Among candidates whose scores are as good as equal: by the start, which prefixes and queues decide
 * and which is better known than the steps to come, then by load. */
static int cmp_tie(const struct schedule_node *nodes, const struct schedule_score *a,
                   const struct schedule_score *b)
{
    double start_a = a->ttft_s + a->ship_s, start_b = b->ttft_s + b->ship_s;
    int order = 0;

    if (fabs(start_a - start_b) > SCHEDULE_TIE * fmax(start_a, start_b))
        order = cmp_f64(start_a, start_b);
    if (!order)
        order = cmp_load(&nodes[a->decode], &nodes[b->decode]);
    if (!order && a->prefill != SCHEDULE_LOCAL)
        order = cmp_load(&nodes[a->prefill], &nodes[b->prefill]);
    return order;
}

static bool score_as_good(const struct schedule_score *s, const struct schedule_score *best)
{
    bool kind = (s->prefill == SCHEDULE_LOCAL) == (best->prefill == SCHEDULE_LOCAL);

    return kind && !cmp_class(s, best) && s->score_s <= best->score_s * (1 + SCHEDULE_TIE);
}

/* The nodes of a role that are paired. */
struct schedule_short {
    size_t index[SCHEDULE_BEST];
    double part[SCHEDULE_BEST];
    size_t n;
};

/* What the score owes to this node alone. One to avoid comes last. */
static double short_part(const struct schedule_node *nodes, size_t i,
                         const struct schedule_need *need)
{
    struct schedule_score s;
    double part;

    if (nodes[i].role == ROLE_DECODE) {
        schedule_score(&s, nodes, SCHEDULE_LOCAL, i, need);
        part = s.others_s + s.score_s;
    } else {
        part = (double)(nodes[i].queued_tokens + need->n - u32_min(need->n, nodes[i].hit_tokens)) *
               nodes[i].cost.token_s;
    }
    return need->avoid && nodes[i].node == need->avoid ? part + 1e9 : part;
}

/* Keeps the list in order, the best first. */
static void short_add(struct schedule_short *list, const struct schedule_node *nodes, size_t i,
                      double part)
{
    size_t at = list->n;

    while (at && (cmp_f64(part, list->part[at - 1]) < 0 ||
                  (cmp_f64(part, list->part[at - 1]) == 0 &&
                   cmp_load(&nodes[i], &nodes[list->index[at - 1]]) < 0)))
        at--;
    if (at == SCHEDULE_BEST)
        return;
    list->n += list->n < SCHEDULE_BEST;
    for (size_t j = list->n - 1; j > at; j--) {
        list->index[j] = list->index[j - 1];
        list->part[j] = list->part[j - 1];
    }
    list->index[at] = i;
    list->part[at] = part;
}

/* Puts s into the list of the best, by class and score alone. */
static void choice_add(struct schedule_choice *c, const struct schedule_score *s)
{
    uint32_t at = c->n;

    c->considered++;
    c->pairs |= s->prefill != SCHEDULE_LOCAL && !s->avoided;
    while (at) {
        int order = cmp_class(s, &c->best[at - 1]);

        if (order > 0 || (!order && s->score_s >= c->best[at - 1].score_s))
            break;
        at--;
    }
    if (at == SCHEDULE_SHOWN)
        return;
    c->n += c->n < SCHEDULE_SHOWN;
    for (uint32_t j = c->n - 1; j > at; j--)
        c->best[j] = c->best[j - 1];
    c->best[at] = *s;
}

/* Scores every candidate: choice holds the best by score, *win the one that ties go to. */
static void schedule_all(struct schedule_choice *choice, struct schedule_score *win,
                         const struct schedule_node *nodes, const struct schedule_short *lists,
                         const struct schedule_need *need)
{
    const struct schedule_short *ps = &lists[ROLE_PREFILL], *ds = &lists[ROLE_DECODE];
    size_t locals = need->mode != ROUTER_DISAGGREGATED;
    size_t pairs = need->mode != ROUTER_AGGREGATED ? ps->n : 0;
    bool found = false;

    /* twice: who is as good as the best is known only after all were scored */
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < ds->n * (pairs + locals); i++) {
            size_t p = i % (pairs + locals), d = ds->index[i / (pairs + locals)];
            struct schedule_score s;

            schedule_score(&s, nodes, p < pairs ? ps->index[p] : SCHEDULE_LOCAL, d, need);
            if (!pass) {
                choice_add(choice, &s);
            } else if (score_as_good(&s, &choice->best[0]) &&
                       (!found || cmp_tie(nodes, &s, win) < 0)) {
                *win = s;
                found = true;
            }
        }
    }
}

/* The winner goes first, the others keep their order. */
static void choice_lead(struct schedule_choice *c, const struct schedule_score *win)
{
    uint32_t at = 0;

    while (at < c->n - 1 &&
           (c->best[at].prefill != win->prefill || c->best[at].decode != win->decode))
        at++;
    for (; at; at--)
        c->best[at] = c->best[at - 1];
    c->best[0] = *win;
}

static enum schedule_rung choice_rung(const struct schedule_choice *c,
                                      const struct schedule_need *need)
{
    if (c->best[0].prefill != SCHEDULE_LOCAL)
        return need->avoid ? RUNG_OTHER_PAIR : RUNG_PAIR;
    if (need->mode == ROUTER_AGGREGATED)
        return RUNG_LOCAL;
    return c->pairs ? RUNG_CHEAPER : RUNG_NO_PREFILL;
}

bool schedule_pick(struct schedule_choice *out, const struct schedule_node *nodes, size_t n,
                   const struct schedule_need *need)
{
    struct schedule_short lists[ROLE_DECODE + 1];
    struct schedule_score win = {0};

    out->n = out->considered = 0;
    out->pairs = false;
    lists[ROLE_PREFILL].n = lists[ROLE_DECODE].n = 0;
    for (size_t i = 0; i < n; i++) {
        if (schedule_fits(&nodes[i], need))
            short_add(&lists[nodes[i].role], nodes, i, short_part(nodes, i, need));
    }
    schedule_all(out, &win, nodes, lists, need);
    if (!out->n)
        return false;
    choice_lead(out, &win);
    out->rung = choice_rung(out, need);
    return true;
}

uint32_t schedule_ctx(const struct schedule_node *nodes, size_t n, enum router_mode mode)
{
    uint32_t longest[ROLE_DECODE + 1] = {0};

    for (size_t i = 0; i < n; i++) {
        uint64_t ctx = nodes[i].ctx_max;

        if (nodes[i].role == ROLE_DECODE && ctx > (uint64_t)nodes[i].pages_total * KV_PAGE_TOKENS)
            ctx = (uint64_t)nodes[i].pages_total * KV_PAGE_TOKENS;
        longest[nodes[i].role] = u32_max(longest[nodes[i].role], (uint32_t)ctx);
    }
    if (mode == ROUTER_AGGREGATED || (mode == ROUTER_AUTO && !longest[ROLE_PREFILL]))
        return longest[ROLE_DECODE];
    return u32_min(longest[ROLE_PREFILL], longest[ROLE_DECODE]);
}
