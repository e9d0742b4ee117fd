/* Attention over pages of bf16: bits against plain C of kernels.h's order, and that plain C against
 * softmax in double. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "kernels/exp_poly.h"
#include "kernels/kernels.h"
#include "tests/lib/bf16.h"
#include "tests/lib/guard.h"
#include "tests/lib/test.h"
#include "tests/lib/weights.h"

#define PAGES_MAX 24
#define ROWS_MAX 80
#define TOKENS KV_PAGE_TOKENS

static const struct kernels *amx; /* NULL: this machine has no such tier */

/* A sequence in guarded pages that hold NaN wherever nothing was stored, and some rows of queries. */
struct fixture {
    struct kv_layout l;
    struct guard pages[PAGES_MAX], q;
    uint8_t *page[PAGES_MAX];
    float *k, *v; /* [tokens][head_dim] of kv head 1 */
    uint32_t tokens, n[ROWS_MAX];
    struct attention a;
};

/* Row i attends to first <= t < first + n + i. */
static void fixture_open(struct fixture *f, uint32_t head_dim, uint32_t rows, uint32_t group,
                         uint32_t first, uint32_t n, uint64_t seed)
{
    size_t heads = (size_t)rows * group, width = 2 * (size_t)head_dim;

    *f = (struct fixture){.tokens = first + n + rows - 1};
    kv_layout_init(&f->l, KV_BF16, 2, 2, head_dim);
    f->k = mem_calloc(f->tokens * width, sizeof(float));
    f->v = mem_calloc(f->tokens * width, sizeof(float));
    weights_floats(f->k, f->tokens * width, WEIGHTS_PLAIN, seed);
    weights_floats(f->v, f->tokens * width, WEIGHTS_PLAIN, seed + 1);
    for (uint32_t i = 0; i < kv_layout_pages(f->tokens); i++) {
        f->page[i] = guard_open(&f->pages[i], f->l.page_bytes);
        memset(f->page[i], 0xff, f->l.page_bytes);
    }
    for (uint32_t t = 0; t < f->tokens; t++)
        amx->kv_store(f->page[t / TOKENS], &f->l, 1, t, f->k + t * width, f->v + t * width);
    guard_open(&f->q, heads * head_dim * sizeof(float));
    weights_floats((float *)f->q.data, heads * head_dim, WEIGHTS_PLAIN, seed + 2);
    for (uint32_t i = 0; i < rows; i++)
        f->n[i] = n + i;
    f->a = (struct attention){.q = (float *)f->q.data, .q_stride = (size_t)group * head_dim,
                              .pages = f->page, .layout = &f->l, .layer = 1, .head = 1,
                              .rows = rows, .group = group, .first = first, .n = f->n,
                              .scale = 1 / sqrtf((float)head_dim)};
}

static void fixture_close(struct fixture *f)
{
    for (uint32_t i = 0; i < kv_layout_pages(f->tokens); i++)
        guard_close(&f->pages[i]);
    guard_close(&f->q);
    mem_free(f->k);
    mem_free(f->v);
}

struct result {
    struct guard o, mx, sum;
};

static void result_open(struct result *r, const struct fixture *f)
{
    size_t heads = (size_t)f->a.rows * f->a.group * sizeof(float);

    guard_open(&r->o, heads * f->l.head_dim);
    guard_open(&r->mx, heads);
    guard_open(&r->sum, heads);
}

static void result_close(struct result *r)
{
    guard_close(&r->o);
    guard_close(&r->mx);
    guard_close(&r->sum);
}

static uint16_t element(const uint8_t *base, size_t i)
{
    uint16_t h;

    memcpy(&h, base + 2 * i, 2);
    return h;
}

/* E of kernels.h */
static float exp2_coarse(float y)
{
    float r = y - floorf(y);

    if (isinf(y))
        return 0;
    if (r + (double)floorf(y) > y)
        r = nextafterf(r, 0);
    return ldexpf(fmaf(fmaf(fmaf(EXP2_C3, r, EXP2_C2), r, EXP2_C1), r, 1), (int)floorf(y));
}

