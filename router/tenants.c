#include "router/tenants.h"

#include <math.h>

#include "base/mem.h"

#define MINUTE_NS 60e9

struct tenant {
    uint64_t id;
    struct tenant_limits limits;
    uint32_t live;
    double tokens; /* in the bucket at `at`; may be negative */
    int64_t at;
};

void tenants_fini(struct tenants *t)
{
    struct tenant *one;
    size_t iter = 0;

    while ((one = map_next(&t->all, &iter)))
        mem_free(one);
    map_fini(&t->all);
}

static void tenant_fill(struct tenant *one, int64_t now)
{
    double per_ns = one->limits.tokens_minute / MINUTE_NS;

    one->tokens = fmin(one->limits.tokens_minute, one->tokens + (double)(now - one->at) * per_ns);
    one->at = now;
}

/* own NULL: as it was, or as all. */
static struct tenant *tenants_get(struct tenants *t, uint64_t id, const struct tenant_limits *own,
                                  int64_t now)
{
    struct tenant *one = map_get(&t->all, id);

    if (!one) {
        one = mem_zalloc(sizeof(*one));
        one->id = id;
        one->limits = own ? *own : t->limits;
        one->tokens = one->limits.tokens_minute;
        one->at = now;
        map_put(&t->all, id, one);
    }
    if (own)
        one->limits = *own;
    tenant_fill(one, now);
    return one;
}

static void tenants_forget(struct tenants *t, struct tenant *one)
{
    if (one->live || one->tokens < one->limits.tokens_minute)
        return;
    map_del(&t->all, one->id);
    mem_free(one);
}

enum tenant_verdict tenants_may(struct tenants *t, uint64_t id, const struct tenant_limits *own,
                                int64_t now, int64_t *wait_ns)
{
    struct tenant *one = tenants_get(t, id, own, now);
    const struct tenant_limits *l = &one->limits;
    enum tenant_verdict verdict = TENANT_OK;

    if (l->concurrent_max && one->live >= l->concurrent_max) {
        verdict = TENANT_BUSY;
    } else if (l->tokens_minute && one->tokens <= 0) {
        verdict = TENANT_SPENT;
        *wait_ns = (int64_t)((1 - one->tokens) * MINUTE_NS / l->tokens_minute);
    }
    tenants_forget(t, one);
    return verdict;
}

void tenants_begin(struct tenants *t, uint64_t id, const struct tenant_limits *own,
                   uint32_t prompt_tokens, int64_t now)
{
    struct tenant *one = tenants_get(t, id, own, now);

    one->live++;
    if (one->limits.tokens_minute)
        one->tokens -= prompt_tokens;
}

void tenants_end(struct tenants *t, uint64_t id, uint32_t output_tokens, int64_t now)
{
    struct tenant *one = tenants_get(t, id, NULL, now);

    one->live--;
    if (one->limits.tokens_minute)
        one->tokens -= output_tokens;
    tenants_forget(t, one);
}
