/* The prefill and the decode machine against each other: two of each, a small router, queues that keep
 * the order of each pair and no other, pages that arrive spoiled, connections that break with all that is
 * under way, cancels at any time. The KV that a
 * prefill node computes is a pattern of (request, layer, head, position), and every decode step
 * checks that it reads just that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "decode-node/core.h"
#include "kv/kv_wire.h"
#include "prefill-node/core.h"

#define N 2 /* nodes of each role */
#define REQUESTS 40
#define LAYERS 3
#define HEADS 3
#define DIM 64
#define CTX 300
#define PAGES 24
#define SWAP 8
#define VOCAB 1000
#define STOP_TOKEN 2
#define QUEUE_MAX 4096
#define WINDOW (2u * MSG_BULK_MAX)

struct queue {
    struct msg items[QUEUE_MAX];
    uint32_t head, tail;
};

enum stage { WAITING, RESERVING, PREFILLING, OVER };

struct request {
    enum stage stage;
    uint32_t epoch, n_prompt, max_new, n_got;
    uint32_t p, d; /* the pair */
    uint32_t held; /* tokens that D has */
    bool early[64]; /* indices that overtook the first token: another socket brings that */
    enum finish finish;
    uint32_t end;   /* with finish: tokens of the whole stream */
    bool cancelled;
};

struct sim {
    uint64_t seed, draws;
    int64_t now;
    struct kv_layout layout;
    struct kv_pool *p_pool[N], *d_pool[N];
    struct prefix *p_prefix[N], *d_prefix[N];
    struct kv_pool *d_swap[N];
    struct prefill_core *p[N];
    struct decode_core *d[N];
    struct prefill_actions p_out;
    struct decode_actions d_out;
    const struct span *spans[N]; /* chunk in flight; NULL: none */
    uint32_t n_spans[N], layers[N];
    const struct decode_row *rows[N]; /* step in flight; NULL: none */
    uint32_t n_rows[N];
    uint32_t link_to[N][PREFILL_LINKS_MAX]; /* decode node of a link, +1 */
    uint32_t handle[N][N]; /* of the connection at D: p + N * how many there were before */
    bool up[N][N];         /* there is that connection */
    struct queue *to_d[N][N], *to_p[N][N];  /* [prefill][decode] */
    struct queue *r_to_p[N], *r_to_d[N], *p_to_r[N], *d_to_r[N];
    /* bytes since the last welcome: granted by D, sent by P, arrived at D */
    uint64_t granted[N][N], sent[N][N], arrived[N][N];
    struct request requests[REQUESTS];
    uint32_t spoiled, cuts, resumed;
    bool tight; /* the window was ever as good as full */
};

static uint32_t draw(struct sim *s, uint32_t below)
{
    return (uint32_t)(rng_u64(s->seed, s->draws++) % below);
}

static bool empty(const struct queue *q) { return q->head == q->tail; }

static void push(struct queue *q, struct msg m)
{
    assert_true(q->head - q->tail < QUEUE_MAX);
    q->items[q->head++ % QUEUE_MAX] = m;
}

static struct msg pop(struct queue *q) { return q->items[q->tail++ % QUEUE_MAX]; }

/* The token at an index of a request's stream. */
static uint32_t token_at(const struct sim *s, uint32_t request, uint32_t index)
{
    uint32_t key[3] = {(uint32_t)s->seed, request, index};
    uint64_t h = hash64(key, sizeof(key), 1);

    return h % 23 == 0 ? STOP_TOKEN : 3 + (uint32_t)(h % (VOCAB - 3));
}

/* A request's prompt and answer so far, as its own: no two share a beginning. Owned by the caller. */
static uint32_t *tokens_of(uint32_t request, uint32_t n)
{
    uint32_t *tokens = mem_calloc(n, sizeof(*tokens));

    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (request + i) % VOCAB;
    return tokens;
}

