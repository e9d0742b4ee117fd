#include <float.h>
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
#include "model/blocks.h"
#include "tests/lib/guard.h"
#include "tests/lib/weights.h"

/* One matrix, m rows of activations, and the result of the reference. All buffers are guarded; rows
 * of x and y have a gap after them, of which that of y must stay poison. */
struct fixture {
    enum dtype type;
    uint32_t n_out, n_in, m;
    size_t x_stride, y_stride, q_stride;
    struct panels w;
    struct guard rows, data, x, q, d, sum, y;
    bool ternary; /* the input of ternary weights is actk, that of others act */
    struct act_q8 act;
    struct act_q8k actk;
};

/* Values of x a scale. */
static size_t block_of(const struct fixture *f) { return f->ternary ? QK_K : QK; }

static bool quantised(enum dtype type) { return dtype_info(type)->block_elems > 1; }

static void run(const struct kernels *k, const struct fixture *f, struct guard *y, uint32_t p0,
                uint32_t p1)
{
    struct panels w = f->w;

    w.few = p0 % 2 ? 1 : 40; /* which way rows go changes no bit */
    if (f->ternary)
        k->matmul_t((float *)y->data, f->y_stride, &w, &f->actk, f->m, p0, p1);
    else if (quantised(f->type))
        k->matmul_q((float *)y->data, f->y_stride, &f->w, &f->act, f->m, p0, p1);
    else
        k->matmul_f((float *)y->data, f->y_stride, &f->w, (const float *)f->x.data, f->x_stride,
                    f->m, p0, p1);
}

static size_t y_bytes(const struct fixture *f)
{
    return ((f->m - 1) * f->y_stride + f->n_out) * sizeof(float);
}

static float scale_of(enum dtype type) { return type == DTYPE_I2_S ? 0.7f : 1; }

static void fixture_open(struct fixture *f, enum dtype type, uint32_t n_out, uint32_t n_in,
                         uint32_t m, enum weights_kind kind, uint64_t seed)
{
    size_t blocks, sum_bytes;

    *f = (struct fixture){.type = type, .n_out = n_out, .n_in = n_in, .m = m};
    f->x_stride = n_in + seed % 3;
    f->y_stride = n_out + seed % 5;
    guard_open(&f->rows, n_out * weights_row_bytes(type, n_in));
    weights_fill(f->rows.data, type, n_out, n_in, kind, seed);
    panels_init(&f->w, type, n_out, n_in);
    f->w.scale = scale_of(type);
    f->w.data = guard_open(&f->data, panels_bytes(&f->w));
    panels_pack(&f->w, f->rows.data, 0, f->w.n_panels);
    guard_open(&f->x, ((m - 1) * f->x_stride + n_in) * sizeof(float));
    weights_floats((float *)f->x.data, (m - 1) * f->x_stride + n_in, kind, seed + 1);
    f->ternary = block_is_ternary(type);
    blocks = (n_in + block_of(f) - 1) / block_of(f);
    sum_bytes = f->ternary ? sizeof(int32_t) : 2 * sizeof(int16_t);
    f->act.k_pad = f->actk.k_pad = (uint32_t)(blocks * block_of(f));
    f->q_stride = f->ternary ? ACT_Q8K_STRIDE(f->actk.k_pad) : f->act.k_pad;
    f->act.q = f->actk.q = guard_open(&f->q, (m - 1) * f->q_stride + f->act.k_pad);
    f->act.d = f->actk.d = guard_open(&f->d, m * blocks * sizeof(float));
    guard_open(&f->sum, m * blocks * sum_bytes);
    f->act.sum = (int16_t *)f->sum.data;
    f->actk.sum = (int32_t *)f->sum.data;
    for (uint32_t i = 0; i < m; i++) {
        const float *x = (float *)f->x.data + i * f->x_stride;

        if (f->ternary)
            kernels_get(CPU_REF)->quantize_k(&f->actk, i, x, n_in);
        else
            kernels_get(CPU_REF)->quantize(&f->act, i, x, n_in);
    }
    guard_open(&f->y, y_bytes(f));
    run(kernels_get(CPU_REF), f, &f->y, 0, f->w.n_panels);
}

static void fixture_close(struct fixture *f)
{
    guard_close(&f->rows);
    guard_close(&f->data);
    guard_close(&f->x);
    guard_close(&f->q);
    guard_close(&f->d);
    guard_close(&f->sum);
    guard_close(&f->y);
}

