/* bench_kernels: every kernel of every tier that this machine has, on one thread, beside what the
 * machine can do (kernels/roofline.h), measured in the same round: a loop that reads the same bytes,
 * or one of the tier's multiply-adds on registers.
 * usage: bench_kernels [MiB of weights] [rounds] [part of a kernel's name] */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "kernels/roofline.h"
#include "model/blocks.h"

#define K 4096
#define ROWS_MAX 512
#define PANELS_HOT 128 /* of matmuls that are limited by multiplying: N = 2048 */
#define HEAD_DIM 128
#define VECTOR 4096
#define MACHINE_ROUNDS 8 /* short ones: some are not disturbed */

/* What the kernels work on. n_panels of each call is what a case can get through in about 10 ms. */
struct bench {
    struct team *team; /* of one, for the machine's loops */
    uint8_t *memory; /* weights, then KV pages */
    size_t bytes;
    struct panels w[2]; /* in the forms that tiers ask for, each in `bytes` of memory */
    struct act act;
    float *x, *y, *z;
    struct kv_layout kv;
    uint8_t **pages;
    uint32_t n_pages;
    int rounds;
};

enum limit { LIMIT_NONE, LIMIT_READ, LIMIT_FLOAT, LIMIT_MULTIPLY, LIMIT_TILES };

struct bench_case {
    const char *name;
    enum dtype type; /* of weights, or of pages (kv_type); DTYPE_LIMIT for others */
    uint32_t m;      /* rows of x, or query heads of a kv head */
    enum limit limit;
    double (*run)(const struct bench *, const struct bench_case *, const struct kernels *);
};

/* Time of this thread on a processor, so that a busy machine disturbs a little less. */
static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A type that is packed as integers; its unit in most tiers is int8's. */
static bool quantised(const struct bench_case *c)
{
    return dtype_info(c->type)->block_elems > 1;
}

/* The best that the machine's own loop does for a case in a tier; 0 if there is no such loop. */
static double machine_rate(const struct bench *b, const struct bench_case *c,
                           const struct kernels *k)
{
    static uint32_t round;
    enum roof roof = c->limit == LIMIT_READ ? ROOF_READ : ROOF_F32;
    double best = 0;

    if (c->limit == LIMIT_MULTIPLY) {
        roof = kernels_act_kind(k, c->type) == ACT_F32 ? ROOF_F32
                                                       : roof_of_matmul(k->tier, quantised(c));
    }
    if (c->limit == LIMIT_TILES)
        roof = ROOF_AMX_BF16;
    for (int i = 0; i < MACHINE_ROUNDS && c->limit != LIMIT_NONE; i++) {
        double rate = roofline_once(b->team, k->tier, roof, b->memory, b->bytes, round++);

        best = rate > best ? rate : best;
    }
    return best;
}

/* The whole of memory if that is what limits, or so many panels of it, others each time. */
static double run_matmul(const struct bench *b, const struct bench_case *c, const struct kernels *k)
{
    static uint32_t turn;
    struct panels w = b->w[k->matmul_bf16 ? 1 : 0];
    uint32_t n = k->tier == CPU_REF ? 2 : c->limit == LIMIT_READ ? w.n_panels : PANELS_HOT;
    double t;

    w.data += turn++ % (w.n_panels / n) * n * w.panel_bytes;
    w.n_out = n * PANEL_ROWS;
    t = now();
    kernels_matmul(k, b->y, n * PANEL_ROWS, &w, &b->act, c->m, 0, n);
    return (c->limit == LIMIT_READ ? (double)(n * w.panel_bytes)
                                   : 2.0 * c->m * n * PANEL_ROWS * K) /
           (now() - t);
}

