/* kernels: every arithmetic operation of the forward pass, through one table chosen at run time.
 *
 * Numeric contract. ref/ is the definition. All tiers but amx (ref, avx2, avx512vnni, neon-dotprod,
 * neon-i8mm) give the SAME BITS as ref for every operation and every input, so a test compares with
 * memcmp. This holds because each operation fixes its order: a SIMD lane is an output (a row of W, a
 * token of a K page, a dimension of V), and each lane adds its terms one after the other, in ascending order, with fused
 * multiply-add where written fma() below. What a row gets depends neither on M, nor on the panels
 * handed to the call, nor on its neighbours. Tier amx is avx512vnni, by tiles where rows are many, but for matmul_bf16, which has
 * an order of its own, that of the matrix unit; tests hold plain C of it. NaN and infinity in the
 * input give some NaN or infinity, without the promise of equal bits.
 *
 * Kernels have no state, allocate nothing, start no thread. The engine splits work by panels or
 * heads and calls them from its team. */
#ifndef TANDEM_KERNELS_KERNELS_H
#define TANDEM_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/cpu.h"
#include "kernels/panels.h"
#include "kv/kv_layout.h"

/* Activations of M rows as int8, one scale a block of QK = 32: x ~ d * q.
 *   q[m][k_pad], d[m][k_pad / 32], sum[m][k_pad / 16] = sums of 16 q, two a block
 * k_pad = K rounded up to 32; the tail of the last block is zero. 64-byte aligned. */
struct act_q8 {
    int8_t *q;
    float *d;
    int16_t *sum;
    uint32_t k_pad;
};

/* The same with one scale a block of QK_K = 256, for ternary weights:
 *   q[m][ACT_Q8K_STRIDE(k_pad)], d[m][k_pad / 256], sum[m][k_pad / 256]
 * k_pad = K rounded up to 256; the tail of the last block is zero. A row is followed by a line of
 * nothing: rows with an even number of lines between them would share few sets of a cache. */
struct act_q8k {
    int8_t *q;
    float *d;
    int32_t *sum;
    uint32_t k_pad;
};

#define ACT_Q8K_STRIDE(k_pad) ((size_t)(k_pad) + 64)

/* Activations of M rows as bf16, in the order of the matrix unit's tiles: 16 rows by QK values,
 * tiles of up to ACT_BF16_KC values of k beside each other, then the next 16 rows, then the next k.
 *   x[k_pad / ACT_BF16_KC][rows / 16][up to ACT_BF16_KC / QK][16][QK]
 * k_pad = K rounded up to QK, the tail is zero. rows: room for so many, a multiple of 16. Row 0 is
 * row `first` of them, a multiple of 16. */
struct act_bf16 {
    uint16_t *x;
    uint32_t k_pad, rows, first;
};
#define ACT_BF16_KC 512

/* Where the QK values of block b of a row are. */
static inline uint16_t *act_bf16_at(const struct act_bf16 *a, uint32_t row, uint32_t b)
{
    const uint32_t per = ACT_BF16_KC / QK;
    uint32_t first = b / per * per, n = a->k_pad / QK - first < per ? a->k_pad / QK - first : per;

    size_t tile = (size_t)first * a->rows / 16 + (a->first + row) / 16 * n + b - first;

    return a->x + (tile * 16 + row % 16) * QK;
}

/* The forms that a matmul may take its input in; which one, a tier says by type of weights. */
enum act_kind { ACT_F32, ACT_Q8, ACT_Q8K, ACT_BF16 };

/* One input in several forms. x is what kernels_prepare was given, row by row. */
struct act {
    const float *x;
    size_t x_stride;
    struct act_q8 q8;
    struct act_q8k q8k;
    struct act_bf16 bf16;
};

/* The query heads of some rows of one sequence that share a kv head, and the tokens they attend to.
 * A page's K and V are read once for all rows. Any rows > 0 and group > 0 do; those of
 * ATTENTION_HEADS and more query heads in all are the fastest. */
