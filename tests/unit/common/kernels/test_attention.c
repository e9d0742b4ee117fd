#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "tests/lib/guard.h"
#include "tests/lib/weights.h"

#define PAGES_MAX 24
#define ROWS_MAX 160
#define FOR_TIERS(k)                                                                               \
    for (int t_ = 0; t_ < CPU_TIER_COUNT; t_++)                                                    \
        for (const struct kernels *k = kernels_get((enum cpu_tier)t_); k; k = NULL)

/* A sequence of n tokens in guarded pages that hold NaN wherever nothing was stored, and the query
 * heads of its last `rows` tokens. */
struct sequence {
    struct kv_layout l;
    uint32_t n, rows, group;
    struct guard pages[PAGES_MAX], q;
    uint8_t *page[PAGES_MAX];
    float *k, *v; /* [n][n_kv_head][head_dim] */
};

static void rows_open(struct sequence *s, enum kv_type type, uint32_t head_dim, uint32_t rows,
                      uint32_t group, uint32_t n, uint64_t seed)
{
    size_t token, heads = (size_t)rows * group;

    *s = (struct sequence){.n = n, .rows = rows, .group = group};
    kv_layout_init(&s->l, type, 2, 2, head_dim);
    token = (size_t)2 * head_dim;
    s->k = mem_calloc(n * token, sizeof(float));
    s->v = mem_calloc(n * token, sizeof(float));
    weights_floats(s->k, n * token, WEIGHTS_PLAIN, seed);
    weights_floats(s->v, n * token, WEIGHTS_PLAIN, seed + 1);
    for (uint32_t i = 0; i < kv_layout_pages(n); i++) {
        s->page[i] = guard_open(&s->pages[i], s->l.page_bytes);
        memset(s->page[i], 0xff, s->l.page_bytes);
    }
    for (uint32_t t = 0; t < n; t++)
        kernels_get(CPU_REF)->kv_store(s->page[t / 32], &s->l, 1, t, s->k + t * token,
                                       s->v + t * token);
    guard_open(&s->q, heads * head_dim * sizeof(float));
    weights_floats((float *)s->q.data, heads * head_dim, WEIGHTS_PLAIN, seed + 2);
}

static void sequence_open(struct sequence *s, enum kv_type type, uint32_t head_dim, uint32_t group,
                          uint32_t n, uint64_t seed)
{
    rows_open(s, type, head_dim, 1, group, n, seed);
}

static void sequence_close(struct sequence *s)
{
    for (uint32_t i = 0; i < kv_layout_pages(s->n); i++)
        guard_close(&s->pages[i]);
    guard_close(&s->q);
    mem_free(s->k);
    mem_free(s->v);
}

struct result {
    struct guard o, mx, sum;
};

/* The first row attends to n tokens from `first` on, each row after it to one more; `next` pages of list
 * are said to be read after it. */
static void attend_then(struct result *r, const struct kernels *k, const struct sequence *s,
                        uint32_t first, uint32_t n, uint8_t *const *list, uint32_t next)
{
    size_t heads = (size_t)s->rows * s->group, row = (size_t)s->group * s->l.head_dim;
    uint32_t tokens[ROWS_MAX];
    struct attention a = {.q = (float *)s->q.data, .q_stride = row, .pages = s->page,
                          .layout = &s->l, .layer = 1, .head = 1, .rows = s->rows,
                          .group = s->group, .first = first, .n = tokens, .next = list,
                          .next_count = next, .scale = 1 / sqrtf((float)s->l.head_dim)};

    for (uint32_t i = 0; i < s->rows; i++)
        tokens[i] = n + i;
    guard_open(&r->o, heads * s->l.head_dim * sizeof(float));
    guard_open(&r->mx, heads * sizeof(float));
    guard_open(&r->sum, heads * sizeof(float));
    k->attention((float *)r->o.data, row, (float *)r->mx.data, (float *)r->sum.data, &a);
}

static void attend(struct result *r, const struct kernels *k, const struct sequence *s,
                   uint32_t first, uint32_t n)
{
    attend_then(r, k, s, first, n, NULL, 0);
}

static void result_close(struct result *r)
{
    guard_close(&r->o);
    guard_close(&r->mx);
    guard_close(&r->sum);
}

