#include "tests/unit/prefill-node/fixture.h"

static void a_prompt_is_computed_in_chunks_and_leaves_layer_by_layer(void **state)
{
    struct fixture f;
    const struct msg *m;

    (void)state;
    setup(&f, 4);
    from_router(&f, job_of(9, 100, 5)); /* chunks of 64 and 36: pages 0 1 and 2 3 */
    assert_int_equal(f.out.items[0].type, PREFILL_OPEN_LINK);
    assert_string_equal(f.out.items[0].endpoint, "ipc://d");
    m = sent(&f, 1, PREFILL_SEND_LINK, MSG_KV_HELLO);
    assert_int_equal(m->u.hello.geometry.n_layer, LAYERS);
    assert_int_equal(runs(&f, 2)->n_spans, 1);
    assert_int_equal(runs(&f, 2)->spans[0].count, 64);
    assert_false(runs(&f, 2)->spans[0].last);
    ships_nothing(&f);
    layer_done(&f, 0);
    ships_nothing(&f); /* not welcome yet */
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ships(&f, 9, 0, 0);
    ships(&f, 9, 1, 0);
    ships_nothing(&f);
    layer_done(&f, 1);
    ships(&f, 9, 0, 1);
    chunk_done(&f, (uint32_t[]){0});
    assert_int_equal(runs(&f, 0)->spans[0].first, 64);
    assert_int_equal(runs(&f, 0)->spans[0].count, 36);
    assert_true(runs(&f, 0)->spans[0].last);
    layer_done(&f, 0);
    ships(&f, 9, 1, 1); /* the first chunk's rest, then the second's first layer */
    ships(&f, 9, 2, 0);
    layer_done(&f, 1);
    f.now = 77;
    chunk_done(&f, (uint32_t[]){123});
    m = sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN);
    assert_int_equal(m->u.first.token, 123);
    assert_int_equal(m->u.first.finish, FINISH_NONE);
    assert_int_equal(m->u.first.compute_ns, 77);
    assert_int_equal(f.out.n, 1);
    ships(&f, 9, 3, 0);
    ships(&f, 9, 2, 1);
    assert_int_equal(f.out.n, 0);
    ships(&f, 9, 3, 1);
    m = sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_END);
    assert_int_equal(m->u.end.n_tokens, 100);
    assert_int_equal(m->u.end.token, 123);
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 4);
    from_link(&f, 0, about(MSG_KV_DONE, 9, 1));
    teardown(&f);
}

static void short_prompts_share_a_chunk(void **state)
{
    struct fixture f;
    const struct prefill_action *run;

    (void)state;
    setup(&f, 8);
    from_router(&f, job_of(1, 33, 5)); /* runs at once, alone */
    from_router(&f, job_of(2, 10, 1));
    from_router(&f, job_of(3, 20, 1));
    from_router(&f, job_of(4, 200, 1));
    chunk_done(&f, (uint32_t[]){50});
    sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN);
    run = runs(&f, 1); /* 10 + 20 + 32 of the long one's 200 */
    assert_int_equal(run->n_spans, 3);
    assert_int_equal(run->spans[0].count, 10);
    assert_int_equal(run->spans[1].count, 20);
    assert_int_equal(run->spans[2].count, 32);
    chunk_done(&f, (uint32_t[]){60, 61, 0});
    assert_int_equal(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN)->u.first.token, 60);
    sent(&f, 1, PREFILL_SEND_LINK, MSG_KV_ABORT);
    assert_int_equal(sent(&f, 2, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN)->u.first.token, 61);
    from_router(&f, about(MSG_CANCEL, 1, 1));
    from_router(&f, about(MSG_CANCEL, 4, 1));
    chunk_done(&f, (uint32_t[]){0});
    teardown(&f);
}

static void a_first_token_that_ends_the_stream_ships_nothing_more(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 2);
    from_router(&f, job_of(1, 10, 5));
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    layer_done(&f, 0);
    ships(&f, 1, 0, 0);
    chunk_done(&f, (uint32_t[]){2}); /* the stop token */
    assert_int_equal(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN)->u.first.finish,
                     FINISH_STOP);
    sent(&f, 1, PREFILL_SEND_LINK, MSG_KV_ABORT);
    ships_nothing(&f);
    from_router(&f, job_of(2, 10, 1));
    chunk_done(&f, (uint32_t[]){3});
    assert_int_equal(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN)->u.first.finish,
                     FINISH_LENGTH);
    teardown(&f);
}