static double run_attention(const struct bench *b, const struct bench_case *c,
                            const struct kernels *k)
{
    bool decode = c->limit == LIMIT_READ; /* one row with m heads, or m rows with one */
    uint32_t pages = k->tier == CPU_REF ? 16 : decode ? b->n_pages : 512, tokens[ROWS_MAX];
    struct attention a = {.q = b->x, .q_stride = HEAD_DIM, .pages = b->pages, .layout = &b->kv,
                          .rows = decode ? 1 : c->m, .group = decode ? c->m : 1, .n = tokens,
                          .scale = 0.1f};
    float tops[ROWS_MAX], sums[ROWS_MAX];
    double t = now();

    for (uint32_t n = pages * KV_PAGE_TOKENS; a.first < n; a.first += ATTENTION_SEGMENT) {
        for (uint32_t r = 0; r < a.rows; r++)
            tokens[r] = u32_min(n - a.first, ATTENTION_SEGMENT);
        a.next = b->pages + (a.first + tokens[0]) / KV_PAGE_TOKENS;
        a.next_count = pages - (a.first + tokens[0]) / KV_PAGE_TOKENS;
        k->attention(b->y, HEAD_DIM, tops, sums, &a);
    }
    return (decode ? (double)(pages * b->kv.page_bytes)
                   : 4.0 * c->m * HEAD_DIM * pages * KV_PAGE_TOKENS) / (now() - t);
}

static double run_kv_store(const struct bench *b, const struct bench_case *c,
                           const struct kernels *k)
{
    double t = now();

    (void)c;
    for (uint32_t pos = 0; pos < 4096; pos++)
        k->kv_store(b->pages[pos % 64 / 32], &b->kv, 0, pos, b->x, b->x + HEAD_DIM);
    return 4096.0 * 2 * HEAD_DIM * sizeof(float) / (now() - t);
}

/* Vectors of 16 KiB; bytes are those read and written once. */
#define RUN_VECTOR(name, vectors, call)                                                            \
    static double run_##name(const struct bench *b, const struct bench_case *c,                    \
                             const struct kernels *k)                                              \
    {                                                                                              \
        int times = k->tier == CPU_REF ? 20 : 400;                                                 \
        double t = now();                                                                   \
                                                                                                   \
        (void)c;                                                                                   \
        for (int i = 0; i < times; i++)                                                            \
            (call);                                                                                \
        return times * (vectors) * 4.0 * VECTOR / (now() - t);                                     \
    }

static float cos_sin[HEAD_DIM], mx, sum;

RUN_VECTOR(quantize, 1.25, k->quantize((struct act_q8 *)&b->act.q8, 0, b->x, VECTOR))
RUN_VECTOR(rms_norm, 3, k->rms_norm(b->y, b->x, b->z, VECTOR, 1e-5f))
RUN_VECTOR(rope, 2, k->rope(b->z, cos_sin, VECTOR / HEAD_DIM, HEAD_DIM, HEAD_DIM))
RUN_VECTOR(silu_mul, 3, k->silu_mul(b->y, b->x, b->z, VECTOR))
RUN_VECTOR(add, 3, k->add(b->y, b->x, VECTOR))
RUN_VECTOR(axpy, 3, k->axpy(b->y, 0.5f, b->x, VECTOR))
RUN_VECTOR(merge, 3, k->attention_merge(b->y, &mx, &sum, b->x, 0, 1, VECTOR))

#define MULTIPLY(name, type)                                                                       \
    {name, type, 16, LIMIT_MULTIPLY, run_matmul}, {name, type, 32, LIMIT_MULTIPLY, run_matmul},    \
        {name, type, 64, LIMIT_MULTIPLY, run_matmul},                                              \
        {name, type, 128, LIMIT_MULTIPLY, run_matmul},                                             \
        {name, type, 512, LIMIT_MULTIPLY, run_matmul}

#define ON_PAGES(name, type, limit)                                                                \
    {"attention " name, type, 1, LIMIT_READ, run_attention},                                       \
        {"attention " name, type, 4, LIMIT_READ, run_attention},                                   \
        {"attention " name, type, 8, LIMIT_READ, run_attention},                                   \
        {"attention " name, type, 16, limit, run_attention},                                       \
        {"attention " name, type, 128, limit, run_attention},                                      \
        {"kv_store " name, type, 1, LIMIT_NONE, run_kv_store}

