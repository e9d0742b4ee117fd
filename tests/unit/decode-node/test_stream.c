/* The decode machine with an engine that is a hash: the KV of a position is the chain hash of all tokens
 * up to it, read back from the pages at every step, and the next token is drawn from it. A stream whose
 * pages were ever mixed up, overwritten or lost gives other tokens than it would give alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "decode-node/core.h"
#include "kv/kv_unit.h"
#include "kv/kv_wire.h"

#define LAYERS 2
#define HEADS 2
#define DIM 16
#define CTX 300
#define VOCAB 1000
#define STOP_TOKEN 2
#define SLOTS 6
#define REQUESTS 60
#define LATE 100 /* streams of this seed and above seldom stop by themselves */
#define ANSWER_MAX 250

enum stage { WAITING, RESERVING, FILLING, DECODING, OVER };

struct request {
    enum stage stage;
    bool local, cancelled;
    uint32_t epoch, priority;
    uint32_t tokens[CTX], n_prompt; /* the prompt, then what was delivered */
    uint32_t max_new, n_got;
    uint64_t salt, seed;
    uint32_t base;  /* n_got when the attempt began */
    size_t unit;    /* FILLING: the next to arrive */
    uint32_t restarts;
};

struct sim {
    uint64_t seed, draws;
    int64_t now;
    struct kv_layout layout;
    struct kv_cut cut;
    struct kv_pool *pool;
    struct prefix *prefix;
    struct kv_pool *swap;
    uint32_t n_pages;
    struct decode_core *core;
    struct decode_config config;
    struct decode_actions out;
    struct decode_row rows[SLOTS + CTX]; /* of the step in flight */
    uint32_t n_rows;
    struct request requests[REQUESTS];
    uint32_t failed; /* DECODE_FAILED that the router heard */
    uint32_t hits;   /* reservations that found something held */
    uint32_t mixed;  /* steps in which a prompt rode along */
    bool only_local;
    bool tight;      /* prompts are short, answers long */
};

static uint32_t draw(struct sim *s, uint32_t below)
{
    return (uint32_t)(rng_u64(s->seed, s->draws++) % below);
}

/* The KV of a token behind that of the one before it. */
static uint64_t kv_next(uint64_t before, uint32_t token)
{
    return hash64(&token, sizeof(token), before);
}

static uint32_t sampled(uint64_t kv, uint64_t seed, uint32_t index)
{
    uint64_t key[3] = {kv, seed, index}, h = hash64(key, sizeof(key), 1);

    return h % (seed < LATE ? 29 : 400) == 0 ? STOP_TOKEN : 3 + (uint32_t)(h % (VOCAB - 3));
}

static uint64_t *kv_at(uint8_t *page, const struct sim *s, uint32_t layer, uint32_t pos)
{
    return (uint64_t *)(void *)(page + layer * s->layout.layer_bytes) + pos % KV_PAGE_TOKENS;
}

static void kv_put(const struct sim *s, uint8_t *page, uint32_t layer, uint32_t pos, uint64_t kv)
{
    *kv_at(page, s, layer, pos) = kv + layer;
}

/* Every layer must have the same. */
static uint64_t kv_get(const struct sim *s, uint8_t *page, uint32_t pos)
{
    uint64_t kv = *kv_at(page, s, 0, pos);

    for (uint32_t layer = 1; layer < LAYERS; layer++)
        assert_int_equal(*kv_at(page, s, layer, pos), kv + layer);
    return kv;
}

/* What the request gives alone: tokens of the whole answer, and why it ends. */
static uint32_t alone(const struct request *q, uint32_t *tokens, enum finish *finish)
{
    uint64_t kv = 0;
    uint32_t n = 0, max_new = u32_min(q->max_new, CTX - q->n_prompt);

    for (uint32_t i = 0; i < q->n_prompt; i++)
        kv = kv_next(kv, q->tokens[i]);
    *finish = FINISH_LENGTH;
    while (n < max_new) {
        uint32_t token = sampled(kv, q->seed, n);

        if (token == STOP_TOKEN) {
            *finish = FINISH_STOP;
            break;
        }
        tokens[n++] = token;
        kv = kv_next(kv, token);
    }
    return n;
}

static struct request *request_of(struct sim *s, struct stream_id id)
{
    struct request *q = &s->requests[id.request];

    return q->stage != OVER && q->stage != WAITING && id.epoch == q->epoch ? q : NULL;
}

