/* DESIGN: attention over pages of bf16 on the matrix unit; other pages are avx512vnni's. 32 query
 * heads, in two tiles of rows, go through all pages together: a tile of K or V is loaded once for
 * both, and their q and o stay in L1 while K and V come from L2. For a page and 16 heads:
 *
 *     S[16][32 tokens] = q K   2 tiles of sums, blocks of 32 dimensions one after the other
 *     softmax in f32, p to bf16
 *     T[16][16 dims]   = p V   one tile step: the page's 32 tokens
 *     o = o * corr + T         in f32, not in tiles
 *
 * One row takes the same way as many: tiles with fewer rows. */
#include <math.h>
#include <string.h>

#include "kernels/tiers.h"
#include "kernels/x86/softmax_avx512.h"
#include "kernels/x86/tile_config_amx.h"

#define TOKENS KV_PAGE_TOKENS
#define ROWS 16
#define HEADS (2 * ROWS)
#define DIMS_MAX 1024      /* of a head: HPARAMS_HEAD_DIM_MAX */
#define K_BLOCK_BYTES 2048 /* 32 dimensions of K of a page: two tiles beside each other */

/* Tiles 0-3 are sums, 4 and 5 q or p, of so many rows; 6 is K or V. */
static void configure(uint32_t rows)
{
    struct tile_config c = {.palette = 1};

    for (uint32_t i = 0; i < 8; i++) {
        c.bytes[i] = 64;
        c.rows[i] = (uint8_t)(i < 6 ? rows : 16);
    }
    tile_config_load(&c);
}

/* The heads that go through the pages together. */
struct pass {
    float s[HEADS][TOKENS], t[4][HEADS][16]; /* first what is 64-byte aligned */
    uint16_t p[HEADS][TOKENS];
    uint8_t k_end[K_BLOCK_BYTES], v_end[1024]; /* what does not fill a tile, zeros after it */
    uint16_t q[2][DIMS_MAX / 32][ROWS][32];
    float mx[HEADS], sum[HEADS], corr[HEADS];
    uint32_t n[HEADS]; /* tokens of the segment; 0 past count */
    float *o[HEADS];
    const struct attention *a;
    uint32_t count;
} __attribute__((aligned(64)));

/* q of one head: scaled, rounded to bf16, zeros after the last dimension. */
static void take_q(uint16_t *to, const float *q, size_t dim, float scale)
{
    const __m512 by = _mm512_set1_ps(scale);

    for (size_t i = 0; i < dim; i += 32, to += ROWS * 32) {
        __m512 lo = _mm512_maskz_loadu_ps(lanes_avx512(dim - i), q + i);
        __m512 hi = _mm512_maskz_loadu_ps(lanes_avx512(dim - i < 16 ? 0 : dim - i - 16), q + i + 16);

        _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(hi, by),
                                                            _mm512_mul_ps(lo, by)));
    }
}

/* The heads from h0 on, as many as there is room for. */
static void take(struct pass *x, float *o, size_t o_stride, const struct attention *a, uint32_t h0)
{
    uint32_t all = a->rows * a->group, dim = a->layout->head_dim;

    x->a = a;
    x->count = all - h0 < HEADS ? all - h0 : HEADS;
    for (uint32_t i = 0; i < HEADS; i++) {
        uint32_t row = (h0 + i) / a->group, g = (h0 + i) % a->group;

        x->mx[i] = -INFINITY;
        x->sum[i] = 0;
        x->n[i] = i < x->count ? a->n[row] : 0;
        if (i >= x->count)
            continue;
        x->o[i] = o + row * o_stride + (size_t)g * dim;
        memset(x->o[i], 0, dim * sizeof(float));
        take_q(x->q[i / ROWS][0][i % ROWS], a->q + row * a->q_stride + (size_t)g * dim, dim,
               a->scale);
    }
}

/* Asks for 1 KiB of the page after. */
static inline void ask(const uint8_t *next)
{
    for (int i = 0; i < 1024; i += 64)
        _mm_prefetch(next + i, _MM_HINT_T0);
}

/* The last dimensions of K, fewer than 32, as a block with zeros. */
static const uint8_t *end_of_k(struct pass *x, const uint8_t *k, size_t dims)
{
    const size_t row = 4 * TOKENS;

    memset(x->k_end, 0, sizeof(x->k_end));
    memcpy(x->k_end, k, (dims + 1) / 2 * row);
    for (size_t i = 0; i < row && dims % 2; i += 4)
        memset(x->k_end + dims / 2 * row + i + 2, 0, 2); /* the pair's other half was never written */
    return x->k_end;
}

