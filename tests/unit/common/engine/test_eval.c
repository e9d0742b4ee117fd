/* What types of KV and weights and the arithmetic of tiers cost in quality: the perplexity of a text that
 * the demo model knows well, and of golden models. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/eval.h"
#include "model/gguf.h"
#include "model/vocab.h"
#include "tests/lib/test.h"

#define MODEL "deploy/demo/austen-5m-q8_0.gguf"

/* Jane Austen, Pride and Prejudice, chapter 1 (1813, public domain). */
static const char text[] =
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must "
    "be in want of a wife.\n\nHowever little known the feelings or views of such a man may be on his "
    "first entering a neighbourhood, this truth is so well fixed in the minds of the surrounding "
    "families, that he is considered the rightful property of some one or other of their "
    "daughters.\n\n\"My dear Mr. Bennet,\" said his lady to him one day, \"have you heard that "
    "Netherfield Park is let at last?\"\n\nMr. Bennet replied that he had not.\n\n\"But it is,\" "
    "returned she; \"for Mrs. Long has just been here, and she told me all about it.\"\n\nMr. Bennet "
    "made no answer.\n\n\"Do you not want to know who has taken it?\" cried his wife "
    "impatiently.\n\n\"You want to tell me, and I have no objection to hearing it.\"\n\nThis was "
    "invitation enough.\n\n\"Why, my dear, you must know, Mrs. Long says that Netherfield is taken by "
    "a young man of large fortune from the north of England; that he came down on Monday in a chaise "
    "and four to see the place, and was so much delighted with it that he agreed with Mr. Morris "
    "immediately; that he is to take possession before Michaelmas, and some of his servants are to be "
    "in the house by the end of next week.\"";

static void tokens_of(struct token_list *out)
{
    struct gguf *g;
    struct vocab *v;

    assert_int_equal(gguf_open(&g, MODEL, NULL), 0);
    assert_int_equal(vocab_load(&v, g, NULL), 0);
    assert_int_equal(vocab_tokenize(v, out, text, strlen(text), true, false, NULL), 0);
    vocab_free(&v);
    gguf_close(&g);
}

/* Tiers to look at: those of the machine; ref, which is slow and has the bits of most others (test_engine),
 * only where it is alone. */
static bool tier_counts(enum cpu_tier tier)
{
    enum cpu_tier best;

    assert_int_equal(cpu_tier_choose(&best, "auto", NULL), 0);
    return cpu_tier_available(tier) && (tier != CPU_REF || best == CPU_REF);
}

static double perplexity(const struct token_list *t, enum cpu_tier tier, enum kv_type kv)
{
    struct engine_options o = {.model = MODEL, .tier = tier, .n_threads = 1, .rows_max = 128,
                               .kv_type = kv};
    struct eval *ev;
    struct err e;
    double nll;

    if (eval_open(&ev, &o, &e))
        fail_msg("%s", e.text);
    assert_int_equal(eval_nll(ev, t->ids, (uint32_t)t->n, &nll, &e), 0);
    eval_close(&ev);
    return exp(nll / (double)(t->n - 1));
}

/* Against f32 in the same tier: f16 within 0.05 %, bf16, of 8 bits, and q8 within 0.5 %. Where activations
 * are int8 so is f16: a little more or less of KV takes some of them over an edge, both ways. */
static void check_kv_types(const struct token_list *t, enum cpu_tier tier)
{
    const double bounds[] = {[KV_F16] = tier == CPU_AMX ? 5e-4 : 5e-3, [KV_BF16] = 5e-3, [KV_Q8] = 5e-3};
    double exact = perplexity(t, tier, KV_F32);

    print_message("%s: f32 %.4f over %zu tokens\n", cpu_tier_name(tier), exact, t->n - 1);
    assert_true(exact > 1 && exact < 40); /* the model writes such sentences; others give hundreds */
    for (int kv = 0; kv < KV_TYPE_COUNT; kv++) {
        double p;

        if (kv == KV_F32 || (kv == KV_BF16 && tier != CPU_AMX))
            continue;
        p = perplexity(t, tier, (enum kv_type)kv);
        print_message("%s %.4f, %+.3f %%\n", kv_type_name((enum kv_type)kv), p, 100 * (p / exact - 1));
        assert_true(fabs(p / exact - 1) < bounds[kv]);
    }
}

static void each_type_of_kv_keeps_the_perplexity(void **state)
{
    struct token_list t = {0};

    (void)state;
    tokens_of(&t);
    for (int tier = 0; tier < CPU_TIER_COUNT; tier++)
        if (tier_counts((enum cpu_tier)tier))
            check_kv_types(&t, (enum cpu_tier)tier);
    token_list_fini(&t);
}

#define CHUNK 64

struct text_sum {
    const uint32_t *ids; /* [CHUNK] */
    uint32_t n_vocab;
    double nll;
};

