#include "tests/unit/prefill-node/fixture.h"

#include "base/rng.h"

#define UNITS (LAYERS) /* of a page */

static void cut(struct fixture *f, uint32_t link)
{
    step(f, (struct prefill_event){.type = PREFILL_LINK_CUT, .link = link});
}

/* The decode node's answer to KV_RESUME: runs[n]. */
static void missing(struct fixture *f, uint64_t request, const uint32_t *runs_, uint32_t n)
{
    struct msg m = {.type = MSG_KV_MISSING, .u.missing = {{request, 1}, NULL, n}};

    if (n)
        m.u.missing.units = mem_dup(runs_, n * sizeof(*runs_));
    step(f, (struct prefill_event){.type = PREFILL_LINK, .link = 0, .msg = &m});
    msg_fini(&m);
}

static void a_cut_link_says_hello_again_and_resumes_what_it_had_begun(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    compute_short(&f, 1);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ships(&f, 1, 0, 0);
    from_router(&f, job_of(2, 10, 5)); /* nothing of it has left */
    cut(&f, 0);
    assert_int_equal(f.out.n, 4);
    assert_int_equal(f.out.items[0].type, PREFILL_CLOSE_LINK);
    assert_int_equal(f.out.items[1].type, PREFILL_OPEN_LINK);
    assert_string_equal(f.out.items[1].endpoint, "ipc://d");
    sent(&f, 2, PREFILL_SEND_LINK, MSG_KV_HELLO);
    assert_int_equal(sent(&f, 3, PREFILL_SEND_LINK, MSG_KV_RESUME)->u.cancel.id.request, 1);
    layer_done(&f, 0);
    ships_nothing(&f); /* credit starts from nothing, too */
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ships(&f, 2, 0, 0); /* the one waits for its answer, the other does not */
    missing(&f, 1, (uint32_t[]){0, 2}, 2);
    ships(&f, 1, 0, 0);
    ships(&f, 1, 0, 1);
    sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_END);
    from_link(&f, 0, about(MSG_KV_DONE, 1, 1));
    from_router(&f, about(MSG_CANCEL, 2, 1));
    chunk_done(&f, (uint32_t[]){0});
    teardown(&f);
}

static void only_what_is_missing_is_sent_again(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    from_router(&f, job_of(1, 100, 5)); /* 4 pages of 2 units */
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    layer_done(&f, 0);
    layer_done(&f, 1);
    ships(&f, 1, 0, 0);
    ships(&f, 1, 1, 0);
    ships(&f, 1, 0, 1);
    cut(&f, 0);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    missing(&f, 1, (uint32_t[]){1, 1, 3, 5}, 4); /* page 1's first layer has come */
    ships(&f, 1, 0, 1);
    ships(&f, 1, 1, 1);
    ships_nothing(&f);
    chunk_done(&f, (uint32_t[]){0});
    layer_done(&f, 0);
    ships(&f, 1, 2, 0);
    layer_done(&f, 1);
    chunk_done(&f, (uint32_t[]){50});
    ships(&f, 1, 3, 0);
    ships(&f, 1, 2, 1);
    ships(&f, 1, 3, 1);
    sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_END);
    from_link(&f, 0, about(MSG_KV_DONE, 1, 1));
    teardown(&f);
}

static void a_stream_of_which_all_came_ends_at_once(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    compute_short(&f, 1);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ship_short(&f, 1); /* KV_END is lost */
    cut(&f, 0);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    missing(&f, 1, NULL, 0);
    sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_END);
    from_link(&f, 0, about(MSG_KV_DONE, 1, 1));
    compute_short(&f, 2);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ship_short(&f, 2); /* KV_DONE is lost */
    cut(&f, 0);
    from_link(&f, 0, about(MSG_KV_DONE, 2, 1));
    teardown(&f);
}

static void a_stream_that_the_decode_node_does_not_know_fails_unless_it_was_all_sent(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    compute_short(&f, 1);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ships(&f, 1, 0, 0);
    cut(&f, 0);
    from_link(&f, 0, about(MSG_KV_ABORT, 1, 1));
    sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_FAILED);
    compute_short(&f, 2);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ship_short(&f, 2);
    cut(&f, 0);
    from_link(&f, 0, about(MSG_KV_ABORT, 2, 1)); /* it is over there, and the router knows */
    assert_int_equal(f.out.n, 0);
    teardown(&f);
}