/* s of the c tokens of one page for one head with q rounded; the highest of them and of top. */
static float reference_scores(float *s, float top, const uint16_t *q, const uint8_t *k,
                              const struct kv_layout *l, uint32_t c)
{
    uint16_t x[32];

    for (uint32_t t = 0; t < c; t++) {
        s[t] = 0;
        for (size_t b = 0; b < l->head_dim; b += 32) {
            for (size_t i = 0; i < 32; i++)
                x[i] = b + i < l->head_dim ? element(k, kv_layout_k_at(l, t, b + i)) : 0;
            s[t] = bf16_add_block(s[t], x, q + b);
        }
        top = s[t] > top ? s[t] : top;
    }
    return top;
}

/* Up to four pages, c tokens, for one head; page[i] is its K. m: see kernels.h. */
static void reference_pages(float *o, float *m, float *sum, const uint16_t *q,
                            uint8_t *const *page, size_t at, const struct kv_layout *l, uint32_t c)
{
    float s[ATTENTION_BF16_PAGES * TOKENS], u[16] = {0}, top = -INFINITY, new, corr;
    uint16_t p[ATTENTION_BF16_PAGES * TOKENS] = {0}, x[TOKENS];

    for (uint32_t t = 0; t < c; t += TOKENS)
        top = reference_scores(s + t, top, q, page[t / TOKENS] + at, l, c - t < TOKENS ? c - t : TOKENS);
    new = top > *m + ATTENTION_SLACK ? top + 0.0f : *m;
    corr = exp2_coarse(*m - new);
    for (uint32_t t = 0; t < c; t += TOKENS)
        for (uint32_t j = 0; j < 16; j++) {
            float lo = t + j < c ? exp2_coarse(s[t + j] - new) : 0;
            float hi = t + j + 16 < c ? exp2_coarse(s[t + j + 16] - new) : 0;

            p[t + j] = bf16_round(lo);
            p[t + j + 16] = bf16_round(hi);
            u[j] += lo + hi;
        }
    for (size_t step = 8; step; step /= 2)
        for (size_t j = 0; j < step; j++)
            u[j] += u[j + step];
    *m = new;
    *sum = fmaf(*sum, corr, u[0]);
    for (size_t i = 0; i < l->head_dim; i++) {
        o[i] *= corr;
        for (uint32_t b = 0; b < c; b += TOKENS) {
            const uint8_t *v = page[b / TOKENS] + at + l->v_offset;

            for (uint32_t t = 0; t < TOKENS; t++)
                x[t] = b + t < c ? element(v, kv_layout_v_at(l, t, i)) : 0;
            o[i] = bf16_add_block(o[i], x, p + b);
        }
    }
}

static void reference(struct result *r, const struct fixture *f)
{
    const struct attention *a = &f->a;
    size_t dim = f->l.head_dim;
    uint16_t q[1024] = {0};

    result_open(r, f);
    for (uint32_t h = 0; h < a->rows * a->group; h++) {
        float *o = (float *)r->o.data + h * dim, m = -INFINITY, scale = a->scale * EXP_LOG2E;
        float *sum = (float *)r->sum.data + h;
        uint32_t n = a->n[h / a->group], step = ATTENTION_BF16_PAGES * TOKENS;

        memset(o, 0, dim * sizeof(*o));
        *sum = 0;
        for (size_t i = 0; i < dim; i++)
            q[i] = bf16_round(a->q[h / a->group * a->q_stride + h % a->group * dim + i] * scale);
        for (uint32_t t = 0; t < n; t += step)
            reference_pages(o, &m, sum, q, f->page + (a->first + t) / TOKENS,
                            kv_layout_k(&f->l, 1, 1), &f->l, n - t < step ? n - t : step);
        for (size_t i = 0; i < dim; i++)
            o[i] += 0.0f;
        ((float *)r->mx.data)[h] = m * EXP_LN2;
    }
}

static void run(struct result *r, const struct fixture *f)
{
    result_open(r, f);
    amx->attention((float *)r->o.data, (size_t)f->a.group * f->l.head_dim, (float *)r->mx.data,
                   (float *)r->sum.data, &f->a);
}

static void assert_same(const struct result *a, const struct result *b)
{
    assert_memory_equal(a->o.data, b->o.data, a->o.bytes);
    assert_memory_equal(a->mx.data, b->mx.data, a->mx.bytes);
    assert_memory_equal(a->sum.data, b->sum.data, a->sum.bytes);
}

