#include "kernels/kernels.h"

#include "base/check.h"
#include "kernels/tiers.h"

/* Of x in cache: with weights and sums these fit an L2 of 2 MiB. */
#define KERNELS_X_BYTES ((size_t)1 << 20)

static const struct kernels tables[CPU_TIER_COUNT] = {
    [CPU_REF] = {KERNELS_OF(CPU_REF, ref), .matmul_q = matmul_q_ref, .matmul_t = matmul_t_ref,
                 KERNELS_KV_OF(ref)},
#ifdef __x86_64__
    [CPU_AVX2] = {KERNELS_OF(CPU_AVX2, avx2), .matmul_q = matmul_q_avx2, .matmul_t = matmul_t_avx2,
                  KERNELS_KV_OF(avx2)},
    [CPU_AVX512VNNI] = {KERNELS_OF(CPU_AVX512VNNI, avx512vnni), .matmul_q = matmul_q_avx512vnni,
                        .matmul_t = matmul_t_avx512vnni, KERNELS_KV_OF(avx512vnni)},
    [CPU_AMX] = {KERNELS_OF(CPU_AMX, avx512vnni), .matmul_q = matmul_q_avx512vnni,
                 .matmul_t = matmul_t_amx, KERNELS_KV_OF(amx), .to_bf16 = to_bf16_amx, .matmul_bf16 = matmul_bf16_amx},
#endif
#ifdef __aarch64__
    [CPU_NEON_DOTPROD] = {KERNELS_OF(CPU_NEON_DOTPROD, neon), .matmul_q = matmul_q_dotprod,
                          .matmul_t = matmul_t_dotprod, KERNELS_KV_OF(neon)},
    [CPU_NEON_I8MM] = {KERNELS_OF(CPU_NEON_I8MM, neon), .matmul_q = matmul_q_i8mm,
                       .matmul_t = matmul_t_dotprod, KERNELS_KV_OF(neon)},
#endif
};

const struct kernels *kernels_get(enum cpu_tier tier)
{
    if (!tables[tier].quantize || !cpu_tier_available(tier))
        return NULL;
    return &tables[tier];
}

bool kernels_kv_type(const struct kernels *k, enum kv_type type)
{
    return type != KV_BF16 || k->matmul_bf16;
}

enum kv_type kernels_kv_auto(const struct kernels *k)
{
    return kernels_kv_type(k, KV_BF16) ? KV_BF16 : KV_F16;
}

void kernels_panels_init(const struct kernels *k, struct panels *p, enum dtype type, uint32_t n_out,
                         uint32_t n_in)
{
    if (k->matmul_bf16)
        panels_init_by_rows(p, type, n_out, n_in);
    else
        panels_init(p, type, n_out, n_in);
}

enum act_kind kernels_act_kind(const struct kernels *k, enum dtype type)
{
    if (type == DTYPE_F32 || type == DTYPE_F16)
        return ACT_F32;
    if (type == DTYPE_TQ2_0)
        return ACT_Q8K;
    if (type == DTYPE_Q4_1 || type == DTYPE_Q5_1 || type == DTYPE_Q5_K)
        return ACT_Q8; /* in every tier: nothing unpacks these to bf16 */
    if (k->matmul_bf16)
        return ACT_BF16;
    return type == DTYPE_BF16 ? ACT_F32 : ACT_Q8;
}

bool kernels_few(const struct kernels *k, enum dtype type, struct kernels_few *range)
{
    if (k->tier == CPU_AMX && kernels_act_kind(k, type) == ACT_BF16)
        *range = (struct kernels_few){MATMUL_FEW_BF16, 16, MATMUL_FEW_BF16, 16};
    else if (k->tier == CPU_AMX && kernels_act_kind(k, type) == ACT_Q8K)
        *range = (struct kernels_few){MATMUL_FEW_T, 4, 32, 4};
    else
        return false;
    return true;
}

