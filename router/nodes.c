#include "router/nodes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "kv/kv_layout.h"

const char *const node_state_names[] = {"waiting", "ready", "draining"};

void node_table_fini(struct node_table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        prefix_index_fini(&t->items[i]->prefix);
        mem_free(t->items[i]);
    }
    t->n = 0;
    map_fini(&t->by_handle);
}

struct node *node_table_get(const struct node_table *t, uint64_t handle)
{
    return map_get(&t->by_handle, handle);
}

struct node *node_table_named(const struct node_table *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->items[i]->state != NODE_WAITING && !strcmp(t->items[i]->reg.name, name))
            return t->items[i];
    }
    return NULL;
}

/* Whether two nodes have as many cores of one machine, and compute alike on them. */
static bool node_alike(const struct msg_register *a, const struct msg_register *b)
{
    return *a->host && !strcmp(a->host, b->host) && !strcmp(a->tier, b->tier) && a->cores == b->cores;
}

struct node *node_table_add(struct node_table *t, uint64_t handle, const struct msg_register *reg)
{
    struct node *node = mem_zalloc(sizeof(*node));

    ASSERT(t->n < NODES_MAX && handle && !node_table_get(t, handle));
    node->handle = handle;
    node->reg = *reg;
    node->beat.pages_free = node->beat.pages_total = reg->pages_total;
    cost_model_init(&node->cost, reg);
    for (size_t i = 0; i < t->n; i++)
        if (node_alike(&t->items[i]->reg, reg))
            cost_model_level(&t->items[i]->cost, &node->cost);
    t->items[t->n++] = node;
    t->n_waiting++;
    map_put(&t->by_handle, handle, node);
    return node;
}

void node_table_up(struct node_table *t, struct node *node)
{
    t->n_waiting -= node->state == NODE_WAITING;
    node->state = NODE_UP;
}

void node_table_remove(struct node_table *t, struct node *node)
{
    size_t i = 0;

    while (i < t->n && t->items[i] != node)
        i++;
    ASSERT(i < t->n);
    /* keeps the order of registration: what people see in the status table */
    for (t->n--; i < t->n; i++)
        t->items[i] = t->items[i + 1];
    t->n_waiting -= node->state == NODE_WAITING;
    map_del(&t->by_handle, node->handle);
    prefix_index_reset(&node->prefix, &t->prefix_blocks);
    mem_free(node);
}

size_t node_table_snapshot(struct node_table *t, int64_t now)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n; i++) {
        struct node *node = t->items[i];

        if (node->state == NODE_WAITING)
            continue;
        t->snapshot_of[n] = node;
        t->snapshot[n++] = (struct schedule_node){
            .node = node->handle,
            .role = node->reg.role,
            .up = node->state == NODE_UP,
            .open = node->state == NODE_UP && now >= node->held_until,
            .ctx_max = node->reg.ctx_max,
            .slots = node->reg.slots,
            .running = node->running,
            .pages_total = node->reg.pages_total,
            .pages_taken = node->pages_taken,
            .queued_tokens = node->queued_tokens,
            .kv_tokens = node->kv_tokens,
            .last_used = node->last_used,
            .host = *node->reg.host ? hash64(node->reg.host, strlen(node->reg.host), 0) : 0,
            .domain = node->reg.domain,
            .cost = cost_rates(&node->cost, now),
        };
    }
    return n;
}

uint32_t node_table_count(const struct node_table *t, enum node_role role)
{
    uint32_t n = 0;

    for (size_t i = 0; i < t->n; i++)
        n += t->items[i]->state != NODE_WAITING && t->items[i]->reg.role == role;
    return n;
}

/* Names appear in metrics, logs and tables: letters, digits, '.', '_', '-'. */
static bool node_name_ok(const char *s)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    return *s && strspn(s, allowed) == strlen(s);
}

