/* DESIGN: attention over pages of bf16 on the matrix unit; other pages are avx512vnni's. 32 query
 * heads, in two tiles of rows, go through all pages together, four pages at a time:
 *
 *     S[32][128 tokens] = q K   2 x 2 tiles of sums a page, blocks of 32 dimensions one after the other
 *     softmax in f32, p to bf16: one maximum and one correction of o for the four pages
 *     o[32][dims]       = o * corr + p V   2 x 2 tiles of sums, page after page
 *
 * A tile of K or V is loaded once for both tiles of rows; q, S, p and o stay in L1 while K and V come
 * from L2. One row takes the same way as many: tiles with fewer rows. What a row does not attend to
 * has p = 0, and adds a zero: o is as if it had not been there, but that -0 may become +0, wherefore
 * the end of a row turns all -0 into +0. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "kernels/ahead.h"
#include "kernels/tiers.h"
#include "kernels/x86/fold_avx512.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/tile_config_amx.h"

#define TOKENS KV_PAGE_TOKENS
#define PAGES ATTENTION_BF16_PAGES
#define ROWS 16
#define HEADS (2 * ROWS)
#define DIMS_MAX 1024      /* of a head: HPARAMS_HEAD_DIM_MAX */
#define K_BLOCK_BYTES 2048 /* 32 dimensions of K of a page: two tiles beside each other */
#define LINE 64            /* bytes of a tile's row */
#define ASKS 3             /* times to ask for lines of pages ahead, at a block of K or V of a page */

/* Tiles 0-3 are sums, 4 and 5 q or p, of so many rows; 6 and 7 are K or V. */
static void configure(uint32_t rows)
{
    struct tile_config c = {.palette = 1};

    for (uint32_t i = 0; i < 8; i++) {
        c.bytes[i] = LINE;
        c.rows[i] = (uint8_t)(i < 6 ? rows : 16);
    }
    tile_config_load(&c);
}

/* The heads that go through the pages together. What tiles are loaded from is a tile a KiB. */
struct pass {
    float s[2 * PAGES][HEADS][16];
    uint16_t p[PAGES][HEADS][TOKENS];
    float o[DIMS_MAX / 16][HEADS][16];
    uint16_t q[DIMS_MAX / 32][HEADS][32];
    uint8_t k_end[K_BLOCK_BYTES], v_end[2][ROWS * LINE]; /* what does not fill a tile, zeros after it */
    float mx[HEADS], sum[HEADS], corr[HEADS]; /* mx: of log2(e) * scores */
    uint32_t n[HEADS];                        /* tokens of the segment */
    const struct attention *a;
    uint32_t count, dims, blocks;             /* dims: 16s of a head; blocks: 32s */
    struct ahead ahead;                       /* without room where all is in L2 */
} __attribute__((aligned(64)));

/* q of one head: scaled, rounded to bf16, zeros after the last dimension. */
static void take_q(struct pass *x, uint32_t h, const float *q, size_t dim, float scale)
{
    const __m512 by = _mm512_set1_ps(scale);

    for (size_t i = 0; i < dim; i += 32) {
        __m512 lo = _mm512_maskz_loadu_ps(lanes_avx512(dim - i), q + i);
        __m512 hi = _mm512_maskz_loadu_ps(lanes_avx512(dim - i < 16 ? 0 : dim - i - 16), q + i + 16);

        _mm512_store_si512(x->q[i / 32][h], (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(hi, by),
                                                                         _mm512_mul_ps(lo, by)));
    }
}