struct attention {
    const float *q; /* [rows][group][head_dim], rows q_stride floats apart */
    size_t q_stride;
    uint8_t *const *pages; /* token t of the sequence is in pages[t / 32] */
    const struct kv_layout *layout;
    uint32_t layer, head; /* of K and V */
    uint32_t rows, group;
    uint32_t first;    /* of the segment, a multiple of 32 */
    const uint32_t *n; /* [rows], > 0, not descending: a row attends to first <= t < first + n[row] */
    float scale;
    /* What the caller will read next, and no result depends on: so many pages, of this layer and of
     * kv head next_head. A tier may ask for them while the last ones of the segment are worked on. */
    uint8_t *const *next;
    uint32_t next_count, next_head;
};
#define ATTENTION_HEADS 128
/* Pages of bf16 that have one maximum. */
#define ATTENTION_BF16_PAGES 4
/* By how much a score of theirs, times log2(e), may be over what is taken for the maximum: weights are
 * 2^8 at most. */
#define ATTENTION_SLACK 8.0f

/* The smallest amax of a block that is not zero to it: 127 / amax is finite down to here. */
#define QUANTIZE_MIN 0x1p-120f

struct kernels {
    enum cpu_tier tier;

    /* One row: amax = max |x| of a block; d = amax / 127; id = 127 / amax;
     * q = round-to-nearest-even(x * id). Where amax < QUANTIZE_MIN or is not finite, q = 0; d
     * stays, so that a NaN or infinity reaches y. x[k], any k; writes the k_pad values of row
     * `row` of a. */
    void (*quantize)(struct act_q8 *a, uint32_t row, const float *x, size_t k);

    /* The same by blocks of QK_K. */
    void (*quantize_k)(struct act_q8k *a, uint32_t row, const float *x, size_t k);

    /* One row: each value rounded to nearest even to bf16; what is over its largest, 3.39e38,
     * becomes infinity, a denormal zero. NULL in a tier that never asks for it. */
    void (*to_bf16)(struct act_bf16 *a, uint32_t row, const float *x, size_t k);

    /* y[m][r] = sum over k of W[r][k] x[m][k], for the rows r of panels p0 <= p < p1 that exist.
     * Rows of y are y_stride floats apart, of x x_stride floats.
     * Float weights (F32, F16, BF16): acc = 0; for k ascending:
     *   acc = fma(f32(W[r][k]), x[m][k], acc). */
    void (*matmul_f)(float *y, size_t y_stride, const struct panels *w, const float *x,
                     size_t x_stride, uint32_t m, uint32_t p0, uint32_t p1);
    /* Quantised weights: acc = 0; for blocks b ascending, with s = exact int32 dot of the block:
     * Q8_0, Q4_0: acc = fma((float)s, f32(dw[r][b]) * dx[m][b], acc).
     * Q4_K, Q5_K, Q4_1, Q5_1, d to mn as blocks.h has them: s of the integers as they are, S = the
     *   sum of the block's q of x;  t = (f32(d) * sc) * (float)s;
     *   t = fma(-(f32(dmin) * mn), (float)S, t);  acc = fma(t, dx[m][b], acc).
     * Q6_K, b of 16: acc = fma((float)s, (f32(d) * sc) * dx[m][b / 2], acc). */
    void (*matmul_q)(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                     uint32_t m, uint32_t p0, uint32_t p1);

    /* Ternary weights, d times an integer u: acc = 0; for blocks b of QK_K ascending, with s = exact
     * int32 dot of u and q: acc = fma((float)s, d[r][b] * dx[m][b], acc). */
    void (*matmul_t)(float *y, size_t y_stride, const struct panels *w, const struct act_q8k *x,
                     uint32_t m, uint32_t p0, uint32_t p1);