static void deliver(struct sim *s, const struct msg_tokens *t)
{
    struct request *q = request_of(s, t->id);
    uint32_t want[ANSWER_MAX], n;
    enum finish finish;

    if (!q)
        return;
    n = alone(q, want, &finish);
    assert_int_equal(t->index, q->n_got); /* no gap, no repeat */
    if (q->n_got == q->base + !q->local)
        assert_true(t->queue_ns >= 0 && t->step_ns >= 0 && t->compute_ns >= 0);
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        assert_true(q->n_got < n);
        assert_int_equal(t->tokens[i], want[q->n_got]);
        q->tokens[q->n_prompt + q->n_got++] = t->tokens[i];
    }
    if (t->finish == FINISH_NONE)
        return;
    assert_int_equal(t->finish, finish);
    assert_int_equal(q->n_got, n);
    q->stage = OVER;
}

static void reserved(struct sim *s, const struct msg_reserved *r)
{
    struct request *q = request_of(s, r->id);

    if (!q)
        return;
    assert_int_equal(r->held_tokens % KV_PAGE_TOKENS, 0);
    assert_true(r->held_tokens < q->n_prompt + q->n_got);
    s->hits += r->held_tokens > 0;
    q->stage = q->local ? DECODING : FILLING;
    q->unit = (size_t)r->held_tokens / KV_PAGE_TOKENS * s->cut.n_layer * s->cut.parts;
}

/* Refused or failed: later. */
static void again(struct sim *s, const struct msg_failed *f)
{
    struct request *q = request_of(s, f->id);

    if (!q)
        return;
    assert_true(f->retry);
    q->stage = WAITING;
    q->restarts++;
}

static void take_run(struct sim *s, const struct decode_action *a)
{
    uint32_t samples = 0;

    assert_int_equal(s->n_rows, 0);
    assert_in_range(a->n_rows, 1, rows_max(SLOTS, &s->config.prompt_rows));
    s->n_rows = a->n_rows;
    memcpy(s->rows, a->rows, a->n_rows * sizeof(*a->rows));
    for (uint32_t i = 0; i < a->n_rows; i++)
        samples += a->rows[i].sample;
    s->mixed += samples && samples < a->n_rows;
}

static void step(struct sim *s, struct decode_event ev)
{
    s->now += 1 + draw(s, 3);
    decode_step(s->core, &ev, s->now, &s->out);
    for (size_t i = 0; i < s->out.n; i++) {
        struct decode_action *a = &s->out.items[i];

        if (a->type == DECODE_RUN) {
            take_run(s, a);
        } else if (a->type == DECODE_SEND_ROUTER) {
            switch (a->msg.type) {
            case MSG_TOKENS:
                deliver(s, &a->msg.u.tokens);
                break;
            case MSG_RESERVED:
                reserved(s, &a->msg.u.reserved);
                break;
            case MSG_DECODE_FAILED:
                s->failed++;
                assert_true(a->msg.u.failed.room);
                again(s, &a->msg.u.failed);
                break;
            case MSG_RESERVE_REFUSED:
                again(s, &a->msg.u.failed);
                break;
            default:
                break;
            }
        }
        msg_fini(&a->msg);
    }
    s->out.n = 0;
}

static void compute(struct sim *s)
{
    uint32_t tokens[SLOTS + CTX] = {0};

    for (uint32_t i = 0; i < s->n_rows; i++) {
        const struct decode_row *r = &s->rows[i];
        uint64_t kv = 0;

        if (r->pos)
            kv = kv_get(s, r->pages[(r->pos - 1) / KV_PAGE_TOKENS], r->pos - 1);
        kv = kv_next(kv, r->token);
        for (uint32_t layer = 0; layer < LAYERS; layer++)
            kv_put(s, r->pages[r->pos / KV_PAGE_TOKENS], layer, r->pos, kv);
        if (r->sample)
            tokens[i] = sampled(kv, r->sampling.seed, r->index);
    }
    s->n_rows = 0;
    step(s, (struct decode_event){.type = DECODE_STEP_DONE, .tokens = tokens});
}