static double log_sum(const float *logits, uint32_t n);

static void second_half(void *ctx, uint32_t pos, const float *logits)
{
    struct text_sum *s = ctx;

    if (pos >= CHUNK / 2 && pos + 1 < CHUNK)
        s->nll += log_sum(logits, s->n_vocab) - logits[s->ids[pos + 1]];
}

/* llama-perplexity -c 64 with KV in f32 has the number from the first four chunks of the text, each with
 * BOS as its first token; it counts what follows the first half of a chunk. With KV in f16 it has 66.6183. */
static void the_demo_model_has_the_perplexity_of_the_reference(void **state)
{
    const double reference = 66.4796;
    struct token_list t = {0};

    (void)state;
    tokens_of(&t);
    for (int tier = 0; tier < CPU_TIER_COUNT; tier++) {
        struct engine_options o = {.model = MODEL, .tier = (enum cpu_tier)tier, .n_threads = 1,
                                   .rows_max = CHUNK, .kv_type = KV_F32};
        struct text_sum s = {.n_vocab = 0};
        struct eval *ev;
        double p;

        if (!tier_counts(o.tier))
            continue;
        assert_int_equal(eval_open(&ev, &o, NULL), 0);
        s.n_vocab = engine_hparams(eval_engine(ev))->n_vocab;
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t bos = t.ids[0], *ids = t.ids + (size_t)i * CHUNK, first = ids[0];

            s.ids = ids;
            ids[0] = bos;
            assert_int_equal(eval_logits(ev, ids, CHUNK, 0, second_half, &s, NULL), 0);
            ids[0] = first;
        }
        eval_close(&ev);
        p = exp(s.nll / (4 * (CHUNK / 2 - 1)));
        print_message("%s: %.4f, %+.3f %%\n", cpu_tier_name(o.tier), p, 100 * (p / reference - 1));
        assert_true(fabs(p / reference - 1) < 5e-3);
    }
    token_list_fini(&t);
}

/* Logits of the last positions of each line of a golden model's tokens: [positions][n_vocab]. */
struct golden {
    float *exact, *reference;
    size_t bytes, at;
    uint32_t n, keep, n_vocab;      /* tokens of the line; of them the last so many are kept */
    double engine_nll, reference_nll; /* sums over positions of the cross entropy with exact's p */
    double divergence;              /* sum of KL(reference || engine) */
    uint32_t positions;
};