/* One value of a request's KV. */
static uint16_t pattern(uint32_t request, uint32_t layer, uint32_t head, bool v, uint32_t pos, uint32_t dim)
{
    return (uint16_t)(request * 7919 + layer * 131 + head * 31 + pos * 17 + dim * 3 + v);
}

/* Writes a layer of the first n tokens of a page, the first of which is at pos, or compares it. */
static void page_walk(const struct sim *s, uint8_t *page, bool write, uint32_t request, uint32_t layer,
                      uint32_t pos, uint32_t n)
{
    const struct kv_layout *l = &s->layout;

    for (uint32_t h = 0; h < HEADS; h++) {
        uint16_t *k = (uint16_t *)(page + kv_layout_k(l, layer, h)), *v = k + l->v_offset / 2;

        for (uint32_t t = 0; t < n; t++)
            for (uint32_t i = 0; i < DIM; i++) {
                uint16_t want[2] = {pattern(request, layer, h, false, pos + t, i),
                                    pattern(request, layer, h, true, pos + t, i)};

                if (write) {
                    k[kv_layout_k_at(l, t, i)] = want[0];
                    v[kv_layout_v_at(l, t, i)] = want[1];
                } else if (k[kv_layout_k_at(l, t, i)] != want[0] || v[kv_layout_v_at(l, t, i)] != want[1]) {
                    fail_msg("request %u, layer %u, head %u, token %u: other KV", request, layer, h,
                             pos + t);
                }
            }
    }
}

static void release(void *data, void *hint)
{
    (void)hint;
    mem_free(data);
}

static void prefill_act(struct sim *s, uint32_t p)
{
    for (size_t i = 0; i < s->p_out.n; i++) {
        struct prefill_action *a = &s->p_out.items[i];
        uint32_t d = s->link_to[p][a->link] - 1;

        switch (a->type) {
        case PREFILL_SEND_ROUTER:
            push(s->p_to_r[p], a->msg);
            break;
        case PREFILL_SEND_LINK:
            s->resumed += a->msg.type == MSG_KV_RESUME;
            push(s->to_d[p][d], a->msg);
            break;
        case PREFILL_OPEN_LINK:
            d = (uint32_t)(a->endpoint[6] - '0');
            s->link_to[p][a->link] = 1 + d;
            s->handle[p][d] += N;
            s->up[p][d] = true;
            break;
        case PREFILL_CLOSE_LINK: /* it was cut */
            assert_true(empty(s->to_d[p][d]));
            s->link_to[p][a->link] = 0;
            s->up[p][d] = false;
            break;
        case PREFILL_RUN:
            assert_null(s->spans[p]);
            s->spans[p] = a->spans;
            s->n_spans[p] = a->n_spans;
            s->layers[p] = 0;
        }
    }
    s->p_out.n = 0;
}

static void prefill_do(struct sim *s, uint32_t p, struct prefill_event ev)
{
    prefill_step(s->p[p], &ev, ++s->now, &s->p_out);
    prefill_act(s, p);
}

/* Every row reads the KV of its own request, all of the prompt. */
static void check_rows(struct sim *s, uint32_t d)
{
    for (uint32_t i = 0; i < s->n_rows[d]; i++) {
        const struct decode_row *r = &s->rows[d][i];
        uint32_t request = (uint32_t)r->sampling.seed;
        const struct request *q = &s->requests[request];
        uint32_t n = q->n_prompt < r->pos ? q->n_prompt : r->pos;

        if (q->cancelled)
            continue;
        for (uint32_t page = 0; page < kv_layout_pages(n); page++)
            for (uint32_t layer = 0; layer < LAYERS; layer++)
                page_walk(s, r->pages[page], false, request, layer, page * 32,
                          u32_min(32, n - page * 32));
    }
}

