#include <poll.h>
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/compute.h"
#include "engine/eval.h"
#include "kv/kv_pool.h"
#include "tests/lib/test.h"

#define MODEL "deploy/demo/austen-5m-q8_0.gguf"

static struct engine_options options(void)
{
    struct engine_options o = {.model = MODEL, .n_threads = 2, .rows_max = 64, .kv_type = KV_F16};

    assert_int_equal(cpu_tier_choose(&o.tier, "auto", NULL), 0);
    return o;
}

static void wait_event(struct compute *c, struct compute_event *ev)
{
    while (!compute_poll(c, ev)) {
        struct pollfd p = {.fd = compute_fd(c), .events = POLLIN};

        assert_int_equal(poll(&p, 1, 60000), 1);
    }
}

/* Greedy tokens through the thread, one job a step, equal those of eval in one thread. */
static void jobs_give_what_eval_gives(void **state)
{
    enum { PROMPT = 5, NEW = 12 };
    uint32_t prompt[PROMPT] = {1, 587, 307, 261, 394}, want[NEW], got[NEW], pos = 0, ids[2];
    struct engine_options o = options();
    struct sample_params params = {.temperature = 0.8f, .top_p = 0.95f, .seed = 9};
    struct batch_row rows[PROMPT];
    struct compute_sample samples[PROMPT] = {0};
    struct compute_job job = {.rows = rows, .samples = samples, .layer_events = true};
    uint8_t *pages[2];
    struct compute *c;
    struct kv_pool *pool;
    struct eval *ev;
    struct err e = {0};

    (void)state;
    assert_int_equal(eval_open(&ev, &o, &e), 0);
    assert_int_equal(eval_generate(ev, prompt, PROMPT, &params, want, NEW, &e), 0);
    eval_close(&ev);
    assert_int_equal(compute_start(&c, &o, &e), 0);
    assert_int_equal(kv_pool_open(&pool, engine_kv_layout(compute_engine(c)), 2, &e), 0);
    assert_true(kv_pool_take(pool, ids, 2));
    for (int i = 0; i < 2; i++)
        pages[i] = kv_pool_page(pool, ids[i]);
    for (uint32_t i = 0; i < NEW; i++) {
        struct compute_event ev_done;
        uint32_t layers = 0;

        job.n = i ? 1 : PROMPT;
        for (uint32_t r = 0; r < job.n; r++)
            rows[r] = (struct batch_row){i ? got[i - 1] : prompt[r], pos++, pages, r + 1 == job.n};
        samples[job.n - 1] = (struct compute_sample){.params = params, .index = i};
        assert_true(compute_submit(c, &job));
        for (wait_event(c, &ev_done); ev_done.type == COMPUTE_LAYER; wait_event(c, &ev_done))
            assert_int_equal(ev_done.layer, layers++);
        assert_int_equal(layers, engine_hparams(compute_engine(c))->n_layer);
        assert_ptr_equal(ev_done.job, &job);
        got[i] = samples[job.n - 1].token;
    }
    assert_memory_equal(got, want, sizeof(want));
    compute_stop(&c);
    assert_null(c);
    kv_pool_close(&pool);
}

static void a_model_that_does_not_open_fails_the_start(void **state)
{
    struct engine_options o = options();
    struct compute *c;
    struct err e = {0};

    (void)state;
    o.model = "deploy/demo/README.md";
    assert_true(compute_start(&c, &o, &e) < 0);
    assert_null(c);
    assert_non_null(strstr(e.text, "README.md"));
}

static void stopping_with_events_left_is_clean(void **state)
{
    struct engine_options o = options();
    struct batch_row row;
    struct compute_sample sample = {0};
    struct compute_job job = {.rows = &row, .samples = &sample, .n = 1, .layer_events = true};
    struct kv_pool *pool;
    struct compute *c;
    uint32_t id;
    uint8_t *page;

    (void)state;
    assert_int_equal(compute_start(&c, &o, NULL), 0);
    assert_int_equal(kv_pool_open(&pool, engine_kv_layout(compute_engine(c)), 1, NULL), 0);
    assert_true(kv_pool_take(pool, &id, 1));
    page = kv_pool_page(pool, id);
    row = (struct batch_row){1, 0, &page, true};
    assert_true(compute_submit(c, &job));
    compute_stop(&c);
    kv_pool_close(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_give_what_eval_gives),
        cmocka_unit_test(a_model_that_does_not_open_fails_the_start),
        cmocka_unit_test(stopping_with_events_left_is_clean),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
