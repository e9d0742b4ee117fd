/* fixture: a prefill machine between a router and decode nodes that the test plays. */
#ifndef TANDEM_TESTS_PREFILL_FIXTURE_H
#define TANDEM_TESTS_PREFILL_FIXTURE_H

#include "base/log.h"
#include "base/mem.h"
#include "prefill-node/core.h"
#include "prefill-node/ship.h"
#include "tests/lib/test.h"

#define LEASE 1000
#define HELLO 500
#define PAGES 16
#define CTX 1024
#define LAYERS 2
#define PAGE_BYTES (2 * 2 * 32 * 16 * 2) /* K and V, 2 heads, 32 tokens, head_dim 16, f16 */

struct fixture {
    struct kv_layout layout;
    struct kv_pool *pool;
    struct prefix *prefix;
    struct prefill_core *core;
    struct prefill_actions out; /* of the last step */
    int64_t now;
};

static inline void setup_cache(struct fixture *f, uint32_t queue_max, uint32_t prefix_pages)
{
    struct prefill_config c = {.cluster = "c", .name = "p", .model_hash = 7, .n_vocab = 1000,
                               .ctx_max = CTX, .queue_max = queue_max, .chunk_tokens = 64,
                               .wire = KV_F16, .offer = {1, 2, 3, 4, 5, 6}, .lease_ns = LEASE,
                               .hello_ns = HELLO};

    log_level_max = LOG_ERROR;
    *f = (struct fixture){0};
    kv_layout_init(&f->layout, KV_F16, LAYERS, 2, 16);
    assert_int_equal(kv_pool_open(&f->pool, &f->layout, PAGES, NULL), 0);
    f->prefix = prefix_new(f->pool, prefix_pages);
    assert_int_equal(prefill_core_new(&f->core, &c, &f->layout, f->pool, f->prefix, NULL), 0);
}

/* Without a prefix cache. */
static inline void setup(struct fixture *f, uint32_t queue_max)
{
    setup_cache(f, queue_max, 0);
}

/* Every page is back or only cached, with nothing left to do. */
static inline void teardown(struct fixture *f)
{
    assert_true(prefill_core_idle(f->core));
    assert_int_equal(kv_pool_free_count(f->pool) + prefix_evictable(f->prefix), PAGES);
    prefill_core_free(&f->core);
    prefix_free(&f->prefix);
    assert_int_equal(kv_pool_free_count(f->pool), PAGES);
    prefill_actions_fini(&f->out);
    kv_pool_close(&f->pool);
}

static inline void step(struct fixture *f, struct prefill_event ev)
{
    f->out.n = 0;
    prefill_step(f->core, &ev, f->now, &f->out);
}

static inline void from_router(struct fixture *f, struct msg m)
{
    step(f, (struct prefill_event){.type = PREFILL_ROUTER, .msg = &m});
    msg_fini(&m);
}

static inline void from_link(struct fixture *f, uint32_t link, struct msg m)
{
    step(f, (struct prefill_event){.type = PREFILL_LINK, .link = link, .msg = &m});
}

static inline struct msg credit(enum msg_type type, uint64_t bytes)
{
    return (struct msg){.type = type, .u.credit.bytes = bytes};
}

/* The n-th action is to send this type; returns its message. */
static inline const struct msg *sent(const struct fixture *f, size_t n, enum prefill_action_type action,
                              enum msg_type type)
{
    assert_true(n < f->out.n);
    assert_int_equal(f->out.items[n].type, action);
    assert_string_equal(msg_type_name(f->out.items[n].msg.type), msg_type_name(type));
    return &f->out.items[n].msg;
}

static inline const struct prefill_action *runs(const struct fixture *f, size_t n)
{
    assert_true(n < f->out.n);
    assert_int_equal(f->out.items[n].type, PREFILL_RUN);
    return &f->out.items[n];
}

static inline struct msg job_of(uint64_t request, uint32_t n_tokens, uint32_t max_new)
{
    struct msg m = {.type = MSG_PREFILL_JOB, .u.job = {.id = {request, 1}, .n_tokens = n_tokens,
                    .max_new = max_new, .n_stop_tokens = 1, .stop_tokens = {2},
                    .decode_name = "d", .kv_endpoint = "ipc://d"}};

    m.u.job.tokens = mem_calloc(n_tokens, sizeof(uint32_t));
    for (uint32_t i = 0; i < n_tokens; i++)
        m.u.job.tokens[i] = i % 1000;
    return m;
}

static inline struct msg about(enum msg_type type, uint64_t request, uint32_t epoch)
{
    struct msg m = {.type = type};

    if (type == MSG_KV_ABORT)
        m.u.failed.id = (struct stream_id){request, epoch};
    else
        m.u.cancel.id = (struct stream_id){request, epoch};
    return m;
}

static inline void layer_done(struct fixture *f, uint32_t layer)
{
    step(f, (struct prefill_event){.type = PREFILL_LAYER_DONE, .layer = layer});
}

static inline void chunk_done(struct fixture *f, const uint32_t *tokens)
{
    step(f, (struct prefill_event){.type = PREFILL_CHUNK_DONE, .tokens = tokens});
}

/* The next unit is (page, layer); sends it. */
static inline void ships(struct fixture *f, uint64_t request, uint32_t page, uint32_t layer)
{
    struct prefill_unit u;

    assert_true(prefill_core_next_unit(f->core, NULL, &u));
    assert_int_equal(u.id.request, request);
    assert_int_equal(u.unit.page, page);
    assert_int_equal(u.unit.layer, layer);
    assert_int_equal(u.bytes, PAGE_BYTES);
    step(f, (struct prefill_event){.type = PREFILL_UNIT_SENT, .unit = &u});
}

static inline void ships_nothing(struct fixture *f)
{
    struct prefill_unit u;

    assert_false(prefill_core_next_unit(f->core, NULL, &u));
}

/* A prompt of one page is computed; its KV is not sent yet. */
static inline void compute_short(struct fixture *f, uint64_t request)
{
    from_router(f, job_of(request, 10, 5));
    layer_done(f, 0);
    layer_done(f, 1);
    chunk_done(f, (uint32_t[]){50});
    sent(f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN);
}

static inline void ship_short(struct fixture *f, uint64_t request)
{
    ships(f, request, 0, 0);
    ships(f, request, 0, 1);
    sent(f, 0, PREFILL_SEND_LINK, MSG_KV_END);
}

#endif
