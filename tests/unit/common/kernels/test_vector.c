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
#include "kernels/kernels.h"
#include "tests/lib/guard.h"
#include "tests/lib/weights.h"

/* Every available tier, the reference first. */
#define FOR_TIERS(k)                                                                               \
    for (int t_ = 0; t_ < CPU_TIER_COUNT; t_++)                                                    \
        for (const struct kernels *k = kernels_get((enum cpu_tier)t_); k; k = NULL)

static void test_table_has_the_tiers_of_this_machine(void **state)
{
    (void)state;
    for (int t = 0; t < CPU_TIER_COUNT; t++) {
        const struct kernels *k = kernels_get((enum cpu_tier)t);

        assert_true(k == NULL || k->tier == (enum cpu_tier)t);
        print_message("%s: %s\n", cpu_tier_name((enum cpu_tier)t), k ? "tested" : "not available");
    }
    assert_non_null(kernels_get(CPU_REF));
}

struct quantised {
    struct guard q, d, sum;
    struct act_q8 act;
};

static void quantised_open(struct quantised *z, size_t k)
{
    size_t blocks = (k + QK - 1) / QK;

    z->act.k_pad = (uint32_t)blocks * QK;
    z->act.q = guard_open(&z->q, 2 * blocks * QK);
    z->act.d = guard_open(&z->d, 2 * blocks * sizeof(float));
    z->act.sum = guard_open(&z->sum, 2 * 2 * blocks * sizeof(int16_t));
}

static void quantised_close(struct quantised *z)
{
    guard_close(&z->q);
    guard_close(&z->d);
    guard_close(&z->sum);
}

static void check_quantised(const struct quantised *z, const float *x, size_t k)
{
    size_t blocks = z->act.k_pad / QK;

    for (size_t b = 0; b < blocks; b++) {
        double d = z->act.d[blocks + b], amax = 0;
        int32_t sum[2] = {0};

        for (size_t i = b * QK; i < k && i < (b + 1) * QK; i++)
            amax = fmax(amax, fabs(x[i]));
        assert_true(fabs(d - amax / 127) <= amax * 0x1p-30 + 0x1p-149);
        for (size_t i = b * QK; i < (b + 1) * QK; i++) {
            int8_t q = z->act.q[z->act.k_pad + i];

            assert_true(q >= -127 && (i < k || q == 0));
            if (i < k)
                assert_true(fabs(x[i] - d * q) <= d * 0.50002 + QUANTIZE_MIN);
            sum[i / 16 % 2] += q;
        }
        assert_int_equal(sum[0], z->act.sum[2 * (blocks + b)]);
        assert_int_equal(sum[1], z->act.sum[2 * (blocks + b) + 1]);
    }
}

static void check_quantize(size_t k, enum weights_kind kind)
{
    struct quantised ref, z;
    struct guard x;

    guard_open(&x, k * sizeof(float));
    weights_floats((float *)x.data, k, kind, k);
    quantised_open(&ref, k);
    kernels_get(CPU_REF)->quantize(&ref.act, 1, (float *)x.data, k);
    check_quantised(&ref, (float *)x.data, k);
    FOR_TIERS(kern) {
        quantised_open(&z, k);
        kern->quantize(&z.act, 1, (float *)x.data, k);
        assert_memory_equal(z.q.data, ref.q.data, z.q.bytes);
        assert_memory_equal(z.d.data, ref.d.data, z.d.bytes);
        assert_memory_equal(z.sum.data, ref.sum.data, z.sum.bytes);
        quantised_close(&z);
    }
    quantised_close(&ref);
    guard_close(&x);
}

static void test_quantize_any_length(void **state)
{
    (void)state;
    for (size_t k = 1; k < 140; k++)
        for (int kind = 0; kind < WEIGHTS_KIND_COUNT; kind++)
            check_quantize(k, (enum weights_kind)kind);
}

static void test_quantize_rounds_ties_to_even(void **state)
{
    float x[QK] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 3.5f};
    static const int8_t want[] = {127, 0, 2, 2, 0, -2, -2, 4};

    (void)state;
    FOR_TIERS(kern) {
        struct quantised z;

        quantised_open(&z, QK);
        kern->quantize(&z.act, 1, x, QK);
        assert_memory_equal(z.act.q + QK, want, sizeof(want));
        quantised_close(&z);
    }
}

