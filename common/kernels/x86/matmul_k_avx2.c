#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx2.h"
#include "kernels/x86/tile.h"

#define TILE_ROWS 4

/* What one tile works on: rows of x and y from the tile's first, one panel. */
struct tile {
    float *y;
    const int8_t *q;
    const float *d;
    const int16_t *sum;
    const uint8_t *panel;
    size_t y_stride, k_pad, blocks;
    size_t b0, b1; /* of 256 k */
    size_t ahead;
    __m256i lanes[2]; /* the panel's rows that are rows of W */
};

TILE_INLINE __m256i broadcast(const int8_t *dword)
{
    return _mm256_set1_epi32(*(const int32_t *)(const void *)dword);
}

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

/* s[m][h] += the products of one line, in 16-bit lanes: nibbles are unsigned, and all 8 additions of
 * a block reach at most 8 * 2 * 15 * 127 = 30480. */
TILE_INLINE void line_q4(__m256i (*s)[2], const struct tile *t, const uint8_t *line,
                         const int8_t *q, int rows)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i lo[2], hi[2];

    TILE_UNROLL for (int h = 0; h < 2; h++) {
        __m256i w = load(line + 32 * h);

        lo[h] = _mm256_and_si256(w, nibble);
        hi[h] = _mm256_and_si256(_mm256_srli_epi16(w, 4), nibble);
    }
    TILE_UNROLL for (int m = 0; m < rows; m++) {
        __m256i x0 = broadcast(q + m * t->k_pad), x1 = broadcast(q + m * t->k_pad + 4);

        TILE_UNROLL for (int h = 0; h < 2; h++) {
            __m256i p = _mm256_add_epi16(_mm256_maddubs_epi16(lo[h], x0),
                                         _mm256_maddubs_epi16(hi[h], x1));

            s[m][h] = _mm256_add_epi16(s[m][h], p);
        }
    }
}

/* acc += block j of the K block at `at`, block b of the row */
TILE_INLINE void block_q4(__m256 (*acc)[2], const struct tile *t, const uint8_t *at, size_t j,
                          size_t b, int rows)
{
    const uint8_t *line = at + PANEL_K_LINES + j * 4 * PANEL_LINE;
    const uint8_t *scales = at + PANEL_K_SCALES + j * 2 * PANEL_ROWS;
    __m256i s[TILE_ROWS][2];

    TILE_UNROLL for (int m = 0; m < rows; m++)
        s[m][0] = s[m][1] = _mm256_setzero_si256();
    TILE_UNROLL for (int l = 0; l < 4; l++) {
        _mm_prefetch(line + l * PANEL_LINE + t->ahead, _MM_HINT_T0);
        line_q4(s, t, line + l * PANEL_LINE, t->q + b * QK + l * 8, rows);
    }
    TILE_UNROLL for (int h = 0; h < 2; h++) {
        __m256i sc = _mm256_cvtepu8_epi32(load8(scales + 8 * h));
        __m256i mn = _mm256_cvtepu8_epi32(load8(scales + PANEL_ROWS + 8 * h));
        __m256 d = _mm256_mul_ps(f16(at + 16 * h), _mm256_cvtepi32_ps(sc));
        __m256 dmin = _mm256_mul_ps(f16(at + 32 + 16 * h), _mm256_cvtepi32_ps(mn));

        TILE_UNROLL for (int m = 0; m < rows; m++) {
            const int16_t *sum = t->sum + 2 * (m * t->blocks + b);
            __m256i dot = _mm256_madd_epi16(s[m][h], _mm256_set1_epi16(1));
            __m256 v = _mm256_mul_ps(d, _mm256_cvtepi32_ps(dot));

            v = _mm256_fnmadd_ps(dmin, _mm256_set1_ps((float)(sum[0] + sum[1])), v);
            acc[m][h] =
                _mm256_fmadd_ps(v, _mm256_broadcast_ss(t->d + m * t->blocks + b), acc[m][h]);
        }
    }
}

TILE_INLINE void tile_k4(const struct tile *t, int rows)
{
    __m256 acc[TILE_ROWS][2];

    sums_load(acc, t, rows);
    for (size_t b = t->b0; b < t->b1; b++) {
        const uint8_t *at = t->panel + b * panel_k_bytes(DTYPE_Q4_K);

        TILE_UNROLL for (int l = 0; l < 5; l++)
            _mm_prefetch(at + l * PANEL_LINE + t->ahead, _MM_HINT_T0);
        for (size_t j = 0; j < 8; j++)
            block_q4(acc, t, at, j, b * 8 + j, rows);
    }
    sums_store(acc, t, rows);
}

