#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx2.h"
#include "kernels/tile.h"

#define TILE_ROWS 4

/* What one tile works on: rows of x and y from the tile's first, one panel. */
struct tile {
    float *y;
    const int8_t *q;
    const float *d;
    const int16_t *sum;
    const uint8_t *panel;
    size_t y_stride, k_pad, blocks;
    size_t b0, b1; /* of 32 k */
    size_t ahead;
    __m256i lanes[2]; /* the panel's rows that are rows of W */
};

TILE_INLINE __m256i load(const uint8_t *line) { return _mm256_load_si256((const __m256i *)line); }

TILE_INLINE __m256 f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)p));
}

TILE_INLINE __m128i load8(const uint8_t *p) { return _mm_loadl_epi64((const __m128i *)p); }

TILE_INLINE void sums_load(__m256 (*acc)[2], const struct tile *t, int rows)
{
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int h = 0; h < 2; h++)
            acc[m][h] = t->b0 == 0
                            ? _mm256_setzero_ps()
                            : _mm256_maskload_ps(t->y + m * t->y_stride + 8 * h, t->lanes[h]);
}

TILE_INLINE void sums_store(__m256 (*acc)[2], const struct tile *t, int rows)
{
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int h = 0; h < 2; h++)
            _mm256_maskstore_ps(t->y + m * t->y_stride + 8 * h, t->lanes[h], acc[m][h]);
}

/* v | (bits << left & mask); left may be negative */
TILE_INLINE __m256i join(__m256i v, __m256i bits, int left, int mask)
{
    __m256i upper = left < 0 ? _mm256_srli_epi16(bits, -left) : _mm256_slli_epi16(bits, left);

    return _mm256_or_si256(v, _mm256_and_si256(upper, _mm256_set1_epi8((char)mask)));
}

/* s[m][h] += the products of line l, in 16-bit lanes. fifth: half h of that line. */
TILE_INLINE void line_min(__m256i (*s)[2], const struct tile *t, const uint8_t *line,
                          const __m256i *fifth, const int8_t *q, int l, int rows)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i lo[2], hi[2];

    TILE_UNROLL for (int h = 0; h < 2; h++) {
        __m256i w = load(line + l * PANEL_LINE + 32 * h);

        lo[h] = _mm256_and_si256(w, nibble);
        hi[h] = _mm256_and_si256(_mm256_srli_epi16(w, 4), nibble);
        if (fifth) {
            lo[h] = join(lo[h], fifth[h], 4 - 2 * l, 16);
            hi[h] = join(hi[h], fifth[h], 3 - 2 * l, 16);
        }
    }
    TILE_UNROLL for (int m = 0; m < rows; m++) {
        __m256i x0 = broadcast_avx2(q + m * t->k_pad + l * 8);
        __m256i x1 = broadcast_avx2(q + m * t->k_pad + l * 8 + 4);

        TILE_UNROLL for (int h = 0; h < 2; h++) {
            __m256i p = _mm256_add_epi16(_mm256_maddubs_epi16(lo[h], x0),
                                         _mm256_maddubs_epi16(hi[h], x1));

            s[m][h] = _mm256_add_epi16(s[m][h], p);
        }
    }
}

/* s[m][h] = the dot products of block b. In 16 bits, all 8 additions of a block of nibbles reach
 * 8 * 2 * 15 * 127 = 30480, and 4 of five bits 4 * 2 * 31 * 127 = 31496, so these widen twice. */
TILE_INLINE void dots_min(__m256i (*s)[2], const struct tile *t, enum dtype type, size_t b,
                          int rows)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const uint8_t *line = t->panel + panel_k_lines_at(type, b);
    const int8_t *q = t->q + b * QK;
    const bool five = panel_k_lines(type) == 5;
    __m256i narrow[TILE_ROWS][2], fifth[2];

    if (five)
        TILE_UNROLL for (int h = 0; h < 2; h++)
            fifth[h] = load(line + 4 * PANEL_LINE + 32 * h);
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int h = 0; h < 2; h++)
            s[m][h] = narrow[m][h] = _mm256_setzero_si256();
    TILE_UNROLL for (int l = 0; l < 4; l++) {
        line_min(narrow, t, line, five ? fifth : NULL, q, l, rows);
        if (l < 3 && !(five && l == 1))
            continue;
        TILE_UNROLL for (int m = 0; m < rows; m++)
            TILE_UNROLL for (int h = 0; h < 2; h++) {
                s[m][h] = _mm256_add_epi32(s[m][h], _mm256_madd_epi16(narrow[m][h], ones));
                narrow[m][h] = _mm256_setzero_si256();
            }
    }
}

