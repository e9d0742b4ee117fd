/* Every llama-architecture model of the golden set whose types we run, in every tier: logits against
 * exact arithmetic and against the reference, and the greedy continuation, within the tolerances that
 * the set's README states for our arithmetic. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/eval.h"
#include "model/dtype.h"
#include "tests/lib/test.h"

#define LIST_MAX 256
#define LISTS_MAX 8
#define ROWS_STORED 8 /* the files hold the last min(n, 8) positions of each list */

struct golden {
    char name[64];
    bool quantised, bf16, ternary;
    bool exact_greedy; /* firm, and F32 or F16 */
};

/* Lines of numbers, as .tokens, .greedy and .margins hold them. */
struct lists {
    double v[LISTS_MAX][LIST_MAX];
    uint32_t n[LISTS_MAX];
    uint32_t count;
};

static void lists_read(struct lists *l, const char *name, const char *ext)
{
    char rel[160], line[16384], *p, *end;
    const char *path;
    FILE *f;

    memset(l, 0, sizeof(*l));
    snprintf(rel, sizeof(rel), "golden/%.63s.%s", name, ext);
    path = data_path(name, rel);
    assert_non_null(path);
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        assert_true(l->count < LISTS_MAX);
        for (p = line;; p = end) {
            double x = strtod(p, &end);

            if (end == p)
                break;
            assert_true(l->n[l->count] < LIST_MAX);
            l->v[l->count][l->n[l->count]++] = x;
        }
        l->count++;
    }
    fclose(f);
}

static float *floats_read(const char *name, const char *ext, size_t n)
{
    char rel[160];
    const char *path;
    float *v = mem_alloc(n * sizeof(float));
    FILE *f;

    snprintf(rel, sizeof(rel), "golden/%.63s.%s", name, ext);
    path = data_path(name, rel);
    assert_non_null(path);
    f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(v, sizeof(float), n, f), n);
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
    return v;
}

struct sink {
    float *out;
    uint32_t n, n_vocab;
    size_t at;
};

static void keep_last(void *ctx, uint32_t pos, const float *logits)
{
    struct sink *s = ctx;

    if (pos + ROWS_STORED < s->n)
        return;
    memcpy(s->out + s->at, logits, s->n_vocab * sizeof(float));
    s->at += s->n_vocab;
}

struct diff {
    double max, rms;
};

static struct diff difference(const float *a, const float *b, size_t n)
{
    struct diff d = {0};
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        double x = fabs((double)a[i] - (double)b[i]);

        assert_true(isfinite(a[i]));
        d.max = fmax(d.max, x);
        sum += x * x;
    }
    d.rms = sqrt(sum / (double)n);
    return d;
}

static void assert_near(const struct golden *g, const char *what, struct diff d, struct diff asked)
{
    if (d.max > asked.max || d.rms > asked.rms)
        fail_msg("%s against %s: max %.3g rms %.3g, asked %.3g %.3g", g->name, what, d.max, d.rms,
                 asked.max, asked.rms);
}

static void check_greedy(const struct golden *g, struct eval *ev, const struct lists *tokens,
                         double margin_min)
{
    struct sample_params p = {.top_p = 1};
    struct lists want, margins;
    uint32_t ids[LIST_MAX], out[LIST_MAX], compared = 0;

    lists_read(&want, g->name, "greedy");
    lists_read(&margins, g->name, "margins");
    for (uint32_t i = 0; i < want.count; i++) {
        for (uint32_t j = 0; j < tokens->n[i]; j++)
            ids[j] = (uint32_t)tokens->v[i][j];
        assert_int_equal(eval_generate(ev, ids, tokens->n[i], &p, out, want.n[i], NULL), 0);
        for (uint32_t j = 0; j < want.n[i]; j++, compared++) {
            if (!g->exact_greedy && margins.v[i][j] < margin_min)
                break;
            if (out[j] != (uint32_t)want.v[i][j])
                fail_msg("%s: list %u, greedy step %u is %u, the reference has %.0f", g->name, i, j,
                         out[j], want.v[i][j]);
        }
    }
    if (g->exact_greedy)
        assert_true(compared > 0);
}

/* The matmuls of layers take bf16; ternary ones int8 in every tier. */
static bool takes_bf16(const struct golden *g, enum cpu_tier tier)
{
    return tier == CPU_AMX && (g->quantised || g->bf16) && !g->ternary;
}

