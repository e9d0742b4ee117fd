/* The determinism contract on the demo model: the bits of a row's logits and KV depend on its own
 * sequence alone. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/eval.h"
#include "kernels/kernels.h"
#include "kv/kv_pool.h"
#include "tests/lib/gguf_writer.h"
#include "tests/lib/test.h"

#define MODEL "deploy/demo/austen-5m-q8_0.gguf"
#define N_TOKENS 150
#define TERNARY_VOCAB 64
#define SEQ_PAGES 20 /* more tokens than an attention segment */

static void make_tokens(uint32_t *t, uint32_t n, uint32_t salt)
{
    t[0] = 1;
    for (uint32_t i = 1; i < n; i++)
        t[i] = 259 + (i * 7919u + salt * 104729u) % 1700;
}

/* A sequence under test: its pages, taken from the pool in some order. */
struct seq {
    uint8_t *pages[SEQ_PAGES];
};

struct rig {
    struct engine *engine;
    struct kv_pool *pool;
    uint32_t n_vocab;
};

static void rig_open_few(struct rig *r, enum cpu_tier tier, uint32_t threads, enum kv_type type, uint32_t few)
{
    struct engine_options o = {.model = MODEL, .tier = tier, .n_threads = threads, .rows_max = 512, .few_rows = few,
                               .kv_type = type};
    struct err e = {0};

    if (engine_open(&r->engine, &o, &e))
        fail_msg("%s", e.text);
    assert_int_equal(kv_pool_open(&r->pool, engine_kv_layout(r->engine), 4 * SEQ_PAGES, NULL), 0);
    r->n_vocab = engine_hparams(r->engine)->n_vocab;
}

static void rig_open(struct rig *r, enum cpu_tier tier, uint32_t threads, enum kv_type type)
{
    rig_open_few(r, tier, threads, type, 0);
}

static void rig_close(struct rig *r)
{
    kv_pool_close(&r->pool);
    engine_close(&r->engine);
}

static void seq_take(struct seq *s, struct rig *r, bool backwards)
{
    uint32_t ids[SEQ_PAGES];

    assert_true(kv_pool_take(r->pool, ids, SEQ_PAGES));
    for (uint32_t i = 0; i < SEQ_PAGES; i++)
        s->pages[i] = kv_pool_page(r->pool, ids[backwards ? SEQ_PAGES - 1 - i : i]);
}

/* Runs tokens in the given chunk size and returns the logits of the last token, owned. */
static float *run(struct rig *r, struct seq *s, const uint32_t *tokens, uint32_t n, uint32_t chunk)
{
    struct batch_row rows[512];
    const float *logits = NULL;

    for (uint32_t at = 0; at < n; at += chunk) {
        struct batch b = {.rows = rows, .n = u32_min(chunk, n - at)};

        for (uint32_t i = 0; i < b.n; i++)
            rows[i] = (struct batch_row){tokens[at + i], at + i, s->pages, at + i + 1 == n};
        logits = engine_forward(r->engine, &b);
    }
    return mem_dup(logits, r->n_vocab * sizeof(float));
}

/* KV of the first n tokens is the same in both sequences, byte for byte. */
static void assert_same_kv(struct rig *ra, struct seq *a, struct seq *b, uint32_t n)
{
    const struct kv_layout *l = engine_kv_layout(ra->engine);

    for (uint32_t t = 0; t < n; t++)
        for (uint32_t layer = 0; layer < l->n_layer; layer++)
            for (uint32_t h = 0; h < l->n_kv_head; h++)
                for (uint32_t d = 0; d < l->head_dim; d++) {
                    size_t k = kv_layout_k(l, layer, h), eb = l->element_bytes;
                    size_t scales[] = {k + l->k_scales + t % 32 * 4, k + l->v_scales + t % 32 * 4};

                    for (int i = 0; i < 2 && l->type == KV_Q8; i++)
                        assert_memory_equal(a->pages[t / 32] + scales[i], b->pages[t / 32] + scales[i], 4);
                    size_t ko = k + kv_layout_k_at(l, t % 32, d) * eb;
                    size_t vo = k + l->v_offset + kv_layout_v_at(l, t % 32, d) * eb;

                    assert_memory_equal(a->pages[t / 32] + ko, b->pages[t / 32] + ko, eb);
                    assert_memory_equal(a->pages[t / 32] + vo, b->pages[t / 32] + vo, eb);
                }
}