static const struct bench_case cases[] = {
    {"matmul F32", DTYPE_F32, 1, LIMIT_READ, run_matmul},
    {"matmul F16", DTYPE_F16, 1, LIMIT_READ, run_matmul},
    {"matmul F16", DTYPE_F16, 8, LIMIT_READ, run_matmul},
    {"matmul BF16", DTYPE_BF16, 1, LIMIT_READ, run_matmul},
    {"matmul Q8_0", DTYPE_Q8_0, 1, LIMIT_READ, run_matmul},
    {"matmul Q8_0", DTYPE_Q8_0, 4, LIMIT_READ, run_matmul},
    {"matmul Q8_0", DTYPE_Q8_0, 8, LIMIT_READ, run_matmul},
    {"matmul Q4_0", DTYPE_Q4_0, 1, LIMIT_READ, run_matmul},
    {"matmul Q4_0", DTYPE_Q4_0, 4, LIMIT_READ, run_matmul},
    {"matmul Q4_0", DTYPE_Q4_0, 8, LIMIT_READ, run_matmul},
    {"matmul Q4_K", DTYPE_Q4_K, 1, LIMIT_READ, run_matmul},
    {"matmul Q4_K", DTYPE_Q4_K, 4, LIMIT_READ, run_matmul},
    {"matmul Q4_K", DTYPE_Q4_K, 8, LIMIT_READ, run_matmul},
    {"matmul Q6_K", DTYPE_Q6_K, 1, LIMIT_READ, run_matmul},
    {"matmul Q6_K", DTYPE_Q6_K, 4, LIMIT_READ, run_matmul},
    {"matmul Q6_K", DTYPE_Q6_K, 8, LIMIT_READ, run_matmul},
    {"matmul F32", DTYPE_F32, 128, LIMIT_MULTIPLY, run_matmul},
    {"matmul F16", DTYPE_F16, 128, LIMIT_MULTIPLY, run_matmul},
    {"matmul BF16", DTYPE_BF16, 128, LIMIT_MULTIPLY, run_matmul},
    {"matmul TQ2_0", DTYPE_TQ2_0, 1, LIMIT_READ, run_matmul},
    MULTIPLY("matmul TQ2_0", DTYPE_TQ2_0),
    MULTIPLY("matmul Q8_0", DTYPE_Q8_0),
    MULTIPLY("matmul Q4_0", DTYPE_Q4_0),
    MULTIPLY("matmul Q4_K", DTYPE_Q4_K),
    MULTIPLY("matmul Q6_K", DTYPE_Q6_K),
    ON_PAGES("F16", DTYPE_F16, LIMIT_FLOAT),
    ON_PAGES("BF16", DTYPE_BF16, LIMIT_TILES),
    ON_PAGES("Q8", DTYPE_Q8_0, LIMIT_FLOAT),
    {"quantize", DTYPE_LIMIT, 1, LIMIT_NONE, run_quantize},
    {"rms_norm", DTYPE_LIMIT, 1, LIMIT_NONE, run_rms_norm},
    {"rope", DTYPE_LIMIT, 1, LIMIT_NONE, run_rope},
    {"silu_mul", DTYPE_LIMIT, 1, LIMIT_NONE, run_silu_mul},
    {"add", DTYPE_LIMIT, 1, LIMIT_NONE, run_add},
    {"axpy", DTYPE_LIMIT, 1, LIMIT_NONE, run_axpy},
    {"attention_merge", DTYPE_LIMIT, 1, LIMIT_NONE, run_merge},
};

static void floats(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(rng_f64(1, i) - 0.5);
}

/* Two panels of rows, over and over. */
static void panels_fill(struct panels *w, uint8_t *memory, const void *rows)
{
    w->data = memory;
    panels_pack(w, rows, 0, 2);
    for (size_t i = 2; i < w->n_panels; i++)
        memcpy(memory + i * w->panel_bytes, memory + i % 2 * w->panel_bytes, w->panel_bytes);
}