    /* BF16, Q8_0, Q4_0, Q4_K, Q6_K by way of bf16; NULL in a tier without such a path. w, of
     * kernels_panels_init: BF16 as it is; else what dtype_row_to_f32 gives, rounded to nearest even
     * to bf16, zeros to +0.
     * For blocks b of QK values ascending, from acc = 0, with zeros past the end of the row:
     *   even = odd = 0; for the pairs of k ascending: even = fma(w[2i], x[2i], even),
     *   odd = fma(w[2i + 1], x[2i + 1], odd);  acc = acc + (even + odd)
     * with round to nearest even, and denormals taken for zero and replaced by zero. */
    void (*matmul_bf16)(float *y, size_t y_stride, const struct panels *w, const struct act_bf16 *x,
                        uint32_t m, uint32_t p0, uint32_t p1);

    /* y[i] = (x[i] * r) * w[i], r = 1 / sqrtf(s / n + eps), s = the sum of squares: 16 lanes, lane
     * j takes i = j, j + 16, ... ascending by fma; then lanes j += j + 8, += j + 4, += 2, += 1.
     * y may be x. */
    void (*rms_norm)(float *y, const float *x, const float *w, size_t n, float eps);

    /* Rotates pairs (x[2i], x[2i + 1]) by cs[2i] = cos, cs[2i + 1] = sin, i < n_rot / 2, in each of
     * n_head heads of head_dim values:
     *   a' = fma(-b, sin, a * cos),  b' = fma(b, cos, a * sin) */
    void (*rope)(float *x, const float *cs, uint32_t n_head, uint32_t head_dim, uint32_t n_rot);

    /* y[i] = silu(gate[i]) * up[i], silu(g) = g / (1 + exp(-g)), exp is kernels_exp. y may be
     * gate. */
    void (*silu_mul)(float *y, const float *gate, const float *up, size_t n);

    /* y[i] += x[i] */
    void (*add)(float *y, const float *x, size_t n);

    /* y[i] = fma(a, x[i], y[i]) */
    void (*axpy)(float *y, float a, const float *x, size_t n);

    /* Writes one token's k[n_kv_head][head_dim] and v (same shape) into slot pos % 32 of its page,
     * at `layer`, in the pool's type (f16 rounds to nearest even; q8: kv_q8.h). */
    void (*kv_store)(uint8_t *page, const struct kv_layout *l, uint32_t layer, uint32_t pos,
                     const float *k, const float *v);

    /* Attention of the rows of `a` over one segment: o[row][group][head_dim] not normalised, rows
     * o_stride floats apart; mx[row][group], sum[row][group]. For each query head q of a row, pages
     * ascending, from mx = -inf, sum = 0, o = 0, with c of the row's n tokens in the page, c > 0:
     *   s[t] = scale * (acc over i ascending of fma(k[i][t], q[i], acc))      t < c
     *   new = max(mx, max s[t]) + 0 (a zero is +0);  corr = exp(mx - new), 0 for the first page
     *   p[t] = exp(s[t] - new), 0 for t >= c
     *   sum = fma(sum, corr, P), P by tree: u[j] = p[j] + p[j + 16], then j + 8, 4, 2, 1
     *   o[i] = o[i] * corr; then for t ascending, t < c: o[i] = fma(p[t], v[t][i], o[i])
     * Pages of q8: k and v are the int8, s[t] = scale * (that acc * scale of k[t]), and p[t] is
     * multiplied by the scale of v[t] after sum and before o.
     * Pages of bf16 four at a time, from the segment's first on; with B(y, a, b) = y + 32 products as
     * in matmul_bf16 (zeros fill up a block), E(y) = 2^floor(y) * (the polynomial EXP2 of
     * y - floor(y), rounded down, by Horner's rule in fma), and m = -inf before the first four:
     *   s[t] = blocks of 32 dimensions i ascending, from acc = 0:
     *     acc = B(acc, k[i][t], bf16((scale * EXP_LOG2E) * q[i]))
     *   top = max s[t];  new = top > m + ATTENTION_SLACK ? top + 0 : m, so that o is seldom corrected
     *   corr = E(m - new);  p[t] = E(s[t] - new), 0 for t >= c
     *   sum = fma(sum, corr, P), P by tree: u[j] = p[j] + p[j + 16] of each page, these added up by
     *     pages ascending, then j + 8, 4, 2, 1
     *   o[i] = o[i] * corr, 0 for the first four; then pages ascending: o[i] = B(o[i], v[t][i], bf16(p[t]))
     * At the end mx = m * EXP_LN2, and o[i] = o[i] + 0 (a zero is +0). */
    void (*attention)(float *o, size_t o_stride, float *mx, float *sum, const struct attention *a);

