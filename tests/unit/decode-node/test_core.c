#include "decode-node/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "kv/kv_wire.h"

#define WINDOW (2u * MSG_BULK_MAX)
#define LEASE 1000
#define PAGES 16
#define CTX 256
#define CACHE 12
#define SWAP 8
#define PAGE_BYTES (2 * 2 * 32 * 16 * 2) /* K and V, 2 heads, 32 tokens, head_dim 16, f16 */

struct fixture {
    struct kv_layout layout;
    struct kv_pool *pool;
    struct prefix *prefix;
    struct kv_pool *swap;
    struct decode_core *core;
    struct decode_actions out; /* of the last step */
    int64_t now;
};

static uint64_t ingest_bytes_s; /* of the next setup */

/* cached: blocks that the prefix cache may know. */
static void setup_cached(struct fixture *f, uint32_t slots, uint32_t cached)
{
    struct decode_config c = {.cluster = "c", .model_hash = 7, .n_vocab = 1000, .ctx_max = CTX,
                              .slots = slots, .wire = KV_F16, .credit_bytes = WINDOW,
                              .prompt_rows = {4, 16}, .lease_ns = LEASE};
    struct slots_memory memory;

    log_level_max = LOG_ERROR;
    c.ingest_bytes_s = ingest_bytes_s;
    *f = (struct fixture){0};
    kv_layout_init(&f->layout, KV_F16, 2, 2, 16);
    assert_int_equal(kv_pool_open(&f->pool, &f->layout, PAGES, NULL), 0);
    f->prefix = prefix_new(f->pool, cached);
    assert_int_equal(kv_pool_open(&f->swap, &f->layout, SWAP, NULL), 0);
    memory = (struct slots_memory){f->pool, f->prefix, f->swap};
    assert_int_equal(decode_core_new(&f->core, &c, &f->layout, &memory, NULL), 0);
}

static void setup(struct fixture *f, uint32_t slots) { setup_cached(f, slots, 0); }

/* Every page is back, with nothing left to do. */
static void teardown(struct fixture *f)
{
    assert_true(decode_core_idle(f->core));
    decode_core_free(&f->core);
    prefix_free(&f->prefix);
    assert_int_equal(kv_pool_free_count(f->pool), PAGES);
    assert_int_equal(kv_pool_free_count(f->swap), SWAP);
    decode_actions_fini(&f->out);
    kv_pool_close(&f->swap);
    kv_pool_close(&f->pool);
}

static void step(struct fixture *f, struct decode_event ev)
{
    f->out.n = 0;
    decode_step(f->core, &ev, f->now, &f->out);
}

static void from_router(struct fixture *f, struct msg m)
{
    step(f, (struct decode_event){.type = DECODE_ROUTER, .msg = &m});
}

static void from_peer(struct fixture *f, uint32_t peer, struct msg m)
{
    step(f, (struct decode_event){.type = DECODE_PEER, .peer = peer, .msg = &m});
}

/* The n-th action is to send this type; returns its message. */
static const struct msg *sent(const struct fixture *f, size_t n, enum decode_action_type action,
                              enum msg_type type)
{
    assert_true(n < f->out.n);
    assert_int_equal(f->out.items[n].type, action);
    assert_string_equal(msg_type_name(f->out.items[n].msg.type), msg_type_name(type));
    return &f->out.items[n].msg;
}

static struct msg hello(const char *name)
{
    struct msg m = {.type = MSG_KV_HELLO, .u.hello = {.protocol = MSG_PROTOCOL, .cluster = "c",
                    .model_hash = 7, .geometry = {2, 2, 16, 32, KV_F16}}};

    strcpy(m.u.hello.name, name);
    return m;
}

/* Borrows its tokens from here. */
static struct msg reserve(uint64_t request, uint32_t epoch, uint32_t n_tokens, uint32_t max_new)
{
    static uint32_t tokens[CTX];

    for (uint32_t i = 0; i < CTX; i++)
        tokens[i] = 100 + i;
    return (struct msg){.type = MSG_RESERVE, .u.reserve = {.id = {request, epoch},
                        .tokens = tokens, .n_tokens = n_tokens, .max_new = max_new, .n_stop_tokens = 1,
                        .stop_tokens = {2}, .sampling = {.top_p = 1}}};
}

static struct msg_kv_page page_of(uint64_t request, uint32_t page, uint32_t layer, uint32_t n_tokens)
{
    return (struct msg_kv_page){.id = {request, 1}, .page = page, .layer = layer, .head_count = 2,
                                .n_tokens = n_tokens, .bulk.size = PAGE_BYTES};
}

static enum decode_verdict verdict_as(const struct fixture *f, enum msg_type type, uint32_t peer,
                                      struct msg_kv_page p)
{
    struct msg m = {.type = type, .u.page = p};
    uint32_t id;

    return decode_core_accepts_page(f->core, peer, &m, &id);
}

static enum decode_verdict verdict(const struct fixture *f, uint32_t peer, struct msg_kv_page p)
{
    return verdict_as(f, MSG_KV_PAGE, peer, p);
}

static void page_event(struct fixture *f, enum decode_event_type type, uint32_t peer,
                       struct msg_kv_page p)
{
    struct msg m = {.type = MSG_KV_PAGE, .u.page = p};

    step(f, (struct decode_event){.type = type, .peer = peer, .msg = &m});
}

static void page_in(struct fixture *f, uint32_t peer, struct msg_kv_page p)
{
    assert_int_equal(verdict(f, peer, p), DECODE_PAGE_OK);
    page_event(f, DECODE_PAGE_IN, peer, p);
}

static struct msg end_of(uint64_t request, uint32_t n_tokens, uint32_t token)
{
    return (struct msg){.type = MSG_KV_END,
                        .u.end = {.id = {request, 1}, .n_tokens = n_tokens, .token = token}};
}

static struct msg cancel(uint64_t request, uint32_t epoch)
{
    return (struct msg){.type = MSG_CANCEL, .u.cancel.id = {request, epoch}};
}

/* A reservation of 40 tokens (2 pages of 2 layers), filled but for KV_END. */
static void fill(struct fixture *f, uint32_t peer, uint64_t request, uint32_t max_new)
{
    from_router(f, reserve(request, 1, 40, max_new));
    sent(f, 0, DECODE_SEND_ROUTER, MSG_RESERVED);
    for (uint32_t layer = 0; layer < 2; layer++) {
        page_in(f, peer, page_of(request, 0, layer, 32));
        page_in(f, peer, page_of(request, 1, layer, 8));
    }
}

static void step_done(struct fixture *f, const uint32_t *tokens)
{
    step(f, (struct decode_event){.type = DECODE_STEP_DONE, .tokens = tokens});
}