/* x->s = q K for the heads from h on: 16, or 32 if `two`. */
TILE_INLINE void multiply_k(struct pass *x, uint32_t h, const uint8_t *k, const uint8_t *next,
                            bool two)
{
    const uint16_t(*q)[ROWS][32] = (const uint16_t(*)[ROWS][32])x->q[h / ROWS];
    size_t dim = x->a->layout->head_dim;

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t i = 0; i < dim; i += 32, q++, k += K_BLOCK_BYTES) {
        const uint8_t *b = dim - i < 32 ? end_of_k(x, k, dim - i) : k;

        _tile_loadd(4, q, 64);
        _tile_loadd(6, b, 4 * TOKENS);
        _tile_dpbf16ps(0, 4, 6);
        if (two) {
            _tile_loadd(5, q + DIMS_MAX / 32, 64);
            _tile_dpbf16ps(2, 5, 6);
        }
        _tile_loadd(6, b + 64, 4 * TOKENS);
        _tile_dpbf16ps(1, 4, 6);
        if (two)
            _tile_dpbf16ps(3, 5, 6);
        if (next && dim - i >= 32) {
            ask(next + i / 32 * K_BLOCK_BYTES);
            ask(next + i / 32 * K_BLOCK_BYTES + 1024);
        }
    }
    _tile_stored(0, x->s[h], sizeof(x->s[h]));
    _tile_stored(1, x->s[h] + 16, sizeof(x->s[h]));
    if (two) {
        _tile_stored(2, x->s[ROWS], sizeof(x->s[h]));
        _tile_stored(3, x->s[ROWS] + 16, sizeof(x->s[h]));
    }
}

/* x->s becomes x->p, for heads h and up. t: the page's first token. */
static void weigh(struct pass *x, uint32_t h, uint32_t t)
{
    uint32_t c[ROWS];

    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t left = x->n[h + i] > t ? x->n[h + i] - t : 0;

        c[i] = left < TOKENS ? left : TOKENS;
    }
    for (uint32_t i = 0; i < ROWS && h + i < x->count; i += SOFTMAX_HEADS)
        softmax(x->s + h + i, x->corr + h + i, x->mx + h + i, x->sum + h + i, c + i, 1, SOFTMAX_HEADS);
    for (uint32_t i = 0; i < ROWS; i++)
        _mm512_store_si512(x->p[h + i],
                           (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(x->s[h + i] + 16),
                                                        _mm512_load_ps(x->s[h + i])));
}

/* The tile of V at v with zeros for the tokens from c on, whose slots may hold anything. */
static const uint8_t *end_of_v(struct pass *x, const uint8_t *v, size_t stride, uint32_t c)
{
    for (uint32_t t = 0; t < TOKENS; t += 2) {
        __mmask32 in = t + 2 <= c ? 0xffffffff : t < c ? 0x55555555 : 0;

        _mm512_store_si512(x->v_end + t * 32, _mm512_maskz_loadu_epi16(in, v + t / 2 * stride));
    }
    return x->v_end;
}

/* o = o * corr + x->t for `tiles` times 16 dimensions from i on, heads from lo on. Of the last 16
 * only `lanes` exist. */
TILE_INLINE void add_values(struct pass *x, uint32_t lo, uint32_t end, size_t i, __mmask16 lanes,
                            int tiles)
{
    for (uint32_t g = lo; g < end; g++) {
        __m512 corr = _mm512_set1_ps(x->corr[g]);
        float *o = x->o[g] + i;

        TILE_UNROLL for (int j = 0; j < tiles; j++) {
            __mmask16 in = j == tiles - 1 ? lanes : 0xffff;
            __m512 sum = _mm512_maskz_loadu_ps(in, o + 16 * j);

            sum = _mm512_fmadd_ps(sum, corr, _mm512_load_ps(x->t[j][g]));
            _mm512_mask_storeu_ps(o + 16 * j, in, sum);
        }
    }
}

/* x->t[j] = p V at dimensions i + 16 * j, by way of tiles c0 and c1. */
#define STEP(j, c0, c1)                                                                            \
    do {                                                                                           \
        const uint8_t *b = v + (i + 16 * (j)) * 4;                                                 \
        _tile_zero(c0);                                                                            \
        if (c < TOKENS)                                                                            \
            _tile_loadd(6, end_of_v(x, b, stride, c), 64);                                         \
        else                                                                                       \
            _tile_loadd(6, b, stride);                                                             \
        _tile_dpbf16ps(c0, 4, 6);                                                                  \
        if (two) {                                                                                 \
            _tile_zero(c1);                                                                        \
            _tile_dpbf16ps(c1, 5, 6);                                                              \
            _tile_stored(c1, x->t[j][ROWS], 64);                                                   \
        }                                                                                          \
        _tile_stored(c0, x->t[j][h], 64);                                                          \
        if (next)                                                                                  \
            ask(next + (i / 16 + (j)) * 1024);                                                     \
    } while (0)

/* o = o * corr + p V for the heads from h on, 16, or 32 if `two`, but none before lo; of the page's
 * tokens c are in use. */