static void jobs_are_refused_with_numbers(void **state)
{
    struct fixture f;
    const struct msg_failed *r;
    struct msg m;

    (void)state;
    setup(&f, 2);
#define JOB_REFUSED(again, words)                                                                  \
    r = &sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_FAILED)->u.failed;                           \
    assert_int_equal(r->retry, again);                                                             \
    assert_non_null(strstr(r->text, words));                                                       \
    assert_int_equal(f.out.n, 1)
    from_router(&f, job_of(1, CTX, 5));
    JOB_REFUSED(false, "1024 tokens, the context 1024");
    from_router(&f, job_of(1, 32 * PAGES + 1, 5));
    JOB_REFUSED(false, "needs 17 KV pages, the prefill node has 16");
    from_router(&f, job_of(1, 10, 0));
    JOB_REFUSED(false, "at least 1");
    m = job_of(1, 10, 1);
    m.u.job.tokens[7] = 1000;
    from_router(&f, m);
    JOB_REFUSED(false, "token 7 is 1000, the vocabulary has 1000");
    m = job_of(1, 10, 1);
    m.u.job.skip_tokens = 11;
    from_router(&f, m);
    JOB_REFUSED(false, "11 tokens to skip");
    from_router(&f, job_of(1, 10, 1));
    from_router(&f, job_of(2, 10, 1));
    from_router(&f, job_of(3, 10, 1));
    JOB_REFUSED(true, "all 2 places");
    prefill_core_drain(f.core);
    from_router(&f, job_of(4, 10, 1));
    JOB_REFUSED(true, "draining");
    chunk_done(&f, (uint32_t[]){3});
    chunk_done(&f, (uint32_t[]){3});
    teardown(&f);
}

static void a_job_waits_until_pages_are_free(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 3);
    from_router(&f, job_of(1, 32 * PAGES, 5));
    from_router(&f, job_of(2, 40, 5));
    for (int i = 0; i < PAGES / 2; i++)
        chunk_done(&f, (uint32_t[]){7});
    sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN);
    assert_int_equal(f.out.n, 1); /* no pages for the second */
    from_router(&f, about(MSG_CANCEL, 1, 1));
    assert_int_equal(runs(&f, 0)->spans[0].count, 40);
    from_router(&f, about(MSG_CANCEL, 2, 1));
    chunk_done(&f, (uint32_t[]){7});
    assert_int_equal(f.out.n, 0); /* cancelled: no token */
    teardown(&f);
}

static void cancel_frees_in_every_state(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    from_router(&f, about(MSG_CANCEL, 5, 1)); /* unknown */
    assert_int_equal(f.out.n, 0);
    from_router(&f, job_of(1, 100, 5));
    from_router(&f, job_of(2, 100, 5));
    from_router(&f, about(MSG_CANCEL, 2, 1)); /* queued */
    from_router(&f, about(MSG_CANCEL, 1, 0)); /* an older epoch: not meant */
    from_router(&f, about(MSG_CANCEL, 1, 1)); /* computing: pages stay until the chunk ends */
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 4);
    chunk_done(&f, (uint32_t[]){0});
    assert_int_equal(kv_pool_free_count(f.pool), PAGES);
    compute_short(&f, 3);
    from_router(&f, about(MSG_CANCEL, 3, 1)); /* shipping */
    assert_int_equal(kv_pool_free_count(f.pool), PAGES);
    compute_short(&f, 4);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ship_short(&f, 4);
    from_router(&f, about(MSG_CANCEL, 4, 1)); /* held */
    teardown(&f);
}

static void a_cancelled_stream_is_in_no_batch_after_the_one_that_runs(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    from_router(&f, job_of(1, 200, 5)); /* four chunks alone; the first one runs */
    from_router(&f, job_of(2, 20, 5));
    from_router(&f, about(MSG_CANCEL, 1, 1));
    for (size_t i = 0; i < f.out.n; i++)
        assert_int_not_equal(f.out.items[i].type, PREFILL_SEND_ROUTER);
    chunk_done(&f, (uint32_t[]){0});
    assert_int_equal(runs(&f, f.out.n - 1)->n_spans, 1);
    assert_int_equal(runs(&f, f.out.n - 1)->spans[0].count, 20);
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 1); /* only the other one's page is taken */
    chunk_done(&f, (uint32_t[]){7});
    sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN);
    assert_int_equal(f.out.n, 1); /* nothing is computed any more */
    from_router(&f, about(MSG_CANCEL, 2, 1));
    teardown(&f);
}

static void credit_bounds_what_is_sent(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    from_router(&f, job_of(1, 64, 5));
    from_link(&f, 0, credit(MSG_KV_CREDIT, 1 << 20)); /* before the welcome: void */
    from_link(&f, 0, credit(MSG_KV_WELCOME, PAGE_BYTES + PAGE_BYTES / 2));
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20)); /* a second welcome too */
    layer_done(&f, 0);
    ships(&f, 1, 0, 0);
    ships_nothing(&f);
    from_link(&f, 0, credit(MSG_KV_CREDIT, PAGE_BYTES / 2));
    ships(&f, 1, 1, 0);
    ships_nothing(&f);
    from_router(&f, about(MSG_CANCEL, 1, 1));
    chunk_done(&f, (uint32_t[]){0});
    from_router(&f, job_of(2, 10, 5)); /* the idle link starts anew, without credit */
    sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_HELLO);
    layer_done(&f, 0);
    ships_nothing(&f);
    from_router(&f, about(MSG_CANCEL, 2, 1));
    chunk_done(&f, (uint32_t[]){0});
    teardown(&f);
}