/* out[k] bounds what the weight is put together from: |w|, or the sizes of d sc q and dmin m. */
static void magnitudes(float *out, const struct fixture *f, const uint8_t *row)
{
    size_t bytes = weights_row_bytes(f->type, f->n_in);
    uint8_t *copy = mem_alloc(bytes);

    memcpy(copy, row, bytes);
    if (block_has_min(f->type))
        for (size_t i = 0; i < bytes; i += dtype_info(f->type)->block_bytes) {
            bool k_type = dtype_info(f->type)->block_elems == QK_K;

            copy[i + 1] &= 0x7f; /* d is positive, and what is added too */
            copy[i + 3] = (uint8_t)(k_type ? copy[i + 3] | 0x80 : copy[i + 3] & 0x7f);
        }
    dtype_row_to_f32(out, copy, f->type, f->n_in);
    for (size_t k = 0; k < f->n_in; k++)
        out[k] = fabsf(out[k]);
    mem_free(copy);
}

/* How many times a sum is rounded: each is at most 2^-24 of the sum of the terms' sizes. */
static size_t roundings(const struct fixture *f)
{
    if (block_is_scaled(f->type) || f->ternary)
        return f->n_in / 32 + 2; /* a term's scale adds two */
    if (block_has_min(f->type))
        return f->n_in / 32 + 4; /* two in t, one in the oracle's weight */
    return f->type == DTYPE_Q6_K ? f->n_in / 16 + 2 : f->n_in;
}

/* The reference against the sum in double. */
static void check_oracle(const struct fixture *f)
{
    size_t row_bytes = weights_row_bytes(f->type, f->n_in), blocks = f->act.k_pad / block_of(f);
    double n = (double)roundings(f);
    float *w = mem_calloc(f->n_in, sizeof(float)), *a = mem_calloc(f->n_in, sizeof(float));

    for (uint32_t r = 0; r < f->n_out; r++) {
        dtype_row_to_f32(w, f->rows.data + r * row_bytes, f->type, f->n_in);
        magnitudes(a, f, f->rows.data + r * row_bytes);
        for (size_t i = 0; i < f->m; i++) {
            double sum = 0, size = 0, got = ((float *)f->y.data)[i * f->y_stride + r];

            for (size_t k = 0; k < f->n_in; k++) {
                double x = quantised(f->type) ? (double)f->act.d[i * blocks + k / block_of(f)] *
                                                    f->act.q[i * f->q_stride + k]
                                              : ((float *)f->x.data)[i * f->x_stride + k];

                x *= (double)scale_of(f->type);
                sum += w[k] * x;
                size += fabs(a[k] * x);
            }
            if (fabs(got - sum) > n * 0x1p-24 * size + n * FLT_MIN)
                fail_msg("row %u of %s %ux%u: %g, want %g", r, dtype_info(f->type)->name, f->n_out,
                         f->n_in, got, sum);
        }
    }
    mem_free(w);
    mem_free(a);
}

/* Bits equal to the reference's, gaps untouched; whole, and in two ranges of panels. */
static void check_tier(const struct kernels *k, const struct fixture *f)
{
    for (uint32_t cut = 0; cut < f->w.n_panels; cut += 3) {
        struct guard y;

        guard_open(&y, y_bytes(f));
        run(k, f, &y, cut, f->w.n_panels);
        run(k, f, &y, 0, cut);
        if (memcmp(y.data, f->y.data, y.bytes) != 0)
            fail_msg("%s differs: %s %ux%u, %u rows, cut %u", cpu_tier_name(k->tier),
                     dtype_info(f->type)->name, f->n_out, f->n_in, f->m, cut);
        guard_close(&y);
    }
}

/* What the input is quantised to, too. */
static void check_quantize(const struct kernels *k, const struct fixture *f)
{
    size_t blocks = f->act.k_pad / block_of(f);
    struct guard q, d, sum;
    struct act_q8k a = {.k_pad = f->actk.k_pad};

    if (!f->ternary)
        return; /* test_vector has the others */
    a.q = guard_open(&q, f->q.bytes);
    a.d = guard_open(&d, f->m * blocks * sizeof(float));
    a.sum = guard_open(&sum, f->m * blocks * sizeof(int32_t));
    for (uint32_t i = 0; i < f->m; i++)
        k->quantize_k(&a, i, (float *)f->x.data + i * f->x_stride, f->n_in);
    for (uint32_t i = 0; i < f->m; i++)
        assert_memory_equal(a.q + i * f->q_stride, f->actk.q + i * f->q_stride, a.k_pad);
    assert_memory_equal(a.d, f->actk.d, f->m * blocks * sizeof(float));
    assert_memory_equal(a.sum, f->actk.sum, f->m * blocks * sizeof(int32_t));
    guard_close(&q);
    guard_close(&d);
    guard_close(&sum);
}