/* Rows of a call have the bits that each has alone. */
static void check_alone(const struct fixture *f, const struct result *all)
{
    size_t heads = f->a.group * sizeof(float), row = heads * f->l.head_dim;

    for (uint32_t i = 0; i < f->a.rows; i++) {
        struct fixture one = *f;
        struct result r;

        one.a.q += i * f->a.q_stride;
        one.a.n = &f->n[i];
        one.a.rows = 1;
        run(&r, &one);
        assert_memory_equal(r.o.data, all->o.data + i * row, row);
        assert_memory_equal(r.mx.data, all->mx.data + i * heads, heads);
        assert_memory_equal(r.sum.data, all->sum.data + i * heads, heads);
        result_close(&r);
    }
}

/* The fixture as the reference has it, rows together and alone; closes it. */
static void check_fixture(struct fixture *f)
{
    struct result want, got;

    reference(&want, f);
    run(&got, f);
    assert_same(&got, &want);
    check_alone(f, &got);
    result_close(&got);
    result_close(&want);
    fixture_close(f);
}

static void check(uint32_t head_dim, uint32_t rows, uint32_t group, uint32_t first, uint32_t n)
{
    struct fixture f;

    fixture_open(&f, head_dim, rows, group, first, n, head_dim + rows * group);
    check_fixture(&f);
}

static const uint32_t head_dims[] = {8, 16, 24, 20, 48, 64, 33, 80, 96, 128, 203, 31, 1};

static void test_every_head_dim_and_group(void **state)
{
    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(head_dims) && amx; d++)
        for (uint32_t group = 1; group <= 8; group++)
            check(head_dims[d], 1 + (uint32_t)d % 5, group, d % 3 ? 0 : 32, 20 + group * 7);
}

static void test_every_number_of_tokens(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 290 && amx; n++)
        check(head_dims[n % 8], 1 + n % 3, 1 + n % 5, 0, n);
}

static void test_every_number_of_rows(void **state)
{
    (void)state;
    for (uint32_t rows = 1; rows <= ROWS_MAX && amx; rows++)
        check(head_dims[rows % 8], rows, 1 + rows % 2, 0, 1 + rows * 7 % 50);
}

/* What is said to come next changes no bit, and no more of its list is read than there is. */
static void test_next_pages(void **state)
{
    (void)state;
    for (uint32_t n = 1; n < 300 && amx; n += 37)
        for (uint32_t count = 0; count < 6; count++) {
            struct fixture f;
            struct guard list;
            struct result want, got;

            fixture_open(&f, head_dims[count], 1 + n % 20, 4, 32, n, n);
            run(&want, &f);
            f.a.next = (uint8_t *const *)guard_open(&list, count * sizeof(f.page[0]));
            f.a.next_count = count;
            f.a.next_head = count % 2;
            for (uint32_t i = 0; i < count; i++)
                ((uint8_t **)list.data)[i] = f.page[0];
            run(&got, &f);
            assert_same(&got, &want);
            result_close(&got);
            result_close(&want);
            guard_close(&list);
            fixture_close(&f);
        }
}

/* The rounding of q, K, V and p shows, by at most a few 2^-8 of values below 1. */
static void test_near_softmax_in_double(void **state)
{
    struct fixture f;
    struct result r;
    size_t dim = 64;

    (void)state;
    if (!amx)
        skip();
    fixture_open(&f, (uint32_t)dim, 1, 4, 0, 150, 7);
    run(&r, &f);
    for (size_t g = 0; g < 4; g++) {
        double o[64] = {0}, sum = 0;

        for (size_t t = 0; t < 150; t++) {
            double dot = 0, p;

            for (size_t i = 0; i < dim; i++)
                dot += (double)((float *)f.q.data)[g * dim + i] * f.k[(t * 2 + 1) * dim + i];
            sum += p = exp(dot * f.a.scale);
            for (size_t i = 0; i < dim; i++)
                o[i] += p * f.v[(t * 2 + 1) * dim + i];
        }
        for (size_t i = 0; i < dim; i++)
            assert_true(fabs(((float *)r.o.data)[g * dim + i] / ((float *)r.sum.data)[g] -
                             o[i] / sum) < 0x1p-8);
    }
    result_close(&r);
    fixture_close(&f);
}

