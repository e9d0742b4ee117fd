#include "router/schedule.h"

#include "base/check.h"
#include "kv/kv_layout.h"

const char *const schedule_rung_names[] = {"pair", "other_pair", "local", "no_prefill"};

static bool schedule_fits(const struct schedule_node *n, const struct schedule_need *need)
{
    if (!n->open || n->running >= n->slots || need->tokens > n->ctx_max)
        return false;
    return n->role == ROLE_PREFILL || need->pages <= n->pages_total - n->pages_taken;
}

/* Three-way comparison of two loads: negative if a is the smaller. */
static int schedule_cmp(uint64_t a, uint64_t b) { return (a > b) - (a < b); }

/* True if a is a better place than b; both fit and have the same role. */
static bool schedule_better(const struct schedule_node *a, const struct schedule_node *b,
                            uint64_t avoid)
{
    int order = schedule_cmp(a->node == avoid, b->node == avoid);

    if (!order && a->role == ROLE_PREFILL)
        order = schedule_cmp(a->queued_tokens, b->queued_tokens);
    if (!order)
        order = schedule_cmp(a->running, b->running);
    if (!order && a->role == ROLE_DECODE)
        order = schedule_cmp(b->pages_total - b->pages_taken, a->pages_total - a->pages_taken);
    if (!order)
        order = schedule_cmp(a->last_used, b->last_used);
    return order < 0;
}

/* There is a prefill node that the request did not fail on; it may be busy. */
static bool schedule_has_prefill(const struct schedule_node *nodes, size_t n,
                                 const struct schedule_need *need)
{
    for (size_t i = 0; i < n; i++) {
        if (nodes[i].role == ROLE_PREFILL && nodes[i].up && nodes[i].node != need->avoid &&
            need->tokens <= nodes[i].ctx_max)
            return true;
    }
    return false;
}

bool schedule_pick(struct schedule_pair *out, const struct schedule_node *nodes, size_t n,
                   const struct schedule_need *need)
{
    bool local = need->mode == ROUTER_AGGREGATED ||
                 (need->mode == ROUTER_AUTO && !schedule_has_prefill(nodes, n, need));
    size_t best[ROLE_DECODE + 1];

    best[ROLE_PREFILL] = best[ROLE_DECODE] = n;
    for (size_t i = 0; i < n; i++) {
        size_t *b = &best[nodes[i].role];

        if (schedule_fits(&nodes[i], need) &&
            (*b == n || schedule_better(&nodes[i], &nodes[*b], need->avoid)))
            *b = i;
    }
    if (best[ROLE_DECODE] == n || (!local && best[ROLE_PREFILL] == n))
        return false;
    out->prefill = local ? SCHEDULE_LOCAL : best[ROLE_PREFILL];
    out->decode = best[ROLE_DECODE];
    if (local)
        out->rung = need->mode == ROUTER_AGGREGATED ? RUNG_LOCAL : RUNG_NO_PREFILL;
    else
        out->rung = need->avoid ? RUNG_OTHER_PAIR : RUNG_PAIR;
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
