#include "router/session.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "kv/kv_layout.h"
#include "router/explain.h"
#include "router/prefix_index.h"

struct session *session_new(const struct router_submit *submit, uint64_t request, uint64_t salt,
                            int64_t now)
{
    struct session *s = mem_zalloc(sizeof(*s));
    size_t cap = (size_t)submit->n_tokens + submit->max_new;

    s->client = submit->client;
    s->id.request = request;
    s->tokens = mem_realloc(submit->tokens, cap * sizeof(*s->tokens));
    s->n_prompt = submit->n_tokens;
    s->max_new = submit->max_new;
    s->sampling = submit->sampling;
    s->n_stop_tokens = submit->n_stop_tokens;
    memcpy(s->stop_tokens, submit->stop_tokens, sizeof(s->stop_tokens));
    s->submitted_at = s->queued_at = now;
    s->stats.request = request;
    s->stats.prompt_tokens = submit->n_tokens;
    memcpy(s->tenant, submit->tenant, sizeof(s->tenant));
    s->priority = u32_min(submit->priority, MSG_PRIORITY_MAX);
    s->trace = submit->trace;
    s->tenant_id = hash64(s->tenant, strlen(s->tenant), 0);
    s->salt = s->last_name = hash64(s->tenant, strlen(s->tenant), salt);
    s->explain = mem_zalloc(sizeof(*s->explain));
    memcpy(s->explain->ids, submit->ids, sizeof(s->explain->ids));
    memcpy(s->explain->tenant, submit->tenant, sizeof(s->explain->tenant));
    s->explain->priority = submit->priority;
    s->explain->max_new = submit->max_new;
    return s;
}

void session_free(struct session *s)
{
    mem_free(s->tokens);
    mem_free(s->names);
    mem_free(s->explain);
    mem_free(s);
}

void session_name_blocks(struct session *s)
{
    uint32_t n = (s->n_prompt + s->n_delivered) / KV_PAGE_TOKENS;

    if (n == s->n_names)
        return;
    s->names = mem_realloc(s->names, n * sizeof(*s->names));
    s->last_name = prefix_index_names(s->names, s->n_names, s->last_name, s->tokens,
                                      n * KV_PAGE_TOKENS);
    s->n_names = n;
}

enum session_verdict session_tokens(struct session *s, uint32_t *first, uint32_t index,
                                    const uint32_t *tokens, uint32_t n, bool first_missing)
{
    /* next index that is not known: behind the hole, if there is one */
    uint32_t next = s->n_delivered + (first_missing ? 1 + s->n_ahead : 0);
    uint32_t known;

    if (index > next || index > s->max_new || n > s->max_new - index)
        return SESSION_FAULT;
    if (first_missing && index <= s->n_delivered)
        return SESSION_FAULT; /* only the prefill node samples that one */
    known = next - index;
    if (known >= n)
        return SESSION_REPEAT;
    memcpy(s->tokens + s->n_prompt + next, tokens + known, (n - known) * sizeof(*tokens));
    if (first_missing) {
        s->n_ahead += n - known;
        return SESSION_AHEAD;
    }
    *first = s->n_delivered;
    s->n_delivered += n - known;
    return SESSION_NEW;
}

void session_first(struct session *s, uint32_t token)
{
    ASSERT(s->n_delivered + s->n_ahead < s->max_new);
    s->tokens[s->n_prompt + s->n_delivered] = token;
    s->n_delivered += 1 + s->n_ahead;
    s->n_ahead = 0;
}