/* Scores that differ by more than exp can hold, so that o is corrected again and again. */
static void test_large_scores(void **state)
{
    (void)state;
    for (uint32_t n = 1; n < 600 && amx; n += 41) {
        struct fixture f;
        struct result want, got;

        fixture_open(&f, 16, 3, 3, 0, n, n);
        f.a.scale = 1000;
        reference(&want, &f);
        run(&got, &f);
        assert_same(&got, &want);
        result_close(&got);
        result_close(&want);
        fixture_close(&f);
    }
}

/* Values so small that what is corrected is denormal, which the matrix unit takes for zero. */
static void test_tiny_values(void **state)
{
    (void)state;
    for (uint32_t n = 150; n < 600 && amx; n += 41) {
        struct fixture f;
        size_t width;

        fixture_open(&f, 16, 3, 3, 0, n, n);
        width = 2 * (size_t)f.l.head_dim;
        for (uint32_t t = 0; t < f.tokens; t++) {
            for (size_t i = 0; i < width; i++)
                f.v[t * width + i] *= 0x1p-116f;
            amx->kv_store(f.page[t / TOKENS], &f.l, 1, t, f.k + t * width, f.v + t * width);
        }
        f.a.scale = 40;
        check_fixture(&f);
    }
}

/* A token's slot changes, in its layer, and no byte besides. */
static void test_store_writes_its_slot_only(void **state)
{
    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(head_dims) && amx; d++)
        for (uint32_t pos = 0; pos < 70; pos += 3) {
            size_t dim = head_dims[d];
            struct kv_layout l;
            struct guard page, k, v;
            uint8_t *want;

            kv_layout_init(&l, KV_BF16, 2, 3, (uint32_t)dim);
            guard_open(&k, 3 * dim * sizeof(float));
            guard_open(&v, 3 * dim * sizeof(float));
            weights_floats((float *)k.data, 3 * dim, WEIGHTS_EXTREME, pos);
            weights_floats((float *)v.data, 3 * dim, WEIGHTS_EXTREME, pos + 1);
            want = mem_alloc(l.page_bytes);
            memset(want, GUARD_POISON, l.page_bytes);
            for (size_t h = 0; h < 3; h++)
                for (size_t i = 0; i < dim; i++) {
                    uint8_t *to = want + kv_layout_k(&l, 1, (uint32_t)h);
                    uint16_t kh = bf16_round(((float *)k.data)[h * dim + i]);
                    uint16_t vh = bf16_round(((float *)v.data)[h * dim + i]);

                    memcpy(to + 2 * kv_layout_k_at(&l, pos % TOKENS, i), &kh, 2);
                    memcpy(to + l.v_offset + 2 * kv_layout_v_at(&l, pos % TOKENS, i), &vh, 2);
                }
            guard_open(&page, l.page_bytes);
            amx->kv_store(page.data, &l, 1, pos, (float *)k.data, (float *)v.data);
            assert_memory_equal(page.data, want, l.page_bytes);
            guard_close(&page);
            guard_close(&k);
            guard_close(&v);
            mem_free(want);
        }
}

/* Only the tier with a matrix unit takes such pages. */
static void test_who_takes_bf16(void **state)
{
    (void)state;
    for (int t = 0; t < CPU_TIER_COUNT; t++) {
        const struct kernels *k = kernels_get((enum cpu_tier)t);

        if (k)
            assert_int_equal(kernels_kv_type(k, KV_BF16), t == CPU_AMX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_head_dim_and_group),
        cmocka_unit_test(test_every_number_of_tokens),
        cmocka_unit_test(test_every_number_of_rows),
        cmocka_unit_test(test_next_pages),
        cmocka_unit_test(test_near_softmax_in_double),
        cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_tiny_values),
        cmocka_unit_test(test_store_writes_its_slot_only),
        cmocka_unit_test(test_who_takes_bf16),
    };

    amx = kernels_get(CPU_AMX);
    if (!amx)
        print_message("skipped: tier amx is not available on this machine\n");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