/* What a page holds of row[dim], the K or V of one token and head. */
static double stored(const struct sequence *s, const float *row, uint32_t dim)
{
    double amax = 0;

    if (s->l.type != KV_Q8)
        return s->l.type == KV_F16 ? dtype_f16_to_f32(dtype_f32_to_f16(row[dim])) : row[dim];
    for (uint32_t i = 0; i < s->l.head_dim; i++)
        amax = fmax(amax, fabs(row[i]));
    return rint((double)(row[dim] * (127 / (float)amax))) * (amax / 127);
}

/* softmax(scale q K) V of query head g over tokens 0..n, in double */
static void naive(double *o, const struct sequence *s, uint32_t g, uint32_t n)
{
    uint32_t dim = s->l.head_dim;
    double sum = 0;

    for (uint32_t i = 0; i < dim; i++)
        o[i] = 0;
    for (uint32_t t = 0; t < n; t++) {
        const float *k = s->k + (t * 2 + 1) * dim, *v = s->v + (t * 2 + 1) * dim;
        double dot = 0, p;

        for (uint32_t i = 0; i < dim; i++)
            dot += ((float *)s->q.data)[g * dim + i] * stored(s, k, i);
        p = exp(dot / sqrt(dim)); /* |dot| is small here: no maximum needed */
        sum += p;
        for (uint32_t i = 0; i < dim; i++)
            o[i] += p * stored(s, v, i);
    }
    for (uint32_t i = 0; i < dim; i++)
        o[i] /= sum;
}

/* |v| <= 1, so errors are absolute: those of p (the score's, head_dim roundings, and exp's) and of
 * the n terms of the sums. */
static void check_naive(const struct sequence *s, const struct result *r, uint32_t n)
{
    double o[256], bound = (double)(s->l.head_dim + n + 16) * 0x1p-23;

    for (uint32_t g = 0; g < s->group; g++) {
        naive(o, s, g, n);
        for (uint32_t i = 0; i < s->l.head_dim; i++) {
            double got = ((float *)r->o.data)[g * s->l.head_dim + i] / ((float *)r->sum.data)[g];

            if (fabs(got - o[i]) > bound)
                fail_msg("head %u dim %u of %u tokens: %g, want %g", g, i, n, got, o[i]);
        }
    }
}

static void assert_same(const struct result *a, const struct result *b)
{
    assert_memory_equal(a->o.data, b->o.data, a->o.bytes);
    assert_memory_equal(a->mx.data, b->mx.data, a->mx.bytes);
    assert_memory_equal(a->sum.data, b->sum.data, a->sum.bytes);
}

static void check(enum kv_type type, uint32_t head_dim, uint32_t group, uint32_t n, uint64_t seed)
{
    struct sequence s;
    struct result ref, r;
    uint32_t first = seed % 2 && n > 32 ? 32 : 0;

    sequence_open(&s, type, head_dim, group, n, seed);
    attend(&ref, kernels_get(CPU_REF), &s, 0, n);
    check_naive(&s, &ref, n);
    FOR_TIERS(kern) {
        attend(&r, kern, &s, 0, n);
        assert_same(&r, &ref);
        result_close(&r);
    }
    result_close(&ref);
    attend(&ref, kernels_get(CPU_REF), &s, first, n - first);
    FOR_TIERS(kern) {
        attend(&r, kern, &s, first, n - first);
        assert_same(&r, &ref);
        result_close(&r);
    }
    result_close(&ref);
    sequence_close(&s);
}

/* The types of pages that all tiers work on, with the same bits. */
static const enum kv_type types[] = {KV_F16, KV_F32, KV_Q8};

static const uint32_t head_dims[] = {8, 16, 24, 20, 48, 64, 33, 80, 96, 128, 203};

static void test_every_head_dim_and_group(void **state)
{
    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(head_dims); d++)
        for (uint32_t group = 1; group <= 9; group++)
            for (size_t type = 0; type < ARRAY_LEN(types); type++)
                check(types[type], head_dims[d], group, 20 + group * 7, d);
}

static void test_every_number_of_tokens(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 100; n++)
        check(types[n % 3], head_dims[n % 6], 1 + n % 5, n, n);
}