/* The best tier of those that agree with ref. */
static enum cpu_tier fast_tier(void)
{
    static const enum cpu_tier tiers[] = {CPU_AVX512VNNI, CPU_NEON_I8MM, CPU_NEON_DOTPROD};

    for (size_t i = 0; i < sizeof(tiers) / sizeof(*tiers); i++)
        if (cpu_tier_available(tiers[i]))
            return tiers[i];
    return CPU_REF;
}

/* Runs check in a tier of each numeric path that this machine has. */
static void each_path(void (*check)(enum cpu_tier, enum kv_type))
{
    check(fast_tier(), KV_F16);
    check(fast_tier(), KV_Q8);
    if (!cpu_tier_available(CPU_AMX)) {
        print_message("skipped: tier amx is not available on this machine\n");
        return;
    }
    check(CPU_AMX, KV_F16);
    check(CPU_AMX, KV_BF16);
    check(CPU_AMX, KV_Q8);
}

static void check_chunking(enum cpu_tier tier, enum kv_type kv)
{
    static const uint32_t chunks[] = {1, 7, 32, 64, 149};
    uint32_t tokens[N_TOKENS];
    struct rig r;
    struct seq whole, part;
    float *want, *got;

    rig_open(&r, tier, 1, kv);
    make_tokens(tokens, N_TOKENS, 1);
    seq_take(&whole, &r, false);
    seq_take(&part, &r, true);
    want = run(&r, &whole, tokens, N_TOKENS, N_TOKENS);
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        got = run(&r, &part, tokens, N_TOKENS, chunks[i]);
        assert_memory_equal(got, want, r.n_vocab * sizeof(float));
        assert_same_kv(&r, &whole, &part, N_TOKENS);
        mem_free(got);
    }
    mem_free(want);
    rig_close(&r);
}

static void chunking_and_pages_change_no_bit(void **state)
{
    (void)state;
    each_path(check_chunking);
}

static void check_neighbours(enum cpu_tier tier, enum kv_type kv)
{
    uint32_t ta[N_TOKENS], tb[N_TOKENS];
    struct batch_row rows[2 * N_TOKENS];
    struct batch b = {.rows = rows, .n = 0};
    struct seq a, mixed, other;
    const float *logits;
    struct rig r;
    float *want;

    rig_open(&r, tier, 1, kv);
    make_tokens(ta, N_TOKENS, 1);
    make_tokens(tb, N_TOKENS, 2);
    seq_take(&a, &r, false);
    seq_take(&mixed, &r, false);
    seq_take(&other, &r, false);
    want = run(&r, &a, ta, N_TOKENS, N_TOKENS);
    for (uint32_t i = 0; i < N_TOKENS; i++) { /* two sequences interleaved in one batch */
        rows[b.n++] = (struct batch_row){tb[i], i, other.pages, i % 3 == 0};
        rows[b.n++] = (struct batch_row){ta[i], i, mixed.pages, i + 1 == N_TOKENS};
    }
    logits = engine_forward(r.engine, &b);
    assert_memory_equal(logits + (size_t)(N_TOKENS / 3) * r.n_vocab, want, r.n_vocab * sizeof(float));
    assert_same_kv(&r, &a, &mixed, N_TOKENS);
    mem_free(want);
    rig_close(&r);
}

static void neighbours_change_no_bit(void **state)
{
    (void)state;
    each_path(check_neighbours);
}