static void a_decode_node_that_is_gone_fails_its_streams_in_time(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    compute_short(&f, 1);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ships(&f, 1, 0, 0);
    f.now = 100;
    cut(&f, 0);
    f.now += HELLO - 1;
    cut(&f, 0); /* again: the answer is due all the same */
    sent(&f, 3, PREFILL_SEND_LINK, MSG_KV_RESUME);
    step(&f, (struct prefill_event){.type = PREFILL_TICK});
    assert_int_equal(f.out.n, 0);
    f.now++;
    step(&f, (struct prefill_event){.type = PREFILL_TICK});
    assert_non_null(strstr(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_FAILED)->u.failed.text,
                           "does not answer"));
    teardown(&f);
}

static void a_cut_link_without_streams_is_closed(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    compute_short(&f, 1);
    from_router(&f, about(MSG_CANCEL, 1, 1));
    cut(&f, 0);
    assert_int_equal(f.out.n, 1);
    assert_int_equal(f.out.items[0].type, PREFILL_CLOSE_LINK);
    cut(&f, 0); /* none there */
    assert_int_equal(f.out.n, 0);
    from_router(&f, job_of(2, 10, 1));
    assert_int_equal(f.out.items[0].type, PREFILL_OPEN_LINK);
    chunk_done(&f, (uint32_t[]){0});
    teardown(&f);
}

/* Whether the next unit, which is (page, layer), may be read where it lies; sends it. */
static bool ships_place(struct fixture *f, uint32_t page, uint32_t layer)
{
    struct prefill_unit u;

    assert_true(prefill_core_next_unit(f->core, NULL, &u));
    ships(f, 1, page, layer);
    return u.place;
}

static void places_are_named_to_whom_can_read_them(void **state)
{
    struct msg welcome = {.type = MSG_KV_WELCOME, .u.credit = {1 << 20, true}};
    struct msg again = {.type = MSG_KV_AGAIN,
                        .u.page = {.id = {1, 1}, .head_count = 2, .n_tokens = 32}};
    struct fixture f;

    (void)state;
    setup(&f, 4);
    from_router(&f, job_of(1, 64, 5)); /* 2 pages of 2 units */
    assert_int_equal(sent(&f, 1, PREFILL_SEND_LINK, MSG_KV_HELLO)->u.hello.offer.size, 6);
    layer_done(&f, 0);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    assert_false(ships_place(&f, 0, 0));
    cut(&f, 0);
    from_link(&f, 0, welcome);
    missing(&f, 1, (uint32_t[]){0, 4}, 2);
    assert_true(ships_place(&f, 0, 0));
    welcome.u.credit.places = false;
    from_link(&f, 0, welcome); /* nobody asked */
    assert_true(ships_place(&f, 1, 0));
    layer_done(&f, 1);
    chunk_done(&f, (uint32_t[]){50});
    assert_true(ships_place(&f, 0, 1));
    assert_true(ships_place(&f, 1, 1));
    sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_END);
    from_link(&f, 0, again); /* one of them it could not read: it gets the bytes */
    assert_false(ships_place(&f, 0, 0));
    sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_END);
    assert_true(kv_pool_free_count(f.pool) < PAGES); /* until it has all of them */
    from_link(&f, 0, about(MSG_KV_DONE, 1, 1));
    teardown(&f);
}

static void runs_that_are_none_fail_the_stream(void **state)
{
    static const uint32_t bad[][4] = {
        {0, 0, 1, 1}, {0, 2, 1, 1}, {1, 1, 0, 1}, {0, 1, 1, 2}, {2, 1, 3, 1}, {0, 1, 1, UINT32_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct fixture f;

        setup(&f, 4);
        compute_short(&f, 1); /* 2 units */
        from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
        ships(&f, 1, 0, 0);
        missing(&f, 1, bad[i], 4); /* nobody asked */
        assert_int_equal(f.out.n, 0);
        cut(&f, 0);
        missing(&f, 1, bad[i], 4);
        sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_FAILED);
        sent(&f, 1, PREFILL_SEND_LINK, MSG_KV_ABORT);
        teardown(&f);
    }
}