static void a_stream_runs_from_reservation_to_its_last_token(void **state)
{
    struct fixture f;
    const struct msg *m;

    (void)state;
    setup(&f, 2);
    from_peer(&f, 3, hello("p"));
    assert_int_equal(sent(&f, 0, DECODE_SEND_PEER, MSG_KV_WELCOME)->u.credit.bytes, WINDOW);
    fill(&f, 3, 9, 3);
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 2);
    from_peer(&f, 3, end_of(9, 40, 100));
    m = sent(&f, 0, DECODE_SEND_PEER, MSG_KV_DONE);
    assert_int_equal(m->u.cancel.id.request, 9);
    assert_int_equal(f.out.items[1].type, DECODE_RUN);
    assert_int_equal(f.out.items[1].n_rows, 1);
    assert_int_equal(f.out.items[1].rows[0].token, 100);
    assert_int_equal(f.out.items[1].rows[0].pos, 40);
    assert_int_equal(f.out.items[1].rows[0].index, 1);

    step_done(&f, (uint32_t[]){101});
    m = sent(&f, 0, DECODE_SEND_ROUTER, MSG_TOKENS);
    assert_int_equal(m->u.tokens.index, 1);
    assert_int_equal(m->u.tokens.tokens[0], 101);
    assert_int_equal(m->u.tokens.finish, FINISH_NONE);
    assert_int_equal(f.out.items[1].rows[0].pos, 41);

    step_done(&f, (uint32_t[]){102}); /* the third of three */
    m = sent(&f, 0, DECODE_SEND_ROUTER, MSG_TOKENS);
    assert_int_equal(m->u.tokens.n_tokens, 1);
    assert_int_equal(m->u.tokens.finish, FINISH_LENGTH);
    assert_int_equal(m->u.tokens.kv_bytes, 4 * PAGE_BYTES);
    assert_int_equal(f.out.n, 1);
    teardown(&f);
}

static void a_stop_token_ends_the_stream_and_is_not_sent(void **state)
{
    struct fixture f;
    const struct msg *m;

    (void)state;
    setup(&f, 1);
    from_peer(&f, 0, hello("p"));
    fill(&f, 0, 9, 10);
    from_peer(&f, 0, end_of(9, 40, 100));
    step_done(&f, (uint32_t[]){2});
    m = sent(&f, 0, DECODE_SEND_ROUTER, MSG_TOKENS);
    assert_int_equal(m->u.tokens.n_tokens, 0);
    assert_int_equal(m->u.tokens.index, 1);
    assert_int_equal(m->u.tokens.finish, FINISH_STOP);
    teardown(&f);
}

static void sequences_join_and_leave_between_steps(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 3);
    from_peer(&f, 0, hello("p"));
    fill(&f, 0, 1, 3);
    from_peer(&f, 0, end_of(1, 40, 100));
    fill(&f, 0, 2, 2);
    from_peer(&f, 0, end_of(2, 40, 200)); /* a step is in flight: no RUN */
    assert_int_equal(f.out.n, 1);
    step_done(&f, (uint32_t[]){101});
    assert_int_equal(f.out.items[1].type, DECODE_RUN);
    assert_int_equal(f.out.items[1].n_rows, 2);
    step_done(&f, (uint32_t[]){102, 201}); /* both end */
    assert_int_equal(f.out.n, 2);
    teardown(&f);
}

static void the_context_ends_a_stream(void **state)
{
    struct fixture f;
    const struct msg *m;

    (void)state;
    setup(&f, 1);
    from_peer(&f, 0, hello("p"));
    from_router(&f, reserve(1, 1, CTX - 1, 50)); /* room for the first token only */
    sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED);
    for (uint32_t page = 0; page < 8; page++)
        for (uint32_t layer = 0; layer < 2; layer++)
            page_in(&f, 0, page_of(1, page, layer, page < 7 ? 32 : 31));
    from_peer(&f, 0, end_of(1, CTX - 1, 5));
    sent(&f, 0, DECODE_SEND_PEER, MSG_KV_DONE);
    m = sent(&f, 1, DECODE_SEND_ROUTER, MSG_TOKENS);
    assert_int_equal(m->u.tokens.n_tokens, 0);
    assert_int_equal(m->u.tokens.finish, FINISH_LENGTH);
    teardown(&f);
}

static void reservations_are_refused_with_numbers(void **state)
{
    struct fixture f;
    const struct msg_failed *r;
    static const struct {
        uint32_t n_tokens, max_new;
        bool retry;
        const char *text;
    } cases[] = {
        {0, 1, false, "0 prompt tokens"},
        {1, 0, false, "0 new"},
        {CTX, 1, false, "prompt has 256 tokens, the context 256"},
        {200, 56, true, "need 8 KV pages and others soon 0, 6 of 16 are free"},
    };

    (void)state;
    setup(&f, 3);
    from_router(&f, reserve(1, 1, 150, 10)); /* 5 pages */
    from_router(&f, reserve(2, 1, 150, 10));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        from_router(&f, reserve(5, 1, cases[i].n_tokens, cases[i].max_new));
        r = &sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVE_REFUSED)->u.failed;
        assert_int_equal(r->retry, cases[i].retry);
        assert_non_null(strstr(r->text, cases[i].text));
    }
    from_router(&f, reserve(3, 1, 10, 10));
    from_router(&f, reserve(4, 1, 10, 10));
    r = &sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVE_REFUSED)->u.failed;
    assert_true(r->retry);
    assert_non_null(strstr(r->text, "all 3 slots"));
    decode_core_drain(f.core);
    from_router(&f, reserve(6, 1, 10, 10));
    assert_non_null(strstr(sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVE_REFUSED)->u.failed.text,
                           "draining"));
    for (uint64_t i = 1; i <= 3; i++)
        from_router(&f, cancel(i, 1));
    teardown(&f);
}

static void cancel_frees_in_every_state(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 2);
    from_peer(&f, 0, hello("p"));
    from_router(&f, cancel(77, 1)); /* unknown: nothing */
    assert_int_equal(f.out.n, 0);

    from_router(&f, reserve(1, 1, 40, 5)); /* reserved */
    from_router(&f, cancel(1, 1));
    assert_int_equal(kv_pool_free_count(f.pool), PAGES);

    fill(&f, 0, 2, 5); /* filled */
    from_router(&f, cancel(2, 1));
    assert_int_equal(kv_pool_free_count(f.pool), PAGES);
    assert_int_equal(verdict(&f, 0, page_of(2, 0, 0, 32)), DECODE_PAGE_NO_STREAM);
    from_peer(&f, 0, end_of(2, 40, 1));
    sent(&f, 0, DECODE_SEND_PEER, MSG_KV_ABORT);

    fill(&f, 0, 3, 5); /* in the running step: when that ends, and its token is not sent */
    from_peer(&f, 0, end_of(3, 40, 1));
    from_router(&f, cancel(3, 1));
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 2);
    assert_false(decode_core_idle(f.core));
    fill(&f, 0, 4, 5); /* the request number may come again meanwhile, the slot not */
    from_peer(&f, 0, end_of(4, 40, 1));
    step_done(&f, (uint32_t[]){9});
    assert_int_equal(f.out.n, 1);
    assert_int_equal(f.out.items[0].type, DECODE_RUN);
    assert_int_equal(f.out.items[0].rows[0].token, 1);
    from_router(&f, cancel(4, 1));
    step_done(&f, (uint32_t[]){9});
    teardown(&f);
}

static void a_cancelled_stream_is_in_no_batch_after_the_one_that_runs(void **state)
{
    struct fixture f;
    const struct msg *m;

    (void)state;
    setup(&f, 2);
    from_peer(&f, 0, hello("p"));
    fill(&f, 0, 1, 5);
    from_peer(&f, 0, end_of(1, 40, 100)); /* runs alone */
    fill(&f, 0, 2, 5);
    from_peer(&f, 0, end_of(2, 40, 200));
    step_done(&f, (uint32_t[]){101});
    assert_int_equal(f.out.items[1].n_rows, 2); /* runs, with both */
    from_router(&f, cancel(1, 1));
    assert_int_equal(f.out.n, 0);
    step_done(&f, (uint32_t[]){102, 201});
    assert_int_equal(f.out.n, 2);
    m = sent(&f, 0, DECODE_SEND_ROUTER, MSG_TOKENS);
    assert_int_equal(m->u.tokens.id.request, 2);
    assert_int_equal(f.out.items[1].type, DECODE_RUN);
    assert_int_equal(f.out.items[1].n_rows, 1);
    assert_int_equal(f.out.items[1].rows[0].token, 201);
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 2); /* its pages are back */
    from_router(&f, reserve(3, 1, 40, 5));                   /* and so is its slot */
    sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED);
    from_router(&f, cancel(3, 1));
    from_router(&f, cancel(2, 1));
    step_done(&f, (uint32_t[]){202});
    assert_int_equal(f.out.n, 0);
    teardown(&f);
}