/* Blocks too small to divide by, and blocks that hold no number. */
static void test_quantize_of_the_tiny_and_the_infinite(void **state)
{
    static const float tops[] = {0x1p-149f, 0x1.fffffep-121f, 0x1p-120f, FLT_MAX, INFINITY, NAN};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(tops); i++)
        FOR_TIERS(kern) {
            struct quantised z;
            float x[QK] = {0};

            x[17] = -tops[i];
            quantised_open(&z, QK);
            kern->quantize(&z.act, 1, x, QK);
            assert_int_equal(z.act.q[QK + 17], i == 2 || i == 3 ? -127 : 0);
            assert_int_equal(z.act.sum[2], 0);
            assert_int_equal(z.act.sum[3], i == 2 || i == 3 ? -127 : 0);
            assert_int_equal(isfinite(z.act.d[1]), i < 4);
            quantised_close(&z);
        }
}

static void copy_open(struct guard *to, const struct guard *from)
{
    guard_open(to, from->bytes);
    memcpy(to->data, from->data, from->bytes);
}

static void floats_open(struct guard *g, size_t n, enum weights_kind kind, uint64_t seed)
{
    guard_open(g, n * sizeof(float));
    weights_floats((float *)g->data, n, kind, seed);
}

static void check_rms_norm(size_t n)
{
    struct guard x, w, ref, y;
    double sum = 0, r;

    floats_open(&x, n, WEIGHTS_PLAIN, n);
    floats_open(&w, n, WEIGHTS_PLAIN, n + 1);
    guard_open(&ref, n * sizeof(float));
    kernels_get(CPU_REF)->rms_norm((float *)ref.data, (float *)x.data, (float *)w.data, n, 1e-5f);
    for (size_t i = 0; i < n; i++)
        sum += (double)((float *)x.data)[i] * ((float *)x.data)[i];
    r = 1 / sqrt(sum / (double)n + (double)1e-5f);
    for (size_t i = 0; i < n; i++) {
        double want = ((float *)x.data)[i] * r * ((float *)w.data)[i];

        assert_true(fabs(((float *)ref.data)[i] - want) <=
                    ((double)n / 32 + 6) * 0x1p-24 * fabs(want));
    }
    FOR_TIERS(kern) {
        guard_open(&y, ref.bytes);
        kern->rms_norm((float *)y.data, (float *)x.data, (float *)w.data, n, 1e-5f);
        assert_memory_equal(y.data, ref.data, y.bytes);
        memcpy(y.data, x.data, y.bytes);
        kern->rms_norm((float *)y.data, (float *)y.data, (float *)w.data, n, 1e-5f);
        assert_memory_equal(y.data, ref.data, y.bytes);
        guard_close(&y);
    }
    guard_close(&ref);
    guard_close(&w);
    guard_close(&x);
}

static void test_rms_norm(void **state)
{
    (void)state;
    for (size_t n = 1; n < 100; n++)
        check_rms_norm(n);
    check_rms_norm(4096);
}

static void check_rope(uint32_t n_head, uint32_t head_dim, uint32_t n_rot, enum weights_kind kind)
{
    struct guard x, cs, ref, y;

    floats_open(&x, n_head * head_dim, kind, head_dim);
    floats_open(&cs, n_rot, WEIGHTS_PLAIN, n_rot);
    copy_open(&ref, &x);
    kernels_get(CPU_REF)->rope((float *)ref.data, (float *)cs.data, n_head, head_dim, n_rot);
    for (uint32_t i = 0; i < n_head * head_dim; i++) {
        const float *pair = (float *)x.data + i / 2 * 2;
        const float *c = (float *)cs.data + i % head_dim / 2 * 2;
        double got = ((float *)ref.data)[i], want;

        if (i % head_dim >= n_rot) {
            assert_true(got == pair[i % 2]);
            continue;
        }
        want = i % 2 ? (double)pair[1] * c[0] + (double)pair[0] * c[1]
                     : (double)pair[0] * c[0] - (double)pair[1] * c[1];
        assert_true(fabs(got - want) <= 0x1p-22 * (fabs(pair[0]) + fabs(pair[1])) + 0x1p-148);
    }
    FOR_TIERS(kern) {
        copy_open(&y, &x);
        kern->rope((float *)y.data, (float *)cs.data, n_head, head_dim, n_rot);
        assert_memory_equal(y.data, ref.data, y.bytes);
        guard_close(&y);
    }
    guard_close(&ref);
    guard_close(&cs);
    guard_close(&x);
}