/* Row i alone gives what it gives in the batch. */
static void check_alone(const struct kernels *k, const struct fixture *f)
{
    size_t blocks = f->act.k_pad / block_of(f);

    for (size_t i = 0; i < f->m; i++) {
        struct fixture one = *f;
        struct guard y;

        one.m = 1;
        one.x.data += i * f->x_stride * sizeof(float);
        one.act.q += i * f->q_stride;
        one.act.d += i * blocks;
        one.act.sum += 2 * i * blocks;
        one.actk.q += i * f->q_stride;
        one.actk.d += i * blocks;
        one.actk.sum += i * blocks;
        guard_open(&y, f->n_out * sizeof(float));
        run(k, &one, &y, 0, f->w.n_panels);
        assert_memory_equal(y.data, f->y.data + i * f->y_stride * sizeof(float), y.bytes);
        guard_close(&y);
    }
}

/* The form that the tier itself asks for gives what panels_init's does. */
static void check_own_form(const struct kernels *k, const struct fixture *f)
{
    struct fixture own = *f;
    struct guard data;

    if (kernels_act_kind(k, f->w.type) != (f->ternary ? ACT_Q8K : ACT_Q8))
        return;
    kernels_panels_init(k, &own.w, f->type, f->n_out, f->n_in);
    own.w.scale = scale_of(f->type);
    own.w.data = guard_open(&data, panels_bytes(&own.w));
    panels_pack(&own.w, f->rows.data, 0, own.w.n_panels);
    check_tier(k, &own);
    guard_close(&data);
}

static void check(enum dtype type, uint32_t n_out, uint32_t n_in, uint32_t m,
                  enum weights_kind kind, uint64_t seed)
{
    struct fixture f;

    fixture_open(&f, type, n_out, weights_length(type, n_in), m, kind, seed);
    check_oracle(&f);
    for (int t = 0; t < CPU_TIER_COUNT; t++) {
        const struct kernels *k = kernels_get((enum cpu_tier)t);

        if (!k)
            continue;
        check_quantize(k, &f);
        check_tier(k, &f);
        check_alone(k, &f);
        check_own_form(k, &f);
    }
    fixture_close(&f);
}

static void test_every_number_of_rows_of_w(void **state)
{
    (void)state;
    for (size_t t = 0; t < WEIGHTS_FORMS; t++)
        for (uint32_t n_out = 1; n_out <= 65; n_out++)
            check(weights_types[t], n_out, 32 + n_out % 3 * 32, 1 + n_out % 4, WEIGHTS_PLAIN,
                  n_out);
}

static void test_every_number_of_rows_of_x(void **state)
{
    (void)state;
    for (size_t t = 0; t < WEIGHTS_FORMS; t++)
        for (uint32_t m = 1; m <= 19; m++)
            check(weights_types[t], 40 + m, 64 + m % 2 * 32, m, WEIGHTS_PLAIN, m);
}

static void test_odd_lengths_of_float_rows(void **state)
{
    (void)state;
    for (size_t t = 0; t < 3; t++)
        for (uint32_t n_in = 1; n_in <= 37; n_in += 2)
            check(weights_types[t], 35, n_in, 1 + n_in % 11, WEIGHTS_PLAIN, n_in);
}

/* Longer than the slice of k that stays in cache, with and without a rest. */
static void test_long_rows(void **state)
{
    static const uint32_t lengths[] = {256, 512, 544, 1024, 1056, 2080};

    (void)state;
    for (size_t t = 0; t < WEIGHTS_FORMS; t++)
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
            check(weights_types[t], 33, lengths[i], 9, WEIGHTS_PLAIN, i);
            check(weights_types[t], 48, lengths[i] + (t < 3), 17, WEIGHTS_PLAIN, i);
        }
}

/* Tiles of the matrix unit have 32 rows of x, slabs 1024 k. */
static void test_ternary(void **state)
{
    (void)state;
    for (uint32_t m = 1; m <= 70; m++)
        for (int kind = 0; kind < WEIGHTS_KIND_COUNT; kind++)
            check(m % 4 ? DTYPE_TQ2_0 : DTYPE_TQ1_0, 15 + m, 256 * (1 + m % 11), m,
                  (enum weights_kind)kind, m);
    for (uint32_t m = 1; m <= 40; m += 3)
        check(DTYPE_I2_S, 15 + m, 128 * (1 + m % 11), m, WEIGHTS_PLAIN, m);
    check(DTYPE_TQ2_0, 65, 5632, 193, WEIGHTS_PLAIN, 1); /* more of x than stays in cache */
}

static void test_random_shapes(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 150; i++) {
        uint64_t r = rng_u64(99, i);
        enum dtype type = weights_types[r % WEIGHTS_FORMS];
        uint32_t n_in = quantised(type) ? 32 * (1 + (r >> 8) % 12) : 1 + (r >> 8) % 300;

        check(type, 1 + (r >> 16) % 65, n_in, 1 + (r >> 24) % 19,
              (enum weights_kind)(r >> 40) % WEIGHTS_KIND_COUNT, i);
    }
}