static void an_older_epoch_is_dropped_and_a_newer_one_replaces(void **state)
{
    struct fixture f;
    struct msg_kv_page old = page_of(1, 0, 0, 32);

    (void)state;
    setup(&f, 2);
    from_peer(&f, 0, hello("p"));
    from_router(&f, reserve(1, 5, 40, 5));
    from_router(&f, reserve(1, 4, 40, 5));
    assert_int_equal(f.out.n, 0);
    from_router(&f, cancel(1, 4));
    assert_int_equal(verdict(&f, 0, old), DECODE_PAGE_NO_STREAM); /* epoch 1 */
    old.id.epoch = 5;
    page_in(&f, 0, old);
    from_router(&f, reserve(1, 6, 40, 5));
    assert_int_equal(sent(&f, 0, DECODE_SEND_PEER, MSG_KV_ABORT)->u.failed.id.epoch, 5);
    sent(&f, 1, DECODE_SEND_ROUTER, MSG_RESERVED);
    assert_int_equal(verdict(&f, 0, old), DECODE_PAGE_NO_STREAM);
    from_router(&f, cancel(1, 6));
    teardown(&f);
}

static void pages_that_are_not_of_our_cut_are_refused(void **state)
{
    struct fixture f;
    struct decode_stats stats;
    struct msg_kv_page p, good = page_of(1, 1, 1, 8);

    (void)state;
    setup(&f, 2);
    from_router(&f, reserve(1, 1, 40, 5));
    assert_int_equal(verdict(&f, 0, good), DECODE_PAGE_STRANGER);
    from_peer(&f, 0, hello("p"));
    from_peer(&f, 1, hello("q"));
    assert_int_equal(verdict(&f, 0, good), DECODE_PAGE_OK);
#define REFUSED(field, value, why)                                                                 \
    p = good;                                                                                      \
    p.field = value;                                                                               \
    assert_int_equal(verdict(&f, 0, p), why)
    REFUSED(id.request, 2, DECODE_PAGE_NO_STREAM);
    REFUSED(id.epoch, 0, DECODE_PAGE_NO_STREAM);
    REFUSED(id.epoch, 2, DECODE_PAGE_NO_STREAM);
    REFUSED(layer, 2, DECODE_PAGE_NO_UNIT);
    REFUSED(layer, UINT32_MAX, DECODE_PAGE_NO_UNIT);
    REFUSED(page, 2, DECODE_PAGE_NO_UNIT); /* we hold more pages than the prompt has */
    REFUSED(page, UINT32_MAX, DECODE_PAGE_NO_UNIT);
    REFUSED(page, 0, DECODE_PAGE_NO_UNIT); /* that one has 32 tokens */
    REFUSED(head_first, 1, DECODE_PAGE_NO_UNIT);
    REFUSED(head_first, UINT32_MAX, DECODE_PAGE_NO_UNIT);
    REFUSED(head_count, 1, DECODE_PAGE_NO_UNIT);
    REFUSED(head_count, UINT32_MAX, DECODE_PAGE_NO_UNIT);
    REFUSED(n_tokens, 0, DECODE_PAGE_NO_UNIT);
    REFUSED(n_tokens, 9, DECODE_PAGE_NO_UNIT);
    REFUSED(bulk.size, good.bulk.size - 1, DECODE_PAGE_SIZE);
    REFUSED(bulk.size, 0, DECODE_PAGE_SIZE);
    REFUSED(bulk.size, WINDOW + 1, DECODE_PAGE_NO_CREDIT);
    page_in(&f, 0, good);
    assert_int_equal(verdict(&f, 0, good), DECODE_PAGE_REPEATED);
    assert_int_equal(verdict(&f, 1, page_of(1, 0, 0, 32)), DECODE_PAGE_NOT_YOURS);
    page_event(&f, DECODE_PAGE_REFUSED, 0, good);
    decode_core_stats(f.core, &stats);
    assert_int_equal(stats.pages_refused, 1);
    assert_int_equal(stats.kv_bytes, good.bulk.size);
    from_router(&f, cancel(1, 1));
    teardown(&f);
}

static void a_page_after_the_end_is_refused(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 1);
    from_peer(&f, 0, hello("p"));
    fill(&f, 0, 1, 2);
    from_peer(&f, 0, end_of(1, 40, 5));
    assert_int_equal(verdict(&f, 0, page_of(1, 0, 0, 32)), DECODE_PAGE_NO_STREAM);
    step_done(&f, (uint32_t[]){9});
    teardown(&f);
}

static void a_bad_page_is_asked_for_again(void **state)
{
    struct fixture f;
    const struct msg *m;
    struct msg_kv_page bad = page_of(1, 1, 0, 8);

    (void)state;
    setup(&f, 1);
    from_peer(&f, 0, hello("p"));
    from_router(&f, reserve(1, 1, 40, 2));
    page_in(&f, 0, page_of(1, 0, 0, 32));
    page_event(&f, DECODE_PAGE_BAD, 0, bad);
    page_in(&f, 0, page_of(1, 0, 1, 32));
    page_in(&f, 0, page_of(1, 1, 1, 8));
    from_peer(&f, 0, end_of(1, 40, 5));
    m = sent(&f, 0, DECODE_SEND_PEER, MSG_KV_AGAIN);
    assert_int_equal(f.out.n, 1);
    assert_int_equal(m->u.page.page, 1);
    assert_int_equal(m->u.page.layer, 0);
    assert_int_equal(m->u.page.n_tokens, 8);
    page_in(&f, 0, bad); /* good this time */
    from_peer(&f, 0, end_of(1, 40, 5));
    sent(&f, 0, DECODE_SEND_PEER, MSG_KV_DONE);
    step_done(&f, (uint32_t[]){9});
    teardown(&f);
}

/* KV_HELLO of a peer of whose memory so many bytes are mapped. */
static void hello_mapped(struct fixture *f, uint32_t peer, uint64_t bytes)
{
    struct msg m = hello("p");

    step(f, (struct decode_event){.type = DECODE_PEER, .peer = peer, .mapped = bytes, .msg = &m});
    assert_int_equal(sent(f, 0, DECODE_SEND_PEER, MSG_KV_WELCOME)->u.credit.places, bytes > 0);
}

static enum decode_verdict place_verdict(const struct fixture *f, struct msg_kv_page at)
{
    return verdict_as(f, MSG_KV_PLACE, 0, at);
}

static void place_event(struct fixture *f, enum decode_event_type type, struct msg_kv_page at)
{
    struct msg m = {.type = MSG_KV_PLACE, .u.page = at};

    assert_int_equal(place_verdict(f, at), DECODE_PAGE_OK);
    step(f, (struct decode_event){.type = type, .msg = &m});
}