static int node_check_geometry(const struct node_table *t, const struct kv_geometry *want,
                               const struct msg_register *reg, struct err *e)
{
    const struct {
        const char *name;
        uint32_t got, want;
    } fields[] = {
        {"layers", reg->geometry.n_layer, want->n_layer},
        {"KV heads", reg->geometry.n_kv_head, want->n_kv_head},
        {"dimensions a head", reg->geometry.head_dim, want->head_dim},
        {"tokens a page", reg->geometry.page_tokens, want->page_tokens},
    };

    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (fields[i].got != fields[i].want)
            return err_set(e, ERR_PEER, "the node's KV has %u %s, the cluster's model has %u",
                           fields[i].got, fields[i].name, fields[i].want);
    }
    for (size_t i = 0; i < t->n; i++) {
        const struct msg_register *other = &t->items[i]->reg;

        if (strcmp(other->name, reg->name) != 0 &&
            other->geometry.wire_type != reg->geometry.wire_type)
            return err_set(e, ERR_PEER, "the node sends KV as %s, node %s as %s: kv_wire must agree, as it "
                           "does with --kv_type=%s --kv_wire=auto", kv_type_name(reg->geometry.wire_type), other->name,
                           kv_type_name(other->geometry.wire_type),
                           kv_type_name(other->geometry.wire_type));
    }
    return 0;
}

int node_check(const struct node_table *t, const struct node_expect *expect,
               const struct msg_register *reg, struct err *e)
{
    if (reg->protocol != MSG_PROTOCOL)
        return err_set(e, ERR_PEER, "the node speaks protocol %u, the router %u", reg->protocol,
                       MSG_PROTOCOL);
    if (strcmp(reg->cluster, expect->cluster) != 0)
        return err_set(e, ERR_PEER, "the node belongs to cluster '%s', the router to '%s'",
                       reg->cluster, expect->cluster);
    if (reg->role != ROLE_PREFILL && reg->role != ROLE_DECODE)
        return err_set(e, ERR_PEER, "role %d is neither prefill (1) nor decode (2)", reg->role);
    if (!node_name_ok(reg->name))
        return err_set(e, ERR_PEER,
                       "the node's name '%s' is not made of letters, digits, '.', '_' and '-'",
                       reg->name);
    if (reg->model_hash != expect->model_hash)
        return err_set(e, ERR_PEER,
                       "the node's model has hash %016" PRIx64 ", the cluster's model %016" PRIx64,
                       reg->model_hash, expect->model_hash);
    if (!reg->ctx_max || !reg->slots)
        return err_set(e, ERR_PEER, "the node offers %u slots and a context of %u: 0 is no use",
                       reg->slots, reg->ctx_max);
    if (reg->role == ROLE_DECODE && (!reg->pages_total || !reg->kv_endpoint[0]))
        return err_set(e, ERR_PEER, "the decode node offers %u KV pages at endpoint '%s'",
                       reg->pages_total, reg->kv_endpoint);
    return node_check_geometry(t, &expect->geometry, reg, e);
}

/* Tiers but amx agree bit for bit. */
static bool node_agree(const struct msg_register *a, const struct msg_register *b)
{
    return a->kv_type == b->kv_type && !strcmp(a->tier, "amx") == !strcmp(b->tier, "amx");
}

bool node_table_mixed(const struct node_table *t, char *out, size_t out_bytes)
{
    struct str s = {0};
    uint32_t kinds = 0;
    bool mixed = false;

    for (size_t i = 0; i < t->n; i++) {
        const struct msg_register *reg = &t->items[i]->reg;
        size_t j = 0;

        while (j < i && (strcmp(t->items[j]->reg.tier, reg->tier) != 0 ||
                         t->items[j]->reg.kv_type != reg->kv_type))
            j++;
        mixed = mixed || !node_agree(reg, &t->items[0]->reg);
        if (j == i)
            str_addf(&s, "%s%s with %s (%s)", kinds++ ? ", " : "", reg->tier,
                     kv_type_name((enum kv_type)reg->kv_type), reg->name);
    }
    snprintf(out, out_bytes, "%s", str_text(&s));
    str_fini(&s);
    return mixed;
}
