/* tiers: the functions of every tier, for kernels.c and the files that define them.
 *
 * Each tier defines the same functions with its own suffix; what they do is in kernels.h. A file
 * of a tier holds no data and no function without the suffix, and takes nothing from headers but
 * static inline functions, so that no instruction of a tier can run on a machine without it. */
#ifndef TANDEM_KERNELS_TIERS_H
#define TANDEM_KERNELS_TIERS_H

#include "kernels/kernels.h"

#define KERNELS_DECLARE(tier)                                                                      \
    void quantize_##tier(struct act_q8 *a, uint32_t row, const float *x, size_t k);                \
    void quantize_k_##tier(struct act_q8k *a, uint32_t row, const float *x, size_t k);             \
    void matmul_f_##tier(float *y, size_t y_stride, const struct panels *w, const float *x,        \
                         size_t x_stride, uint32_t m, uint32_t p0, uint32_t p1);                   \
    void matmul_q_##tier(float *y, size_t y_stride, const struct panels *w,                        \
                         const struct act_q8 *x, uint32_t m, uint32_t p0, uint32_t p1);            \
    /* matmul_q hands the K types on to it. */                                                     \
    void matmul_k_##tier(float *y, size_t y_stride, const struct panels *w,                        \
                         const struct act_q8 *x, uint32_t m, uint32_t p0, uint32_t p1);            \
    void matmul_t_##tier(float *y, size_t y_stride, const struct panels *w,                        \
                         const struct act_q8k *x, uint32_t m, uint32_t p0, uint32_t p1);           \
    void rms_norm_##tier(float *y, const float *x, const float *w, size_t n, float eps);           \
    void rope_##tier(float *x, const float *cs, uint32_t n_head, uint32_t head_dim,                \
                     uint32_t n_rot);                                                              \
    void silu_mul_##tier(float *y, const float *gate, const float *up, size_t n);                  \
    void add_##tier(float *y, const float *x, size_t n);                                           \
    void axpy_##tier(float *y, float a, const float *x, size_t n);                                 \
    void kv_store_##tier(uint8_t *page, const struct kv_layout *l, uint32_t layer, uint32_t pos,   \
                         const float *k, const float *v);                                          \
    void attention_##tier(float *o, size_t o_stride, float *mx, float *sum,                        \
                          const struct attention *a);                                              \
    void attention_merge_##tier(float *oa, float *ma, float *sa, const float *ob, float mb,        \
                                float sb, uint32_t head_dim)

#define KERNELS_OF(id, tier_)                                                                      \
    .tier = (id), .quantize = quantize_##tier_, .quantize_k = quantize_k_##tier_,                  \
    .matmul_f = matmul_f_##tier_, .rms_norm = rms_norm_##tier_, .rope = rope_##tier_,                        \
    .silu_mul = silu_mul_##tier_, .add = add_##tier_, .axpy = axpy_##tier_,                        \
    .attention_merge = attention_merge_##tier_
#define KERNELS_KV_OF(tier_) .kv_store = kv_store_##tier_, .attention = attention_##tier_

/* Rows of x that go the way for few unless panels say otherwise: of bf16 that is also the most, tiles
 * of sums for 16 rows each; of ternary weights up to here avx512vnni is faster on the machines seen. */
#define MATMUL_FEW_BF16 64
#define MATMUL_FEW_T 12

KERNELS_DECLARE(ref);
#ifdef __x86_64__
KERNELS_DECLARE(avx2);
KERNELS_DECLARE(avx512vnni);
/* The rest of the amx tier is avx512vnni's. */
void to_bf16_amx(struct act_bf16 *a, uint32_t row, const float *x, size_t k);
void matmul_bf16_amx(float *y, size_t y_stride, const struct panels *w, const struct act_bf16 *x,
                     uint32_t m, uint32_t p0, uint32_t p1);
/* By the matrix unit where rows are many, else avx512vnni's: integers are exact either way. */
void matmul_t_amx(float *y, size_t y_stride, const struct panels *w, const struct act_q8k *x,
                  uint32_t m, uint32_t p0, uint32_t p1);
/* matmul_bf16_amx hands few rows on to it: w by rows, m <= MATMUL_FEW_BF16, p0 < p1, and tiles of 16 rows times
 * k_pad <= MATMUL_FEW_K: 1 MiB of stack. */
#define MATMUL_FEW_K 32768
void matmul_few_amx(float *y, size_t y_stride, const struct panels *w, const struct act_bf16 *x,
                    uint32_t m, uint32_t p0, uint32_t p1);
void kv_store_amx(uint8_t *page, const struct kv_layout *l, uint32_t layer, uint32_t pos,
                  const float *k, const float *v);
void attention_amx(float *o, size_t o_stride, float *mx, float *sum, const struct attention *a);
#endif
#ifdef __aarch64__
/* Both tiers are neon but for the quantised weights, whose types each has in one function. */
KERNELS_DECLARE(neon);
void matmul_q_dotprod(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                      uint32_t m, uint32_t p0, uint32_t p1);
/* For both. */
void matmul_t_dotprod(float *y, size_t y_stride, const struct panels *w, const struct act_q8k *x,
                      uint32_t m, uint32_t p0, uint32_t p1);
void matmul_q_i8mm(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                   uint32_t m, uint32_t p0, uint32_t p1);
#endif

#endif