static void a_place_is_welcome_where_memory_is_mapped(void **state)
{
    struct fixture f;
    struct decode_stats stats;
    struct msg_kv_page at = page_of(1, 0, 0, 32), last = page_of(1, 1, 0, 8);

    (void)state;
    setup(&f, 1);
    from_router(&f, reserve(1, 1, 40, 2));
    hello_mapped(&f, 0, 0);
    assert_int_equal(place_verdict(&f, at), DECODE_PAGE_NO_PLACE);
    hello_mapped(&f, 0, 4 * PAGE_BYTES);
    at.bulk.size--;
    assert_int_equal(place_verdict(&f, at), DECODE_PAGE_SIZE);
    at.bulk.size++;
    place_event(&f, DECODE_PAGE_IN, at); /* at 0 */
    last.place = 3 * PAGE_BYTES;         /* just to the end */
    place_event(&f, DECODE_PAGE_IN, last);
    at.layer = 1;
    page_in(&f, 0, at);
    decode_core_stats(f.core, &stats);
    assert_int_equal(stats.read_bytes, 2 * PAGE_BYTES);
    assert_int_equal(stats.kv_bytes, 3 * PAGE_BYTES);
    hello_mapped(&f, 0, 0); /* not of this offer any more */
    last.layer = 1;
    assert_int_equal(place_verdict(&f, last), DECODE_PAGE_NO_PLACE);
    from_router(&f, cancel(1, 1));
    teardown(&f);
}

static void a_place_beyond_what_is_mapped_is_refused(void **state)
{
    static const uint64_t places[] = {1, PAGE_BYTES, UINT64_MAX, UINT64_MAX - PAGE_BYTES + 1,
                                      UINT64_MAX - PAGE_BYTES};
    struct fixture f;
    struct msg_kv_page at = page_of(1, 0, 0, 32);

    (void)state;
    setup(&f, 1);
    from_router(&f, reserve(1, 1, 40, 2));
    hello_mapped(&f, 0, PAGE_BYTES);
    assert_int_equal(place_verdict(&f, at), DECODE_PAGE_OK);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        at.place = places[i];
        assert_int_equal(place_verdict(&f, at), DECODE_PAGE_NO_PLACE);
    }
    hello_mapped(&f, 0, PAGE_BYTES - 1);
    at.place = 0;
    assert_int_equal(place_verdict(&f, at), DECODE_PAGE_NO_PLACE);
    from_router(&f, cancel(1, 1));
    teardown(&f);
}

/* As one with a wrong checksum in a frame: asked for again, and what is copied costs credit too. */
static void what_was_not_right_where_it_lay_is_asked_for_again(void **state)
{
    struct fixture f;
    struct msg_kv_page at = page_of(1, 0, 0, 32);

    (void)state;
    setup(&f, 1);
    from_router(&f, reserve(1, 1, 32, 2));
    hello_mapped(&f, 0, PAGE_BYTES);
    for (uint32_t i = 0; i < WINDOW / 4 / PAGE_BYTES; i++)
        place_event(&f, DECODE_PAGE_BAD, at);
    assert_int_equal(sent(&f, 0, DECODE_SEND_PEER, MSG_KV_CREDIT)->u.credit.bytes, WINDOW / 4);
    at.layer = 1;
    place_event(&f, DECODE_PAGE_IN, at);
    from_peer(&f, 0, end_of(1, 32, 5));
    assert_int_equal(sent(&f, 0, DECODE_SEND_PEER, MSG_KV_AGAIN)->u.page.layer, 0);
    page_in(&f, 0, page_of(1, 0, 0, 32));
    from_peer(&f, 0, end_of(1, 32, 5));
    sent(&f, 0, DECODE_SEND_PEER, MSG_KV_DONE);
    step_done(&f, (uint32_t[]){9});
    teardown(&f);
}

static void a_page_that_never_comes_right_fails_the_stream(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 1);
    from_peer(&f, 0, hello("p"));
    from_router(&f, reserve(1, 1, 10, 2));
    page_in(&f, 0, page_of(1, 0, 0, 10));
    for (int i = 0; i < DECODE_BARREN_ASKS_MAX; i++) {
        from_peer(&f, 0, end_of(1, 10, 5));
        sent(&f, 0, DECODE_SEND_PEER, MSG_KV_AGAIN);
        page_event(&f, DECODE_PAGE_BAD, 0, page_of(1, 0, 1, 10));
    }
    from_peer(&f, 0, end_of(1, 10, 5));
    assert_true(sent(&f, 0, DECODE_SEND_ROUTER, MSG_DECODE_FAILED)->u.failed.retry);
    sent(&f, 1, DECODE_SEND_PEER, MSG_KV_ABORT);
    teardown(&f);
}

static void an_end_that_disagrees_fails_the_stream(void **state)
{
    struct fixture f;

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct msg end = end_of(1, 40, 5);

        setup(&f, 1);
        from_peer(&f, 0, hello("p"));
        fill(&f, 0, 1, 2);
        if (i == 0)
            end.u.end.n_tokens = 41;
        else if (i == 1)
            end.u.end.index = 1;
        else
            end.u.end.token = 1000;
        from_peer(&f, 0, end);
        assert_true(sent(&f, 0, DECODE_SEND_ROUTER, MSG_DECODE_FAILED)->u.failed.retry);
        teardown(&f);
    }
}

static void credit_returns_as_bytes_are_consumed(void **state)
{
    struct fixture f;
    uint64_t sent_bytes = 0, granted = WINDOW;

    (void)state;
    setup(&f, 1);
    from_peer(&f, 0, hello("p"));
    for (int i = 0; i < 1000; i++) { /* refused pages too */
        page_event(&f, DECODE_PAGE_REFUSED, 0, page_of(1, 0, 0, 32));
        sent_bytes += PAGE_BYTES;
        for (size_t k = 0; k < f.out.n; k++)
            granted += sent(&f, k, DECODE_SEND_PEER, MSG_KV_CREDIT)->u.credit.bytes;
        assert_true(granted - sent_bytes <= WINDOW);
        assert_true(granted - sent_bytes >= MSG_BULK_MAX);
    }
    from_router(&f, reserve(1, 1, 40, 2));
    page_in(&f, 0, page_of(1, 0, 0, 32));
    assert_int_equal(verdict(&f, 0, (struct msg_kv_page){.bulk.size = WINDOW + 1}),
                     DECODE_PAGE_NO_CREDIT);
    page_event(&f, DECODE_PAGE_REFUSED, 0, (struct msg_kv_page){.bulk.size = WINDOW + 1});
    sent(&f, 0, DECODE_SEND_PEER, MSG_REFUSED); /* and what it was filling is lost */
    sent(&f, 1, DECODE_SEND_ROUTER, MSG_DECODE_FAILED);
    assert_int_equal(f.out.items[2].type, DECODE_DROP_PEER);
    teardown(&f);
}