/* D sends on a connection; takes m. */
static void to_peer(struct sim *s, uint32_t peer, uint32_t d, struct msg *m)
{
    uint32_t p = peer % N;

    if (peer != s->handle[p][d] || !s->up[p][d]) { /* it broke */
        msg_fini(m);
        return;
    }
    assert_int_not_equal(m->type, MSG_REFUSED);
    if (m->type == MSG_KV_WELCOME)
        s->granted[p][d] = s->sent[p][d] = s->arrived[p][d] = 0;
    if (m->type == MSG_KV_WELCOME || m->type == MSG_KV_CREDIT)
        s->granted[p][d] += m->u.credit.bytes;
    push(s->to_p[p][d], *m);
}

static void decode_do(struct sim *s, uint32_t d, struct decode_event ev)
{
    decode_step(s->d[d], &ev, ++s->now, &s->d_out);
    for (size_t i = 0; i < s->d_out.n; i++) {
        struct decode_action *a = &s->d_out.items[i];

        switch (a->type) {
        case DECODE_SEND_ROUTER:
            push(s->d_to_r[d], a->msg);
            break;
        case DECODE_SEND_PEER:
            to_peer(s, a->peer, d, &a->msg);
            break;
        case DECODE_DROP_PEER: /* only of a connection that is no more */
            assert_int_not_equal(a->peer, s->handle[a->peer % N][d]);
            break;
        case DECODE_RUN:
            assert_null(s->rows[d]);
            s->rows[d] = a->rows;
            s->n_rows[d] = a->n_rows;
            check_rows(s, d);
        }
    }
    s->d_out.n = 0;
}

static void ship(struct sim *s, uint32_t p)
{
    struct prefill_unit u;
    struct msg m = {.type = MSG_KV_PAGE};
    uint32_t d;
    void *buf;

    if (!prefill_core_next_unit(s->p[p], NULL, &u))
        return;
    d = s->link_to[p][u.link] - 1;
    s->sent[p][d] += u.bytes;
    assert_true(s->sent[p][d] <= s->granted[p][d]);
    s->tight |= s->sent[p][d] - s->arrived[p][d] + u.bytes > WINDOW * 3 / 4;
    buf = mem_alloc(u.bytes);
    kv_wire_export(buf, KV_F16, &s->layout, kv_pool_page(s->p_pool[p], u.page_id), u.unit.layer,
                   u.unit.head_first, u.unit.head_count, u.unit.n_tokens);
    m.u.page = (struct msg_kv_page){
        .id = u.id, .layer = u.unit.layer, .page = u.unit.page, .head_first = u.unit.head_first,
        .head_count = u.unit.head_count, .n_tokens = u.unit.n_tokens,
        .checksum = hash64(buf, u.bytes, 0), .bulk = {buf, u.bytes, release, NULL},
    };
    push(s->to_d[p][d], m);
    prefill_do(s, p, (struct prefill_event){.type = PREFILL_UNIT_SENT, .unit = &u});
}

/* One layer of the chunk in flight, or its end. */
static void prefill_compute(struct sim *s, uint32_t p)
{
    uint32_t tokens[REQUESTS] = {0};
    uint32_t layer = s->layers[p]++;

    for (uint32_t i = 0; i < s->n_spans[p]; i++) {
        const struct span *span = &s->spans[p][i];
        const struct job *job = prefill_core_job(s->p[p], span->job);
        uint32_t request = (uint32_t)job->sampling.seed;

        tokens[i] = token_at(s, request, job->first_index);
        for (uint32_t t = span->first; layer < LAYERS && t < span->first + span->count; t += 32) {
            uint32_t n = u32_min(32, span->first + span->count - t);

            assert_int_equal(t % 32, 0);
            page_walk(s, job->pages[t / 32], true, request, layer, t, n);
        }
    }
    if (layer < LAYERS) {
        prefill_do(s, p, (struct prefill_event){.type = PREFILL_LAYER_DONE, .layer = layer});
    } else {
        s->spans[p] = NULL;
        prefill_do(s, p, (struct prefill_event){.type = PREFILL_CHUNK_DONE, .tokens = tokens});
    }
}

