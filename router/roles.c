#include "router/roles.h"

void roles_request(struct roles *r, uint32_t prompt, uint32_t cached, uint32_t output)
{
    uint64_t n = ++r->seen < ROLES_MEMORY ? r->seen : ROLES_MEMORY;

    r->mix.prompt += (prompt - r->mix.prompt) / (double)n;
    r->mix.cached += (cached - r->mix.cached) / (double)n;
    r->mix.output += (output - r->mix.output) / (double)n;
}

static bool pool_known(const struct roles_pool *p)
{
    return p->n && p->cost.flops_token > 0 && p->cost.weight_bytes > 0 &&
           p->cost.kv_token_bytes > 0 && p->cost.flops_s > 0 && p->cost.read_bytes_s > 0;
}

/* What the nodes want one more of; 0: the shares are right, or too little is done to matter. */
static enum node_role roles_wanted(const struct ratio_times *t, uint32_t p, uint32_t d,
                                   double requests_s)
{
    double bound = ratio_bound(t, p, d);
    bool more_prefill = t->prefill_s / p > t->decode_s / d;

    if (requests_s * bound < ROLES_BUSY || (more_prefill ? d : p) < 2)
        return (enum node_role)0;
    if (more_prefill)
        return bound >= ROLES_GAIN * ratio_bound(t, p + 1, d - 1) ? ROLE_PREFILL : (enum node_role)0;
    return bound >= ROLES_GAIN * ratio_bound(t, p - 1, d + 1) ? ROLE_DECODE : (enum node_role)0;
}

bool roles_due(struct roles *r, const struct roles_pool *prefill, const struct roles_pool *decode,
               double tpot_s, int64_t now, enum node_role *to)
{
    uint64_t requests = r->seen - r->seen_at_period;
    double seconds = clock_s(now - r->period_at);
    enum node_role want = (enum node_role)0;
    struct ratio_times t;

    if (r->period_at && now - r->period_at < ROLES_PERIOD)
        return false;
    if (r->period_at && requests && pool_known(prefill) && pool_known(decode) && decode->slots) {
        t = ratio_times(&prefill->cost, &decode->cost, &r->mix, decode->slots, tpot_s);
        want = roles_wanted(&t, prefill->n, decode->n, (double)requests / seconds);
    }
    r->rounds = want && want == r->want ? r->rounds + 1 : want != 0;
    r->want = want;
    r->period_at = now;
    r->seen_at_period = r->seen;
    if (r->rounds < ROLES_ROUNDS || now < r->rest_until)
        return false;
    r->rest_until = now + ROLES_REST;
    r->rounds = 0;
    *to = want;
    return true;
}