/* Weights for all of memory: two panels of random rows, over and over. */
static void weights_open(struct bench *b, enum dtype type)
{
    const struct dtype_info *info = dtype_info(type);
    size_t row_bytes = (size_t)K / info->block_elems * info->block_bytes;
    uint8_t *rows = mem_alloc(2 * PANEL_ROWS * row_bytes);

    for (size_t i = 0; i < 2 * PANEL_ROWS * row_bytes / info->block_bytes; i++) {
        uint8_t *block = rows + i * info->block_bytes;
        float f = (float)(rng_f64(2, i) - 0.5);
        uint16_t half = dtype_f32_to_f16(f);

        if (type == DTYPE_F32 || type == DTYPE_BF16) {
            memcpy(block, (uint8_t *)&f + 4 - info->block_bytes, info->block_bytes);
            continue;
        }
        for (size_t j = 0; j < info->block_bytes; j++)
            block[j] = (uint8_t)rng_u64(i, j);
        memcpy(block, &half, 2);
        if (type == DTYPE_TQ2_0)
            memcpy(block + offsetof(struct block_tq2_0, d), &half, 2);
        if (type == DTYPE_Q4_K)
            memcpy(block + offsetof(struct block_q4_k, dmin), &half, 2);
        if (type == DTYPE_Q6_K)
            memcpy(block + offsetof(struct block_q6_k, d), &half, 2);
    }
    for (int i = 0; i < 2; i++) {
        struct panels *w = &b->w[i];

        panels_init(w, type, PANEL_ROWS, K);
        (i == 0 ? panels_init : panels_init_by_rows)(
            w, type, (uint32_t)(b->bytes / w->panel_bytes * PANEL_ROWS), K);
        panels_fill(w, b->memory + (size_t)i * b->bytes, rows);
    }
    mem_free(rows);
}

/* Pages of a type for all of memory, written by a tier that knows it. */
static void pages_open(struct bench *b, enum kv_type type)
{
    const struct kernels *k = kernels_get(type == KV_BF16 ? CPU_AMX : CPU_REF);
    uint32_t tokens;

    mem_free(b->pages);
    kv_layout_init(&b->kv, type, 1, 1, HEAD_DIM);
    b->n_pages = (uint32_t)(b->bytes / b->kv.page_bytes);
    b->pages = mem_calloc(b->n_pages, sizeof(*b->pages));
    for (uint32_t i = 0; i < b->n_pages; i++)
        b->pages[i] = b->memory + i * b->kv.page_bytes;
    tokens = b->n_pages * KV_PAGE_TOKENS;
    for (uint32_t t = 0; t < tokens; t++)
        k->kv_store(b->pages[t / KV_PAGE_TOKENS], &b->kv, 0, t, b->x + t % 64 * HEAD_DIM,
                    b->x + t % 32 * HEAD_DIM);
}

static const char *const units[] = {"GB/s", "GB/s", "GFLOP/s", "GOP/s", "GFLOP/s"}; /* of enum limit */

static bool on_pages(const struct bench_case *c)
{
    return c->run == run_attention || c->run == run_kv_store;
}

static enum kv_type kv_type(const struct bench_case *c)
{
    return c->type == DTYPE_F16 ? KV_F16 : c->type == DTYPE_BF16 ? KV_BF16 : KV_Q8;
}

static void report(const struct bench *b, const struct bench_case *c)
{
    double best[CPU_TIER_COUNT] = {0}, machine[CPU_TIER_COUNT] = {0};

    for (int r = 0; r < b->rounds; r++)
        for (int t = 0; t < CPU_TIER_COUNT; t++) {
            const struct kernels *k = kernels_get((enum cpu_tier)t);
            double rate;

            if (!k || (on_pages(c) && !kernels_kv_type(k, kv_type(c))))
                continue;
            rate = machine_rate(b, c, k);
            machine[t] = rate > machine[t] ? rate : machine[t];
            rate = c->run(b, c, k);
            best[t] = rate > best[t] ? rate : best[t];
        }
    for (int t = 0; t < CPU_TIER_COUNT; t++) {
        if (!best[t])
            continue;
        printf("%-16s %4u  %-11s %9.2f %-7s", c->name, c->m, cpu_tier_name((enum cpu_tier)t),
               best[t] * 1e-9, units[c->limit]);
        if (machine[t])
            printf(" %9.1f %5.0f %%", machine[t] * 1e-9, 100 * best[t] / machine[t]);
        else
            printf(" %9s %7s", "", "");
        if (best[CPU_REF])
            printf(" %8.1f\n", best[t] / best[CPU_REF]);
        else
            printf(" %8s\n", "-"); /* ref has no such pages */
    }
    fflush(stdout);
}