static void decode_compute(struct sim *s, uint32_t d)
{
    uint32_t tokens[REQUESTS];

    for (uint32_t i = 0; i < s->n_rows[d]; i++)
        tokens[i] = token_at(s, (uint32_t)s->rows[d][i].sampling.seed, s->rows[d][i].index);
    s->rows[d] = NULL;
    decode_do(s, d, (struct decode_event){.type = DECODE_STEP_DONE, .tokens = tokens});
}

static void to_decode(struct sim *s, uint32_t p, uint32_t d)
{
    struct msg m = pop(s->to_d[p][d]);
    struct decode_event ev = {.type = DECODE_PEER, .peer = s->handle[p][d], .life = 1 + p, .msg = &m};
    uint32_t page_id;

    if (m.type == MSG_KV_PAGE) {
        struct msg_kv_page *k = &m.u.page;

        s->arrived[p][d] += k->bulk.size;
        assert_true(s->arrived[p][d] <= s->granted[p][d]);
        ev.type = DECODE_PAGE_REFUSED;
        if (decode_core_accepts_page(s->d[d], ev.peer, &m, &page_id) == DECODE_PAGE_OK) {
            bool spoil = draw(s, 50) == 0;

            s->spoiled += spoil;
            ev.type = spoil ? DECODE_PAGE_BAD : DECODE_PAGE_IN;
            if (!spoil)
                kv_wire_import(kv_pool_page(s->d_pool[d], page_id), &s->layout, k->bulk.data,
                               KV_F16, k->layer, k->head_first, k->head_count, k->n_tokens);
        }
    }
    decode_do(s, d, ev);
    msg_fini(&m);
}

static void drop_all(struct queue *q)
{
    while (!empty(q)) {
        struct msg m = pop(q);

        msg_fini(&m);
    }
}

/* A connection breaks; D may notice, P does. */
static void cut(struct sim *s, uint32_t p, uint32_t d)
{
    uint32_t link = 0;

    while (link < PREFILL_LINKS_MAX && s->link_to[p][link] != d + 1)
        link++;
    if (link == PREFILL_LINKS_MAX || s->handle[p][d] >= DECODE_PEERS_MAX - N)
        return;
    s->cuts++;
    drop_all(s->to_d[p][d]);
    drop_all(s->to_p[p][d]);
    if (draw(s, 2))
        decode_do(s, d, (struct decode_event){.type = DECODE_PEER_LOST, .peer = s->handle[p][d]});
    prefill_do(s, p, (struct prefill_event){.type = PREFILL_LINK_CUT, .link = link});
}

static void router_start(struct sim *s, uint32_t r)
{
    struct request *q = &s->requests[r];
    struct msg m = {.type = MSG_RESERVE};

    q->epoch++;
    q->p = draw(s, N);
    q->d = draw(s, N);
    q->stage = RESERVING;
    q->finish = FINISH_NONE;
    memset(&q->early[q->n_got], 0, sizeof(q->early) - q->n_got * sizeof(q->early[0]));
    m.u.reserve = (struct msg_reserve){
        .id = {r, q->epoch}, .n_tokens = q->n_prompt + q->n_got, .first_index = q->n_got,
        .tokens = tokens_of(r, q->n_prompt + q->n_got),
        .max_new = q->max_new - q->n_got, .sampling.seed = r, .n_stop_tokens = 1,
        .stop_tokens = {STOP_TOKEN},
    };
    push(s->r_to_d[q->d], m);
}

static void router_cancel(struct sim *s, uint32_t r)
{
    struct request *q = &s->requests[r];
    struct msg m = {.type = MSG_CANCEL, .u.cancel.id = {r, q->epoch}};

    push(s->r_to_d[q->d], m);
    push(s->r_to_p[q->p], m);
}