static void reserve(struct sim *s, uint32_t r)
{
    struct request *q = &s->requests[r];
    struct msg m = {.type = MSG_RESERVE};

    q->epoch++;
    q->stage = RESERVING;
    q->base = q->n_got;
    q->local = s->only_local || draw(s, 2);
    m.u.reserve = (struct msg_reserve){
        .id = {r, q->epoch}, .tokens = q->tokens, .n_tokens = q->n_prompt + q->n_got,
        .first_index = q->n_got, .max_new = q->max_new - q->n_got, .sampling.seed = q->seed,
        .n_stop_tokens = 1, .stop_tokens = {STOP_TOKEN}, .salt = q->salt,
        .priority = q->priority, .local = q->local,
    };
    step(s, (struct decode_event){.type = DECODE_ROUTER, .msg = &m});
}

static void cancel(struct sim *s, uint32_t r)
{
    struct msg m = {.type = MSG_CANCEL, .u.cancel.id = {r, s->requests[r].epoch}};

    step(s, (struct decode_event){.type = DECODE_ROUTER, .msg = &m});
}

/* The next unit of a stream that a prefill node fills arrives, or its KV_END. */
static void fill(struct sim *s, uint32_t r)
{
    struct request *q = &s->requests[r];
    uint32_t n = q->n_prompt + q->n_got, page_id, token;
    struct msg m = {.type = MSG_KV_PAGE};
    struct kv_unit u;
    uint64_t kv = 0;

    if (q->unit == kv_cut_count(&s->cut, n)) {
        for (uint32_t i = 0; i < n; i++)
            kv = kv_next(kv, q->tokens[i]);
        token = sampled(kv, q->seed, q->n_got);
        if (token == STOP_TOKEN) { /* the prefill node's to say */
            cancel(s, r);
            q->stage = OVER;
            return;
        }
        q->stage = DECODING;
        q->tokens[q->n_prompt + q->n_got++] = token;
        m = (struct msg){.type = MSG_KV_END, .u.end = {.id = {r, q->epoch}, .n_tokens = n,
                         .index = q->base, .token = token}};
        step(s, (struct decode_event){.type = DECODE_PEER, .peer = 0, .msg = &m});
        return;
    }
    u = kv_cut_unit(&s->cut, q->unit++, n);
    m.u.page = (struct msg_kv_page){
        .id = {r, q->epoch}, .layer = u.layer, .page = u.page, .head_first = u.head_first,
        .head_count = u.head_count, .n_tokens = u.n_tokens,
        .bulk.size = kv_wire_bytes(&s->layout, KV_F16, u.head_count, u.n_tokens),
    };
    assert_int_equal(decode_core_accepts_page(s->core, 0, &m, &page_id), DECODE_PAGE_OK);
    for (uint32_t i = 0; i < u.page * KV_PAGE_TOKENS + u.n_tokens; i++) {
        kv = kv_next(kv, q->tokens[i]);
        if (i >= u.page * KV_PAGE_TOKENS)
            kv_put(s, kv_pool_page(s->pool, page_id), u.layer, i, kv);
    }
    step(s, (struct decode_event){.type = DECODE_PAGE_IN, .peer = 0, .msg = &m});
}

static void turn(struct sim *s)
{
    uint32_t r = draw(s, REQUESTS);
    struct request *q = &s->requests[r];

    if (draw(s, 3) == 0) {
        if (s->n_rows)
            compute(s);
    } else if (q->stage == WAITING) {
        if (draw(s, 4) == 0)
            reserve(s, r);
    } else if (q->stage != OVER && draw(s, 300) == 0) {
        cancel(s, r);
        q->stage = draw(s, 2) ? OVER : WAITING; /* the client went, or the router starts anew */
        q->cancelled = q->stage == OVER;
    } else if (q->stage == FILLING) {
        fill(s, r);
    } else if (draw(s, 50) == 0) {
        step(s, (struct decode_event){.type = DECODE_TICK});
    }
}

static void sim_requests(struct sim *s)
{
    for (uint32_t r = 0; r < REQUESTS; r++) {
        struct request *q = &s->requests[r];
        uint32_t family = draw(s, 3), common = draw(s, 200);

        *q = (struct request){.n_prompt = 1 + draw(s, r % (s->tight ? 6 : 2) ? 40 : 220),
                              .max_new = 1 + draw(s, s->tight ? ANSWER_MAX : 60),
                              .priority = draw(s, 3),
                              .salt = draw(s, 2), .seed = draw(s, 5) + (s->tight ? LATE : 0)};
        for (uint32_t i = 0; i < q->n_prompt; i++) /* beginnings in common, then its own */
            q->tokens[i] = 3 + (i < common ? family * 300 + i : 1000 - 100 - r) % (VOCAB - 3);
    }
}