/* Blocks of rows that cross from one segment of attention to the next, and one row at a time. */
static void check_segments(enum cpu_tier tier, enum kv_type kv)
{
    static const uint32_t chunks[] = {300, 77};
    uint32_t tokens[ATTENTION_SEGMENT + 60], n = ARRAY_LEN(tokens);
    struct rig r, three;
    struct seq whole, part, other;
    float *want = NULL, *got;

    rig_open(&r, tier, 1, kv);
    rig_open(&three, tier, 3, kv);
    make_tokens(tokens, n, 5);
    seq_take(&whole, &r, false);
    seq_take(&part, &r, true);
    seq_take(&other, &three, false);
    mem_free(run(&r, &whole, tokens, ATTENTION_SEGMENT - 1, 500));
    for (uint32_t i = ATTENTION_SEGMENT - 1; i < n; i++) { /* as decode does it */
        struct batch_row row = {tokens[i], i, whole.pages, true};

        mem_free(want);
        want = mem_dup(engine_forward(r.engine, &(struct batch){.rows = &row, .n = 1}),
                       r.n_vocab * sizeof(float));
    }
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        got = run(&r, &part, tokens, n, chunks[i]);
        assert_memory_equal(got, want, r.n_vocab * sizeof(float));
        assert_same_kv(&r, &whole, &part, n);
        mem_free(got);
    }
    got = run(&three, &other, tokens, n, 512);
    assert_memory_equal(got, want, r.n_vocab * sizeof(float));
    mem_free(got);
    mem_free(want);
    rig_close(&three);
    rig_close(&r);
}

/* Few rows of a long sequence, whose segments threads share, beside a short one. */
static void check_shared_sequence(enum cpu_tier tier, enum kv_type kv)
{
    static const uint32_t threads[] = {1, 2, 3, 5};
    uint32_t tokens[ATTENTION_SEGMENT + 40], n = ARRAY_LEN(tokens);
    float *want = NULL;

    make_tokens(tokens, n, 6);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        struct rig r;
        struct seq s, other;
        struct batch_row rows[3];
        float *got;

        rig_open(&r, tier, threads[i], kv);
        seq_take(&s, &r, false);
        seq_take(&other, &r, false);
        mem_free(run(&r, &s, tokens, n - 2, 512));
        mem_free(run(&r, &other, tokens, 20, 3));
        rows[0] = (struct batch_row){tokens[n - 2], n - 2, s.pages, true};
        rows[1] = (struct batch_row){tokens[n - 1], n - 1, s.pages, true};
        rows[2] = (struct batch_row){tokens[20], 20, other.pages, true};
        got = mem_dup(engine_forward(r.engine, &(struct batch){.rows = rows, .n = 3}),
                      3 * r.n_vocab * sizeof(float));
        if (want)
            assert_memory_equal(got, want, 3 * r.n_vocab * sizeof(float));
        mem_free(want);
        want = got;
        rig_close(&r);
    }
    mem_free(want);
}

static void threads_that_share_a_sequence_change_no_bit(void **state)
{
    (void)state;
    each_path(check_shared_sequence);
}

static void segments_change_no_bit(void **state)
{
    (void)state;
    each_path(check_segments);
}

/* amx has a path of its own; the other tiers share one. */
static void threads_and_tiers_change_no_bit(void **state)
{
    uint32_t tokens[N_TOKENS];
    float *want = NULL;

    (void)state;
    make_tokens(tokens, N_TOKENS, 3);
    for (int tier = 0; tier < CPU_TIER_COUNT; tier++) {
        if (tier == CPU_AMX && cpu_tier_available(CPU_AMX)) {
            mem_free(want);
            want = NULL;
        }
        for (uint32_t threads = 1; threads <= 3; threads++) {
            struct rig r;
            struct seq s;
            float *got;

            if (!cpu_tier_available((enum cpu_tier)tier) || (tier == CPU_REF && threads == 2))
                continue; /* ref is slow: 1 and 3 threads will do */
            rig_open(&r, (enum cpu_tier)tier, threads, KV_F16);
            seq_take(&s, &r, false);
            got = run(&r, &s, tokens, N_TOKENS, 64);
            if (want) {
                assert_memory_equal(got, want, r.n_vocab * sizeof(float));
                mem_free(got);
            } else {
                want = got;
            }
            rig_close(&r);
        }
    }
    mem_free(want);
}