/* A step of 1000 ns may take in two pages. */
static void credit_is_paced_while_a_step_runs(void **state)
{
    struct fixture f;
    uint32_t pages = WINDOW / PAGE_BYTES, steps = 0;
    uint64_t granted = 0;

    (void)state;
    ingest_bytes_s = DECODE_INGEST_SHARE * 2ull * PAGE_BYTES * 1000000;
    setup(&f, 1);
    ingest_bytes_s = 0;
    from_peer(&f, 0, hello("p"));
    fill(&f, 0, 1, 200);
    from_peer(&f, 0, end_of(1, 40, 5));
    for (uint32_t i = 0; i < pages - 4; i++) {
        page_event(&f, DECODE_PAGE_REFUSED, 0, page_of(9, 0, 0, 32));
        assert_int_equal(f.out.n, 0);
    }
    while (granted < WINDOW / 2) {
        f.now += 1000;
        step_done(&f, (uint32_t[]){9});
        steps++;
        if (f.out.items[f.out.n - 1].type == DECODE_SEND_PEER)
            granted += sent(&f, f.out.n - 1, DECODE_SEND_PEER, MSG_KV_CREDIT)->u.credit.bytes;
        assert_true(granted <= steps * (2ull * PAGE_BYTES + 1) + 4 * PAGE_BYTES); /* 4: while idle */
    }
    assert_true(steps >= pages / 4 - 2 && steps <= pages / 4 + 2);
    from_router(&f, cancel(1, 1));
    step_done(&f, (uint32_t[]){9}); /* nobody is in the way now */
    granted += sent(&f, 0, DECODE_SEND_PEER, MSG_KV_CREDIT)->u.credit.bytes;
    assert_true(granted > WINDOW - WINDOW / 4 - 4 * PAGE_BYTES);
    teardown(&f);
}

static void hello_refuses_whoever_is_not_one_of_us(void **state)
{
    struct fixture f;
    struct msg m;

    (void)state;
    setup(&f, 1);
#define HELLO_REFUSED(field, value, word)                                                          \
    m = hello("p");                                                                                \
    m.u.hello.field = value;                                                                       \
    from_peer(&f, 0, m);                                                                           \
    assert_non_null(strstr(sent(&f, 0, DECODE_SEND_PEER, MSG_REFUSED)->u.text.text, word));        \
    assert_int_equal(f.out.items[1].type, DECODE_DROP_PEER)
    HELLO_REFUSED(protocol, MSG_PROTOCOL + 1, "protocol 7");
    HELLO_REFUSED(model_hash, 8, "model");
    HELLO_REFUSED(cluster[0], 'x', "cluster");
    HELLO_REFUSED(geometry.n_layer, 3, "3 layers");
    HELLO_REFUSED(geometry.wire_type, KV_F32, "type 1");
    from_peer(&f, 0, end_of(1, 1, 1));
    assert_non_null(strstr(sent(&f, 0, DECODE_SEND_PEER, MSG_REFUSED)->u.text.text, "KV_HELLO"));
    from_peer(&f, 0, hello("p"));
    sent(&f, 0, DECODE_SEND_PEER, MSG_KV_WELCOME);
    from_peer(&f, 0, cancel(1, 1)); /* not a prefill node's to say */
    sent(&f, 0, DECODE_SEND_PEER, MSG_REFUSED);
    teardown(&f);
}

/* KV_HELLO of node "p" in this life. */
static void hello_of_life(struct fixture *f, uint32_t peer, uint64_t life)
{
    struct msg m = hello("p");

    step(f, (struct decode_event){.type = DECODE_PEER, .peer = peer, .life = life, .msg = &m});
}

static struct msg resume(uint64_t request)
{
    return (struct msg){.type = MSG_KV_RESUME, .u.cancel.id = {request, 1}};
}

static void another_life_of_a_node_ends_what_the_one_before_was_filling(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 3);
    hello_of_life(&f, 0, 1);
    fill(&f, 0, 1, 2); /* runs when the node dies: not its business any more */
    from_peer(&f, 0, end_of(1, 40, 5));
    fill(&f, 0, 2, 5);
    assert_false(decode_core_peer_idle(f.core, 0));
    hello_of_life(&f, 1, 2);
    assert_int_equal(f.out.items[0].type, DECODE_DROP_PEER);
    assert_int_equal(f.out.items[0].peer, 0);
    assert_int_equal(sent(&f, 1, DECODE_SEND_ROUTER, MSG_DECODE_FAILED)->u.failed.id.request, 2);
    sent(&f, 2, DECODE_SEND_PEER, MSG_KV_WELCOME);
    assert_true(decode_core_peer_idle(f.core, 0));
    fill(&f, 1, 3, 5);
    step(&f, (struct decode_event){.type = DECODE_PEER_LOST, .peer = 1});
    assert_int_equal(f.out.n, 0); /* it may come back */
    hello_of_life(&f, 2, 3);      /* but not so */
    assert_int_equal(sent(&f, 0, DECODE_SEND_ROUTER, MSG_DECODE_FAILED)->u.failed.id.request, 3);
    step_done(&f, (uint32_t[]){9});
    teardown(&f);
}

static void a_stream_goes_on_on_the_next_connection(void **state)
{
    struct fixture f;
    const struct msg_kv_missing *m;

    (void)state;
    setup(&f, 3);
    for (int heard = 0; heard < 2; heard++) { /* the loss, or only of the new connection */
        hello_of_life(&f, 0, 1);
        from_router(&f, reserve(1, 1, 100, 2)); /* units: 4 pages of 2 layers */
        page_in(&f, 0, page_of(1, 0, 0, 32));
        page_in(&f, 0, page_of(1, 1, 0, 32));
        page_in(&f, 0, page_of(1, 1, 1, 32));
        if (heard) {
            step(&f, (struct decode_event){.type = DECODE_PEER_LOST, .peer = 0});
            from_peer(&f, 4, hello("q"));
            assert_int_equal(verdict(&f, 4, page_of(1, 0, 1, 32)), DECODE_PAGE_NOT_YOURS);
        }
        hello_of_life(&f, 1, 1);
        assert_int_equal(verdict(&f, 0, page_of(1, 0, 1, 32)), DECODE_PAGE_STRANGER);
        from_peer(&f, 1, resume(1));
        m = &sent(&f, 0, DECODE_SEND_PEER, MSG_KV_MISSING)->u.missing;
        assert_int_equal(m->n_units, 4);
        assert_memory_equal(m->units, ((uint32_t[]){1, 1, 4, 4}), 16);
        msg_fini(&f.out.items[0].msg);
        page_in(&f, 1, page_of(1, 0, 1, 32));
        page_in(&f, 1, page_of(1, 2, 0, 32));
        page_in(&f, 1, page_of(1, 2, 1, 32));
        page_in(&f, 1, page_of(1, 3, 0, 4));
        page_in(&f, 1, page_of(1, 3, 1, 4));
        from_peer(&f, 1, resume(1));
        assert_int_equal(sent(&f, 0, DECODE_SEND_PEER, MSG_KV_MISSING)->u.missing.n_units, 0);
        msg_fini(&f.out.items[0].msg);
        from_peer(&f, 1, end_of(1, 100, 5));
        sent(&f, 0, DECODE_SEND_PEER, MSG_KV_DONE); /* and that is lost */
        from_peer(&f, 1, resume(1));
        sent(&f, 0, DECODE_SEND_PEER, MSG_KV_DONE);
        from_peer(&f, 1, end_of(1, 100, 5));
        sent(&f, 0, DECODE_SEND_PEER, MSG_KV_DONE);
        step_done(&f, (uint32_t[]){9});
        from_peer(&f, 1, resume(1));
        sent(&f, 0, DECODE_SEND_PEER, MSG_KV_ABORT);
        step(&f, (struct decode_event){.type = DECODE_PEER_LOST, .peer = 1});
        step(&f, (struct decode_event){.type = DECODE_PEER_LOST, .peer = 4});
    }
    teardown(&f);
}

