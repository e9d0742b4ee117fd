/* rig: a router core with nodes and clients that a test plays. Header only: each test program has
 * its own. Node handles below 100 are prefill nodes, those above decode nodes. */
#ifndef TANDEM_TESTS_ROUTER_RIG_H
#define TANDEM_TESTS_ROUTER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "router/core.h"
#include "router/explain.h"
#include "router/quarantine.h"

#define RIG_VOCAB 1000
#define P1 1
#define P2 2
#define D1 101
#define D2 102

struct rig {
    struct router_core *core;
    struct router_actions out; /* of the last step */
    int64_t now;
};

static inline struct router_config rig_config(void)
{
    return (struct router_config){
        .expect = {.cluster = "test",
                   .model_hash = 42,
                   .geometry = {.n_layer = 2, .n_kv_head = 4, .head_dim = 16, .page_tokens = 32},
                   .ctx_max = 512,
                   .n_vocab = RIG_VOCAB},
        .mode = ROUTER_DISAGGREGATED,
        .heartbeat_ms = 100,
        .dead_ms = 500,
        .queue_max = 4,
        .queue_deadline_ms = 10000,
        .first_request = 7000,
    };
}

static inline void rig_init_with(struct rig *r, const struct router_config *config)
{
    *r = (struct rig){.core = router_core_new(config), .now = CLOCK_S};
}

static inline void rig_init(struct rig *r)
{
    struct router_config config = rig_config();

    rig_init_with(r, &config);
}

static inline void rig_fini(struct rig *r)
{
    router_actions_fini(&r->out);
    router_core_free(&r->core);
}

static inline void rig_step(struct rig *r, const struct router_event *e)
{
    router_actions_clear(&r->out);
    router_step(r->core, e, r->now, &r->out);
}

static inline void rig_msg(struct rig *r, uint64_t node, struct msg m)
{
    rig_step(r, &(struct router_event){.type = ROUTER_MSG, .node = node, .msg = &m});
    msg_fini(&m);
}

static inline struct msg rig_registration(uint64_t node)
{
    struct msg m = {.type = MSG_REGISTER};
    struct msg_register *reg = &m.u.reg;

    *reg = (struct msg_register){
        .protocol = MSG_PROTOCOL,
        .role = node < 100 ? ROLE_PREFILL : ROLE_DECODE,
        .cluster = "test",
        .tier = "avx2",
        .boot = node,
        .model_hash = 42,
        .geometry = {.n_layer = 2, .n_kv_head = 4, .head_dim = 16, .page_tokens = 32},
        .ctx_max = 512,
        .slots = 2,
        .pages_total = 32,
        /* a prompt token takes 10 ms on a prefill node, 100 ms on a decode node; a step 100 ms, and
         * 0.1 us for each token of KV */
        .weight_bytes = 1000000000,
        .kv_token_bytes = 1000,
        .flops_token = 2000000000,
        .read_bytes_s = 10000000000,
        .flops_s = node < 100 ? 400000000000 : 40000000000,
    };
    snprintf(reg->name, sizeof(reg->name), "%s-%d", node < 100 ? "prefill" : "decode",
             (int)(node % 100));
    if (node > 100)
        snprintf(reg->kv_endpoint, sizeof(reg->kv_endpoint), "ipc:///tmp/%s", reg->name);
    return m;
}

static inline void rig_register(struct rig *r, uint64_t node)
{
    rig_msg(r, node, rig_registration(node));
}

/* Time passes in steps of 20 ms; the nodes of the 0-terminated list beat. */
static inline void rig_wait(struct rig *r, uint32_t ms, const uint64_t *beating)
{
    for (uint32_t t = 0; t < ms; t += 20) {
        r->now += 20 * CLOCK_MS;
        for (size_t i = 0; beating && beating[i]; i++)
            rig_msg(r, beating[i], (struct msg){.type = MSG_HEARTBEAT});
        rig_step(r, &(struct router_event){.type = ROUTER_TICK});
        for (size_t i = 0; i < r->out.n; i++) {
            if (r->out.items[i].type == ROUTER_FAIL || r->out.items[i].type == ROUTER_DISCONNECT)
                return;
        }
    }
}

/* A prompt of n tokens 1, 2, 3...; stop token 2. */
static inline void rig_submit(struct rig *r, uint64_t client, uint32_t n, uint32_t max_new)
{
    struct router_event e = {.type = ROUTER_SUBMIT};

    e.submit = (struct router_submit){
        .client = client, .n_tokens = n, .max_new = max_new, .n_stop_tokens = 1};
    e.submit.stop_tokens[0] = 2;
    e.submit.tokens = mem_calloc(n, sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++)
        e.submit.tokens[i] = i + 1;
    rig_step(r, &e);
}

static inline void rig_cancel(struct rig *r, uint64_t client)
{
    rig_step(r, &(struct router_event){.type = ROUTER_CANCEL, .client = client});
}

/* The i-th action of a type, NULL if there are fewer. */
static inline const struct router_action *rig_nth(const struct rig *r, enum router_action_type type,
                                                  size_t i)
{
    for (size_t k = 0; k < r->out.n; k++) {
        if (r->out.items[k].type == type && !i--)
            return &r->out.items[k];
    }
    return NULL;
}

/* What was sent to the node: the first message of the type, NULL if none. */
static inline const struct msg *rig_sent(const struct rig *r, uint64_t node, enum msg_type type)
{
    for (size_t k = 0; k < r->out.n; k++) {
        const struct router_action *a = &r->out.items[k];

        if (a->type == ROUTER_SEND && a->node == node && a->msg.type == type)
            return &a->msg;
    }
    return NULL;
}

static inline size_t rig_count(const struct rig *r, enum router_action_type type)
{
    size_t n = 0;

    while (rig_nth(r, type, n))
        n++;
    return n;
}

static inline bool rig_has_note(const struct rig *r, const char *part)
{
    for (size_t k = 0; k < r->out.n; k++) {
        if (r->out.items[k].type == ROUTER_NOTE && strstr(r->out.items[k].text, part))
            return true;
    }
    return false;
}

/* The nodes' side. */
static inline void rig_reserved(struct rig *r, uint64_t node, struct stream_id id)
{
    rig_msg(r, node, (struct msg){.type = MSG_RESERVED, .u.reserved.id = id});
}

static inline void rig_first(struct rig *r, uint64_t node, struct stream_id id, uint32_t index,
                             uint32_t token, enum finish finish)
{
    struct msg m = {.type = MSG_PREFILL_TOKEN};

    m.u.first = (struct msg_prefill_token){
        .id = id, .index = index, .token = token, .finish = finish,
        .queue_ns = 11, .compute_ns = 22};
    rig_msg(r, node, m);
}

/* n tokens: 500 + index, ... */
static inline void rig_tokens(struct rig *r, uint64_t node, struct stream_id id, uint32_t index,
                              uint32_t n, enum finish finish)
{
    struct msg m = {.type = MSG_TOKENS};

    m.u.tokens = (struct msg_tokens){
        .id = id, .index = index, .n_tokens = n, .finish = finish,
        .kv_bytes = finish == FINISH_NONE ? 0 : 4096};
    for (uint32_t i = 0; i < n; i++)
        m.u.tokens.tokens[i] = 500 + index + i;
    rig_msg(r, node, m);
}

static inline void rig_failed(struct rig *r, uint64_t node, enum msg_type type, struct stream_id id,
                              bool retry)
{
    struct msg m = {.type = type};

    m.u.failed = (struct msg_failed){.id = id, .retry = retry, .text = "out of luck"};
    rig_msg(r, node, m);
}

#endif