/* Kernels for few rows up to any number of them: the same bits of logits and of KV. */
static void the_crossover_of_kernels_changes_no_bit(void **state)
{
    static const uint32_t few[] = {0, 1, 16, 40, 64}, chunks[] = {17, 40, 64};
    uint32_t tokens[N_TOKENS];
    float *want = NULL;

    (void)state;
    if (!cpu_tier_available(CPU_AMX)) {
        print_message("skipped: no tier here has two kernels for a matrix\n");
        skip();
    }
    make_tokens(tokens, N_TOKENS, 9);
    for (size_t i = 0; i < ARRAY_LEN(few); i++) {
        struct rig r;
        struct seq s[ARRAY_LEN(chunks)];
        char text[32];

        rig_open_few(&r, CPU_AMX, 2, KV_BF16, few[i]);
        snprintf(text, sizeof(text), "=%u", few[i]);
        assert_non_null(strstr(engine_few_rows(r.engine), few[i] ? text : "="));
        for (size_t c = 0; c < ARRAY_LEN(chunks); c++) {
            float *got;

            seq_take(&s[c], &r, false);
            got = run(&r, &s[c], tokens, N_TOKENS, chunks[c]);
            if (!want)
                want = mem_dup(got, r.n_vocab * sizeof(float));
            assert_memory_equal(got, want, r.n_vocab * sizeof(float));
            mem_free(got);
            assert_same_kv(&r, &s[0], &s[c], N_TOKENS);
        }
        rig_close(&r);
    }
    mem_free(want);
}

/* What is measured is within the bounds; where there is nothing to choose, nothing is said. */
static void a_crossover_is_measured_where_a_tier_has_two_kernels(void **state)
{
    (void)state;
    for (int tier = 0; tier < CPU_TIER_COUNT; tier++) {
        struct kernels_few range;
        const char *p;
        struct rig r;

        if (!cpu_tier_available((enum cpu_tier)tier))
            continue;
        rig_open(&r, (enum cpu_tier)tier, 2, KV_F16);
        p = engine_few_rows(r.engine);
        assert_int_equal(*p != '\0', kernels_few(kernels_get((enum cpu_tier)tier), DTYPE_Q8_0, &range));
        while ((p = strchr(p, '='))) {
            uint32_t rows = (uint32_t)strtoul(++p, NULL, 10);

            assert_in_range(rows, range.min, range.max);
            assert_int_equal((rows - range.min) % range.step, 0);
        }
        rig_close(&r);
    }
}

/* 4 meetings a layer of few rows, 6 of more, of those that want logits from the last layer's attention on.
 * Beside these one after the embedding, and of more rows one after the last norm. */
static void threads_meet_few_times_a_layer(void **state)
{
    static const struct {
        uint32_t rows, wanted, a_layer;
        int beside;
    } cases[] = {{1, 1, 4, 1}, {4, 2, 4, 1}, {4, 4, 4, 1},  {5, 5, 6, 2},        {5, 1, 6, 0},
                 {5, 0, 6, -4}, {4, 0, 4, -3}, {64, 5, 6, 2}, {N_TOKENS, 4, 6, 0}, {N_TOKENS, 150, 6, 2}};
    struct batch_row rows[N_TOKENS];
    uint32_t tokens[N_TOKENS];

    (void)state;
    make_tokens(tokens, N_TOKENS, 8);
    for (int tier = 0; tier < CPU_TIER_COUNT; tier++) {
        struct rig r;
        struct seq s;

        if (!cpu_tier_available((enum cpu_tier)tier) || tier == CPU_REF)
            continue;
        rig_open(&r, (enum cpu_tier)tier, 2, KV_F16);
        seq_take(&s, &r, false);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            struct batch b = {.rows = rows, .n = cases[i].rows};
            uint32_t layers = engine_hparams(r.engine)->n_layer;

            for (uint32_t j = 0; j < b.n; j++)
                rows[j] = (struct batch_row){tokens[j], j, s.pages, j + cases[i].wanted >= b.n};
            engine_forward(r.engine, &b);
            assert_int_equal((int)engine_meetings(r.engine), (int)(cases[i].a_layer * layers) + cases[i].beside);
        }
        rig_close(&r);
    }
}

