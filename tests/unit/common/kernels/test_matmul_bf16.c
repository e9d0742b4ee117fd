/* Matmuls by way of bf16: bits against plain C that adds as Intel's manual says TDPBF16PS does, and
 * that plain C against the sum in double. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "kernels/tiers.h"
#include "model/blocks.h"
#include "tests/lib/guard.h"
#include "tests/lib/weights.h"

/* One matrix, m rows of activations, and the result of the reference. Rows of y have a gap after
 * them that must stay poison; rows of x that are only there to fill a tile are NaN. */
struct fixture {
    enum dtype type;
    uint32_t n_out, n_in, m;
    size_t y_stride;
    struct panels w;
    struct guard rows, data, x, act_data, y;
    struct act_bf16 act;
    float *w_bf16; /* [n_out][k_pad], zeros after n_in */
};

/* Denormals are zeros, in and out. */
static float flush(float x) { return fabsf(x) < FLT_MIN ? copysignf(0, x) : x; }

static uint16_t round_bf16(float x)
{
    uint32_t u;

    x = flush(x);
    memcpy(&u, &x, 4);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* c + the 32 products of a block: even and odd ones on their own, each by fused multiply-adds. */
static float add_block(float c, const float *w, const uint16_t *x)
{
    float even = 0, odd = 0;

    for (size_t i = 0; i < QK; i += 2) {
        even = flush(fmaf(flush(dtype_bf16_to_f32(x[i])), w[i], even));
        odd = flush(fmaf(flush(dtype_bf16_to_f32(x[i + 1])), w[i + 1], odd));
    }
    return flush(c + flush(even + odd));
}

static void reference(const struct fixture *f)
{
    for (size_t i = 0; i < f->m; i++)
        for (size_t r = 0; r < f->n_out; r++) {
            float c = 0;

            for (uint32_t b = 0; b < f->act.k_pad / QK; b++)
                c = add_block(c, f->w_bf16 + r * f->act.k_pad + b * QK,
                              act_bf16_at(&f->act, (uint32_t)i, b));
            ((float *)f->y.data)[i * f->y_stride + r] = c;
        }
}

static void prepare(struct fixture *f)
{
    size_t row_bytes = weights_row_bytes(f->type, f->n_in);

    panels_pack(&f->w, f->rows.data, 0, f->w.n_panels);
    memset(f->act_data.data, 0xff, f->act_data.bytes);
    for (uint32_t i = 0; i < f->m; i++)
        for (uint32_t b = 0; b < f->act.k_pad / QK; b++)
            for (uint32_t k = 0; k < QK; k++)
                act_bf16_at(&f->act, i, b)[k] =
                    b * QK + k < f->n_in
                        ? round_bf16(((float *)f->x.data)[i * f->n_in + b * QK + k])
                        : 0;
    for (size_t r = 0; r < f->n_out; r++) {
        float *w = f->w_bf16 + r * f->act.k_pad;

        dtype_row_to_f32(w, f->rows.data + r * row_bytes, f->type, f->n_in);
        for (size_t k = 0; k < f->n_in; k++) {
            w[k] = flush(dtype_bf16_to_f32(round_bf16(w[k])));
            if (w[k] == 0 && f->type != DTYPE_BF16)
                w[k] = 0; /* never -0 */
        }
    }
    reference(f);
}

static void fixture_open(struct fixture *f, enum dtype type, uint32_t n_out, uint32_t n_in,
                         uint32_t m, enum weights_kind kind, uint64_t seed)
{
    *f = (struct fixture){.type = type, .n_out = n_out, .n_in = n_in, .m = m};
    f->y_stride = n_out + seed % 5;
    guard_open(&f->rows, n_out * weights_row_bytes(type, n_in));
    weights_fill(f->rows.data, type, n_out, n_in, kind, seed);
    panels_init_by_rows(&f->w, type, n_out, n_in); /* as the tier's own init: one tier has bf16 */
    f->w.data = guard_open(&f->data, panels_bytes(&f->w));
    guard_open(&f->x, m * n_in * sizeof(float));
    weights_floats((float *)f->x.data, m * n_in, kind, seed + 1);
    f->act.k_pad = (n_in + QK - 1) / QK * QK;
    f->act.rows = (m + 15) / 16 * 16;
    f->act.x = guard_open(&f->act_data, f->act.rows * f->act.k_pad * sizeof(uint16_t));
    guard_open(&f->y, ((m - 1) * f->y_stride + n_out) * sizeof(float));
    f->w_bf16 = mem_calloc(n_out * f->act.k_pad, sizeof(float));
    prepare(f);
}

static void fixture_close(struct fixture *f)
{
    guard_close(&f->rows);
    guard_close(&f->data);
    guard_close(&f->x);
    guard_close(&f->act_data);
    guard_close(&f->y);
    mem_free(f->w_bf16);
}

/* The reference against double: 34 roundings for a block's products, and one more a block. */
static void check_oracle(const struct fixture *f)
{
    double n = 20 + f->act.k_pad / QK;

    for (size_t i = 0; i < f->m; i++)
        for (size_t r = 0; r < f->n_out; r++) {
            double sum = 0, size = 0, got = ((float *)f->y.data)[i * f->y_stride + r];

            for (uint32_t k = 0; k < f->act.k_pad; k++) {
                double x = dtype_bf16_to_f32(act_bf16_at(&f->act, (uint32_t)i, k / QK)[k % QK]);

                sum += x * f->w_bf16[r * f->act.k_pad + k];
                size += fabs(x * f->w_bf16[r * f->act.k_pad + k]);
            }
            if (fabs(got - sum) > n * 0x1p-24 * size + f->act.k_pad * (double)FLT_MIN)
                fail_msg("row %zu of %s %ux%u: %g, want %g", r, dtype_info(f->type)->name, f->n_out,
                         f->n_in, got, sum);
        }
}

/* Bits equal to the reference's, gaps untouched; whole, and in two ranges of panels; whatever number of
 * rows goes the way for few. */
static void check_tier(const struct kernels *k, const struct fixture *f)
{
    static const uint32_t few[] = {0, 1, 16, 32, 48, 100}; /* 0: the usual; 100: more than any kernel takes */
    struct panels w = f->w;

    for (size_t i = 1; i < ARRAY_LEN(few) && f->m <= MATMUL_FEW_BF16; i++) {
        struct guard y;

        if (few[i] > 1 && f->m != few[i] && f->m != few[i] + 1)
            continue;
        w.few = few[i];
        guard_open(&y, f->y.bytes);
        k->matmul_bf16((float *)y.data, f->y_stride, &w, &f->act, f->m, 0, w.n_panels);
        if (memcmp(y.data, f->y.data, y.bytes) != 0)
            fail_msg("%s differs: %s %ux%u, %u rows, up to %u few", cpu_tier_name(k->tier),
                     dtype_info(f->type)->name, f->n_out, f->n_in, f->m, few[i]);
        guard_close(&y);
    }
    for (uint32_t cut = 0; cut < f->w.n_panels; cut += 3) {
        struct guard y;

        guard_open(&y, f->y.bytes);
        k->matmul_bf16((float *)y.data, f->y_stride, &f->w, &f->act, f->m, cut, f->w.n_panels);
        k->matmul_bf16((float *)y.data, f->y_stride, &f->w, &f->act, f->m, 0, cut);
        if (memcmp(y.data, f->y.data, y.bytes) != 0)
            fail_msg("%s differs: %s %ux%u, %u rows, cut %u", cpu_tier_name(k->tier),
                     dtype_info(f->type)->name, f->n_out, f->n_in, f->m, cut);
        guard_close(&y);
    }
}

#define FOR_TIERS(k)                                                                               \
    for (int t_ = 0; t_ < CPU_TIER_COUNT; t_++)                                                    \
        for (const struct kernels *k = kernels_get((enum cpu_tier)t_); k && k->matmul_bf16;        \
             k = NULL)

static void check(enum dtype type, uint32_t n_out, uint32_t n_in, uint32_t m,
                  enum weights_kind kind, uint64_t seed)
{
    struct fixture f;

    fixture_open(&f, type, n_out, n_in, m, kind, seed);
    FOR_TIERS(k) check_tier(k, &f);
    fixture_close(&f);
}

/* Types whose matmul takes bf16. */
static bool by_bf16(enum dtype type)
{
    return type == DTYPE_BF16 || type == DTYPE_Q8_0 || type == DTYPE_Q4_0 || type == DTYPE_Q4_K ||
           type == DTYPE_Q6_K;
}

static void test_reference_is_near_the_exact_sum(void **state)
{
    (void)state;
    for (size_t t = 0; t < WEIGHTS_TYPES; t++)
        for (uint32_t kind = 0; kind < WEIGHTS_KIND_COUNT; kind++) {
            struct fixture f;

            fixture_open(&f, weights_types[t], 19, 1024, 5, (enum weights_kind)kind, t);
            check_oracle(&f);
            fixture_close(&f);
        }
}

static void test_tiers_tested_here(void **state)
{
    bool any = false;

    (void)state;
    FOR_TIERS(k) any = true;
    if (!any) {
        printf("skipped: tier amx is not available on this machine\n");
        skip();
    }
}

/* A random bf16 with an exponent of first .. first + n - 1, or a denormal. */
static uint16_t random_bf16(uint64_t seed, uint64_t i, uint32_t first, uint32_t n)
{
    uint64_t r = rng_u64(seed, i);
    uint32_t exponent = (r >> 32) % 23 == 0 ? 0 : first + (uint32_t)(r >> 40) % n;

    return (uint16_t)((r & 0x807f) | exponent << 7);
}

/* The proof of the order, on tiles loaded as they are: all sizes of terms beside each other, sums
 * that cancel, products and sums that are denormal. Exponents of the two factors, biased by 127. */
static void test_matrix_unit_adds_as_the_manual_says(void **state)
{
    static const uint32_t ranges[][4] = {
        {120, 14, 120, 14}, {127, 1, 127, 1},  {90, 60, 100, 50}, {55, 16, 55, 16},
        {63, 2, 63, 2},     {1, 4, 120, 10},   {60, 10, 40, 40},  {180, 10, 170, 10},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        for (uint32_t turn = 0; turn < 12; turn++) {
            const uint32_t *r = ranges[i];
            struct fixture f;

            fixture_open(&f, DTYPE_BF16, 64, 32 + turn % 3 * 32, 40, WEIGHTS_PLAIN, turn);
            for (size_t j = 0; j < f.rows.bytes / 2; j++)
                ((uint16_t *)f.rows.data)[j] = random_bf16(2 * turn, j, r[0], r[1]);
            for (size_t j = 0; j < f.x.bytes / 4; j++)
                ((uint32_t *)f.x.data)[j] = (uint32_t)random_bf16(2 * turn + 1, j, r[2], r[3])
                                            << 16;
            prepare(&f);
            FOR_TIERS(k) check_tier(k, &f);
            fixture_close(&f);
        }
}

static void test_every_number_of_rows_of_w(void **state)
{
    (void)state;
    for (size_t t = 0; t < WEIGHTS_TYPES; t++)
        for (uint32_t n_out = 1; by_bf16(weights_types[t]) && n_out <= 65; n_out++)
            check(weights_types[t], n_out, 256, 1 + n_out % 4 * 23, WEIGHTS_PLAIN, n_out);
}

static void test_every_number_of_rows_of_x(void **state)
{
    (void)state;
    for (size_t t = 0; t < WEIGHTS_TYPES; t++)
        for (uint32_t m = 1; by_bf16(weights_types[t]) && m <= 98; m++)
            check(weights_types[t], 30 + m % 4, 256 + m % 8 / 7 * 512, m, WEIGHTS_PLAIN, m);
}

/* Four panels beside each other, and what is left of them; blocks of 32 in odd numbers. */
static void test_panels_beside_each_other(void **state)
{
    static const uint32_t n_outs[] = {49, 64, 80, 145}, n_ins[] = {32, 96, 544};
    static const uint32_t ms[] = {1, 2, 5, 8, 9, 16, 17};

    (void)state;
    for (uint32_t i = 0; i < ARRAY_LEN(n_outs) * ARRAY_LEN(n_ins) * ARRAY_LEN(ms); i++) {
        uint32_t n_out = n_outs[i % 4], n_in = n_ins[i / 4 % 3], m = ms[i / 12];

        for (uint32_t kind = 0; kind < WEIGHTS_KIND_COUNT; kind++) {
            check(DTYPE_Q4_0, n_out, n_in, m, (enum weights_kind)kind, i);
            check(DTYPE_Q4_K, n_out, n_in / 96 * QK_K + QK_K, m, (enum weights_kind)kind, i);
        }
    }
}

/* One scale that is zero or a denormal, in a row of nothing else, in any of four panels. */
static void test_one_odd_scale(void **state)
{
    static const uint16_t scales[] = {0x0000, 0x8000, 0x0001, 0x83ff};

    (void)state;
    for (uint32_t i = 0; i < 4 * 4 * 3; i++) {
        uint32_t row = i % 4 * 16 + i / 16 * 5, b = i / 16;
        struct fixture f;

        fixture_open(&f, DTYPE_Q4_0, 64, 96, 1 + i % 3 * 7, WEIGHTS_PLAIN, i);
        for (uint32_t j = 0; j < 3; j++) {
            struct block_q4_0 *block = (struct block_q4_0 *)(void *)f.rows.data + row * 3 + j;

            if (j == b)
                memcpy(block, &scales[i / 4 % 4], 2);
            else
                memset(block->qs, 0x88, sizeof(block->qs));
        }
        prepare(&f);
        FOR_TIERS(k) check_tier(k, &f);
        fixture_close(&f);
    }
}

static void test_odd_lengths_of_bf16_rows(void **state)
{
    (void)state;
    for (uint32_t n_in = 1; n_in <= 101; n_in++) {
        check(DTYPE_BF16, 35, n_in, 1 + n_in % 67, WEIGHTS_PLAIN, n_in);
        if (n_in % 5 == 0)
            check(DTYPE_BF16, 35, 480 + n_in, 70, WEIGHTS_PLAIN, n_in);
    }
}

/* More of x than is worked on at once, and more of w than has its sums in cache. */
static void test_many_rows(void **state)
{
    (void)state;
    for (size_t t = 0; t < WEIGHTS_TYPES; t++) {
        if (!by_bf16(weights_types[t]))
            continue;
        check(weights_types[t], 19, 256, 520, WEIGHTS_PLAIN, 1);
        if (weights_types[t] == DTYPE_Q4_0)
            check(weights_types[t], 35, 16640, 17, WEIGHTS_PLAIN, 3); /* longer than is turned */
        if (weights_types[t] == DTYPE_Q8_0)
            check(DTYPE_Q8_0, 16 * 19 - 1, 544, 500, WEIGHTS_PLAIN, 2);
    }
}

static void test_random_shapes_and_extremes(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t r = rng_u64(99, i);
        enum dtype type = weights_types[r % WEIGHTS_TYPES];

        if (by_bf16(type))
            check(type, 1 + (r >> 16) % 65, 256 * (1 + (r >> 8) % 6), 1 + (r >> 24) % 100,
                  (enum weights_kind)((r >> 40) % WEIGHTS_KIND_COUNT), i);
    }
}

static void test_no_panels_write_nothing(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, DTYPE_Q8_0, 32, 32, 3, WEIGHTS_PLAIN, 1);
    memset(f.y.data, GUARD_POISON, f.y.bytes);
    FOR_TIERS(k) k->matmul_bf16((float *)f.y.data, f.y_stride, &f.w, &f.act, 3, 1, 1);
    for (size_t i = 0; i < f.y.bytes; i++)
        assert_int_equal(f.y.data[i], GUARD_POISON);
    fixture_close(&f);
}