/* n_pages in the pool, n_cached in its prefix cache, n_swap in the swap. */
static void sim_init(struct sim *s, uint64_t seed, uint32_t n_pages, uint32_t n_cached,
                     uint32_t n_swap)
{
    struct msg hello = {.type = MSG_KV_HELLO,
                        .u.hello = {.protocol = MSG_PROTOCOL, .name = "p",
                                    .geometry = {LAYERS, HEADS, DIM, 32, KV_F16}}};
    struct slots_memory memory;

    *s = (struct sim){.seed = seed, .n_pages = n_pages, .now = 1,
                        .tight = n_pages < 20};
    kv_layout_init(&s->layout, KV_F16, LAYERS, HEADS, DIM);
    assert_true(kv_cut_init(&s->cut, &s->layout, KV_F16, MSG_BULK_MAX));
    assert_int_equal(kv_pool_open(&s->pool, &s->layout, n_pages, NULL), 0);
    s->prefix = prefix_new(s->pool, n_cached);
    if (n_swap)
        assert_int_equal(kv_pool_open(&s->swap, &s->layout, n_swap, NULL), 0);
    memory = (struct slots_memory){s->pool, s->prefix, s->swap};
    s->config = (struct decode_config){.n_vocab = VOCAB, .ctx_max = CTX, .slots = SLOTS,
                                       .wire = KV_F16, .credit_bytes = 2 * MSG_BULK_MAX,
                                       .prompt_rows = {1 + draw(s, 20), 1 + draw(s, 80)},
                                       .lease_ns = INT64_MAX / 20};
    assert_int_equal(decode_core_new(&s->core, &s->config, &s->layout, &memory, NULL), 0);
    sim_requests(s);
    step(s, (struct decode_event){.type = DECODE_PEER, .msg = &hello});
}

static void sim_fini(struct sim *s)
{
    assert_true(decode_core_idle(s->core));
    assert_int_equal(kv_pool_free_count(s->pool) + prefix_evictable(s->prefix), s->n_pages);
    decode_core_free(&s->core);
    prefix_free(&s->prefix);
    assert_int_equal(kv_pool_free_count(s->pool), s->n_pages);
    kv_pool_close(&s->pool);
    kv_pool_close(&s->swap);
    decode_actions_fini(&s->out);
}

static bool sim_over(const struct sim *s)
{
    for (uint32_t r = 0; r < REQUESTS; r++)
        if (s->requests[r].stage != OVER)
            return false;
    return !s->n_rows;
}

static void sim_run(struct sim *s)
{
    for (uint32_t n = 0; !sim_over(s); n++) {
        assert_true(n < 1000000); /* or it will never end */
        turn(s);
    }
}

static void a_stream_has_the_tokens_it_has_alone(void **state)
{
    static const uint32_t cached[] = {0, 8, 60};
    struct sim *s = mem_zalloc(sizeof(*s));
    uint32_t mixed = 0, hits[3] = {0};

    (void)state;
    log_level_max = LOG_ERROR;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        sim_init(s, seed, 60, cached[seed % 3], 0);
        s->only_local = seed % 2;
        sim_run(s);
        mixed += s->mixed;
        hits[seed % 3] += s->hits;
        assert_int_equal(s->failed, 0);
        sim_fini(s);
    }
    assert_true(mixed > 100);
    assert_int_equal(hits[0], 0);
    assert_true(hits[1] > 20 && hits[2] > hits[1]);
    mem_free(s);
}

/* The pool holds one sequence of full length and hardly a second. */
static void nobody_waits_for_ever_for_pages(void **state)
{
    static const uint32_t swaps[] = {0, 3, 40};
    struct sim *s = mem_zalloc(sizeof(*s));
    uint64_t preempted = 0, failed[3] = {0};

    (void)state;
    log_level_max = LOG_ERROR;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct decode_stats stats;

        sim_init(s, seed, 10 + (uint32_t)seed % 7, seed % 5 ? 60 : 0, swaps[seed % 3]);
        s->only_local = seed % 4 == 0;
        sim_run(s);
        decode_core_stats(s->core, &stats);
        preempted += stats.preempted;
        failed[seed % 3] += s->failed;
        sim_fini(s);
    }
    assert_true(preempted > 100);
    assert_true(failed[0] > failed[2]); /* a swap saves them */
    mem_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_has_the_tokens_it_has_alone),
        cmocka_unit_test(nobody_waits_for_ever_for_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