static uint32_t layers_seen;
static void count_layer(void *ctx, uint32_t layer)
{
    assert_int_equal(layer, layers_seen);
    assert_ptr_equal(ctx, &layers_seen);
    layers_seen++;
}

static void a_batch_without_logits_still_writes_kv_and_tells_of_layers(void **state)
{
    uint32_t tokens[N_TOKENS];
    struct batch_row rows[N_TOKENS];
    struct batch b = {rows, 40, count_layer, &layers_seen};
    struct seq a, s;
    struct rig r;

    (void)state;
    rig_open(&r, fast_tier(), 2, KV_F32);
    make_tokens(tokens, N_TOKENS, 4);
    seq_take(&a, &r, false);
    seq_take(&s, &r, false);
    mem_free(run(&r, &a, tokens, 40, 40));
    for (uint32_t i = 0; i < 40; i++)
        rows[i] = (struct batch_row){tokens[i], i, s.pages, false};
    assert_null(engine_forward(r.engine, &b));
    assert_int_equal(layers_seen, engine_hparams(r.engine)->n_layer);
    assert_same_kv(&r, &a, &s, 40);
    rig_close(&r);
}

static void count_percent(void *ctx, uint32_t percent)
{
    uint32_t *seen = ctx;

    assert_true(percent > *seen && percent <= 100);
    *seen = percent;
}

/* A load tells how far it is, whatever its pages are. */
static void a_load_tells_of_its_progress(void **state)
{
    uint32_t seen;

    (void)state;
    for (int huge = 0; huge <= MEM_HUGE_OFF; huge += MEM_HUGE_OFF) {
        struct engine_options o = {.model = MODEL, .tier = CPU_REF, .n_threads = 2, .rows_max = 8,
                                   .huge_pages = (enum mem_huge)huge, .progress = count_percent,
                                   .progress_ctx = &seen};
        struct engine *en;

        seen = 0;
        assert_int_equal(engine_open(&en, &o, NULL), 0);
        assert_int_equal(seen, 100);
        engine_close(&en);
    }
}

static void keep_all(void *ctx, uint32_t pos, const float *logits)
{
    memcpy((float *)ctx + (size_t)pos * TERNARY_VOCAB, logits, TERNARY_VOCAB * sizeof(float));
}

/* Ternary models whose down has blocks for one thread to take whole, or for several to share; of the second
 * a kv head's queries are a block of wo, of the third the last block of down is half there; a kv head of the
 * last is half a panel. */
static const struct gguf_llama ternary[] = {
    {.type = DTYPE_TQ1_0, .n_embd = 256, .n_head = 4, .n_head_kv = 2, .n_ff = 1280,
     .n_vocab = TERNARY_VOCAB, .n_ctx = 128, .n_layer = 2},
    {.type = DTYPE_TQ2_0, .n_embd = 512, .n_head = 8, .n_head_kv = 2, .n_ff = 1280,
     .n_vocab = TERNARY_VOCAB, .n_ctx = 128, .n_layer = 2},
    {.type = DTYPE_I2_S, .n_embd = 384, .n_head = 6, .n_head_kv = 3, .n_ff = 1408,
     .n_vocab = TERNARY_VOCAB, .n_ctx = 128, .n_layer = 2},
    {.type = DTYPE_TQ2_0, .n_embd = 256, .n_head = 32, .n_head_kv = 4, .n_ff = 512,
     .n_vocab = TERNARY_VOCAB, .n_ctx = 128, .n_layer = 2},
};

