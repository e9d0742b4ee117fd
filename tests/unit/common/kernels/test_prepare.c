/* Activations prepared in parts are those prepared whole. */
#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "tests/lib/test.h"
#include "tests/lib/weights.h"

#define ROWS 35 /* more than two tiles, the last not full */
#define K_MAX 1600

static struct act act_open(uint32_t n)
{
    struct act a = {0};

    a.q8.k_pad = a.bf16.k_pad = (uint32_t)size_round_up(n, QK);
    a.q8.q = mem_aligned((size_t)ROWS * a.q8.k_pad, 64);
    a.q8.d = mem_aligned((size_t)ROWS * a.q8.k_pad / QK * sizeof(float), 64);
    a.q8.sum = mem_aligned((size_t)ROWS * a.q8.k_pad / 16 * sizeof(int16_t), 64);
    a.bf16.rows = (uint32_t)size_round_up(ROWS, 16);
    a.bf16.x = mem_aligned((size_t)a.bf16.rows * a.bf16.k_pad * 2, 64);
    a.q8k.k_pad = (uint32_t)size_round_up(n, QK_K);
    a.q8k.q = mem_aligned(ROWS * ACT_Q8K_STRIDE(a.q8k.k_pad), 64);
    a.q8k.d = mem_aligned((size_t)ROWS * a.q8k.k_pad / QK_K * sizeof(float), 64);
    a.q8k.sum = mem_aligned((size_t)ROWS * a.q8k.k_pad / QK_K * sizeof(int32_t), 64);
    memset(a.q8k.q, 0x55, ROWS * ACT_Q8K_STRIDE(a.q8k.k_pad));
    memset(a.q8.q, 0x55, (size_t)ROWS * a.q8.k_pad);
    memset(a.bf16.x, 0x55, (size_t)a.bf16.rows * a.bf16.k_pad * 2);
    return a;
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

static void check(const struct kernels *k, unsigned kinds, uint32_t n, uint64_t seed)
{
    struct act whole = act_open(n), parts = act_open(n);
    float x[K_MAX];

    for (uint32_t r = 0; r < ROWS; r++) {
        weights_floats(x, n, r % 2 ? WEIGHTS_EXTREME : WEIGHTS_PLAIN, seed + r);
        kernels_prepare(k, &whole, kinds, r, x, n);
        for (uint32_t at = 0, len; at < n; at += len) {
            len = kernels_act_block(kinds) * (1 + (uint32_t)(rng_u64(seed, r * 100 + at) % 40));
            len = u32_min(len, n - at);
            kernels_prepare_part(k, &parts, kinds, r, at, x + at, len);
        }
    }
    if (kinds & 1u << ACT_Q8) {
        assert_memory_equal(parts.q8.q, whole.q8.q, (size_t)ROWS * whole.q8.k_pad);
        assert_memory_equal(parts.q8.d, whole.q8.d, (size_t)ROWS * whole.q8.k_pad / QK * 4);
        assert_memory_equal(parts.q8.sum, whole.q8.sum, (size_t)ROWS * whole.q8.k_pad / 16 * 2);
    }
    if (kinds & 1u << ACT_Q8K) {
        assert_memory_equal(parts.q8k.q, whole.q8k.q, ROWS * ACT_Q8K_STRIDE(whole.q8k.k_pad));
        assert_memory_equal(parts.q8k.d, whole.q8k.d, (size_t)ROWS * whole.q8k.k_pad / QK_K * 4);
        assert_memory_equal(parts.q8k.sum, whole.q8k.sum, (size_t)ROWS * whole.q8k.k_pad / QK_K * 4);
    }
    if (kinds & 1u << ACT_BF16)
        assert_memory_equal(parts.bf16.x, whole.bf16.x,
                            (size_t)whole.bf16.rows * whole.bf16.k_pad * 2);
    act_close(&whole);
    act_close(&parts);
}

static void parts_of_a_row_are_the_row(void **state)
{
    static const uint32_t lengths[] = {1, 31, 32, 33, 64, 500, 512, 513, 768, 1024, 1100, 1600};

    (void)state;
    for (int t = 0; t < CPU_TIER_COUNT; t++)
        for (size_t i = 0; i < ARRAY_LEN(lengths) && kernels_get((enum cpu_tier)t); i++) {
            const struct kernels *k = kernels_get((enum cpu_tier)t);

            check(k, 1u << ACT_Q8 | (k->to_bf16 ? 1u << ACT_BF16 : 0), lengths[i], i);
            check(k, 1u << ACT_Q8K, lengths[i], i);
        }
}

static void divide_divides(void **state)
{
    float y[37];

    (void)state;
    for (int i = 0; i < 37; i++)
        y[i] = 0.1f * (float)i;
    kernels_divide(y, 3, 36);
    for (int i = 0; i < 36; i++)
        assert_true(y[i] == 0.1f * (float)i / 3);
    assert_true(y[36] == 0.1f * 36.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_a_row_are_the_row),
        cmocka_unit_test(divide_divides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
