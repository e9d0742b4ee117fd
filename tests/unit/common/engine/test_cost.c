/* The cost of passes over the demo model, against sums written out by hand. */
#include "engine/cost.h"
#include "tests/lib/test.h"

#define MODEL "deploy/demo/austen-5m-q8_0.gguf"

static struct engine *engine;

static int open_engine(void **state)
{
    struct engine_options o = {.model = MODEL, .n_threads = 2, .rows_max = 8, .kv_type = KV_F16};

    (void)state;
    assert_int_equal(cpu_tier_choose(&o.tier, "auto", NULL), 0);
    return engine_open(&engine, &o, NULL);
}

static int close_engine(void **state)
{
    (void)state;
    engine_close(&engine);
    return 0;
}

/* Multiply-adds of all layers' matrices for a row. */
static double layer_macs(const struct hparams *h, double k_and_v, double rest)
{
    double q = (double)h->n_head * h->head_dim, kv = (double)h->n_head_kv * h->head_dim;

    return k_and_v * 2 * kv * h->n_embd + rest * (2 * q * h->n_embd + 3.0 * h->n_ff * h->n_embd);
}

static void a_decode_step_reads_all_weights_and_its_kv(void **state)
{
    const struct hparams *h = engine_hparams(engine);
    uint8_t *a = NULL, *b = NULL;
    struct batch_row rows[2] = {{.pos = 9, .pages = &a, .want_logits = true},
                                {.pos = 99, .pages = &b, .want_logits = true}};
    struct batch batch = {.rows = rows, .n = 2};
    struct cost one = {0}, two = {0};
    double kv = 2.0 * h->n_head_kv * h->head_dim * 2 * h->n_layer;
    double macs = h->n_layer * layer_macs(h, 1, 1) + (double)h->n_embd * h->n_vocab;
    double attention = 4.0 * h->n_head * h->head_dim * h->n_layer;

    (void)state;
    cost_add(&two, engine, &batch);
    assert_true(two.flops == 2 * 2 * macs + attention * 110);
    batch.n = 1;
    cost_add(&one, engine, &batch);
    assert_true(one.flops == 2 * macs + attention * 10);
    assert_true(two.bytes - one.bytes == kv * 100);
    assert_true(one.bytes - kv * 10 >= macs && one.bytes <= engine_weight_bytes(engine) + kv * 10);
}

static void of_a_chunk_the_last_layer_is_for_rows_with_logits(void **state)
{
    const struct hparams *h = engine_hparams(engine);
    uint8_t *pages = NULL;
    struct batch_row rows[4];
    struct batch batch = {.rows = rows, .n = 4};
    struct cost c = {0}, none = {0};
    double attention = 4.0 * h->n_head * h->head_dim, macs, kv;

    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        rows[i] = (struct batch_row){.pos = i, .pages = &pages, .want_logits = i == 3};
    cost_add(&c, engine, &batch);
    macs = (h->n_layer - 1) * layer_macs(h, 4, 4) + layer_macs(h, 4, 1) + (double)h->n_embd * h->n_vocab;
    assert_true(c.flops == 2 * macs + attention * ((h->n_layer - 1) * (1 + 2 + 3 + 4) + 4));
    rows[3].want_logits = false;
    cost_add(&none, engine, &batch);
    macs = (h->n_layer - 1) * layer_macs(h, 4, 4) + layer_macs(h, 4, 0);
    assert_true(none.flops == 2 * macs + attention * (h->n_layer - 1) * 10);
    kv = 2.0 * h->n_head_kv * h->head_dim * 2 * 4; /* of the chunk, read in all layers but the last */
    assert_true(c.bytes - none.bytes > kv && none.bytes > kv * (h->n_layer - 1));
}

static void the_engine_names_its_types_and_meets_the_machine(void **state)
{
    struct str types = {0};
    struct roofline r;

    (void)state;
    cost_types(&types, engine);
    assert_string_equal(str_text(&types), "Q8_0");
    str_fini(&types);
    cost_roofline(&r, engine, 0);
    assert_int_equal(r.threads, 2);
    assert_true(r.rate[ROOF_READ].best > 0);
    assert_true(r.tier == CPU_REF || r.rate[cost_roof(engine)].best > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_decode_step_reads_all_weights_and_its_kv),
        cmocka_unit_test(of_a_chunk_the_last_layer_is_for_rows_with_logits),
        cmocka_unit_test(the_engine_names_its_types_and_meets_the_machine),
    };

    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