static void test_extreme_weights_and_scales(void **state)
{
    (void)state;
    for (size_t t = 0; t < WEIGHTS_FORMS; t++)
        for (uint64_t seed = 0; seed < 20; seed++)
            check(weights_types[t], 30 + seed, 96, 1 + seed % 10, WEIGHTS_EXTREME, seed);
}

/* Every row of W the same: bytes of weights and of integer scales, and all f16 scales 1. */
static void fill_same(struct fixture *f, uint8_t weights, uint8_t scales)
{
    const struct dtype_info *info = dtype_info(f->type);
    const uint16_t one = 0x3c00;
    bool last = f->type == DTYPE_Q6_K || f->type == DTYPE_TQ1_0 || f->type == DTYPE_TQ2_0;

    for (uint8_t *at = f->rows.data; at < f->rows.data + f->rows.bytes; at += info->block_bytes) {
        memset(at, weights, info->block_bytes);
        memcpy(last ? at + info->block_bytes - 2 : at, &one, 2);
        if (block_has_min(f->type))
            memcpy(at + 2, &one, 2);
        if (f->type == DTYPE_Q4_K || f->type == DTYPE_Q5_K)
            memset(at + 4, scales, 12);
        if (f->type == DTYPE_Q6_K)
            memset(at + offsetof(struct block_q6_k, scales), scales, 16);
    }
    panels_pack(&f->w, f->rows.data, 0, f->w.n_panels);
}

/* The largest sums a block can have: ends of the weights' range against +-127, all of one sign. */
static void check_saturating(enum dtype type, uint8_t weights, uint8_t scales)
{
    struct fixture f;
    size_t block;

    fixture_open(&f, type, 32, weights_length(type, 64), 9, WEIGHTS_PLAIN, 3);
    block = f.ternary ? QK_K : 64;
    fill_same(&f, weights, scales);
    memset(f.sum.data, 0, f.sum.bytes);
    for (size_t i = 0; i < f.m * f.act.k_pad; i++) {
        int8_t q = i / block % 3 == 0 ? 127 : i / block % 3 == 1 ? -127 : i % 2 ? 127 : -127;

        f.act.q[i / f.act.k_pad * f.q_stride + i % f.act.k_pad] = q;
        if (f.ternary)
            f.actk.sum[i / QK_K] += q;
        else
            f.act.sum[i / 16] = (int16_t)(f.act.sum[i / 16] + q);
    }
    run(kernels_get(CPU_REF), &f, &f.y, 0, f.w.n_panels);
    check_oracle(&f);
    for (int t = 0; t < CPU_TIER_COUNT; t++)
        if (kernels_get((enum cpu_tier)t))
            check_tier(kernels_get((enum cpu_tier)t), &f);
    fixture_close(&f);
}

static void test_saturating_blocks(void **state)
{
    static const uint8_t bytes[] = {0x80, 0x7f, 0x81, 0xff, 0x00, 0xf0};

    (void)state;
    for (size_t t = 0; t < WEIGHTS_FORMS; t++)
        for (size_t w = 0; quantised(weights_types[t]) && w < ARRAY_LEN(bytes); w++)
            for (size_t s = 0; s < ARRAY_LEN(bytes); s++)
                check_saturating(weights_types[t], bytes[w], bytes[s]);
}

static void test_saturating_ternary_blocks(void **state)
{
    static const uint8_t bytes[] = {0x00, 0x55, 0xaa, 0xff, 0xcc};

    (void)state;
    for (size_t w = 0; w < ARRAY_LEN(bytes); w++)
        check_saturating(DTYPE_TQ2_0, bytes[w], 0);
}

static void test_no_panels_write_nothing(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, DTYPE_Q8_0, 32, 32, 3, WEIGHTS_PLAIN, 1);
    memset(f.y.data, GUARD_POISON, f.y.bytes);
    for (int t = 0; t < CPU_TIER_COUNT; t++)
        if (kernels_get((enum cpu_tier)t))
            run(kernels_get((enum cpu_tier)t), &f, &f.y, 1, 1);
    for (size_t i = 0; i < f.y.bytes; i++)
        assert_int_equal(f.y.data[i], GUARD_POISON);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_number_of_rows_of_w),
        cmocka_unit_test(test_every_number_of_rows_of_x),
        cmocka_unit_test(test_odd_lengths_of_float_rows),
        cmocka_unit_test(test_long_rows),
        cmocka_unit_test(test_ternary),
        cmocka_unit_test(test_saturating_ternary_blocks),
        cmocka_unit_test(test_random_shapes),
        cmocka_unit_test(test_extreme_weights_and_scales),
        cmocka_unit_test(test_saturating_blocks),
        cmocka_unit_test(test_no_panels_write_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