static void router_token(struct sim *s, uint32_t r, uint32_t index, uint32_t token)
{
    struct request *q = &s->requests[r];

    assert_in_range(index, q->n_got, ARRAY_LEN(q->early) - 1);
    assert_false(q->early[index]); /* each index once */
    assert_int_equal(token, token_at(s, r, index));
    q->early[index] = true;
    while (q->early[q->n_got])
        q->n_got++;
}

/* The stream has `end` tokens, by this message; it is over when all of them are here. */
static void router_finish(struct sim *s, uint32_t r, enum finish finish, uint32_t end)
{
    struct request *q = &s->requests[r];

    if (finish != FINISH_NONE) {
        q->finish = finish;
        q->end = end;
    }
    if (q->finish == FINISH_NONE || q->n_got < q->end)
        return;
    if (q->finish == FINISH_STOP)
        assert_int_equal(token_at(s, r, q->n_got), STOP_TOKEN);
    else
        assert_int_equal(q->n_got, q->max_new);
    q->stage = OVER;
}

static void router_reserved(struct sim *s, uint32_t r)
{
    struct request *q = &s->requests[r];
    struct msg m = {.type = MSG_PREFILL_JOB};
    uint32_t n = q->n_prompt + q->n_got;

    m.u.job = (struct msg_prefill_job){
        .id = {r, q->epoch}, .tokens = tokens_of(r, n), .n_tokens = n,
        .first_index = q->n_got, .max_new = q->max_new - q->n_got, .sampling.seed = r,
        .n_stop_tokens = 1, .stop_tokens = {STOP_TOKEN},
    };
    snprintf(m.u.job.kv_endpoint, sizeof(m.u.job.kv_endpoint), "ipc://%u", q->d);
    q->stage = PREFILLING;
    push(s->r_to_p[q->p], m);
}

static void to_router(struct sim *s, struct msg m)
{
    struct stream_id id = m.type == MSG_TOKENS          ? m.u.tokens.id
                          : m.type == MSG_PREFILL_TOKEN ? m.u.first.id
                          : m.type == MSG_RESERVED      ? m.u.reserved.id
                                                        : m.u.failed.id;
    uint32_t r = (uint32_t)id.request;
    struct request *q = &s->requests[r];

    if (id.epoch != q->epoch || q->stage == OVER)
        return;
    switch (m.type) {
    case MSG_RESERVED:
        q->held = draw(s, 2) ? m.u.reserved.held_tokens : 0; /* at most that */
        router_reserved(s, r);
        break;
    case MSG_PREFILL_TOKEN:
        if (m.u.first.finish != FINISH_STOP)
            router_token(s, r, m.u.first.index, m.u.first.token);
        if (m.u.first.finish != FINISH_NONE)
            router_cancel(s, r);
        router_finish(s, r, m.u.first.finish, q->n_got);
        break;
    case MSG_TOKENS:
        for (uint32_t i = 0; i < m.u.tokens.n_tokens; i++)
            router_token(s, r, m.u.tokens.index + i, m.u.tokens.tokens[i]);
        router_finish(s, r, m.u.tokens.finish, m.u.tokens.index + m.u.tokens.n_tokens);
        break;
    default: /* refused or failed: later, elsewhere */
        assert_true(m.u.failed.retry);
        router_cancel(s, r);
        q->stage = WAITING;
    }
}

/* A request begins, begins anew, or ends before its time. */
static void router_whim(struct sim *s)
{
    uint32_t r = draw(s, REQUESTS);
    struct request *q = &s->requests[r];

    if (q->stage == WAITING) {
        router_start(s, r);
    } else if (q->stage != OVER && draw(s, 40) == 0) {
        router_cancel(s, r);
        q->cancelled = true;
        q->stage = OVER;
    } else if (q->stage == PREFILLING && draw(s, 100) == 0) { /* as if a node had died */
        router_cancel(s, r);
        q->stage = WAITING;
    }
}