static void a_connection_that_never_comes_back_costs_its_lease(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 3);
    hello_of_life(&f, 0, 1);
    from_router(&f, reserve(1, 1, 40, 2));
    page_in(&f, 0, page_of(1, 0, 0, 32));
    f.now = LEASE / 2;
    step(&f, (struct decode_event){.type = DECODE_PEER_LOST, .peer = 0});
    f.now += LEASE - 1;
    step(&f, (struct decode_event){.type = DECODE_TICK});
    assert_int_equal(f.out.n, 0);
    f.now++;
    step(&f, (struct decode_event){.type = DECODE_TICK});
    assert_int_equal(f.out.n, 1);
    assert_true(sent(&f, 0, DECODE_SEND_ROUTER, MSG_DECODE_FAILED)->u.failed.retry);
    assert_false(sent(&f, 0, DECODE_SEND_ROUTER, MSG_DECODE_FAILED)->u.failed.room);
    teardown(&f);
}

static void an_abort_frees_in_silence(void **state)
{
    struct fixture f;
    struct msg abort_msg = {.type = MSG_KV_ABORT, .u.failed.id = {1, 1}};

    (void)state;
    setup(&f, 1);
    from_peer(&f, 0, hello("p"));
    from_peer(&f, 1, hello("q"));
    fill(&f, 0, 1, 2);
    from_peer(&f, 1, abort_msg); /* not the one that fills it */
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 2);
    from_peer(&f, 0, abort_msg);
    assert_int_equal(f.out.n, 0);
    teardown(&f);
}

static void a_lease_ends_a_reservation_that_makes_no_progress(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 2);
    from_peer(&f, 0, hello("p"));
    from_router(&f, reserve(1, 1, 40, 2)); /* no page yet: the job may be queued */
    f.now = LEASE * DECODE_QUEUE_LEASES - 1;
    step(&f, (struct decode_event){.type = DECODE_TICK});
    assert_int_equal(f.out.n, 0);
    page_in(&f, 0, page_of(1, 0, 0, 32));
    f.now += LEASE - 1;
    step(&f, (struct decode_event){.type = DECODE_TICK});
    assert_int_equal(f.out.n, 0);
    f.now++;
    step(&f, (struct decode_event){.type = DECODE_TICK});
    assert_true(sent(&f, 0, DECODE_SEND_ROUTER, MSG_DECODE_FAILED)->u.failed.retry);
    sent(&f, 1, DECODE_SEND_PEER, MSG_KV_ABORT);
    teardown(&f);
}

static void everything_is_dropped_when_the_router_is_lost(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 3);
    from_peer(&f, 0, hello("p"));
    fill(&f, 0, 1, 5);
    from_peer(&f, 0, end_of(1, 40, 5));
    fill(&f, 0, 2, 5);
    from_router(&f, reserve(3, 1, 40, 5));
    step(&f, (struct decode_event){.type = DECODE_ROUTER_LOST});
    assert_int_equal(f.out.n, 1);
    assert_int_equal(sent(&f, 0, DECODE_SEND_PEER, MSG_KV_ABORT)->u.failed.id.request, 2);
    step_done(&f, (uint32_t[]){9});
    assert_int_equal(f.out.n, 0);
    teardown(&f);
}

static void a_local_prompt_is_computed_in_pieces_behind_those_who_generate(void **state)
{
    struct fixture f;
    struct msg m = reserve(7, 1, 40, 2);
    const struct msg_tokens *t;
    struct decode_stats stats;

    (void)state;
    setup(&f, 3);
    f.now = 100;
    from_peer(&f, 0, hello("p"));
    m.u.reserve.local = true;
    m.u.reserve.first_index = 5;
    from_router(&f, m);
    sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED);
    assert_int_equal(f.out.items[1].type, DECODE_RUN);
    assert_int_equal(f.out.items[1].n_rows, 16); /* alone */
    assert_int_equal(f.out.items[1].rows[15].pos, 15);
    assert_int_equal(f.out.items[1].rows[15].token, 115);
    assert_false(f.out.items[1].rows[15].sample);
    fill(&f, 0, 8, 5);
    from_peer(&f, 0, end_of(8, 40, 300));
    f.now = 110;
    step_done(&f, (uint32_t[16]){0});
    assert_int_equal(f.out.n, 1); /* no token yet */
    assert_int_equal(f.out.items[0].n_rows, 1 + 4);
    assert_int_equal(f.out.items[0].rows[0].token, 300);
    assert_true(f.out.items[0].rows[0].sample);
    assert_int_equal(f.out.items[0].rows[1].pos, 16);
    decode_core_stats(f.core, &stats);
    assert_int_equal(stats.queued_tokens, 24);
    assert_int_equal(stats.local_tokens, 16);
    assert_int_equal(stats.step_ns, 10);
    from_router(&f, cancel(8, 1));
    step_done(&f, (uint32_t[5]){0});
    assert_int_equal(f.out.items[0].n_rows, 16);
    step_done(&f, (uint32_t[16]){0});
    assert_int_equal(f.out.items[0].n_rows, 4); /* 36 .. 39 */
    assert_true(f.out.items[0].rows[3].sample);
    assert_int_equal(f.out.items[0].rows[3].index, 5);
    f.now = 150;
    step_done(&f, (uint32_t[4]){9, 9, 9, 77});
    t = &sent(&f, 0, DECODE_SEND_ROUTER, MSG_TOKENS)->u.tokens;
    assert_int_equal(t->index, 5);
    assert_int_equal(t->tokens[0], 77);
    assert_int_equal(t->queue_ns, 0);
    assert_int_equal(t->compute_ns, 50);
    assert_int_equal(t->step_ns, 40);
    step_done(&f, (uint32_t[1]){78});
    t = &sent(&f, 0, DECODE_SEND_ROUTER, MSG_TOKENS)->u.tokens;
    assert_int_equal(t->index, 6);
    assert_int_equal(t->step_ns, 0);
    assert_int_equal(t->finish, FINISH_LENGTH);
    teardown(&f);
}

static void prompts_are_computed_by_priority_then_by_arrival(void **state)
{
    static const uint32_t priorities[] = {1, 1, 0};
    struct fixture f;
    struct msg m;

    (void)state;
    setup(&f, 4);
    from_peer(&f, 0, hello("p"));
    fill(&f, 0, 9, 5);
    from_peer(&f, 0, end_of(9, 40, 300)); /* a step is in flight */
    for (uint32_t i = 0; i < 3; i++) {
        m = reserve(i, 1, 3, 2);
        m.u.reserve.local = true;
        m.u.reserve.priority = priorities[i];
        from_router(&f, m);
    }
    step_done(&f, (uint32_t[]){301});
    assert_int_equal(f.out.items[1].n_rows, 1 + 4);
    assert_int_equal(f.out.items[1].rows[1].slot, 3); /* band 0 */
    assert_int_equal(f.out.items[1].rows[3].slot, 3);
    assert_int_equal(f.out.items[1].rows[4].slot, 1); /* then the first of band 1 */
    for (uint64_t i = 0; i < 3; i++)
        from_router(&f, cancel(i, 1));
    from_router(&f, cancel(9, 1));
    step_done(&f, (uint32_t[5]){0});
    teardown(&f);
}

static void a_token_outside_the_vocabulary_is_refused(void **state)
{
    struct fixture f;
    struct msg m;
    const struct msg_failed *r;

    (void)state;
    setup(&f, 1);
    m = reserve(1, 1, 40, 2);
    m.u.reserve.tokens[17] = 1000;
    from_router(&f, m);
    r = &sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVE_REFUSED)->u.failed;
    assert_false(r->retry);
    assert_non_null(strstr(r->text, "token 17 of the prompt is 1000"));
    teardown(&f);
}