/* Every length; ties, denormals, infinity, the largest numbers; only the row's own values. */
static void test_to_bf16(void **state)
{
    static const uint32_t special[] = {0,          0x80000000, 0x00000001, 0x807fffff, 0x00800000,
                                       0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x7f800000,
                                       0xff800000, 0x7f7fffff, 0x7f7f7fff, 0x007fffff};

    (void)state;
    FOR_TIERS(kern)
    for (uint32_t k = 1; k < 1100; k += k < 70 ? 1 : 97) {
        struct act_bf16 a = {.k_pad = (k + QK - 1) / QK * QK, .rows = 32};
        struct guard x, got, want;

        guard_open(&x, k * sizeof(float));
        weights_floats((float *)x.data, k, (enum weights_kind)(k % WEIGHTS_KIND_COUNT), k);
        for (uint32_t i = 0; i < k && i < ARRAY_LEN(special); i++)
            memcpy(x.data + (k - 1 - i) * 4, &special[i], 4);
        a.x = guard_open(&want, 32 * a.k_pad * sizeof(uint16_t));
        for (uint32_t i = 0; i < a.k_pad; i++)
            act_bf16_at(&a, 17, i / QK)[i % QK] = i < k ? round_bf16(((float *)x.data)[i]) : 0;
        a.x = guard_open(&got, want.bytes);
        kern->to_bf16(&a, 17, (float *)x.data, k);
        assert_memory_equal(got.data, want.data, want.bytes);
        guard_close(&x);
        guard_close(&got);
        guard_close(&want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_is_near_the_exact_sum),
        cmocka_unit_test(test_tiers_tested_here),
        cmocka_unit_test(test_matrix_unit_adds_as_the_manual_says),
        cmocka_unit_test(test_every_number_of_rows_of_w),
        cmocka_unit_test(test_every_number_of_rows_of_x),
        cmocka_unit_test(test_panels_beside_each_other),
        cmocka_unit_test(test_one_odd_scale),
        cmocka_unit_test(test_odd_lengths_of_bf16_rows),
        cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_random_shapes_and_extremes),
        cmocka_unit_test(test_no_panels_write_nothing),
        cmocka_unit_test(test_to_bf16),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