/* The scale and minimum of 8 rows for block b. */
TILE_INLINE void scales_min(__m256 *d, __m256 *dmin, const uint8_t *panel, enum dtype type,
                            size_t b, int h)
{
    const uint8_t *half = panel + panel_k_at(type, b) + 16 * h;

    *d = f16(half);
    *dmin = f16(half + 2 * PANEL_ROWS);
    if (type == DTYPE_Q4_K || type == DTYPE_Q5_K) {
        const uint8_t *sc = panel + panel_k_scales_at(type, b) + 8 * h;

        *d = _mm256_mul_ps(*d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load8(sc))));
        *dmin = _mm256_mul_ps(
            *dmin, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load8(sc + PANEL_ROWS))));
    }
}

/* acc += block b */
TILE_INLINE void block_min(__m256 (*acc)[2], const struct tile *t, enum dtype type, size_t b,
                           int rows)
{
    __m256i s[TILE_ROWS][2];

    dots_min(s, t, type, b, rows);
    TILE_UNROLL for (int h = 0; h < 2; h++) {
        __m256 d, dmin;

        scales_min(&d, &dmin, t->panel, type, b, h);
        TILE_UNROLL for (int m = 0; m < rows; m++) {
            const int16_t *sum = t->sum + 2 * (m * t->blocks + b);
            __m256 v = _mm256_mul_ps(d, _mm256_cvtepi32_ps(s[m][h]));

            v = _mm256_fnmadd_ps(dmin, _mm256_set1_ps((float)(sum[0] + sum[1])), v);
            acc[m][h] =
                _mm256_fmadd_ps(v, _mm256_broadcast_ss(t->d + m * t->blocks + b), acc[m][h]);
        }
    }
}

/* w[4] = 16 k of 8 rows, 0..63, four k a dword */
TILE_INLINE void unpack_q6(__m256i *w, const uint8_t *line)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i a = load(line), b = load(line + PANEL_LINE), bits = load(line + 2 * PANEL_LINE);

    w[0] = join(_mm256_and_si256(a, nibble), bits, 4, 0x30);
    w[1] = join(_mm256_and_si256(_mm256_srli_epi16(a, 4), nibble), bits, 2, 0x30);
    w[2] = join(_mm256_and_si256(b, nibble), bits, 0, 0x30);
    w[3] = join(_mm256_and_si256(_mm256_srli_epi16(b, 4), nibble), bits, -2, 0x30);
}

/* acc += the 16 k of block b that are its first or second half, of 8 rows of W. Two maddubs are at
 * most 2 * 2 * 63 * 127 = 32004. */
TILE_INLINE void half_q6(__m256 (*acc)[2], const struct tile *t, size_t b, int half, int h,
                         int rows)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const uint8_t *sc = t->panel + panel_k_scales_at(DTYPE_Q6_K, b) + half * PANEL_ROWS + 8 * h;
    __m256 d = _mm256_mul_ps(f16(t->panel + panel_k_at(DTYPE_Q6_K, b) + 16 * h),
                             _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load8(sc))));
    __m256i w[4];

    unpack_q6(w, t->panel + panel_k_lines_at(DTYPE_Q6_K, b) + half * 3 * PANEL_LINE + 32 * h);
    TILE_UNROLL for (int m = 0; m < rows; m++) {
        const int8_t *x = t->q + m * t->k_pad + b * QK + half * 16;
        __m256 dx = _mm256_broadcast_ss(t->d + m * t->blocks + b);
        __m256i p[2], s;

        TILE_UNROLL for (int l = 0; l < 2; l++)
            p[l] = _mm256_add_epi16(
                _mm256_maddubs_epi16(w[2 * l], broadcast_avx2(x + 8 * l)),
                _mm256_maddubs_epi16(w[2 * l + 1], broadcast_avx2(x + 8 * l + 4)));
        s = _mm256_add_epi32(_mm256_madd_epi16(p[0], ones), _mm256_madd_epi16(p[1], ones));
        s = _mm256_sub_epi32(
            s, _mm256_set1_epi32(32 * t->sum[2 * (m * t->blocks + b) + (size_t)half]));
        acc[m][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s), _mm256_mul_ps(d, dx), acc[m][h]);
    }
}