/* A page that the prompt does not fill goes whole: with nothing of those who had it before. */
static void the_rest_of_a_last_page_is_clear(void **state)
{
    struct fixture f;
    struct prefill_unit u;
    uint32_t ids[PAGES];

    (void)state;
    setup(&f, 4);
    assert_true(kv_pool_take(f.pool, ids, PAGES));
    for (uint32_t i = 0; i < PAGES; i++) {
        memset(kv_pool_page(f.pool, ids[i]), 0xee, f.layout.page_bytes);
        kv_pool_unref(f.pool, ids[i]);
    }
    from_router(&f, job_of(1, 40, 5));
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    layer_done(&f, 0);
    ships(&f, 1, 0, 0);
    assert_true(prefill_core_next_unit(f.core, NULL, &u));
    assert_int_equal(u.unit.page, 1);
    for (size_t i = 0; i < f.layout.page_bytes; i++)
        assert_int_equal(kv_pool_page(f.pool, u.page_id)[i], 0);
    from_router(&f, about(MSG_CANCEL, 1, 1));
    chunk_done(&f, (uint32_t[]){0});
    teardown(&f);
}

static void the_older_job_has_the_credit_first(void **state)
{
    struct fixture f;
    bool blocked[PREFILL_LINKS_MAX] = {false};
    struct prefill_unit u;

    (void)state;
    setup(&f, 4);
    from_router(&f, job_of(1, 32, 5));
    from_router(&f, job_of(2, 1, 5));
    chunk_done(&f, (uint32_t[]){50});
    chunk_done(&f, (uint32_t[]){50});
    from_link(&f, 0, credit(MSG_KV_WELCOME, PAGE_BYTES - 1));
    ships_nothing(&f);
    from_link(&f, 0, credit(MSG_KV_CREDIT, 1));
    blocked[0] = true;
    assert_false(prefill_core_next_unit(f.core, blocked, &u));
    ships(&f, 1, 0, 0);
    from_router(&f, about(MSG_CANCEL, 1, 1));
    from_router(&f, about(MSG_CANCEL, 2, 1));
    teardown(&f);
}

static void a_unit_is_sent_again_when_asked_for(void **state)
{
    struct fixture f;
    struct msg again = {.type = MSG_KV_AGAIN,
                        .u.page = {.id = {1, 1}, .layer = 1, .head_count = 2, .n_tokens = 10}};

    (void)state;
    setup(&f, 2);
    compute_short(&f, 1);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ship_short(&f, 1);
    ships_nothing(&f);
    from_link(&f, 0, again);
    ships(&f, 1, 0, 1);
    sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_END); /* and the end once more */
    again.u.page.layer = LAYERS; /* none of ours */
    from_link(&f, 0, again);
    ships_nothing(&f);
    from_link(&f, 0, about(MSG_KV_DONE, 1, 1));
    from_link(&f, 0, again); /* of a stream that is over */
    teardown(&f);
}

static void a_prefix_that_is_held_is_not_shipped(void **state)
{
    struct fixture f;
    struct msg m = job_of(1, 70, 5);

    (void)state;
    setup(&f, 2);
    m.u.job.skip_tokens = 32;
    from_router(&f, m);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    layer_done(&f, 0);
    ships(&f, 1, 1, 0);
    ships_nothing(&f);
    chunk_done(&f, (uint32_t[]){0});
    chunk_done(&f, (uint32_t[]){9});
    ships(&f, 1, 1, 1);
    ships(&f, 1, 2, 0);
    ships(&f, 1, 2, 1);
    sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_END);
    from_link(&f, 0, about(MSG_KV_DONE, 1, 1));
    teardown(&f);
}