static void test_a_head_of_a_group_is_the_head_alone(void **state)
{
    (void)state;
    FOR_TIERS(kern) {
        struct sequence s, one;
        struct result all, r;

        sequence_open(&s, KV_F16, 24, 7, 77, 5);
        attend(&all, kern, &s, 0, 77);
        for (uint32_t g = 0; g < 7; g++) {
            one = s;
            one.group = 1;
            one.q.data += g * 24 * sizeof(float);
            attend(&r, kern, &one, 0, 77);
            assert_memory_equal(r.o.data, all.o.data + g * 24 * sizeof(float), r.o.bytes);
            assert_memory_equal(r.mx.data, all.mx.data + g * sizeof(float), sizeof(float));
            assert_memory_equal(r.sum.data, all.sum.data + g * sizeof(float), sizeof(float));
            result_close(&r);
        }
        result_close(&all);
        sequence_close(&s);
    }
}

/* Row i of a is the row alone, which attends to n + i tokens. */
static void assert_row(const struct result *a, const struct kernels *k, const struct sequence *s,
                       uint32_t i, uint32_t first, uint32_t n)
{
    size_t heads = s->group * sizeof(float), row = heads * s->l.head_dim;
    struct sequence one = *s;
    struct result r;

    one.rows = 1;
    one.q.data += i * row;
    attend(&r, k, &one, first, n + i);
    assert_memory_equal(r.o.data, a->o.data + i * row, row);
    assert_memory_equal(r.mx.data, a->mx.data + i * heads, heads);
    assert_memory_equal(r.sum.data, a->sum.data + i * heads, heads);
    result_close(&r);
}

static void check_rows(enum kv_type type, uint32_t head_dim, uint32_t rows, uint32_t group,
                       uint32_t n, uint64_t seed)
{
    uint32_t first = seed % 3 == 0 && n > 32 ? 32 : 0;
    struct sequence s;
    struct result ref, r;

    rows_open(&s, type, head_dim, rows, group, n + rows - 1, seed);
    attend(&ref, kernels_get(CPU_REF), &s, first, n - first);
    for (uint32_t i = 0; i < rows; i++)
        assert_row(&ref, kernels_get(CPU_REF), &s, i, first, n - first);
    FOR_TIERS(kern) {
        attend(&r, kern, &s, first, n - first);
        assert_same(&r, &ref);
        result_close(&r);
    }
    result_close(&ref);
    sequence_close(&s);
}

/* Rows of a call have the bits that each has alone: wherever in a page they end, whether they are
 * less than a tile or more than a call takes in one go. */
static void test_a_row_among_rows_is_the_row_alone(void **state)
{
    (void)state;
    for (uint32_t rows = 1; rows <= 20; rows++)
        for (uint32_t group = 1; group <= 8; group++)
            check_rows(types[(rows + group) % 3], head_dims[(rows + group) % ARRAY_LEN(head_dims)],
                       rows, group, 1 + (rows * 5 + group * 11) % 70, rows * group);
    check_rows(KV_F16, 16, 140, 1, 3, 1);
    check_rows(KV_F32, 24, 50, 3, 40, 2);
    check_rows(KV_F16, 8, 20, 9, 33, 3);
    check_rows(KV_Q8, 24, 50, 3, 40, 2);
    check_rows(KV_Q8, 264, 5, 3, 30, 4);
    check_rows(KV_F16, 264, 5, 3, 30, 4); /* longer than what is converted ahead */
}

/* An infinite V, as f16 makes of large values, shows in no row before its token. */
static void test_a_row_does_not_see_later_tokens(void **state)
{
    (void)state;
    FOR_TIERS(kern) {
        struct sequence s;
        struct result r;
        float big[2 * 16];

        rows_open(&s, KV_F16, 16, 12, 1, 20, 1);
        for (size_t i = 0; i < ARRAY_LEN(big); i++)
            big[i] = 1e30f;
        kern->kv_store(s.page[0], &s.l, 1, 19, s.k + 19 * 32, big);
        attend(&r, kern, &s, 0, 9);
        for (size_t i = 0; i < 12 * 16; i++)
            assert_true(isfinite(((float *)r.o.data)[i]) == (i < 11 * 16));
        result_close(&r);
        sequence_close(&s);
    }
}