static void test_rope(void **state)
{
    (void)state;
    for (uint32_t dim = 2; dim <= 72; dim += 2)
        for (uint32_t n_rot = 2; n_rot <= dim; n_rot += 2) {
            check_rope(3, dim, n_rot, WEIGHTS_PLAIN);
            check_rope(1, dim, n_rot, WEIGHTS_EXTREME);
        }
}

static void check_silu(const float *gate, size_t n)
{
    struct guard g, up, ref, y;

    guard_open(&g, n * sizeof(float));
    memcpy(g.data, gate, n * sizeof(float));
    floats_open(&up, n, WEIGHTS_PLAIN, n);
    guard_open(&ref, n * sizeof(float));
    kernels_get(CPU_REF)->silu_mul((float *)ref.data, (float *)g.data, (float *)up.data, n);
    for (size_t i = 0; i < n; i++) {
        double want = gate[i] / (1 + exp(-(double)gate[i])) * ((float *)up.data)[i];

        /* Below -88.7 silu is 0, where it is at most 1e-36 in truth. */
        assert_true(fabs(((float *)ref.data)[i] - want) <= 0x1p-21 * fabs(want) + 1e-36);
    }
    FOR_TIERS(kern) {
        guard_open(&y, ref.bytes);
        kern->silu_mul((float *)y.data, (float *)g.data, (float *)up.data, n);
        assert_memory_equal(y.data, ref.data, y.bytes);
        memcpy(y.data, g.data, y.bytes);
        kern->silu_mul((float *)y.data, (float *)y.data, (float *)up.data, n);
        assert_memory_equal(y.data, ref.data, y.bytes);
        guard_close(&y);
    }
    guard_close(&ref);
    guard_close(&up);
    guard_close(&g);
}

static void test_silu_mul(void **state)
{
    float x[2048];
    size_t n = 0;

    (void)state;
    for (uint32_t i = 1; i < 70; i++) {
        weights_floats(x, i, WEIGHTS_EXTREME, i);
        check_silu(x, i);
    }
    for (float v = -95; n < ARRAY_LEN(x); v += 0.09f)
        x[n++] = v;
    check_silu(x, n);
}

static void test_add_and_axpy(void **state)
{
    (void)state;
    for (size_t n = 1; n < 70; n++) {
        struct guard x, y0, sum, fused, y;

        floats_open(&x, n, WEIGHTS_EXTREME, n);
        floats_open(&y0, n, WEIGHTS_EXTREME, n + 500);
        copy_open(&sum, &y0);
        copy_open(&fused, &y0);
        for (size_t i = 0; i < n; i++) {
            float a = ((float *)x.data)[i], b = ((float *)y0.data)[i];

            ((float *)sum.data)[i] = a + b;
            ((float *)fused.data)[i] = fmaf(0.37f, a, b);
        }
        FOR_TIERS(kern) {
            copy_open(&y, &y0);
            kern->add((float *)y.data, (float *)x.data, n);
            assert_memory_equal(y.data, sum.data, y.bytes);
            memcpy(y.data, y0.data, y.bytes);
            kern->axpy((float *)y.data, 0.37f, (float *)x.data, n);
            assert_memory_equal(y.data, fused.data, y.bytes);
            guard_close(&y);
        }
        guard_close(&x);
        guard_close(&y0);
        guard_close(&sum);
        guard_close(&fused);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_has_the_tiers_of_this_machine),
        cmocka_unit_test(test_quantize_any_length),
        cmocka_unit_test(test_quantize_rounds_ties_to_even),
        cmocka_unit_test(test_quantize_of_the_tiny_and_the_infinite),
        cmocka_unit_test(test_rms_norm),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_silu_mul),
        cmocka_unit_test(test_add_and_axpy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