/* A list with no room left says nothing of what lies behind it. */
static void behind_a_full_list_all_is_missing(void **state)
{
    struct kv_cut c = {.n_layer = 4096, .n_kv_head = 2, .heads = 1, .parts = 2};
    struct msg_kv_missing m = {.n_units = MSG_UNITS_MAX};
    struct job job = {.n_tokens = 32, .state = JOB_SHIPPING, .done = 32};
    struct kv_unit u;

    (void)state;
    m.units = mem_calloc(MSG_UNITS_MAX, sizeof(uint32_t));
    for (uint32_t i = 0; i < MSG_UNITS_MAX; i += 2) {
        m.units[i] = i;
        m.units[i + 1] = 1;
    }
    ship_init(&job, &c);
    ship_resume(&job);
    assert_true(ship_missing(&job, &c, &m));
    for (uint32_t i = 0; i < 2 * 4096; i += i < MSG_UNITS_MAX - 2 ? 2 : 1) {
        assert_true(ship_next(&job, &c, &u));
        assert_int_equal(u.layer * 2 + u.head_first, i);
        ship_sent(&job, &c);
    }
    assert_true(ship_finished(&job, &c));
    mem_free(job.ship.missing);
}

/* A decode node that has `got` units of one job; what is on the way may be lost at a cut. */
struct receiver {
    bool got[PAGES * UNITS], way[PAGES * UNITS];
    uint32_t n_units;
};

static void receiver_answers(struct fixture *f, struct receiver *r)
{
    uint32_t list[2 * PAGES * UNITS], n = 0;

    for (uint32_t i = 0; i < r->n_units; i++) {
        if (r->got[i])
            continue;
        if (!n || list[n - 2] + list[n - 1] != i) {
            list[n++] = i;
            list[n++] = 0;
        }
        list[n - 1]++;
    }
    from_link(f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    missing(f, 1, list, n);
}

/* Sends one unit: one that the receiver has not and that is not on the way. */
static bool send_one(struct fixture *f, struct receiver *r)
{
    struct prefill_unit u;
    uint32_t i;

    if (!prefill_core_next_unit(f->core, NULL, &u))
        return false;
    i = u.unit.page * LAYERS + u.unit.layer;
    assert_false(r->got[i] || r->way[i]);
    r->way[i] = true;
    step(f, (struct prefill_event){.type = PREFILL_UNIT_SENT, .unit = &u});
    return true;
}

static bool said_end(const struct fixture *f)
{
    for (size_t i = 0; i < f->out.n; i++)
        if (f->out.items[i].type == PREFILL_SEND_LINK && f->out.items[i].msg.type == MSG_KV_END)
            return true;
    return false;
}

/* Cuts at any moments: nothing that came is sent again, and in the end all has come. */
static void any_cuts_lose_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct fixture f;
        struct receiver r = {.n_units = 0};
        uint32_t n = 1 + (uint32_t)(rng_u64(seed, 0) % (32 * PAGES)), layer = 0, done = 0;
        bool ended = false;

        setup(&f, 2);
        from_router(&f, job_of(1, n, 5));
        r.n_units = kv_layout_pages(n) * LAYERS;
        from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
        for (uint64_t i = 1; !ended; i++) {
            uint64_t draw = rng_u64(seed, i) % 16;

            assert_true(i < 100000);
            f.out.n = 0;
            if (draw < 8) {
                ended = send_one(&f, &r) && said_end(&f);
            } else if (draw < 12 && done < n) {
                if (layer < LAYERS)
                    layer_done(&f, layer++);
                else {
                    layer = 0;
                    done += 64;
                    chunk_done(&f, (uint32_t[]){50});
                    ended = said_end(&f);
                }
            } else if (draw == 15) {
                for (uint32_t u = 0; u < r.n_units; u++) /* those that made it */
                    r.got[u] |= r.way[u] && rng_u64(seed ^ i, 1000 + u) % 2;
                memset(r.way, 0, sizeof(r.way));
                cut(&f, 0);
                if (f.out.n == 4)
                    receiver_answers(&f, &r);
                else
                    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
                ended = said_end(&f);
            }
        }
        for (uint32_t u = 0; u < r.n_units; u++)
            assert_true(r.got[u] || r.way[u]);
        from_link(&f, 0, about(MSG_KV_DONE, 1, 1));
        teardown(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_link_says_hello_again_and_resumes_what_it_had_begun),
        cmocka_unit_test(only_what_is_missing_is_sent_again),
        cmocka_unit_test(a_stream_of_which_all_came_ends_at_once),
        cmocka_unit_test(a_stream_that_the_decode_node_does_not_know_fails_unless_it_was_all_sent),
        cmocka_unit_test(a_decode_node_that_is_gone_fails_its_streams_in_time),
        cmocka_unit_test(a_cut_link_without_streams_is_closed),
        cmocka_unit_test(places_are_named_to_whom_can_read_them),
        cmocka_unit_test(runs_that_are_none_fail_the_stream),
        cmocka_unit_test(behind_a_full_list_all_is_missing),
        cmocka_unit_test(any_cuts_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