void kernels_prepare(const struct kernels *k, struct act *a, unsigned kinds, uint32_t row,
                     const float *x, size_t n)
{
    if (kinds & 1u << ACT_Q8)
        k->quantize(&a->q8, row, x, n);
    if (kinds & 1u << ACT_Q8K)
        k->quantize_k(&a->q8k, row, x, n);
    if (kinds & 1u << ACT_BF16)
        k->to_bf16(&a->bf16, row, x, n);
}

uint32_t kernels_act_block(unsigned kinds) { return kinds & 1u << ACT_Q8K ? QK_K : QK; }

void kernels_prepare_part(const struct kernels *k, struct act *a, unsigned kinds, uint32_t row,
                          uint32_t k0, const float *x, size_t n)
{
    /* The columns are one row of a narrower matrix; of tiles, one of each slice of the row. */
    if (kinds & 1u << ACT_Q8) {
        size_t b = ((size_t)row * a->q8.k_pad + k0) / QK;
        struct act_q8 part = {a->q8.q + b * QK, a->q8.d + b, a->q8.sum + 2 * b,
                              (uint32_t)size_round_up(n, QK)};

        k->quantize(&part, 0, x, n);
    }
    if (kinds & 1u << ACT_Q8K) {
        size_t b = ((size_t)row * a->q8k.k_pad + k0) / QK_K;
        struct act_q8k part = {a->q8k.q + row * ACT_Q8K_STRIDE(a->q8k.k_pad) + k0, a->q8k.d + b, a->q8k.sum + b,
                               (uint32_t)size_round_up(n, QK_K)};

        k->quantize_k(&part, 0, x, n);
    }
    for (size_t i = 0, len; kinds & 1u << ACT_BF16 && i < n; i += len) {
        struct act_bf16 part = {.rows = 16};

        len = size_min(n - i, ACT_BF16_KC - (k0 + i) % ACT_BF16_KC);
        part.x = act_bf16_at(&a->bf16, row, (uint32_t)((k0 + i) / QK)) - row % 16 * QK;
        part.k_pad = (uint32_t)size_round_up(len, QK);
        k->to_bf16(&part, row % 16, x + i, len);
    }
}

struct act kernels_act_from(const struct act *a, uint32_t row)
{
    struct act from = *a;
    size_t blocks = (size_t)row * (a->q8.k_pad / QK);
    size_t k_blocks = (size_t)row * (a->q8k.k_pad / QK_K);

    from.x += row * a->x_stride;
    from.q8.q += blocks * QK;
    from.q8.d += blocks;
    from.q8.sum += 2 * blocks;
    from.q8k.q += row * ACT_Q8K_STRIDE(a->q8k.k_pad);
    from.q8k.d += k_blocks;
    from.q8k.sum += k_blocks;
    from.bf16.first += row;
    return from;
}

uint32_t kernels_rows(const struct kernels *k, uint32_t width)
{
    size_t row = k->matmul_bf16 ? 2 * (size_t)width : width, rows = KERNELS_X_BYTES / row;

    return (uint32_t)size_max(rows > 256 ? 256 : rows / 16 * 16, 128);
}

void kernels_divide(float *y, float by, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] /= by;
}

void kernels_matmul(const struct kernels *k, float *y, size_t y_stride, const struct panels *w,
                    const struct act *a, uint32_t m, uint32_t p0, uint32_t p1)
{
    switch (kernels_act_kind(k, w->type)) {
    case ACT_F32:
        k->matmul_f(y, y_stride, w, a->x, a->x_stride, m, p0, p1);
        break;
    case ACT_Q8:
        k->matmul_q(y, y_stride, w, &a->q8, m, p0, p1);
        break;
    case ACT_Q8K:
        k->matmul_t(y, y_stride, w, &a->q8k, m, p0, p1);
        break;
    case ACT_BF16:
        k->matmul_bf16(y, y_stride, w, &a->bf16, m, p0, p1);
        break;
    }
}