/* What a second reservation of the same 40 tokens finds held. */
static uint32_t held_again(struct fixture *f, uint64_t salt)
{
    struct msg m = reserve(99, 1, 40, 5);
    uint32_t held;

    m.u.reserve.salt = salt;
    from_router(f, m);
    held = sent(f, 0, DECODE_SEND_ROUTER, MSG_RESERVED)->u.reserved.held_tokens;
    from_router(f, cancel(99, 1));
    return held;
}

static void a_prompt_that_is_held_need_not_arrive(void **state)
{
    struct fixture f;
    struct decode_stats stats;

    (void)state;
    setup_cached(&f, 3, CACHE);
    from_peer(&f, 0, hello("p"));
    assert_int_equal(held_again(&f, 0), 0);
    fill(&f, 0, 1, 5);
    from_peer(&f, 0, end_of(1, 40, 5)); /* known from here on */
    assert_int_equal(held_again(&f, 1), 0); /* another tenant's */
    from_router(&f, reserve(2, 1, 40, 5));
    assert_int_equal(sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED)->u.reserved.held_tokens, 32);
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 3); /* one page is shared */
    assert_int_equal(verdict(&f, 0, page_of(2, 0, 0, 32)), DECODE_PAGE_REPEATED);
    page_in(&f, 0, page_of(2, 1, 0, 8));
    page_in(&f, 0, page_of(2, 1, 1, 8));
    from_peer(&f, 0, end_of(2, 40, 5));
    sent(&f, 0, DECODE_SEND_PEER, MSG_KV_DONE);
    decode_core_stats(f.core, &stats);
    assert_int_equal(stats.hit_tokens, 32);
    from_router(&f, cancel(1, 1));
    step_done(&f, (uint32_t[]){9});
    from_router(&f, cancel(2, 1));
    step_done(&f, (uint32_t[]){9});
    teardown(&f);
}

static void a_local_prompt_begins_behind_what_is_held(void **state)
{
    struct fixture f;
    struct msg m;

    (void)state;
    setup_cached(&f, 2, CACHE);
    from_peer(&f, 0, hello("p"));
    fill(&f, 0, 1, 5);
    from_router(&f, cancel(1, 1)); /* full and final pages are kept */
    m = reserve(2, 1, 40, 1);
    m.u.reserve.local = true;
    from_router(&f, m);
    assert_int_equal(sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED)->u.reserved.held_tokens, 32);
    assert_int_equal(f.out.items[1].n_rows, 8);
    assert_int_equal(f.out.items[1].rows[0].pos, 32);
    step_done(&f, (uint32_t[8]){9});
    assert_int_equal(sent(&f, 0, DECODE_SEND_ROUTER, MSG_TOKENS)->u.tokens.hit_tokens, 32);
    teardown(&f);
}

static void only_final_kv_is_remembered(void **state)
{
    struct fixture f;

    (void)state;
    setup_cached(&f, 2, CACHE);
    from_peer(&f, 0, hello("p"));
    from_router(&f, reserve(1, 1, 40, 5));
    page_in(&f, 0, page_of(1, 0, 0, 32)); /* one of two layers */
    page_in(&f, 0, page_of(1, 1, 0, 8));
    from_router(&f, cancel(1, 1));
    assert_int_equal(held_again(&f, 0), 0);
    fill(&f, 0, 2, 5);
    from_peer(&f, 0, end_of(2, 41, 5)); /* of another prompt, perhaps */
    sent(&f, 0, DECODE_SEND_ROUTER, MSG_DECODE_FAILED);
    assert_int_equal(held_again(&f, 0), 0);
    teardown(&f);
}

static void an_answer_is_remembered_with_its_prompt(void **state)
{
    struct fixture f;
    struct msg m = reserve(1, 1, 40, 26);
    uint32_t chat[CTX];

    (void)state;
    setup_cached(&f, 2, CACHE);
    memcpy(chat, m.u.reserve.tokens, sizeof(chat));
    from_peer(&f, 0, hello("p"));
    fill(&f, 0, 1, 26);
    from_peer(&f, 0, end_of(1, 40, 500));
    chat[40] = 500;
    for (uint32_t i = 41; i < 66; i++) {
        chat[i] = 460 + i;
        step_done(&f, &chat[i]); /* the last, at 65, has no KV yet */
    }
    assert_true(decode_core_idle(f.core));
    m.u.reserve = (struct msg_reserve){.id = {2, 1}, .tokens = chat, .n_tokens = 100, .max_new = 1};
    from_router(&f, m);
    assert_int_equal(sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED)->u.reserved.held_tokens, 64);
    from_router(&f, cancel(2, 1));
    chat[63]++;
    m.u.reserve.id.request = 3;
    from_router(&f, m);
    assert_int_equal(sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED)->u.reserved.held_tokens, 32);
    from_router(&f, cancel(3, 1));
    teardown(&f);
}

static void a_token_whose_kv_was_not_computed_is_not_remembered(void **state)
{
    struct fixture f;
    struct msg m = reserve(1, 1, 63, 26);

    (void)state;
    setup_cached(&f, 2, CACHE);
    m.u.reserve.local = true;
    m.u.reserve.n_tokens = 63;
    from_router(&f, m);
    for (uint32_t i = 0; i < 4; i++)
        step_done(&f, (uint32_t[16]){[14] = 163}); /* the 64th is known, and in the next step */
    from_router(&f, cancel(1, 1));
    step_done(&f, (uint32_t[]){9});
    m = reserve(2, 1, 100, 1);
    from_router(&f, m);
    assert_int_equal(sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED)->u.reserved.held_tokens, 32);
    from_router(&f, cancel(2, 1));
    teardown(&f);
}

static void equal_prompts_that_came_at_once_share_their_pages(void **state)
{
    struct fixture f;

    (void)state;
    setup_cached(&f, 2, CACHE);
    from_peer(&f, 0, hello("p"));
    for (uint64_t i = 1; i <= 2; i++)
        from_router(&f, reserve(i, 1, 40, 5));
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 4);
    for (uint64_t i = 1; i <= 2; i++) {
        for (uint32_t layer = 0; layer < 2; layer++) {
            page_in(&f, 0, page_of(i, 0, layer, 32));
            page_in(&f, 0, page_of(i, 1, layer, 8));
        }
        from_peer(&f, 0, end_of(i, 40, 5));
    }
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 3);
    step_done(&f, (uint32_t[]){9});
    assert_ptr_equal(f.out.items[1].rows[0].pages[0], f.out.items[1].rows[1].pages[0]);
    assert_ptr_not_equal(f.out.items[1].rows[0].pages[1], f.out.items[1].rows[1].pages[1]);
    for (uint64_t i = 1; i <= 2; i++)
        from_router(&f, cancel(i, 1));
    step_done(&f, (uint32_t[2]){9});
    teardown(&f);
}

static void what_is_only_remembered_makes_room(void **state)
{
    struct fixture f;

    (void)state;
    setup_cached(&f, 2, CACHE);
    from_peer(&f, 0, hello("p"));
    fill(&f, 0, 1, 5);
    from_router(&f, cancel(1, 1));
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 1);
    from_router(&f, reserve(2, 1, 250, 6));
    from_router(&f, reserve(3, 1, 250, 6)); /* 8 of 8 */
    sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED);
    from_router(&f, cancel(2, 1));
    from_router(&f, cancel(3, 1));
    teardown(&f);
}