/* Does one thing, if it can be done. */
static void sim_turn(struct sim *s)
{
    uint32_t p = draw(s, N), d = draw(s, N);
    struct msg m;

    if (draw(s, 100) == 0)
        cut(s, p, d);
    switch (draw(s, 12)) {
    case 0:
        router_whim(s);
        break;
    case 1:
        if (s->spans[p])
            prefill_compute(s, p);
        break;
    case 2:
        if (s->rows[d])
            decode_compute(s, d);
        break;
    case 3: case 4: /* as the shell does: all that may leave, so that credit is the limit */
        for (uint32_t i = 0; i < 32; i++)
            ship(s, p);
        break;
    case 5: case 6:
        if (!empty(s->to_d[p][d]))
            to_decode(s, p, d);
        break;
    case 7:
        if (!empty(s->to_p[p][d])) {
            uint32_t link = 0;

            while (s->link_to[p][link] != d + 1)
                link++;
            m = pop(s->to_p[p][d]);
            prefill_do(s, p, (struct prefill_event){.type = PREFILL_LINK, .link = link, .msg = &m});
            msg_fini(&m);
        }
        break;
    case 8:
        if (!empty(s->r_to_p[p])) {
            m = pop(s->r_to_p[p]);
            prefill_do(s, p, (struct prefill_event){.type = PREFILL_ROUTER, .msg = &m});
            msg_fini(&m);
        }
        break;
    case 9:
        if (!empty(s->r_to_d[d])) {
            m = pop(s->r_to_d[d]);
            decode_do(s, d, (struct decode_event){.type = DECODE_ROUTER, .msg = &m});
            msg_fini(&m);
        }
        break;
    case 10:
        if (!empty(s->p_to_r[p]))
            to_router(s, pop(s->p_to_r[p]));
        break;
    case 11:
        if (!empty(s->d_to_r[d]))
            to_router(s, pop(s->d_to_r[d]));
        break;
    }
}

static void sim_init(struct sim *s, uint64_t seed)
{
    *s = (struct sim){.seed = seed};
    kv_layout_init(&s->layout, KV_F16, LAYERS, HEADS, DIM);
    for (uint32_t i = 0; i < N; i++) {
        struct prefill_config pc = {.n_vocab = VOCAB, .ctx_max = CTX, .queue_max = 8,
                                    .chunk_tokens = 64, .lease_ns = INT64_MAX / 4,
                                    .hello_ns = INT64_MAX / 4};
        struct decode_config dc = {.n_vocab = VOCAB, .ctx_max = CTX, .slots = 4,
                                   .credit_bytes = WINDOW, .prompt_rows = {1, 1},
                                   .ingest_bytes_s = 1000000000000, /* steps take some ns */
                                   .lease_ns = INT64_MAX / 20};
        struct slots_memory memory;

        snprintf(pc.name, sizeof(pc.name), "p%u", i);
        assert_int_equal(kv_pool_open(&s->p_pool[i], &s->layout, PAGES, NULL), 0);
        assert_int_equal(kv_pool_open(&s->d_pool[i], &s->layout, PAGES, NULL), 0);
        s->p_prefix[i] = prefix_new(s->p_pool[i], PAGES);
        s->d_prefix[i] = prefix_new(s->d_pool[i], PAGES);
        assert_int_equal(kv_pool_open(&s->d_swap[i], &s->layout, SWAP, NULL), 0);
        memory = (struct slots_memory){s->d_pool[i], s->d_prefix[i], s->d_swap[i]};
        assert_int_equal(prefill_core_new(&s->p[i], &pc, &s->layout, s->p_pool[i], s->p_prefix[i],
                                          NULL), 0);
        assert_int_equal(decode_core_new(&s->d[i], &dc, &s->layout, &memory, NULL), 0);
        s->r_to_p[i] = mem_zalloc(sizeof(struct queue));
        s->r_to_d[i] = mem_zalloc(sizeof(struct queue));
        s->p_to_r[i] = mem_zalloc(sizeof(struct queue));
        s->d_to_r[i] = mem_zalloc(sizeof(struct queue));
        for (uint32_t k = 0; k < N; k++)
            s->handle[i][k] = i;
        for (uint32_t k = 0; k < N; k++) {
            s->to_d[i][k] = mem_zalloc(sizeof(struct queue));
            s->to_p[i][k] = mem_zalloc(sizeof(struct queue));
        }
    }
    for (uint32_t r = 0; r < REQUESTS; r++) {
        s->requests[r].n_prompt = 1 + draw(s, r % 2 ? 40 : 200);
        s->requests[r].max_new = 1 + draw(s, 30);
    }
}