static void ternary_file(char *path, const struct gguf_llama *shape)
{
    struct gguf_writer w;
    int fd = mkstemp(path);
    uint8_t *file;
    size_t n;

    assert_true(fd >= 0);
    gguf_writer_init(&w);
    gguf_writer_llama(&w, shape);
    file = gguf_writer_finish(&w, &n);
    assert_int_equal(write(fd, file, n), n);
    close(fd);
    mem_free(file);
    gguf_writer_fini(&w);
}

/* amx too: its ternary kernels are exact where the others' are. bf16 is for KV alone, here f16. */
static void ternary_models_agree_in_all_tiers_and_threads(void **state)
{
    static const uint32_t threads[] = {1, 2, 7}; /* 7: parts of a head */
    float want[70 * TERNARY_VOCAB], got[70 * TERNARY_VOCAB];
    uint32_t tokens[70];

    (void)state;
    for (uint32_t i = 0; i < 70; i++)
        tokens[i] = i * 7 % TERNARY_VOCAB;
    for (size_t i = 0; i < ARRAY_LEN(ternary); i++) {
        char path[] = "/tmp/test_engine.XXXXXX";
        bool first = true;

        ternary_file(path, &ternary[i]);
        for (int run = 0; run < 3 * CPU_TIER_COUNT; run++) {
            struct engine_options o = {.model = path, .tier = (enum cpu_tier)(run / 3), .kv_type = KV_F16,
                                       .n_threads = threads[run % 3], .rows_max = 128};
            struct eval *ev;
            struct err e = {0};

            if (!cpu_tier_available(o.tier))
                continue;
            if (eval_open(&ev, &o, &e))
                fail_msg("%s", e.text);
            assert_int_equal(eval_logits(ev, tokens, 70, run % 2 ? 3 : 0, keep_all, first ? want : got, NULL), 0);
            if (!first)
                assert_memory_equal(got, want, sizeof(want));
            first = false;
            eval_close(&ev);
        }
        unlink(path);
    }
}

static void eval_refuses_what_does_not_fit(void **state)
{
    struct engine_options o = {.model = MODEL, .tier = CPU_REF, .n_threads = 1, .rows_max = 8, .ctx_max = 16};
    uint32_t tokens[32] = {1, 2, 3}, out[32];
    struct sample_params p = {.top_p = 1};
    struct err e = {0};
    struct eval *ev;

    (void)state;
    assert_int_equal(eval_open(&ev, &o, &e), 0);
    assert_int_equal(eval_generate(ev, tokens, 10, &p, out, 8, &e), ERR_LIMIT);
    assert_string_equal(e.text, "17 tokens are over the context of 16");
    assert_int_equal(eval_generate(ev, tokens, 0, &p, out, 8, &e), ERR_ARG);
    tokens[2] = 2048;
    assert_int_equal(eval_generate(ev, tokens, 3, &p, out, 1, &e), ERR_ARG);
    assert_string_equal(e.text, "token id 2048 is over the vocabulary's last, 2047");
    eval_close(&ev);
    o.ctx_max = 2000;
    assert_int_equal(eval_open(&ev, &o, &e), ERR_LIMIT);
    o.model = "deploy/demo/no-such.gguf";
    assert_true(eval_open(&ev, &o, &e) < 0);
    assert_non_null(strstr(e.text, "no-such.gguf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunking_and_pages_change_no_bit),
        cmocka_unit_test(neighbours_change_no_bit),
        cmocka_unit_test(segments_change_no_bit),
        cmocka_unit_test(threads_that_share_a_sequence_change_no_bit),
        cmocka_unit_test(threads_and_tiers_change_no_bit),
        cmocka_unit_test(threads_meet_few_times_a_layer),
        cmocka_unit_test(the_crossover_of_kernels_changes_no_bit),
        cmocka_unit_test(a_crossover_is_measured_where_a_tier_has_two_kernels),
        cmocka_unit_test(a_batch_without_logits_still_writes_kv_and_tells_of_layers),
        cmocka_unit_test(a_load_tells_of_its_progress),
        cmocka_unit_test(ternary_models_agree_in_all_tiers_and_threads),
        cmocka_unit_test(eval_refuses_what_does_not_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
