/* Nodes that change their role: told by hand, or because the requests are not what the nodes were
 * shared out for (roles.h). */
#include "router/stream.h"

void moves_become(struct router_core *c, uint64_t handle, enum node_role role)
{
    struct node *node = node_table_get(&c->nodes, handle);
    struct msg m = {.type = MSG_ROLE, .u.role = role};

    if (!node || node->state == NODE_WAITING || node->drained || !node->reg.change_role ||
        node->reg.role == role)
        return;
    node->drained = true;
    node->state = NODE_DRAINING;
    c->counters.role_changes++;
    action_send(c, node, &m);
    action_note(c, LOG_INFO, "node=%s running=%u is to become a %s node", node->reg.name,
                node->running, node_role_name(role));
}

/* What the nodes of a role are like, on average. Rates are those that were seen, as far as they
 * were. A node that does not say what its machine gives leaves the pool unknown. */
static struct roles_pool moves_pool(const struct router_core *c, enum node_role role)
{
    struct roles_pool p = {0};
    struct ratio_cost *sum = &p.cost;

    for (size_t i = 0; i < c->nodes.n; i++) {
        const struct node *node = c->nodes.items[i];
        const struct cost_model *m = &node->cost;

        if (node->state != NODE_UP || node->reg.role != role)
            continue;
        if (!m->known)
            return (struct roles_pool){0};
        p.n++;
        p.slots += node->reg.slots;
        sum->flops_token += m->flops_token;
        sum->weight_bytes += m->weight_bytes;
        sum->kv_token_bytes += m->kv_token_bytes;
        sum->flops_s += COST_PEAK * m->flops_s / m->prompt_x;
        sum->read_bytes_s += m->read_bytes_s / m->step_x;
    }
    if (!p.n)
        return p;
    p.slots /= p.n;
    sum->flops_token /= p.n;
    sum->weight_bytes /= p.n;
    sum->kv_token_bytes /= p.n;
    sum->flops_s /= p.n;
    sum->read_bytes_s /= p.n;
    return p;
}

/* The one with least to finish among the nodes that could become `role`; NULL: none. */
static const struct node *moves_pick(const struct router_core *c, enum node_role role)
{
    const struct node *best = NULL;

    for (size_t i = 0; i < c->nodes.n; i++) {
        const struct node *node = c->nodes.items[i];

        if (node->state != NODE_UP || node->reg.role == role || !node->reg.change_role)
            continue;
        if (!best || node->running < best->running ||
            (node->running == best->running && node->queued_tokens < best->queued_tokens))
            best = node;
    }
    return best;
}

void moves_tick(struct router_core *c)
{
    struct roles_pool prefill, decode;
    const struct node *node;
    enum node_role to;

    if (!c->config.move_roles)
        return;
    prefill = moves_pool(c, ROLE_PREFILL);
    decode = moves_pool(c, ROLE_DECODE);
    if (!roles_due(&c->roles, &prefill, &decode, c->config.slo_tpot_ms / 1e3, c->now, &to))
        return;
    node = moves_pick(c, to);
    if (!node)
        return;
    action_note(c, LOG_INFO, "prompts of %.0f tokens, %.0f of them cached, and answers of %.0f: %u "
                "prefill and %u decode nodes are not in proportion", c->roles.mix.prompt,
                c->roles.mix.cached, c->roles.mix.output, prefill.n, decode.n);
    moves_become(c, node->handle, to);
}