/* Segments merged in ascending order give the whole, and the same bits in every tier. */
static void test_merged_segments(void **state)
{
    (void)state;
    for (uint32_t cut = 32; cut < 224; cut += 32)
        for (size_t d = 0; d < 6; d++) {
            struct sequence s;
            struct result ref = {0}, a, b;

            sequence_open(&s, KV_F16, head_dims[d], 2, 230, cut);
            FOR_TIERS(kern) {
                attend(&a, kern, &s, 0, cut);
                attend(&b, kern, &s, cut, 230 - cut);
                for (uint32_t g = 0; g < 2; g++)
                    kern->attention_merge((float *)a.o.data + g * head_dims[d],
                                          (float *)a.mx.data + g, (float *)a.sum.data + g,
                                          (float *)b.o.data + g * head_dims[d],
                                          ((float *)b.mx.data)[g], ((float *)b.sum.data)[g],
                                          head_dims[d]);
                check_naive(&s, &a, 230);
                result_close(&b);
                if (kern->tier == CPU_REF) {
                    ref = a;
                } else {
                    assert_same(&a, &ref);
                    result_close(&a);
                }
            }
            result_close(&ref);
            sequence_close(&s);
        }
}

/* Scores that differ by more than exp can hold: the far ones vanish, nothing overflows. */
static void test_large_scores(void **state)
{
    (void)state;
    for (uint32_t n = 1; n < 80; n += 13) {
        struct sequence s;
        struct result ref = {0}, r;

        sequence_open(&s, KV_F32, 16, 3, n, n);
        for (size_t i = 0; i < s.q.bytes / sizeof(float); i++)
            ((float *)s.q.data)[i] *= 1000;
        FOR_TIERS(kern) {
            attend(&r, kern, &s, 0, n);
            if (kern->tier == CPU_REF) {
                ref = r;
                for (size_t g = 0; g < 3; g++)
                    assert_true(((float *)r.sum.data)[g] >= 1 && ((float *)r.sum.data)[g] <= n);
                continue;
            }
            assert_same(&r, &ref);
            result_close(&r);
        }
        result_close(&ref);
        sequence_close(&s);
    }
}

/* A score of -0 and one of +0: the maximum is +0 whichever comes first. */
static void test_zero_scores(void **state)
{
    (void)state;
    FOR_TIERS(kern) {
        struct sequence s;
        struct result r;
        static const float zero = 0;

        sequence_open(&s, KV_F32, 8, 1, 2, 1);
        memset(s.q.data, 0, s.q.bytes);
        for (size_t i = 0; i < 8; i++)
            ((float *)s.q.data)[i] = i ? 0 : -0x1p-149f;
        attend(&r, kern, &s, 0, 2);
        assert_memory_equal(r.mx.data, &zero, sizeof(zero));
        assert_true(((float *)r.sum.data)[0] == 2);
        result_close(&r);
        sequence_close(&s);
    }
}

/* The lowest score that still counts, and the next below it. */
static void test_score_at_the_end_of_exp(void **state)
{
    static const float q[8] = {1}, zero[8] = {0}, one[8] = {1};
    static const uint32_t two = 2;
    struct kv_layout l;
    struct guard page;
    uint8_t *pages[1];

    (void)state;
    kv_layout_init(&l, KV_F32, 1, 1, 8);
    FOR_TIERS(kern)
        for (int below = 0; below < 2; below++) {
            float low[8] = {below ? nextafterf(-87.3f, -88) : -87.3f}, o[8], mx, sum;

            struct attention a = {.q = q, .pages = pages, .layout = &l, .rows = 1, .group = 1,
                                  .n = &two, .scale = 1};

            pages[0] = guard_open(&page, l.page_bytes);
            kern->kv_store(page.data, &l, 0, 0, zero, zero);
            kern->kv_store(page.data, &l, 0, 1, low, one);
            kern->attention(o, 8, &mx, &sum, &a);
            assert_true(o[0] == kernels_exp(low[0]) && (o[0] == 0) == below);
            guard_close(&page);
        }
}

/* Token `slot` of a kv head's K or V as kv_layout.h and kv_q8.h say. */
static void want_q8(uint8_t *head, const struct kv_layout *l, bool is_v, uint32_t slot, const float *x)
{
    uint8_t *at = head + (is_v ? l->v_offset : 0);
    float amax = 0, d;

    for (uint32_t i = 0; i < l->head_dim; i++)
        amax = fmaxf(amax, fabsf(x[i]));
    d = amax / 127;
    memcpy(head + (is_v ? l->v_scales : l->k_scales) + 4 * slot, &d, 4);
    for (uint32_t i = 0; i < l->head_dim; i++)
        at[is_v ? slot * l->v_stride + i : i * 32 + slot] =
            (uint8_t)(int8_t)(amax >= 0x1p-120f ? rintf(x[i] * (127 / amax)) : 0);
}