    /* Folds segment b into a, for one head, with neither empty:
     *   new = max(ma, mb);  ca = exp(ma - new);  cb = exp(mb - new);  a.mx = new
     *   a.sum = fma(b.sum, cb, a.sum * ca);  a.o[i] = fma(b.o[i], cb, a.o[i] * ca) */
    void (*attention_merge)(float *oa, float *ma, float *sa, const float *ob, float mb, float sb,
                            uint32_t head_dim);
};

/* A long sequence is attended to in segments of this many tokens, merged in ascending order, so
 * that threads may share one sequence without changing a bit. */
#define ATTENTION_SEGMENT 512

/* The table of a tier; NULL if this build or machine does not have it. Static storage. */
const struct kernels *kernels_get(enum cpu_tier tier);

/* Whether the tier works on pages of a type: on all but bf16, which asks for the matrix unit. */
bool kernels_kv_type(const struct kernels *k, enum kv_type type);

/* What KV_AUTO is in a tier: the type that it works fastest on without a loss worth the name. */
enum kv_type kernels_kv_auto(const struct kernels *k);

/* panels_init, in the order that the tier's matmul for the type reads. */
void kernels_panels_init(const struct kernels *k, struct panels *p, enum dtype type, uint32_t n_out,
                         uint32_t n_in);

/* The form of input that the tier's matmul takes for weights of a type. */
enum act_kind kernels_act_kind(const struct kernels *k, enum dtype type);

/* Rows of x up to which a matmul goes the way for few: usually, and within what bounds and by what steps
 * panels' `few` may say otherwise. Both ways give the same bits. */
struct kernels_few {
    uint32_t usual, min, max, step;
};

/* False: the tier has one way for weights of a type. */
bool kernels_few(const struct kernels *k, enum dtype type, struct kernels_few *range);

/* Row `row` of a, in the forms of kinds (bits 1 << act_kind); x[n] is copied for none of them. */
void kernels_prepare(const struct kernels *k, struct act *a, unsigned kinds, uint32_t row,
                     const float *x, size_t n);

/* What the first column of a part of a row is a multiple of, in the forms of kinds: QK or QK_K. */
uint32_t kernels_act_block(unsigned kinds);

/* Columns k0 .. k0 + n of row `row` of a, as kernels_prepare would have them; x[n] are those columns.
 * k0 is a multiple of kernels_act_block, and n is, or the columns are the row's last. */
void kernels_prepare_part(const struct kernels *k, struct act *a, unsigned kinds, uint32_t row,
                          uint32_t k0, const float *x, size_t n);

/* a from row `row` on, a multiple of 16. */
struct act kernels_act_from(const struct act *a, uint32_t row);

/* How many rows of width k a tier's matmul takes best at a time where the caller may choose: so many
 * that they stay in cache while weights pass, a multiple of 16. */
uint32_t kernels_rows(const struct kernels *k, uint32_t width);

/* y[i] /= by */
void kernels_divide(float *y, float by, size_t n);

/* The tier's matmul for the type of w, on the form of a that it takes; see struct kernels. */
void kernels_matmul(const struct kernels *k, float *y, size_t y_stride, const struct panels *w,
                    const struct act *a, uint32_t m, uint32_t p0, uint32_t p1);

/* The exponential that all tiers share (range reduction and polynomial in fma, within 2 ulp of
 * exp). Below -87.3 it is 0, above 88.7 infinity. */
float kernels_exp(float x);

#endif
