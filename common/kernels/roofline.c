/* DESIGN: a round is one team_run: meet, look at the clock, run the loop, look again. The rate of a
 * round is the work of all threads over the time from the first start to the last end, so a thread
 * that was put aside spoils its round; rounds are so short that others are left alone. */
#include "kernels/roofline.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/roofline_loops.h"

#define ROUNDS_MIN 3
#define ROUNDS_MAX 64
/* Each a fifth to half a millisecond at 3 GHz. */
#define TURNS_VECTOR 100000
#define TURNS_TILES 12000
#define READ_BYTES ((size_t)8 << 20) /* a thread and round: half a millisecond at 16 GB/s */
#define READ_AHEAD 4096 /* bytes, as far as the kernels ask ahead */

typedef double loop_fn(uint32_t turns);

static const char *const names[ROOF_COUNT] = {"read", "read_one", "f32", "int8",
                                              "amx_bf16", "amx_bf16_l1", "amx_int8", "amx_int8_l1"};

/* Keeps what was read alive. */
static _Thread_local volatile uint64_t sink;

struct mark {
    _Alignas(64) int64_t start, end;
    double work;
};

struct round {
    enum roof what;
    loop_fn *loop;
    uint32_t turns;
    const uint8_t *memory;
    size_t bytes;
    uint32_t number;
    struct team *team;
    struct mark *marks; /* [threads] */
};

const char *roof_name(enum roof what) { return names[what]; }

enum roof roof_of_matmul(enum cpu_tier tier, bool quantised)
{
    if (tier == CPU_AMX)
        return ROOF_AMX_BF16;
    return quantised ? ROOF_INT8 : ROOF_F32;
}

/* A word of each line. */
static uint64_t read_any(const uint8_t *p, size_t n)
{
    uint64_t s[4] = {0};

    for (size_t i = 0; i < n; i += 256)
        for (size_t j = 0; j < 4; j++) {
            __builtin_prefetch(p + i + j * 64 + READ_AHEAD);
            s[j] += *(const uint64_t *)(const void *)(p + i + j * 64);
        }
    return s[0] + s[1] + s[2] + s[3];
}

/* n is a multiple of 256. The machine's best loop, whatever the tier. */
static double read_loop(const uint8_t *p, size_t n)
{
#ifdef __x86_64__
    if (cpu_tier_available(CPU_AVX512VNNI)) {
        sink = roofline_read_avx512vnni(p, n);
        return (double)n;
    }
#endif
    sink = read_any(p, n);
    return (double)n;
}

/* Part `number` of the thread's own part of the memory. */
static double read_part(const struct round *r, uint32_t tid, uint32_t n)
{
    size_t own = r->bytes / n / 256 * 256, len = size_min(own, READ_BYTES);

    return read_loop(r->memory + tid * own + r->number % (own / len) * len, len);
}

static void round_part(void *ctx, uint32_t tid, uint32_t n)
{
    struct round *r = ctx;
    struct mark *m = &r->marks[tid];

    team_barrier(r->team, tid);
    m->start = clock_now();
    if (r->loop)
        m->work = r->loop(r->turns);
    else if (r->what == ROOF_READ || tid == 0)
        m->work = read_part(r, tid, r->what == ROOF_READ ? n : 1);
    m->end = clock_now();
}

#ifdef __x86_64__
static loop_fn *loop_of(enum cpu_tier tier, enum roof what)
{
    static loop_fn *const tiles[] = {roofline_bf16_amx, roofline_bf16_l1_amx, roofline_int8_amx,
                                     roofline_int8_l1_amx};

    if (what >= ROOF_AMX_BF16)
        return cpu_amx_allow() ? tiles[what - ROOF_AMX_BF16] : NULL;
    if (tier == CPU_REF || !cpu_tier_available(tier))
        return NULL;
    if (what == ROOF_F32)
        return tier == CPU_AVX2 ? roofline_f32_avx2 : roofline_f32_avx512vnni;
    return tier == CPU_AVX2 ? roofline_int8_avx2 : roofline_int8_avx512vnni;
}
#elif defined(__aarch64__)
static loop_fn *loop_of(enum cpu_tier tier, enum roof what)
{
    if (what >= ROOF_AMX_BF16 || tier == CPU_REF || !cpu_tier_available(tier))
        return NULL;
    if (what == ROOF_F32)
        return roofline_f32_neon;
    return tier == CPU_NEON_DOTPROD ? roofline_int8_dotprod : roofline_int8_i8mm;
}
#else
static loop_fn *loop_of(enum cpu_tier tier, enum roof what)
{
    (void)tier;
    (void)what;
    return NULL;
}
#endif

