#include "tests/unit/prefill-node/fixture.h"

/* All of a prompt of one chunk; the first token is 50. */
static void compute(struct fixture *f)
{
    for (uint32_t l = 0; l < LAYERS; l++)
        layer_done(f, l);
    chunk_done(f, (uint32_t[]){50});
}

static void done(struct fixture *f, uint64_t request)
{
    from_router(f, about(MSG_CANCEL, request, 1));
}

static void a_known_beginning_is_not_computed_again(void **state)
{
    struct fixture f;
    struct prefill_stats s;
    const struct msg *m;

    (void)state;
    setup_cache(&f, 4, PAGES);
    from_router(&f, job_of(1, 40, 5));
    compute(&f);
    assert_int_equal(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN)->u.first.hit_tokens, 0);
    done(&f, 1);
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 1);
    from_router(&f, job_of(2, 40, 5));
    assert_int_equal(runs(&f, 1)->spans[0].first, 32);
    assert_int_equal(runs(&f, 1)->spans[0].count, 8);
    assert_true(runs(&f, 1)->spans[0].last);
    compute(&f);
    m = sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN);
    assert_int_equal(m->u.first.hit_tokens, 32);
    prefill_core_stats(f.core, &s);
    assert_int_equal(s.hit_tokens, 32);
    assert_int_equal(s.tokens, 48);
    done(&f, 2);
    teardown(&f);
}

/* The pages found leave before anything was computed, the rest as ever. */
static void what_was_known_is_shipped_at_once(void **state)
{
    struct fixture f;

    (void)state;
    setup_cache(&f, 4, PAGES);
    from_router(&f, job_of(1, 64, 5));
    compute(&f);
    done(&f, 1);
    from_router(&f, job_of(2, 70, 5));
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ships(&f, 2, 0, 0);
    ships(&f, 2, 1, 0);
    ships(&f, 2, 0, 1);
    ships(&f, 2, 1, 1);
    ships_nothing(&f);
    layer_done(&f, 0);
    ships(&f, 2, 2, 0);
    layer_done(&f, 1);
    chunk_done(&f, (uint32_t[]){50});
    ships(&f, 2, 2, 1);
    sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_END);
    from_link(&f, 0, about(MSG_KV_DONE, 2, 1));
    teardown(&f);
}

/* ... but not if the decode node knows it, too. */
static void what_both_know_is_neither_computed_nor_shipped(void **state)
{
    struct fixture f;
    struct msg m = job_of(2, 70, 5);

    (void)state;
    setup_cache(&f, 4, PAGES);
    from_router(&f, job_of(1, 64, 5));
    compute(&f);
    done(&f, 1);
    m.u.job.skip_tokens = 64;
    from_router(&f, m);
    assert_int_equal(runs(&f, 1)->spans[0].first, 64);
    from_link(&f, 0, credit(MSG_KV_WELCOME, 1 << 20));
    ships_nothing(&f);
    compute(&f);
    ships(&f, 2, 2, 0);
    ships(&f, 2, 2, 1);
    sent(&f, 0, PREFILL_SEND_LINK, MSG_KV_END);
    from_link(&f, 0, about(MSG_KV_DONE, 2, 1));
    teardown(&f);
}

static void at_least_one_token_is_computed(void **state)
{
    struct fixture f;

    (void)state;
    setup_cache(&f, 4, PAGES);
    from_router(&f, job_of(1, 64, 5));
    compute(&f);
    done(&f, 1);
    from_router(&f, job_of(2, 64, 5));
    assert_int_equal(runs(&f, 1)->spans[0].first, 32);
    assert_int_equal(runs(&f, 1)->spans[0].count, 32);
    compute(&f);
    done(&f, 2);
    teardown(&f);
}

static void a_tenant_does_not_find_the_pages_of_another(void **state)
{
    struct fixture f;
    struct msg m = job_of(2, 64, 5);

    (void)state;
    setup_cache(&f, 4, PAGES);
    from_router(&f, job_of(1, 64, 5));
    compute(&f);
    done(&f, 1);
    m.u.job.salt = 1;
    from_router(&f, m);
    assert_int_equal(runs(&f, 1)->spans[0].first, 0);
    compute(&f);
    done(&f, 2);
    teardown(&f);
}

static void the_full_blocks_of_a_cancelled_prompt_are_kept(void **state)
{
    struct fixture f;

    (void)state;
    setup_cache(&f, 4, PAGES);
    from_router(&f, job_of(1, 200, 5));
    chunk_done(&f, (uint32_t[]){0}); /* 64 tokens; the next 64 run */
    done(&f, 1);
    chunk_done(&f, (uint32_t[]){0});
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 4);
    from_router(&f, job_of(2, 200, 5));
    assert_int_equal(runs(&f, f.out.n - 1)->spans[0].first, 128);
    done(&f, 2);
    chunk_done(&f, (uint32_t[]){0});
    teardown(&f);
}