/* ROWS_MAX rows of x, in every form that a tier of this machine asks for. */
static void act_open(struct act *a, const float *x)
{
    a->x = x;
    a->x_stride = K;
    a->q8.k_pad = a->bf16.k_pad = K;
    a->bf16.rows = ROWS_MAX;
    a->q8.q = mem_aligned(ROWS_MAX * K, 64);
    a->q8.d = mem_aligned(ROWS_MAX * K / QK * sizeof(float), 64);
    a->q8.sum = mem_aligned(ROWS_MAX * K / 16 * sizeof(int16_t), 64);
    a->q8k.k_pad = K;
    a->q8k.q = mem_aligned(ROWS_MAX * ACT_Q8K_STRIDE(K), 64);
    a->q8k.d = mem_aligned(ROWS_MAX * K / QK_K * sizeof(float), 64);
    a->q8k.sum = mem_aligned(ROWS_MAX * K / QK_K * sizeof(int32_t), 64);
    a->bf16.x = mem_aligned(ROWS_MAX * K * sizeof(uint16_t), 64);
    for (uint32_t i = 0; i < ROWS_MAX; i++) {
        kernels_get(CPU_REF)->quantize(&a->q8, i, x + i * K, K);
        kernels_get(CPU_REF)->quantize_k(&a->q8k, i, x + i * K, K);
        for (int t = 0; t < CPU_TIER_COUNT; t++)
            if (kernels_get((enum cpu_tier)t) && kernels_get((enum cpu_tier)t)->to_bf16)
                kernels_get((enum cpu_tier)t)->to_bf16(&a->bf16, i, x + i * K, K);
    }
}

static void act_close(struct act *a)
{
    mem_free(a->q8.q);
    mem_free(a->q8.d);
    mem_free(a->q8.sum);
    mem_free(a->q8k.q);
    mem_free(a->q8k.d);
    mem_free(a->q8k.sum);
    mem_free(a->bf16.x);
}

int main(int argc, char **argv)
{
    struct bench b = {.bytes = (size_t)(argc > 1 ? atoi(argv[1]) : 128) << 20,
                      .rounds = argc > 2 ? atoi(argv[2]) : 3};
    const char *only = argc > 3 ? argv[3] : "";
    enum dtype filled = DTYPE_LIMIT;
    struct mem_map map;
    struct err e;
    size_t rows;

    if (b.bytes < (size_t)16 << 20 || b.rounds < 1) {
        fprintf(stderr, "usage: bench_kernels [MiB of weights, at least 16] [rounds] [name]\n");
        return 2;
    }
    if (team_new(&b.team, NULL, 1, &e) ||
        mem_map_open(&map, ARRAY_LEN(b.w) * b.bytes, true, &e)) { /* pages as the engine's */
        fprintf(stderr, "bench_kernels: %s\n", e.text);
        return 1;
    }
    b.memory = map.data;
    rows = b.bytes / (K / 2 + K / 32); /* at most, of the types that 8 rows of x read */
    b.x = mem_aligned(ROWS_MAX * K * sizeof(float), 64);
    b.z = mem_aligned(VECTOR * sizeof(float), 64);
    b.y = mem_aligned((ROWS_MAX * (size_t)PANELS_HOT * PANEL_ROWS + 8 * rows) * sizeof(float), 64);
    floats(b.x, ROWS_MAX * K);
    floats(b.z, VECTOR);
    for (size_t i = 0; i < HEAD_DIM; i += 2) { /* turns, so that repeating them keeps the size */
        cos_sin[i] = cosf((float)i);
        cos_sin[i + 1] = sinf((float)i);
    }
    act_open(&b.act, b.x);
    printf("one thread, K = %d, %zu MiB of weights or KV; best of %d\n", K, b.bytes >> 20,
           b.rounds);
    printf("%-16s %4s  %-11s %17s %9s %7s %8s\n", "kernel", "M", "tier", "rate", "machine", "share",
           "x ref");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (!strstr(cases[i].name, only))
            continue;
        if (on_pages(&cases[i])) {
            if (kv_type(&cases[i]) == KV_BF16 && !kernels_get(CPU_AMX))
                continue;
            if (!b.pages || b.kv.type != kv_type(&cases[i]))
                pages_open(&b, kv_type(&cases[i]));
            filled = DTYPE_LIMIT; /* over the weights */
        } else if (cases[i].type != filled && cases[i].type != DTYPE_LIMIT) {
            weights_open(&b, filled = cases[i].type);
        }
        report(&b, &cases[i]);
    }
    mem_map_close(&map);
    mem_free(b.pages);
    mem_free(b.x);
    mem_free(b.y);
    mem_free(b.z);
    act_close(&b.act);
    team_free(&b.team);
    return 0;
}
