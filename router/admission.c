#include "router/admission.h"

#include "kv/kv_layout.h"

/* Prompts are computed on prefill nodes where there are some and the mode lets them. */
static enum node_role admission_role(const struct schedule_node *nodes, size_t n, enum router_mode mode)
{
    if (mode == ROUTER_AGGREGATED)
        return ROLE_DECODE;
    for (size_t i = 0; i < n; i++)
        if (nodes[i].role == ROLE_PREFILL && nodes[i].up)
            return ROLE_PREFILL;
    return ROLE_DECODE;
}

struct admission admission_predict(const struct schedule_node *nodes, size_t n, enum router_mode mode,
                                   uint64_t prompts, uint64_t reserve)
{
    enum node_role role = admission_role(nodes, n, mode);
    double tokens_s = 0, tokens = (double)prompts, token_bytes = 0;
    struct admission a = {.known = true};

    for (size_t i = 0; i < n; i++) {
        const struct schedule_node *node = &nodes[i];

        if (!node->up)
            continue;
        a.known = a.known && node->cost.known;
        if (node->role == role) {
            tokens += (double)node->queued_tokens;
            tokens_s += 1 / node->cost.token_s;
        }
        if (node->role == ROLE_DECODE) {
            a.pool_bytes += (double)node->pages_total * KV_PAGE_TOKENS * node->cost.kv_token_bytes;
            token_bytes = node->cost.kv_token_bytes > token_bytes ? node->cost.kv_token_bytes : token_bytes;
        }
    }
    a.known = a.known && tokens_s > 0;
    a.prefill_s = a.known ? tokens / tokens_s : 0;
    a.kv_bytes = (double)reserve * token_bytes;
    return a;
}