static void sim_fini(struct sim *s)
{
    for (uint32_t i = 0; i < N; i++) {
        prefill_core_free(&s->p[i]);
        decode_core_free(&s->d[i]);
        prefix_free(&s->p_prefix[i]);
        prefix_free(&s->d_prefix[i]);
        kv_pool_close(&s->d_swap[i]);
        kv_pool_close(&s->p_pool[i]);
        kv_pool_close(&s->d_pool[i]);
        mem_free(s->r_to_p[i]);
        mem_free(s->r_to_d[i]);
        mem_free(s->p_to_r[i]);
        mem_free(s->d_to_r[i]);
        for (uint32_t k = 0; k < N; k++) {
            mem_free(s->to_d[i][k]);
            mem_free(s->to_p[i][k]);
        }
    }
    prefill_actions_fini(&s->p_out);
    decode_actions_fini(&s->d_out);
}

static bool sim_over(const struct sim *s)
{
    for (uint32_t r = 0; r < REQUESTS; r++)
        if (s->requests[r].stage != OVER)
            return false;
    for (uint32_t i = 0; i < N; i++) {
        if (!prefill_core_idle(s->p[i]) || !decode_core_idle(s->d[i]) || !empty(s->r_to_p[i]) ||
            !empty(s->r_to_d[i]))
            return false;
        for (uint32_t k = 0; k < N; k++)
            if (!empty(s->to_d[i][k]) || !empty(s->to_p[i][k]))
                return false;
    }
    return true;
}

static void sim_run(struct sim *s, uint64_t seed)
{
    sim_init(s, seed);
    for (uint32_t turn = 0; !sim_over(s); turn++) {
        assert_true(turn < 2000000);
        sim_turn(s);
    }
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(kv_pool_free_count(s->p_pool[i]) + prefix_evictable(s->p_prefix[i]), PAGES);
        assert_int_equal(kv_pool_free_count(s->d_pool[i]) + prefix_evictable(s->d_prefix[i]), PAGES);
    }
}

static void streams_are_exact_and_nothing_leaks(void **state)
{
    struct sim *s = mem_zalloc(sizeof(*s));
    bool tight = false;
    uint32_t stopped = 0, full = 0, cancelled = 0, spoiled = 0, cuts = 0, resumed = 0;

    (void)state;
    log_level_max = LOG_ERROR;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        sim_run(s, seed);
        for (uint32_t r = 0; r < REQUESTS; r++) {
            stopped += s->requests[r].finish == FINISH_STOP;
            full += s->requests[r].finish == FINISH_LENGTH;
            cancelled += s->requests[r].cancelled;
        }
        spoiled += s->spoiled;
        cuts += s->cuts;
        resumed += s->resumed;
        tight |= s->tight;
        sim_fini(s);
    }
    /* the seeds reach all that this test is about */
    assert_true(stopped > 20 && full > 20 && cancelled > 10 && spoiled > 20 && tight);
    assert_true(cuts > 100 && resumed > 100);
    mem_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_exact_and_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