/* The same lines 256 k on. */
TILE_INLINE void fetch(const struct tile *t, enum dtype type, size_t b)
{
    const uint8_t *line = t->panel + panel_k_lines_at(type, b) + t->ahead;
    bool small = type == DTYPE_Q4_1 || type == DTYPE_Q5_1;

    TILE_UNROLL for (size_t l = 0; l < panel_k_lines(type); l++)
        _mm_prefetch(line + l * PANEL_LINE, _MM_HINT_T0);
    if (b % 8 == 0 || small)
        for (int l = 0; l < (small ? 1 : 5); l++)
            _mm_prefetch(t->panel + panel_k_at(type, b) + l * PANEL_LINE + t->ahead, _MM_HINT_T0);
}

TILE_INLINE void tile(const struct tile *t, enum dtype type, int rows)
{
    __m256 acc[TILE_ROWS][2];

    sums_load(acc, t, rows);
    for (size_t b = t->b0; b < t->b1; b++) {
        fetch(t, type, b);
        if (type != DTYPE_Q6_K) {
            block_min(acc, t, type, b, rows);
            continue;
        }
        TILE_UNROLL for (int h = 0; h < 2; h++)
            TILE_UNROLL for (int half = 0; half < 2; half++)
                half_q6(acc, t, b, half, h, rows);
    }
    sums_store(acc, t, rows);
}

#define TILE(panels, rows) tile(t, DTYPE_Q4_K, rows)
static void tile_q4_k(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_Q5_K, rows)
static void tile_q5_k(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_Q6_K, rows)
static void tile_q6_k(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_Q4_1, rows)
static void tile_q4_1(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_Q5_1, rows)
static void tile_q5_1(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE

void matmul_k_avx2(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                   uint32_t m, uint32_t p0, uint32_t p1)
{
    void (*run)(const struct tile *, uint32_t) = w->type == DTYPE_Q4_K   ? tile_q4_k
                                                 : w->type == DTYPE_Q5_K ? tile_q5_k
                                                 : w->type == DTYPE_Q6_K ? tile_q6_k
                                                 : w->type == DTYPE_Q4_1 ? tile_q4_1
                                                                         : tile_q5_1;
    size_t blocks = w->n_in / QK, slice = TILE_SLICE_BYTES / panel_k_bytes(w->type) * 8;
    struct tile t = {.y_stride = y_stride, .k_pad = x->k_pad, .blocks = blocks};

    if (m <= TILE_ROWS)
        slice = blocks;
    for (uint32_t p = p0; p < p1; p++) {
        t.panel = panel_at(w, p);
        t.lanes[0] = lanes_avx2(w->n_out, p * PANEL_ROWS);
        t.lanes[1] = lanes_avx2(w->n_out, p * PANEL_ROWS + 8);
        for (t.b0 = 0; t.b0 < blocks; t.b0 = t.b1) {
            t.b1 = blocks - t.b0 < slice ? blocks : t.b0 + slice;
            t.ahead = panel_k_bytes(w->type);
            for (size_t i = 0; i < m; i += TILE_ROWS) {
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.q = x->q + i * x->k_pad;
                t.d = x->d + i * blocks;
                t.sum = x->sum + 2 * i * blocks;
                run(&t, m - i < TILE_ROWS ? (uint32_t)(m - i) : TILE_ROWS);
                t.ahead = 0;
            }
        }
    }
}