TILE_INLINE void multiply_v(struct pass *x, uint32_t h, uint32_t lo, uint32_t c, const uint8_t *v,
                            const uint8_t *next, bool two)
{
    const struct kv_layout *l = x->a->layout;
    size_t stride = (size_t)l->v_stride * 4, i = 0;

    _tile_loadd(4, x->p[h], 64);
    if (two)
        _tile_loadd(5, x->p[ROWS], 64);
    for (; i + 64 <= l->head_dim; i += 64) {
        STEP(0, 0, 1);
        STEP(1, 2, 3);
        STEP(2, 0, 1);
        STEP(3, 2, 3);
        add_values(x, lo, x->count, i, 0xffff, 4);
    }
    for (; i < l->head_dim; i += 16) {
        STEP(0, 0, 1);
        add_values(x, lo, x->count, i, lanes_avx512(l->head_dim - i), 1);
    }
}

/* One page for the heads from h on; lo is the first that attends to it. */
TILE_INLINE void attend(struct pass *x, uint32_t h, uint32_t lo, uint32_t t, uint32_t c,
                        const uint8_t *k, const uint8_t *next, bool two)
{
    size_t v = x->a->layout->v_offset;

    multiply_k(x, h, k, next, two);
    weigh(x, h, t);
    if (two)
        weigh(x, ROWS, t);
    multiply_v(x, h, lo, c, k + v, next ? next + v : NULL, two);
}

static void through_pages(struct pass *x)
{
    const struct attention *a = x->a;
    const struct kv_layout *l = a->layout;
    size_t at = kv_layout_k(l, a->layer, a->head);
    uint8_t *const *page = a->pages + a->first / TOKENS;
    uint32_t n = x->n[x->count - 1];

    for (uint32_t t = 0, lo = 0; t < n; t += TOKENS, page++) {
        const uint8_t *k = page[0] + at, *next = t + TOKENS < n ? page[1] + at : NULL;
        uint32_t c = n - t < TOKENS ? n - t : TOKENS;

        while (x->n[lo] <= t)
            lo++;
        if (lo < ROWS && x->count > ROWS)
            attend(x, 0, lo, t, c, k, next, true);
        else
            attend(x, lo / ROWS * ROWS, lo, t, c, k, next, false);
    }
}

void attention_amx(float *o, size_t o_stride, float *mx, float *sum, const struct attention *a)
{
    uint32_t all = a->rows * a->group;
    struct pass x;

    if (a->layout->type != KV_BF16) {
        attention_avx512vnni(o, o_stride, mx, sum, a);
        return;
    }
    configure(all < ROWS ? all : ROWS);
    for (uint32_t h = 0; h < all; h += x.count) {
        take(&x, o, o_stride, a, h);
        through_pages(&x);
        memcpy(mx + h, x.mx, x.count * sizeof(float));
        memcpy(sum + h, x.sum, x.count * sizeof(float));
    }
    _tile_release();
}

/* K and V of one token and head as bf16: K in pairs of dimensions, V in every second element. */
static void store(uint8_t *kp, uint8_t *vp, const float *k, const float *v, size_t dim, bool odd)
{
    for (size_t i = 0; i < dim; i += 16) {
        size_t n = dim - i < 16 ? dim - i : 16;
        __m512 kf = _mm512_maskz_loadu_ps(lanes_avx512(n), k + i);
        __m512 vf = _mm512_maskz_loadu_ps(lanes_avx512(n), v + i);
        __m512i wide = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(vf));
        __mmask32 in = (odd ? 0xaaaaaaaa : 0x55555555) & (n < 16 ? (1u << 2 * n) - 1 : 0xffffffff);
        uint16_t half[16];

        _mm256_storeu_si256((__m256i *)half, (__m256i)_mm512_cvtneps_pbh(kf));
        for (size_t j = 0; j < n; j += 2)
            memcpy(kp + (i + j) / 2 * 4 * TOKENS, half + j, n - j < 2 ? 2 : 4);
        _mm512_mask_storeu_epi16(vp + i * 4, in, odd ? _mm512_slli_epi32(wide, 16) : wide);
    }
}

void kv_store_amx(uint8_t *page, const struct kv_layout *l, uint32_t layer, uint32_t pos,
                  const float *k, const float *v)
{
    size_t slot = pos % TOKENS;

    if (l->type != KV_BF16) {
        kv_store_avx512vnni(page, l, layer, pos, k, v);
        return;
    }
    for (uint32_t h = 0; h < l->n_kv_head; h++, k += l->head_dim, v += l->head_dim) {
        uint8_t *to = page + kv_layout_k(l, layer, h);

        store(to + slot * 4, to + l->v_offset + slot / 2 * l->v_stride * 4, k, v, l->head_dim,
              slot % 2);
    }
}