/* How far logits may be from exact arithmetic's: by the form of the matmuls' input, then by KV. */
static struct diff tolerance(const struct golden *g, enum cpu_tier tier, enum kv_type kv)
{
    if (takes_bf16(g, tier))
        return (struct diff){0.35, 0.06};
    if (g->quantised)
        return (struct diff){1.1, 0.2};
    return kv == KV_F16 ? (struct diff){0.04, 0.006} : (struct diff){1e-3, 1e-4};
}

static void check_model(const struct golden *g, enum cpu_tier tier, enum kv_type kv, uint32_t chunk)
{
    struct diff asked = tolerance(g, tier, kv);
    struct diff own; /* what the reference itself differs by */
    struct engine_options o = {.tier = tier, .n_threads = 1, .rows_max = 512, .kv_type = kv};
    struct sink s = {0};
    struct lists tokens;
    struct err e = {0};
    struct eval *ev;
    char rel[160];
    size_t total = 0;
    float *exact, *reference;

    snprintf(rel, sizeof(rel), "golden/%.63s.gguf", g->name);
    o.model = data_path(g->name, rel);
    assert_non_null(o.model);
    if (eval_open(&ev, &o, &e))
        fail_msg("%s: %s", g->name, e.text);
    s.n_vocab = engine_hparams(eval_engine(ev))->n_vocab;
    lists_read(&tokens, g->name, "tokens");
    for (uint32_t i = 0; i < tokens.count; i++)
        total += (size_t)u32_min(tokens.n[i], ROWS_STORED) * s.n_vocab;
    s.out = mem_alloc(total * sizeof(float));
    for (uint32_t i = 0; i < tokens.count; i++) {
        uint32_t ids[LIST_MAX];

        for (uint32_t j = 0; j < tokens.n[i]; j++)
            ids[j] = (uint32_t)tokens.v[i][j];
        s.n = tokens.n[i];
        assert_int_equal(eval_logits(ev, ids, s.n, chunk, keep_last, &s, NULL), 0);
    }
    assert_int_equal(s.at, total);
    exact = floats_read(g->name, "exact.f32", total);
    reference = floats_read(g->name, "logits.f32", total);
    assert_near(g, "exact arithmetic", difference(s.out, exact, total), asked);
    own = difference(reference, exact, total);
    if (g->quantised && !takes_bf16(g, tier)) /* int8 activations, as the reference itself has */
        own = (struct diff){0};
    assert_near(g, "the reference", difference(s.out, reference, total),
                (struct diff){asked.max + own.max, asked.rms + own.rms});
    mem_free(exact);
    mem_free(reference);
    mem_free(s.out);
    check_greedy(g, ev, &tokens, asked.max);
    eval_close(&ev);
}

static bool type_runs(const char *name)
{
    for (uint32_t t = 0; t < DTYPE_LIMIT; t++) {
        const struct dtype_info *d = dtype_info(t);

        if (d && strcmp(d->name, name) == 0)
            return d->supported;
    }
    return false;
}

/* Rows of index.tsv that we run; returns how many. */
static size_t golden_read(struct golden *g, size_t cap, const char *path)
{
    char line[1024], name[64], arch[32], weights[64], greedy[16];
    FILE *f = fopen(path, "r");
    size_t n = 0;

    assert_non_null(f);
    assert_non_null(fgets(line, sizeof(line), f)); /* the heading */
    while (fgets(line, sizeof(line), f)) {
        char bytes[32];
        bool known = true;

        assert_int_equal(sscanf(line, "%63s %31s %63s %*s %31s %*s %*s %15s", name, arch, weights,
                                bytes, greedy), 5);
        if (strcmp(arch, "llama") != 0 || strcmp(bytes, "-") == 0)
            continue;
        assert_true(n < cap);
        g[n] = (struct golden){0};
        snprintf(g[n].name, sizeof(g[n].name), "%s", name);
        for (char *t = strtok(weights, "+"); t; t = strtok(NULL, "+")) {
            bool f16 = strcmp(t, "F32") == 0 || strcmp(t, "F16") == 0;

            known = known && type_runs(t);
            g[n].quantised = g[n].quantised || (!f16 && strcmp(t, "BF16") != 0);
            g[n].bf16 = g[n].bf16 || strcmp(t, "BF16") == 0;
            g[n].ternary = g[n].ternary || strncmp(t, "TQ", 2) == 0;
            g[n].exact_greedy = f16 && strcmp(greedy, "firm") == 0;
        }
        g[n].exact_greedy = g[n].exact_greedy && !g[n].quantised;
        n += known;
    }
    fclose(f);
    return n;
}