/* logits - their log of the sum of exp: log p */
static double log_sum(const float *logits, uint32_t n)
{
    double top = logits[0], sum = 0;

    for (uint32_t i = 1; i < n; i++)
        top = fmax(top, logits[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp(logits[i] - top);
    return top + log(sum);
}

static void golden_row(void *ctx, uint32_t pos, const float *logits)
{
    struct golden *g = ctx;
    const float *exact = g->exact + g->at, *reference = g->reference + g->at;
    double own, ref, truth;

    if (pos + g->keep < g->n)
        return;
    assert_true((g->at + g->n_vocab) * sizeof(float) <= g->bytes);
    own = log_sum(logits, g->n_vocab);
    ref = log_sum(reference, g->n_vocab);
    truth = log_sum(exact, g->n_vocab);
    for (uint32_t i = 0; i < g->n_vocab; i++) {
        g->engine_nll -= exp(exact[i] - truth) * (logits[i] - own);
        g->reference_nll -= exp(exact[i] - truth) * (reference[i] - ref);
        g->divergence += exp(reference[i] - ref) * ((reference[i] - ref) - (logits[i] - own));
    }
    g->positions++;
    g->at += g->n_vocab;
}

/* The path of a golden model's file. */
static const char *golden_path(const char *name, const char *end)
{
    char rel[64];

    snprintf(rel, sizeof(rel), "golden/%s%s", name, end);
    return data_path(__func__, rel);
}

static float *golden_floats(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    float *out;

    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    out = malloc(*bytes);
    assert_int_equal(fread(out, 1, *bytes, f), *bytes);
    fclose(f);
    return out;
}

static void golden_run(struct golden *g, const char *name, enum cpu_tier tier, enum kv_type kv)
{
    struct engine_options o = {.tier = tier, .n_threads = 1, .rows_max = 128, .kv_type = kv};
    static char line[65536];
    struct eval *ev;
    struct err e;
    FILE *f;

    *g = (struct golden){0};
    o.model = golden_path(name, ".gguf");
    g->exact = golden_floats(golden_path(name, ".exact.f32"), &g->bytes);
    g->reference = golden_floats(golden_path(name, ".logits.f32"), &g->bytes);
    if (eval_open(&ev, &o, &e))
        fail_msg("%s", e.text);
    g->n_vocab = engine_hparams(eval_engine(ev))->n_vocab;
    f = fopen(golden_path(name, ".tokens"), "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        uint32_t ids[1024];

        g->n = 0;
        for (char *w = strtok(line, " \n"); w && g->n < 1024; w = strtok(NULL, " \n"))
            ids[g->n++] = (uint32_t)strtoul(w, NULL, 10);
        g->keep = g->n < 8 ? g->n : 8;
        assert_int_equal(eval_logits(ev, ids, g->n, 0, golden_row, g, &e), 0);
    }
    fclose(f);
    eval_close(&ev);
    assert_int_equal(g->at * sizeof(float), g->bytes);
    free(g->exact);
    free(g->reference);
}

static void check_kv(const char *name, enum cpu_tier tier, enum kv_type kv)
{
    struct golden g;
    double cost;

    golden_run(&g, name, tier, kv);
    cost = exp(g.divergence / g.positions) - 1;
    print_message("%s, KV %s: %.4f %% of perplexity\n", name, kv_type_name(kv), 100 * cost);
    assert_true(cost > -1e-9 && cost < 5e-3);
}

/* What the engine's p costs where tokens come as the reference says: exp(cross entropy - entropy) - 1,
 * within 0.5 % for each type of KV. */
static void trained_models_keep_the_perplexity_of_the_reference(void **state)
{
    static const char *const names[] = {"stories260K-f32", "babyllama-f32", "babyllama-q8_0",
                                        "babyllama-q4_0"};
    enum cpu_tier tier;

    (void)state;
    DATA_OR_SKIP(model, "golden/babyllama-f32.gguf");
    (void)model;
    assert_int_equal(cpu_tier_choose(&tier, "auto", NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        for (int kv = 0; kv < KV_TYPE_COUNT; kv++)
            if (kv != KV_BF16 || tier == CPU_AMX)
                check_kv(names[i], tier, (enum kv_type)kv);
}

/* Perplexity over a text whose tokens come as exact arithmetic says: the engine's in each tier is the
 * reference's within 0.5 %, for each type of weights. */
static void each_type_has_the_perplexity_of_the_reference(void **state)
{
    static const char *const names[] = {
        "llama", "llama3", "llama-bf16", "llama-q4_0", "llama-q4_1", "llama-q5_0", "llama-q5_1",
        "llama-q8_0", "llama-moe-q8_0", "llama256-q8_0", "llama256-q6_k", "llama256-q5_k_m",
        "llama256-q4_k_m", "llama256-q2_k", "llama256-q4_0", "llama256-iq4_nl", "llama256-tq1_0",
        "llama256-tq2_0",
        "stories260K-f32", "babyllama-f32", "babyllama-q8_0", "babyllama-q4_0"};

    (void)state;
    DATA_OR_SKIP(model, "golden/llama.gguf");
    (void)model;
    for (int tier = 0; tier < CPU_TIER_COUNT; tier++) {
        double worst = 0;

        if (!tier_counts((enum cpu_tier)tier))
            continue;
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            struct golden g;
            double cost;

            golden_run(&g, names[i], (enum cpu_tier)tier, KV_F16);
            cost = exp((g.engine_nll - g.reference_nll) / g.positions) - 1;
            worst = fmax(worst, fabs(cost));
            if (fabs(cost) >= 5e-3)
                fail_msg("%s in %s: %+.3f %%", names[i], cpu_tier_name((enum cpu_tier)tier), 100 * cost);
        }
        print_message("%s: %zu models, %.3f %% at most\n", cpu_tier_name((enum cpu_tier)tier),
                      ARRAY_LEN(names), 100 * worst);
    }
}

/* The sum is that of the rows' own: a model that has seen half of a text is no wiser about it. */
static void nll_of_a_text_does_not_depend_on_chunks(void **state)
{
    struct engine_options o = {.model = MODEL, .tier = CPU_REF, .n_threads = 1, .kv_type = KV_F16};
    struct token_list t = {0};
    double nll[2];
    struct err e;

    (void)state;
    tokens_of(&t);
    for (int i = 0; i < 2; i++) {
        struct eval *ev;

        o.rows_max = i ? 7 : 64;
        if (eval_open(&ev, &o, &e))
            fail_msg("%s", e.text);
        assert_int_equal(eval_nll(ev, t.ids, 40, &nll[i], &e), 0);
        eval_close(&ev);
    }
    assert_true(nll[0] == nll[1] && nll[0] > 0);
    token_list_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_of_kv_keeps_the_perplexity),
        cmocka_unit_test(the_demo_model_has_the_perplexity_of_the_reference),
        cmocka_unit_test(trained_models_keep_the_perplexity_of_the_reference),
        cmocka_unit_test(each_type_has_the_perplexity_of_the_reference),
        cmocka_unit_test(nll_of_a_text_does_not_depend_on_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