/* The heads from h0 on, as many as there is room for. */
static void take(struct pass *x, const struct attention *a, uint32_t h0)
{
    uint32_t all = a->rows * a->group, dim = a->layout->head_dim;

    x->a = a;
    x->count = all - h0 < HEADS ? all - h0 : HEADS;
    x->dims = a->layout->v_stride / 16;
    x->blocks = (dim + 31) / 32;
    for (uint32_t i = 0; i < x->count; i++) {
        uint32_t row = (h0 + i) / a->group, g = (h0 + i) % a->group;

        x->mx[i] = -INFINITY;
        x->sum[i] = 0;
        x->n[i] = a->n[row];
        take_q(x, i, a->q + row * a->q_stride + (size_t)g * dim, dim, a->scale * EXP_LOG2E);
    }
    for (uint32_t i = x->count; i % FOLD_HEADS; i++) { /* these are taken by so many; any scores will do */
        x->n[i] = a->n[a->rows - 1];
        for (uint32_t j = 0; j < 2 * PAGES; j++)
            _mm512_store_ps(x->s[j][i], _mm512_setzero_ps());
    }
}

/* Where the heads from h0 on went: o, without -0; mx and sum. */
static void give(const struct pass *x, float *o, size_t o_stride, float *mx, float *sum, uint32_t h0)
{
    uint32_t dim = x->a->layout->head_dim, group = x->a->group;

    for (uint32_t h = 0; h < x->count; h++) {
        float *to = o + (h0 + h) / group * o_stride + (size_t)((h0 + h) % group) * dim;

        for (uint32_t i = 0; i < x->dims; i++)
            _mm512_mask_storeu_ps(to + 16 * i, lanes_avx512(dim - 16 * i),
                                  _mm512_add_ps(_mm512_load_ps(x->o[i][h]), _mm512_setzero_ps()));
        mx[h0 + h] = x->mx[h] * EXP_LN2;
        sum[h0 + h] = x->sum[h];
    }
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

/* x->s = q K of page j for the heads from h on: 16, or 32 if `two`. */
TILE_INLINE void multiply_k(struct pass *x, uint32_t h, uint32_t j, const uint8_t *k, bool two)
{
    size_t dim = x->a->layout->head_dim;

    ahead_turn(&x->ahead);
    _tile_zero(0);
    _tile_zero(1);
    if (two) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (size_t i = 0; i < dim; i += 32, k += K_BLOCK_BYTES) {
        const uint8_t *b = dim - i < 32 ? end_of_k(x, k, dim - i) : k;

        ahead_ask(&x->ahead);
        _tile_loadd(4, x->q[i / 32][h], LINE);
        _tile_stream_loadd(6, b, 4 * TOKENS);
        ahead_ask(&x->ahead);
        _tile_stream_loadd(7, b + LINE, 4 * TOKENS);
        ahead_ask(&x->ahead);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (two) {
            _tile_loadd(5, x->q[i / 32][ROWS], LINE);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, x->s[2 * j][h], LINE);
    _tile_stored(1, x->s[2 * j + 1][h], LINE);
    if (two) {
        _tile_stored(2, x->s[2 * j][ROWS], LINE);
        _tile_stored(3, x->s[2 * j + 1][ROWS], LINE);
    }
}

/* 2^y, y <= ATTENTION_SLACK: E of kernels.h */
static inline __m512 exp2_down(__m512 y)
{
    __m512 r = _mm512_reduce_ps(y, 0x09), p; /* y - floor(y), rounded down */

    p = _mm512_fmadd_ps(_mm512_set1_ps(EXP2_C3), r, _mm512_set1_ps(EXP2_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP2_C1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, y);
}

/* mx of 8 heads from h on after `pages` pages of which t is the first token; and corr, of which is told
 * whether all are 1. Scores past a head's last token become -inf. full: there are none. */
TILE_INLINE bool raise(struct pass *x, uint32_t h, uint32_t t, uint32_t pages, bool full)
{
    const __m512 low = _mm512_set1_ps(-INFINITY);
    __m256 old = _mm256_load_ps(x->mx + h), now;
    __m512 v[FOLD_HEADS];
    __mmask8 up;

    TILE_UNROLL for (int g = 0; g < FOLD_HEADS; g++) {
        uint32_t left = x->n[h + g] > t ? x->n[h + g] - t : 0;

        for (uint32_t i = 0; i < x->blocks; i += 2)
            ahead_ask(&x->ahead);
        v[g] = low;
        for (uint32_t j = 0; j < 2 * pages; j++) {
            __m512 s = _mm512_load_ps(x->s[j][h + g]);

            if (!full) {
                s = _mm512_mask_mov_ps(low, lanes_avx512(left > 16 * j ? left - 16 * j : 0), s);
                _mm512_store_ps(x->s[j][h + g], s);
            }
            v[g] = _mm512_max_ps(v[g], s);
        }
    }
    now = fold(v, true);
    up = _mm256_cmp_ps_mask(now, _mm256_add_ps(old, _mm256_set1_ps(ATTENTION_SLACK)), _CMP_GT_OQ);
    now = _mm256_mask_add_ps(old, up, now, _mm256_setzero_ps());
    _mm256_store_ps(x->mx + h, now);
    _mm256_store_ps(x->corr + h, _mm512_castps512_ps256(exp2_down(_mm512_zextps256_ps512(_mm256_sub_ps(old, now)))));
    return !up;
}

/* Scores of 8 heads from h on, of `pages` pages, become x->p; sum moves on. */
TILE_INLINE void weigh(struct pass *x, uint32_t h, uint32_t pages)
{
    __m512 v[FOLD_HEADS];

    TILE_UNROLL for (int g = 0; g < FOLD_HEADS; g++) {
        __m512 top = _mm512_set1_ps(x->mx[h + g]);

        for (uint32_t i = 0; i < x->blocks; i += 2)
            ahead_ask(&x->ahead);
        v[g] = _mm512_setzero_ps();
        for (uint32_t j = 0; j < pages; j++) {
            __m512 lo = exp2_down(_mm512_sub_ps(_mm512_load_ps(x->s[2 * j][h + g]), top));
            __m512 hi = exp2_down(_mm512_sub_ps(_mm512_load_ps(x->s[2 * j + 1][h + g]), top));

            _mm512_store_si512(x->p[j][h + g], (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
            v[g] = _mm512_add_ps(v[g], _mm512_add_ps(lo, hi));
        }
    }
    _mm256_store_ps(x->sum + h, _mm256_fmadd_ps(_mm256_load_ps(x->sum + h), _mm256_load_ps(x->corr + h), fold(v, false)));
}

/* Weights of the heads from h on to end, and o * corr. */
static void weigh_tile(struct pass *x, uint32_t h, uint32_t end, uint32_t t, uint32_t pages)
{
    bool same = true;

    for (uint32_t g = h; g < end; g += FOLD_HEADS) {
        if (x->n[g] < t + TOKENS * pages)
            same &= raise(x, g, t, pages, false);
        else if (pages == PAGES)
            same &= raise(x, g, t, PAGES, true);
        else
            same &= raise(x, g, t, pages, true);
    }
    for (uint32_t g = h; g < end; g += FOLD_HEADS)
        if (pages == PAGES)
            weigh(x, g, PAGES);
        else
            weigh(x, g, pages);
    if (!t) {
        for (uint32_t i = 0; i < x->dims; i++)
            memset(x->o[i][h], 0, (end - h) * LINE);
        return;
    }
    for (uint32_t g = h; g < end && !same; g++) {
        __m512 corr = _mm512_set1_ps(x->corr[g]);

        for (uint32_t i = 0; i < x->dims; i++)
            _mm512_store_ps(x->o[i][g], _mm512_mul_ps(_mm512_load_ps(x->o[i][g]), corr));
    }
}

/* The tile of V at v with zeros for the tokens from c on, whose slots may hold anything. */
static const uint8_t *end_of_v(uint8_t *to, const uint8_t *v, size_t stride, uint32_t c)
{
    for (uint32_t t = 0; t < TOKENS; t += 2) {
        __mmask32 in = t + 2 <= c ? 0xffffffff : t < c ? 0x55555555 : 0;

        _mm512_store_si512(to + t * 32, _mm512_maskz_loadu_epi16(in, v + t / 2 * stride));
    }
    return to;
}

/* o += p V of `c` tokens at page[0] + at and after, at dimensions 16 * i and, if `wide`, the 16 after;
 * for the heads from h on: 16, or 32 if `two`. */
TILE_INLINE void multiply_v(struct pass *x, uint32_t h, uint32_t i, uint8_t *const *page, size_t at,
                            uint32_t c, bool two, bool wide)
{
    size_t stride = (size_t)x->a->layout->v_stride * 4;

    _tile_loadd(0, x->o[i][h], LINE);
    if (wide)
        _tile_loadd(1, x->o[i + 1][h], LINE);
    if (two) {
        _tile_loadd(2, x->o[i][ROWS], LINE);
        if (wide)
            _tile_loadd(3, x->o[i + 1][ROWS], LINE);
    }
    for (uint32_t j = 0; j * TOKENS < c; j++) {
        const uint8_t *v = page[j] + at + i * LINE, *w = v + LINE;
        size_t step = stride;

        ahead_ask(&x->ahead);
        if (c - j * TOKENS < TOKENS) {
            v = end_of_v(x->v_end[0], v, stride, c % TOKENS);
            if (wide)
                w = end_of_v(x->v_end[1], w, stride, c % TOKENS);
            step = LINE;
        }
        _tile_loadd(4, x->p[j][h], LINE);
        _tile_stream_loadd(6, v, step);
        ahead_ask(&x->ahead);
        _tile_dpbf16ps(0, 4, 6);
        if (wide) {
            _tile_stream_loadd(7, w, step);
            ahead_ask(&x->ahead);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (two) {
            _tile_loadd(5, x->p[j][ROWS], LINE);
            _tile_dpbf16ps(2, 5, 6);
            if (wide)
                _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, x->o[i][h], LINE);
    if (wide)
        _tile_stored(1, x->o[i + 1][h], LINE);
    if (two) {
        _tile_stored(2, x->o[i][ROWS], LINE);
        if (wide)
            _tile_stored(3, x->o[i + 1][ROWS], LINE);
    }
}

/* Up to four pages, c tokens from t on, for the heads from h on. */
TILE_INLINE void attend(struct pass *x, uint32_t h, uint32_t t, uint32_t c, uint8_t *const *page,
                        size_t at, bool two)
{
    uint32_t pages = (c + TOKENS - 1) / TOKENS, i = 0;
    size_t v = at + x->a->layout->v_offset;

    for (uint32_t j = 0; j < pages; j++)
        multiply_k(x, h, j, page[j] + at, two);
    weigh_tile(x, h, x->count, t, pages);
    for (; i + 2 <= x->dims; i += 2)
        multiply_v(x, h, i, page, v, c, two, true);
    if (i < x->dims)
        multiply_v(x, h, i, page, v, c, two, false);
    ahead_ask_rest(&x->ahead);
}

/* cold: these are the first heads that go through them. */
static void through_pages(struct pass *x, bool cold)
{
    const struct attention *a = x->a;
    size_t at = kv_layout_k(a->layout, a->layer, a->head);
    uint8_t *const *page = a->pages + a->first / TOKENS;
    uint32_t n = x->n[x->count - 1];

    ahead_init(&x->ahead, a, n, ASKS * x->blocks);
    for (uint32_t t = 0; t < n; t += PAGES * TOKENS, page += PAGES) {
        uint32_t c = n - t < PAGES * TOKENS ? n - t : PAGES * TOKENS;

        if (cold)
            ahead_room(&x->ahead, kv_layout_pages(c));
        if (x->count <= ROWS)
            attend(x, 0, t, c, page, at, false);
        else if (x->n[ROWS - 1] <= t)
            attend(x, ROWS, t, c, page, at, false);
        else
            attend(x, 0, t, c, page, at, true);
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
        take(&x, a, h);
        through_pages(&x, h == 0);
        give(&x, o, o_stride, mx, sum, h);
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