static void a_refused_link_fails_its_jobs_with_the_sentence(void **state)
{
    struct fixture f;
    struct msg refused = {.type = MSG_REFUSED, .u.text.text = "another model"};
    struct msg other = job_of(2, 10, 5);

    (void)state;
    setup(&f, 4);
    from_router(&f, job_of(1, 10, 5));
    strcpy(other.u.job.kv_endpoint, "ipc://e");
    from_router(&f, other);
    assert_int_equal(f.out.items[0].type, PREFILL_OPEN_LINK);
    assert_int_equal(f.out.items[0].link, 1);
    from_link(&f, 0, refused);
    assert_non_null(strstr(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_FAILED)->u.failed.text,
                           "decode node d refused: another model"));
    assert_true(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_FAILED)->u.failed.retry);
    assert_int_equal(f.out.items[1].type, PREFILL_CLOSE_LINK);
    assert_int_equal(f.out.n, 2);
    chunk_done(&f, (uint32_t[]){9}); /* the other goes on */
    assert_int_equal(runs(&f, 0)->n_spans, 1);
    from_router(&f, about(MSG_CANCEL, 2, 1));
    chunk_done(&f, (uint32_t[]){9});
    teardown(&f);
}

static void silence_ends_links_and_jobs(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    compute_short(&f, 1); /* and no answer to KV_HELLO */
    f.now = HELLO;
    step(&f, (struct prefill_event){.type = PREFILL_TICK});
    assert_non_null(strstr(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_FAILED)->u.failed.text,
                           "ipc://d does not answer"));
    assert_int_equal(f.out.items[1].type, PREFILL_CLOSE_LINK);

    compute_short(&f, 2); /* no KV_DONE */
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ship_short(&f, 2);
    f.now += LEASE - 1;
    step(&f, (struct prefill_event){.type = PREFILL_TICK});
    assert_int_equal(f.out.n, 0);
    f.now++;
    step(&f, (struct prefill_event){.type = PREFILL_TICK});
    assert_non_null(strstr(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_FAILED)->u.failed.text,
                           "does not confirm"));
    sent(&f, 1, PREFILL_SEND_LINK, MSG_KV_ABORT);
    teardown(&f);
}

static void an_abort_of_the_decode_node_goes_to_the_router(void **state)
{
    struct fixture f;
    struct msg m = about(MSG_KV_ABORT, 1, 1);

    (void)state;
    setup(&f, 2);
    compute_short(&f, 1);
    from_link(&f, 0, about(MSG_KV_ABORT, 1, 2)); /* another epoch */
    assert_int_equal(f.out.n, 0);
    m.u.failed.retry = true;
    strcpy(m.u.failed.text, "no such reservation");
    from_link(&f, 0, m);
    assert_string_equal(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_FAILED)->u.failed.text,
                        "no such reservation");
    teardown(&f);
}

static void a_newer_epoch_replaces_the_job(void **state)
{
    struct fixture f;
    struct msg m = job_of(1, 10, 1);

    (void)state;
    setup(&f, 2);
    from_router(&f, job_of(1, 10, 5));
    from_router(&f, job_of(1, 10, 5)); /* the same again: dropped */
    assert_int_equal(f.out.n, 0);
    m.u.job.id.epoch = 2;
    from_router(&f, m);
    assert_int_equal(sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_ABORT)->u.failed.id.epoch, 1);
    chunk_done(&f, (uint32_t[]){3}); /* of the old one: silent */
    assert_int_equal(runs(&f, 0)->n_spans, 1);
    chunk_done(&f, (uint32_t[]){3});
    assert_int_equal(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN)->u.first.id.epoch, 2);
    teardown(&f);
}

static void everything_is_dropped_when_the_router_is_lost(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    compute_short(&f, 1);
    from_router(&f, job_of(2, 10, 5));
    from_router(&f, job_of(3, 10, 5));
    step(&f, (struct prefill_event){.type = PREFILL_ROUTER_LOST});
    assert_int_equal(f.out.n, 3);
    chunk_done(&f, (uint32_t[]){3});
    assert_int_equal(f.out.n, 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_computed_in_chunks_and_leaves_layer_by_layer),
        cmocka_unit_test(short_prompts_share_a_chunk),
        cmocka_unit_test(a_first_token_that_ends_the_stream_ships_nothing_more),
        cmocka_unit_test(jobs_are_refused_with_numbers),
        cmocka_unit_test(a_job_waits_until_pages_are_free),
        cmocka_unit_test(cancel_frees_in_every_state),
        cmocka_unit_test(a_cancelled_stream_is_in_no_batch_after_the_one_that_runs),
        cmocka_unit_test(credit_bounds_what_is_sent),
        cmocka_unit_test(the_rest_of_a_last_page_is_clear),
        cmocka_unit_test(the_older_job_has_the_credit_first),
        cmocka_unit_test(a_unit_is_sent_again_when_asked_for),
        cmocka_unit_test(a_prefix_that_is_held_is_not_shipped),
        cmocka_unit_test(a_refused_link_fails_its_jobs_with_the_sentence),
        cmocka_unit_test(silence_ends_links_and_jobs),
        cmocka_unit_test(an_abort_of_the_decode_node_goes_to_the_router),
        cmocka_unit_test(a_newer_epoch_replaces_the_job),
        cmocka_unit_test(everything_is_dropped_when_the_router_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