static void a_second_prompt_finds_what_the_first_has_so_far(void **state)
{
    struct fixture f;
    const struct prefill_action *run;

    (void)state;
    setup_cache(&f, 4, PAGES);
    from_router(&f, job_of(1, 70, 5));
    from_router(&f, job_of(2, 200, 5));
    chunk_done(&f, (uint32_t[]){0});
    run = runs(&f, 0); /* the first's last 6, and of the second the page behind those known */
    assert_int_equal(run->n_spans, 2);
    assert_int_equal(run->spans[0].first, 64);
    assert_int_equal(run->spans[1].first, 64);
    assert_int_equal(run->spans[1].count, 32);
    done(&f, 1);
    done(&f, 2);
    chunk_done(&f, (uint32_t[]){0, 0});
    teardown(&f);
}

static void cached_pages_make_room_for_a_prompt(void **state)
{
    struct fixture f;
    struct msg m = job_of(2, 32 * PAGES, 5);

    (void)state;
    setup_cache(&f, 4, PAGES);
    from_router(&f, job_of(1, 64, 5));
    compute(&f);
    done(&f, 1);
    assert_int_equal(kv_pool_free_count(f.pool), PAGES - 2);
    m.u.job.salt = 9;
    from_router(&f, m);
    assert_int_equal(kv_pool_free_count(f.pool), 0);
    done(&f, 2);
    chunk_done(&f, (uint32_t[]){0});
    teardown(&f);
}

static void a_lower_band_goes_first_from_the_next_chunk_on(void **state)
{
    struct fixture f;
    struct msg slow = job_of(1, 200, 5), urgent = job_of(2, 64, 5), other = job_of(3, 10, 5);

    (void)state;
    setup(&f, 4);
    slow.u.job.priority = other.u.job.priority = 3;
    urgent.u.job.priority = 1;
    from_router(&f, slow);
    from_router(&f, other);
    from_router(&f, urgent);
    chunk_done(&f, (uint32_t[]){0});
    assert_int_equal(runs(&f, 0)->n_spans, 1);
    assert_int_equal(runs(&f, 0)->spans[0].count, 64);
    assert_int_equal(runs(&f, 0)->spans[0].first, 0);
    assert_true(runs(&f, 0)->spans[0].last);
    chunk_done(&f, (uint32_t[]){50});
    assert_int_equal(sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN)->u.first.id.request, 2);
    assert_int_equal(runs(&f, 1)->spans[0].first, 64); /* the slow one goes on where it was */
    for (uint64_t r = 1; r <= 3; r++)
        done(&f, r);
    chunk_done(&f, (uint32_t[]){0});
    teardown(&f);
}

/* An urgent prompt for which there is no page waits for one that has some, which must go on. */
static void who_has_pages_goes_on_while_others_wait_for_them(void **state)
{
    struct fixture f;
    struct msg slow = job_of(1, 32 * PAGES, 5), urgent = job_of(2, 40, 5);

    (void)state;
    setup(&f, 4);
    slow.u.job.priority = 3;
    from_router(&f, slow);
    from_router(&f, urgent);
    for (int i = 1; i < PAGES / 2; i++) {
        chunk_done(&f, (uint32_t[]){0});
        assert_int_equal(runs(&f, 0)->spans[0].first, 64 * i);
    }
    chunk_done(&f, (uint32_t[]){50});
    sent(&f, 0, PREFILL_SEND_ROUTER, MSG_PREFILL_TOKEN);
    assert_int_equal(f.out.n, 1);
    done(&f, 1);
    assert_int_equal(runs(&f, f.out.n - 1)->spans[0].count, 40);
    done(&f, 2);
    chunk_done(&f, (uint32_t[]){0});
    teardown(&f);
}

static void stats_say_what_waits(void **state)
{
    struct fixture f;
    struct prefill_stats s;

    (void)state;
    setup(&f, 4);
    from_router(&f, job_of(1, 100, 5));
    from_router(&f, job_of(2, 70, 5));
    chunk_done(&f, (uint32_t[]){0});
    prefill_core_stats(f.core, &s);
    assert_int_equal(s.queued_tokens, 36 + 70);
    done(&f, 1);
    done(&f, 2);
    chunk_done(&f, (uint32_t[]){0});
    prefill_core_stats(f.core, &s);
    assert_int_equal(s.queued_tokens, 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_beginning_is_not_computed_again),
        cmocka_unit_test(what_was_known_is_shipped_at_once),
        cmocka_unit_test(what_both_know_is_neither_computed_nor_shipped),
        cmocka_unit_test(at_least_one_token_is_computed),
        cmocka_unit_test(a_tenant_does_not_find_the_pages_of_another),
        cmocka_unit_test(the_full_blocks_of_a_cancelled_prompt_are_kept),
        cmocka_unit_test(a_second_prompt_finds_what_the_first_has_so_far),
        cmocka_unit_test(cached_pages_make_room_for_a_prompt),
        cmocka_unit_test(a_lower_band_goes_first_from_the_next_chunk_on),
        cmocka_unit_test(who_has_pages_goes_on_while_others_wait_for_them),
        cmocka_unit_test(stats_say_what_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