double roofline_once(struct team *team, enum cpu_tier tier, enum roof what, const void *memory,
                     size_t bytes, uint32_t number)
{
    struct round r = {.what = what, .memory = memory, .bytes = bytes, .number = number,
                      .team = team};
    uint32_t n = team_size(team);
    int64_t start = INT64_MAX, end = INT64_MIN;
    double work = 0;

    if (what > ROOF_READ_ONE) {
        r.loop = loop_of(tier, what);
        r.turns = what >= ROOF_AMX_BF16 ? TURNS_TILES : TURNS_VECTOR;
        if (!r.loop)
            return 0;
    } else if (bytes / n < 256) {
        return 0;
    }
    r.marks = mem_aligned(n * sizeof(*r.marks), 64);
    memset(r.marks, 0, n * sizeof(*r.marks));
    team_run(team, round_part, &r);
    for (uint32_t i = 0; i < n && (what != ROOF_READ_ONE || i == 0); i++) {
        start = r.marks[i].start < start ? r.marks[i].start : start;
        end = r.marks[i].end > end ? r.marks[i].end : end;
        work += r.marks[i].work;
    }
    mem_free(r.marks);
    return work / clock_s(end > start ? end - start : 1);
}

static int rate_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

struct touch {
    uint8_t *data;
    size_t bytes;
};

/* Each thread writes what it will read: untouched memory is one page of zeros in the cache. */
static void touch_part(void *ctx, uint32_t tid, uint32_t n)
{
    struct touch *t = ctx;

    memset(t->data + t->bytes / n * tid, 1, t->bytes / n);
}

void roofline_measure(struct roofline *r, struct team *team, enum cpu_tier tier, const void *memory,
                      size_t bytes, int64_t budget_ns)
{
    int64_t end = clock_now() + budget_ns;
    double rates[ROOF_COUNT][ROUNDS_MAX];
    struct mem_map own = {0};

    *r = (struct roofline){.tier = tier, .threads = team_size(team)};
    if (!memory || bytes < ROOFLINE_MEMORY) {
        bool mapped = mem_map_open(&own, ROOFLINE_MEMORY, true, NULL) == 0;
        struct touch t = {own.data, own.size};

        if (mapped)
            team_run(team, touch_part, &t);
        memory = t.data;
        bytes = t.bytes;
    }
    for (; r->rounds < ROUNDS_MAX && (r->rounds < ROUNDS_MIN || clock_now() < end); r->rounds++)
        for (int i = 0; i < ROOF_COUNT; i++) {
            double *rate = &rates[i][r->rounds];

            if (i == ROOF_READ_ONE && r->threads == 1)
                *rate = rates[ROOF_READ][r->rounds];
            else
                *rate = roofline_once(team, tier, (enum roof)i, memory, bytes, r->rounds);
        }
    for (int i = 0; i < ROOF_COUNT; i++) {
        qsort(rates[i], r->rounds, sizeof(rates[i][0]), rate_order);
        r->rate[i] = (struct roof_rate){rates[i][r->rounds - 1], rates[i][r->rounds / 2]};
    }
    mem_map_close(&own);
}

void roofline_text(struct str *out, const struct roofline *r)
{
    const char *space = "";

    for (int i = 0; i < ROOF_COUNT; i++) {
        const struct roof_rate *rate = &r->rate[i];

        if (rate->best <= 0)
            continue;
        str_addf(out, i <= ROOF_READ_ONE ? "%s%s=%.1f/%.1fGB/s" : "%s%s=%.0f/%.0fG/s", space,
                 names[i], rate->best * 1e-9, rate->median * 1e-9);
        space = " ";
    }
}