/* w[4] = the weights of 8 rows of a block of 16 k, 0..63, four k a dword */
TILE_INLINE void unpack_q6(__m256i *w, const uint8_t *line)
{
    const __m256i nibble = _mm256_set1_epi8(15), upper = _mm256_set1_epi8(0x30);
    __m256i a = load(line), b = load(line + PANEL_LINE), h = load(line + 2 * PANEL_LINE);

    w[0] = _mm256_or_si256(_mm256_and_si256(a, nibble),
                           _mm256_and_si256(_mm256_slli_epi16(h, 4), upper));
    w[1] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(a, 4), nibble),
                           _mm256_and_si256(_mm256_slli_epi16(h, 2), upper));
    w[2] = _mm256_or_si256(_mm256_and_si256(b, nibble), _mm256_and_si256(h, upper));
    w[3] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(b, 4), nibble),
                           _mm256_and_si256(_mm256_srli_epi16(h, 2), upper));
}

/* acc += block j of 16 of the K block at `at`, block b of 16 of the row. Two maddubs are at most
 * 2 * 2 * 63 * 127 = 32004. */
TILE_INLINE void block_q6(__m256 (*acc)[2], const struct tile *t, const uint8_t *at, size_t j,
                          size_t b, int rows)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const uint8_t *line = at + PANEL_K_LINES + j * 3 * PANEL_LINE;

    TILE_UNROLL for (int l = 0; l < 3; l++)
        _mm_prefetch(line + l * PANEL_LINE + t->ahead, _MM_HINT_T0);
    TILE_UNROLL for (int h = 0; h < 2; h++) {
        __m256i sc = _mm256_cvtepi8_epi32(load8(at + PANEL_K_SCALES + j * PANEL_ROWS + 8 * h));
        __m256 d = _mm256_mul_ps(f16(at + 16 * h), _mm256_cvtepi32_ps(sc));
        __m256i w[4];

        unpack_q6(w, line + 32 * h);
        TILE_UNROLL for (int m = 0; m < rows; m++) {
            const int8_t *x = t->q + m * t->k_pad + b * 16;
            __m256 dx = _mm256_broadcast_ss(t->d + m * t->blocks + b / 2);
            __m256i p[2], s;

            TILE_UNROLL for (int l = 0; l < 2; l++)
                p[l] = _mm256_add_epi16(_mm256_maddubs_epi16(w[2 * l], broadcast(x + 8 * l)),
                                        _mm256_maddubs_epi16(w[2 * l + 1],
                                                             broadcast(x + 8 * l + 4)));
            s = _mm256_add_epi32(_mm256_madd_epi16(p[0], ones), _mm256_madd_epi16(p[1], ones));
            s = _mm256_sub_epi32(s, _mm256_set1_epi32(32 * t->sum[2 * m * t->blocks + b]));
            acc[m][h] =
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(s), _mm256_mul_ps(d, dx), acc[m][h]);
        }
    }
}

TILE_INLINE void tile_k6(const struct tile *t, int rows)
{
    __m256 acc[TILE_ROWS][2];

    sums_load(acc, t, rows);
    for (size_t b = t->b0; b < t->b1; b++) {
        const uint8_t *at = t->panel + b * panel_k_bytes(DTYPE_Q6_K);

        TILE_UNROLL for (int l = 0; l < 5; l++)
            _mm_prefetch(at + l * PANEL_LINE + t->ahead, _MM_HINT_T0);
        for (size_t j = 0; j < 16; j++)
            block_q6(acc, t, at, j, b * 16 + j, rows);
    }
    sums_store(acc, t, rows);
}

#define TILE(panels, rows) tile_k4(t, rows)
static void tile_q4_k(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE
#define TILE(panels, rows) tile_k6(t, rows)
static void tile_q6_k(const struct tile *t, uint32_t rows) { TILE_1X4(rows) }
#undef TILE

void matmul_k_avx2(float *y, size_t y_stride, const struct panels *w, const struct act_q8 *x,
                   uint32_t m, uint32_t p0, uint32_t p1)
{
    void (*run)(const struct tile *, uint32_t) = w->type == DTYPE_Q4_K ? tile_q4_k : tile_q6_k;
    size_t blocks = w->n_in / QK_K, slice = TILE_SLICE_BYTES / panel_k_bytes(w->type);
    struct tile t = {.y_stride = y_stride, .k_pad = x->k_pad, .blocks = w->n_in / QK};

    if (m <= TILE_ROWS)
        slice = blocks;
    for (uint32_t p = p0; p < p1; p++) {
        t.panel = panel_at(w, p);
        t.lanes[0] = lanes_avx2(w->n_out, p * PANEL_ROWS);
        t.lanes[1] = lanes_avx2(w->n_out, p * PANEL_ROWS + 8);
        for (t.b0 = 0; t.b0 < blocks; t.b0 = t.b1) {
            t.b1 = blocks - t.b0 < slice ? blocks : t.b0 + slice;
            t.ahead = panel_k_bytes(w->type); /* the same line of the next block */
            for (size_t i = 0; i < m; i += TILE_ROWS) {
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.q = x->q + i * x->k_pad;
                t.d = x->d + i * t.blocks;
                t.sum = x->sum + 2 * i * t.blocks;
                run(&t, m - i < TILE_ROWS ? (uint32_t)(m - i) : TILE_ROWS);
                t.ahead = 0;
            }
        }
    }
}