static void a_page_is_taken_when_the_answer_comes_to_it(void **state)
{
    struct fixture f;
    struct msg m = reserve(1, 1, 60, 60);

    (void)state;
    setup(&f, 2);
    from_peer(&f, 0, hello("p"));
    m.u.reserve.local = true;
    m.u.reserve.n_tokens = 4;
    from_router(&f, m);
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 2); /* 4 and 32 ahead */
    for (uint32_t i = 0; i < 59; i++) {
        step_done(&f, (uint32_t[4]){9, 9, 9, 9});
        assert_int_equal(kv_pool_free_count(f.pool), PAGES - 2); /* until 64 are known */
    }
    step_done(&f, (uint32_t[]){9});
    teardown(&f);
}

static void the_lowest_rank_yields_and_comes_back(void **state)
{
    static const uint32_t nine[16] = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
    struct fixture f;
    struct decode_stats stats;
    struct msg m;
    uint32_t n = 0, pos = 0; /* its next row */

    (void)state;
    setup(&f, 4);
    from_peer(&f, 0, hello("p"));
    for (uint64_t i = 0; i < 3; i++) { /* 4 pages each, and 3 more to come: 21 of 16 */
        m = reserve(i, 1, 96, 128);
        m.u.reserve.local = true;
        m.u.reserve.priority = i == 1; /* the lowest rank */
        from_router(&f, m);
        sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED);
    }
    do {
        step_done(&f, nine);
        decode_core_stats(f.core, &stats);
        for (uint32_t i = 0; i < f.out.items[f.out.n - 1].n_rows; i++)
            if (f.out.items[f.out.n - 1].rows[i].slot == 1)
                pos = f.out.items[f.out.n - 1].rows[i].pos + 1;
    } while (!stats.aside && n++ < 1000);
    assert_int_equal(stats.running, 2);
    assert_int_equal(stats.preempted, 1);
    assert_int_equal(f.out.items[f.out.n - 1].rows[0].slot, 0);
    assert_int_equal(f.out.items[f.out.n - 1].rows[1].slot, 2);
    from_router(&f, reserve(3, 1, 1, 1));
    assert_non_null(strstr(sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVE_REFUSED)->u.failed.text,
                           "set aside"));
    from_router(&f, cancel(0, 1));
    step_done(&f, nine);
    decode_core_stats(f.core, &stats);
    assert_int_equal(stats.aside, 0);
    assert_int_equal(f.out.items[1].n_rows, 2);
    assert_int_equal(f.out.items[1].rows[1].slot, 1);
    assert_in_range(pos, 97, 159);
    assert_int_equal(f.out.items[1].rows[1].pos, pos);
    for (uint64_t i = 1; i < 3; i++)
        from_router(&f, cancel(i, 1));
    step_done(&f, nine);
    teardown(&f);
}

/* One that was set aside has pages in common with reservations, so that it needs more than it gave. */
static void whoever_is_aside_comes_back_when_a_reservation_goes(void **state)
{
    static const uint32_t nine[16] = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
    struct fixture f;
    struct decode_stats stats = {0};
    struct msg m;
    bool asked = false;

    (void)state;
    setup_cached(&f, 4, CACHE);
    from_peer(&f, 0, hello("p"));
    from_router(&f, reserve(9, 1, 100, 1));
    for (uint32_t i = 0; i < 8; i++)
        page_in(&f, 0, page_of(9, i / 2, i % 2, i < 6 ? 32 : 4));
    from_router(&f, cancel(9, 1)); /* 3 pages that all but the small one share */
    m = reserve(1, 1, 100, 128);
    m.u.reserve.local = true;
    m.u.reserve.priority = 1;
    from_router(&f, m);
    for (uint32_t n = 0; !stats.aside && n < 200; n++) {
        step_done(&f, nine);
        if (n == 50) {
            m = reserve(2, 1, 1, 63);
            m.u.reserve.tokens[0] = 5;
            m.u.reserve.local = true;
            from_router(&f, m);
            from_router(&f, reserve(3, 1, 250, 6));
            sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED);
            from_router(&f, reserve(4, 1, 186, 6));
            sent(&f, 0, DECODE_SEND_ROUTER, MSG_RESERVED);
            asked = true;
        }
        decode_core_stats(f.core, &stats);
    }
    assert_true(asked && stats.aside == 1 && stats.running == 1);
    while (stats.running) {
        step_done(&f, nine);
        decode_core_stats(f.core, &stats);
    }
    assert_int_equal(stats.aside, 1); /* no room even now */
    from_router(&f, cancel(3, 1));
    assert_int_equal(f.out.n, 1);
    assert_int_equal(f.out.items[0].type, DECODE_RUN);
    from_router(&f, cancel(4, 1));
    from_router(&f, cancel(1, 1));
    step_done(&f, nine);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_runs_from_reservation_to_its_last_token),
        cmocka_unit_test(a_stop_token_ends_the_stream_and_is_not_sent),
        cmocka_unit_test(sequences_join_and_leave_between_steps),
        cmocka_unit_test(the_context_ends_a_stream),
        cmocka_unit_test(reservations_are_refused_with_numbers),
        cmocka_unit_test(cancel_frees_in_every_state),
        cmocka_unit_test(a_cancelled_stream_is_in_no_batch_after_the_one_that_runs),
        cmocka_unit_test(an_older_epoch_is_dropped_and_a_newer_one_replaces),
        cmocka_unit_test(pages_that_are_not_of_our_cut_are_refused),
        cmocka_unit_test(a_page_after_the_end_is_refused),
        cmocka_unit_test(a_bad_page_is_asked_for_again),
        cmocka_unit_test(a_place_is_welcome_where_memory_is_mapped),
        cmocka_unit_test(a_place_beyond_what_is_mapped_is_refused),
        cmocka_unit_test(what_was_not_right_where_it_lay_is_asked_for_again),
        cmocka_unit_test(a_page_that_never_comes_right_fails_the_stream),
        cmocka_unit_test(an_end_that_disagrees_fails_the_stream),
        cmocka_unit_test(credit_returns_as_bytes_are_consumed),
        cmocka_unit_test(credit_is_paced_while_a_step_runs),
        cmocka_unit_test(hello_refuses_whoever_is_not_one_of_us),
        cmocka_unit_test(another_life_of_a_node_ends_what_the_one_before_was_filling),
        cmocka_unit_test(a_stream_goes_on_on_the_next_connection),
        cmocka_unit_test(a_connection_that_never_comes_back_costs_its_lease),
        cmocka_unit_test(an_abort_frees_in_silence),
        cmocka_unit_test(a_lease_ends_a_reservation_that_makes_no_progress),
        cmocka_unit_test(everything_is_dropped_when_the_router_is_lost),
        cmocka_unit_test(a_local_prompt_is_computed_in_pieces_behind_those_who_generate),
        cmocka_unit_test(prompts_are_computed_by_priority_then_by_arrival),
        cmocka_unit_test(a_token_outside_the_vocabulary_is_refused),
        cmocka_unit_test(a_prompt_that_is_held_need_not_arrive),
        cmocka_unit_test(a_local_prompt_begins_behind_what_is_held),
        cmocka_unit_test(only_final_kv_is_remembered),
        cmocka_unit_test(an_answer_is_remembered_with_its_prompt),
        cmocka_unit_test(a_token_whose_kv_was_not_computed_is_not_remembered),
        cmocka_unit_test(equal_prompts_that_came_at_once_share_their_pages),
        cmocka_unit_test(what_is_only_remembered_makes_room),
        cmocka_unit_test(a_page_is_taken_when_the_answer_comes_to_it),
        cmocka_unit_test(the_lowest_rank_yields_and_comes_back),
        cmocka_unit_test(whoever_is_aside_comes_back_when_a_reservation_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