static void check_all(enum cpu_tier tier, enum kv_type kv, uint32_t chunk)
{
    DATA_OR_SKIP(index, "golden/index.tsv");
    struct golden g[64];
    size_t n;

    if (!cpu_tier_available(tier)) {
        printf("skipped: tier %s is not available on this machine\n", cpu_tier_name(tier));
        skip();
    }
    n = golden_read(g, ARRAY_LEN(g), index);
    assert_true(n >= 25);
    for (size_t i = 0; i < n; i++)
        check_model(&g[i], tier, kv, chunk);
}

static void golden_models_in_ref(void **state)
{
    (void)state;
    check_all(CPU_REF, KV_F32, 0);
}

static void golden_models_in_avx2(void **state)
{
    (void)state;
    check_all(CPU_AVX2, KV_F16, 32);
    check_all(CPU_AVX2, KV_F32, 0);
}

static void golden_models_in_avx512vnni(void **state)
{
    (void)state;
    check_all(CPU_AVX512VNNI, KV_F16, 7);
    check_all(CPU_AVX512VNNI, KV_F32, 0);
}

static void golden_models_in_amx(void **state)
{
    (void)state;
    check_all(CPU_AMX, KV_F16, 11);
    check_all(CPU_AMX, KV_F32, 0);
}

#ifdef __aarch64__
static void golden_models_in_neon_dotprod(void **state)
{
    (void)state;
    check_all(CPU_NEON_DOTPROD, KV_F16, 32);
    check_all(CPU_NEON_DOTPROD, KV_F32, 0);
}

static void golden_models_in_neon_i8mm(void **state)
{
    (void)state;
    check_all(CPU_NEON_I8MM, KV_F16, 7);
    check_all(CPU_NEON_I8MM, KV_F32, 0);
}
#endif

static void check_demo(enum cpu_tier tier)
{
    struct engine_options o = {.model = "deploy/demo/austen-5m-q8_0.gguf", .tier = tier, .n_threads = 1,
                               .rows_max = 64, .kv_type = KV_F16};
    struct sample_params p = {.top_p = 1};
    uint32_t prompt[64], want[256], out[256], n_prompt = 0, n_want = 0, compared = 0, lists = 0;
    static char line[65536];
    struct err e = {0};
    struct eval *ev;
    FILE *f = fopen("deploy/demo/austen-5m-q8_0.greedy", "r");

    assert_non_null(f);
    if (eval_open(&ev, &o, &e))
        fail_msg("%s", e.text);
    while (fgets(line, sizeof(line), f)) {
        char *at = strchr(line, ' ');
        uint32_t *ids = strncmp(line, "prompt ", 7) == 0 ? prompt : strncmp(line, "greedy ", 7) == 0 ? want : NULL;
        uint32_t n = 0;

        if (strncmp(line, "margin ", 7) == 0) {
            lists++;
            assert_int_equal(eval_generate(ev, prompt, n_prompt, &p, out, n_want, &e), 0);
            /* compared up to the first margin below 1.1, as for all quantised models with int8
             * activations; steps with a firm margin before it must agree */
            for (uint32_t i = 0; i < n_want && strtod(at, &at) >= 1.1; i++, compared++)
                assert_int_equal(out[i], want[i]);
        }
        for (char *end; ids && (n < 256); at = end) {
            unsigned long x = strtoul(at, &end, 10);

            if (end == at)
                break;
            ids[n++] = (uint32_t)x;
        }
        if (ids == prompt)
            n_prompt = n;
        else if (ids == want)
            n_want = n;
    }
    assert_int_equal(lists, 4);
    assert_true(compared >= 1);
    fclose(f);
    eval_close(&ev);
}

/* The demo model, in the repository: the reference's 160 greedy tokens for four prompts. */
static void demo_model_follows_the_reference(void **state)
{
    (void)state;
    for (int tier = 0; tier < CPU_TIER_COUNT; tier++)
        if (cpu_tier_available((enum cpu_tier)tier))
            check_demo((enum cpu_tier)tier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_models_in_ref),
        cmocka_unit_test(golden_models_in_avx2),
        cmocka_unit_test(golden_models_in_avx512vnni),
        cmocka_unit_test(golden_models_in_amx),
#ifdef __aarch64__
        cmocka_unit_test(golden_models_in_neon_dotprod),
        cmocka_unit_test(golden_models_in_neon_i8mm),
#endif
        cmocka_unit_test(demo_model_follows_the_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