static void check_store(enum kv_type type, uint32_t head_dim, uint32_t pos)
{
    struct kv_layout l;
    struct guard page, k, v;
    uint8_t *want;
    size_t n = 3 * (size_t)head_dim;

    kv_layout_init(&l, type, 2, 3, head_dim);
    guard_open(&k, n * sizeof(float));
    guard_open(&v, n * sizeof(float));
    weights_floats((float *)k.data, n, WEIGHTS_EXTREME, pos);
    weights_floats((float *)v.data, n, WEIGHTS_EXTREME, pos + 1);
    want = mem_alloc(l.page_bytes);
    memset(want, GUARD_POISON, l.page_bytes);
    for (size_t h = 0; h < 3; h++)
        for (size_t i = 0; i < head_dim; i++)
            for (int is_v = 0; is_v < 2; is_v++) {
                float f = ((float *)(is_v ? v.data : k.data))[h * head_dim + i];
                uint16_t half = dtype_f32_to_f16(f);
                size_t at = is_v ? pos % 32 * l.v_stride + i : i * 32 + pos % 32;

                if (type != KV_Q8)
                    memcpy(want + kv_layout_k(&l, 1, (uint32_t)h) + (is_v ? l.v_offset : 0) +
                               at * l.element_bytes,
                           type == KV_F16 ? (void *)&half : (void *)&f, l.element_bytes);
            }
    for (uint32_t h = 0; h < 3 && type == KV_Q8; h++)
        for (int is_v = 0; is_v < 2; is_v++)
            want_q8(want + kv_layout_k(&l, 1, h), &l, is_v, pos % 32,
                    (float *)(is_v ? v.data : k.data) + h * head_dim);
    FOR_TIERS(kern) {
        guard_open(&page, l.page_bytes);
        kern->kv_store(page.data, &l, 1, pos, (float *)k.data, (float *)v.data);
        assert_memory_equal(page.data, want, l.page_bytes);
        guard_close(&page);
    }
    mem_free(want);
    guard_close(&k);
    guard_close(&v);
}

/* One token's slot changes, in its layer, and no byte besides: not even V's padding. */
static void test_store_writes_its_slot_only(void **state)
{
    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(head_dims); d++)
        for (uint32_t pos = 0; pos < 70; pos += 3)
            for (size_t type = 0; type < ARRAY_LEN(types); type++)
                check_store(types[type], head_dims[d], pos);
}

/* What will be read next changes no bit, and its list is not read past its end. */
static void test_next_pages(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARRAY_LEN(types) * 8 * 6; i++) {
        uint32_t count = i % 6, n = 1 + i / 6 % 8 * 41;
        struct sequence s;
        struct guard list;

        sequence_open(&s, types[i / 48], i % 2 ? 64 : 80, 4, n, i);
        guard_open(&list, count * sizeof(s.page[0]));
        for (uint32_t j = 0; j < count; j++)
            ((uint8_t **)list.data)[j] = s.page[0];
        FOR_TIERS(k)
        {
            struct result want, got;

            attend(&want, k, &s, 0, n);
            attend_then(&got, k, &s, 0, n, (uint8_t *const *)list.data, count);
            assert_memory_equal(got.o.data, want.o.data, want.o.bytes);
            assert_memory_equal(got.mx.data, want.mx.data, want.mx.bytes);
            assert_memory_equal(got.sum.data, want.sum.data, want.sum.bytes);
            result_close(&got);
            result_close(&want);
        }
        guard_close(&list);
        sequence_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_head_dim_and_group),
        cmocka_unit_test(test_every_number_of_tokens),
        cmocka_unit_test(test_a_head_of_a_group_is_the_head_alone),
        cmocka_unit_test(test_a_row_among_rows_is_the_row_alone),
        cmocka_unit_test(test_a_row_does_not_see_later_tokens),
        cmocka_unit_test(test_merged_segments),
        cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_zero_scores),
        cmocka_unit_test(test_score_at_the_end_of_exp),
        cmocka_unit_test(test_store_writes_its_slot_only),
        cmocka_unit_test(test_next_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
