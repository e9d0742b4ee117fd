#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/tile.h"

#define TILE_PANELS 2
#define TILE_ROWS 8

/* What one tile works on: rows of x and y from the tile's first, panels from its first. */
struct tile {
    float *y;
    const int8_t *q;
    const float *d;
    const int16_t *sum;
    const uint8_t *panel;
    size_t y_stride, k_pad, blocks, panel_bytes;
    size_t b0, b1; /* of 256 k */
    bool fetch;    /* the weights are not in cache yet */
    __mmask16 last; /* lanes of the tile's last panel that are rows of W */
};

TILE_INLINE __m512i broadcast(const void *dword)
{
    return _mm512_set1_epi32(*(const int32_t *)dword);
}

/* Where to prefetch from block b of 256 k: the same line of the next block, which after the last one
 * is in the next panels. (Of the distances tried, 2 to 3 KiB were best, and 4 KiB worse by a tenth.) */
TILE_INLINE size_t ahead_of(const struct tile *t, size_t b, size_t block_bytes, int panels)
{
    if (!t->fetch)
        return 0;
    return block_bytes + ((b + 1) * 8 < t->blocks ? 0 : (size_t)(panels - 1) * t->panel_bytes);
}

TILE_INLINE __m512i load(const uint8_t *line, size_t ahead)
{
    _mm_prefetch(line + ahead, _MM_HINT_T0);
    return _mm512_load_si512(line);
}

TILE_INLINE void fetch_scales(const struct tile *t, const uint8_t *at, size_t ahead, int panels)
{
    TILE_UNROLL for (int i = 0; i < panels; i++)
        TILE_UNROLL for (int l = 0; l < 5; l++)
            _mm_prefetch(at + i * t->panel_bytes + l * PANEL_LINE + ahead, _MM_HINT_T0);
}

TILE_INLINE __m512 f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)p));
}

TILE_INLINE void sums_load(__m512 (*acc)[TILE_ROWS], const struct tile *t, int panels, int rows)
{
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int i = 0; i < panels; i++) {
            __mmask16 lanes = t->b0 == 0 ? 0 : i == panels - 1 ? t->last : 0xffff;

            acc[i][m] = _mm512_maskz_loadu_ps(lanes, t->y + m * t->y_stride + i * PANEL_ROWS);
        }
}

TILE_INLINE void sums_store(__m512 (*acc)[TILE_ROWS], const struct tile *t, int panels, int rows)
{
    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int i = 0; i < panels; i++)
            _mm512_mask_storeu_ps(t->y + m * t->y_stride + i * PANEL_ROWS,
                                  i == panels - 1 ? t->last : 0xffff, acc[i][m]);
}

/* acc += block j of the K block at `at`, block b of the row */
TILE_INLINE void block_q4(__m512 (*acc)[TILE_ROWS], const struct tile *t, const uint8_t *at,
                          size_t j, size_t b, size_t ahead, int panels, int rows)
{
    const __m512i nibble = _mm512_set1_epi8(15), ones = _mm512_set1_epi16(1);
    const uint8_t *line = at + PANEL_K_LINES + j * 4 * PANEL_LINE;
    const uint8_t *scales = at + PANEL_K_SCALES + j * 2 * PANEL_ROWS;
    const int8_t *q = t->q + b * QK;
    __m512i s[TILE_PANELS][TILE_ROWS];

    TILE_UNROLL for (int m = 0; m < rows; m++)
        TILE_UNROLL for (int i = 0; i < panels; i++)
            s[i][m] = _mm512_setzero_si512();
    TILE_UNROLL for (int l = 0; l < 4; l++) {
        __m512i lo[TILE_PANELS], hi[TILE_PANELS];

        TILE_UNROLL for (int i = 0; i < panels; i++) {
            __m512i w = load(line + i * t->panel_bytes + l * PANEL_LINE, ahead);

            lo[i] = _mm512_and_si512(w, nibble);
            hi[i] = _mm512_and_si512(_mm512_srli_epi16(w, 4), nibble);
        }
        TILE_UNROLL for (int m = 0; m < rows; m++) {
            const int8_t *x = q + m * t->k_pad + l * 8;

            TILE_UNROLL for (int i = 0; i < panels; i++)
                s[i][m] = _mm512_dpbusd_epi32(s[i][m], lo[i], broadcast(x));
            TILE_UNROLL for (int i = 0; i < panels; i++)
                s[i][m] = _mm512_dpbusd_epi32(s[i][m], hi[i], broadcast(x + 4));
        }
    }
    TILE_UNROLL for (int i = 0; i < panels; i++) {
        const uint8_t *head = at + i * t->panel_bytes, *sc = scales + i * t->panel_bytes;
        __m512i both = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)sc));
        __m512i isc = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(both));
        __m512i imn = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(both, 1));
        __m512 d = _mm512_mul_ps(f16(head), _mm512_cvtepi32_ps(isc));
        __m512 dmin = _mm512_mul_ps(f16(head + 32), _mm512_cvtepi32_ps(imn));

        TILE_UNROLL for (int m = 0; m < rows; m++) {
            __m512i sum = _mm512_dpwssd_epi32(_mm512_setzero_si512(), ones,
                                              broadcast(t->sum + 2 * (m * t->blocks + b)));
            __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(s[i][m]));

            v = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(sum), v);
            acc[i][m] = _mm512_fmadd_ps(v, _mm512_set1_ps(t->d[m * t->blocks + b]), acc[i][m]);
        }
    }
}

TILE_INLINE void tile_k4(const struct tile *t, int panels, int rows)
{
    __m512 acc[TILE_PANELS][TILE_ROWS];

    sums_load(acc, t, panels, rows);
    for (size_t b = t->b0; b < t->b1; b++) {
        const uint8_t *at = t->panel + b * panel_k_bytes(DTYPE_Q4_K);
        size_t ahead = ahead_of(t, b, panel_k_bytes(DTYPE_Q4_K), panels);

        fetch_scales(t, at, ahead, panels);
        for (size_t j = 0; j < 8; j++)
            block_q4(acc, t, at, j, b * 8 + j, ahead, panels, rows);
    }
    sums_store(acc, t, panels, rows);
}

/* w[4] = the weights of block j of 16 k, 0..63, four k a dword */
TILE_INLINE void unpack_q6(__m512i *w, const uint8_t *at, size_t j, size_t ahead)
{
    const __m512i nibble = _mm512_set1_epi8(15), upper = _mm512_set1_epi8(0x30);
    const uint8_t *line = at + PANEL_K_LINES + j * 3 * PANEL_LINE;
    __m512i a = load(line, ahead), b = load(line + PANEL_LINE, ahead);
    __m512i h = load(line + 2 * PANEL_LINE, ahead);

    /* 0xf8: nibble | (bits & upper) */
    w[0] = _mm512_ternarylogic_epi32(_mm512_and_si512(a, nibble), _mm512_slli_epi16(h, 4), upper,
                                     0xf8);
    w[1] = _mm512_ternarylogic_epi32(_mm512_and_si512(_mm512_srli_epi16(a, 4), nibble),
                                     _mm512_slli_epi16(h, 2), upper, 0xf8);
    w[2] = _mm512_ternarylogic_epi32(_mm512_and_si512(b, nibble), h, upper, 0xf8);
    w[3] = _mm512_ternarylogic_epi32(_mm512_and_si512(_mm512_srli_epi16(b, 4), nibble),
                                     _mm512_srli_epi16(h, 2), upper, 0xf8);
}

/* acc += block j of 16 of the K block at `at`, block b of 16 of the row */
TILE_INLINE void block_q6(__m512 (*acc)[TILE_ROWS], const struct tile *t, const uint8_t *at,
                          size_t j, size_t b, size_t ahead, int panels, int rows)
{
    /* The weights are 32 too large: the sum of this half is the even or odd one of its dword. */
    const __m512i offset = _mm512_set1_epi32(b % 2 ? (int)0xffe00000 : 0xffe0);
    __m512i s[TILE_PANELS][TILE_ROWS], w[TILE_PANELS][4];

    TILE_UNROLL for (int i = 0; i < panels; i++)
        unpack_q6(w[i], at + i * t->panel_bytes, j, ahead);
    TILE_UNROLL for (int m = 0; m < rows; m++) {
        __m512i sum = broadcast(t->sum + 2 * (m * t->blocks + b / 2));
        const int8_t *x = t->q + m * t->k_pad + b * 16;

        TILE_UNROLL for (int i = 0; i < panels; i++)
            s[i][m] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), offset, sum);
        TILE_UNROLL for (int l = 0; l < 4; l++)
            TILE_UNROLL for (int i = 0; i < panels; i++)
                s[i][m] = _mm512_dpbusd_epi32(s[i][m], w[i][l], broadcast(x + 4 * l));
    }
    TILE_UNROLL for (int i = 0; i < panels; i++) {
        const uint8_t *head = at + i * t->panel_bytes;
        __m128i sc = _mm_load_si128(
            (const __m128i *)(head + PANEL_K_SCALES + j * PANEL_ROWS));
        __m512 d = _mm512_mul_ps(f16(head), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sc)));

        TILE_UNROLL for (int m = 0; m < rows; m++) {
            __m512 dx = _mm512_set1_ps(t->d[m * t->blocks + b / 2]);

            acc[i][m] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[i][m]), _mm512_mul_ps(d, dx), acc[i][m]);
        }
    }
}

TILE_INLINE void tile_k6(const struct tile *t, int panels, int rows)
{
    __m512 acc[TILE_PANELS][TILE_ROWS];

    sums_load(acc, t, panels, rows);
    for (size_t b = t->b0; b < t->b1; b++) {
        const uint8_t *at = t->panel + b * panel_k_bytes(DTYPE_Q6_K);
        size_t ahead = ahead_of(t, b, panel_k_bytes(DTYPE_Q6_K), panels);

        fetch_scales(t, at, ahead, panels);
        for (size_t j = 0; j < 16; j++)
            block_q6(acc, t, at, j, b * 16 + j, ahead, panels, rows);
    }
    sums_store(acc, t, panels, rows);
}

#define TILE(panels, rows) tile_k4(t, panels, rows)
static void tile_q4_k(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE
#define TILE(panels, rows) tile_k6(t, panels, rows)
static void tile_q6_k(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE

void matmul_k_avx512vnni(float *y, size_t y_stride, const struct panels *w,
                         const struct act_q8 *x, uint32_t m, uint32_t p0, uint32_t p1)
{
    void (*run)(const struct tile *, uint32_t, uint32_t) =
        w->type == DTYPE_Q4_K ? tile_q4_k : tile_q6_k;
    size_t blocks = w->n_in / QK_K, slice = TILE_SLICE_BYTES / panel_k_bytes(w->type);
    struct tile t = {.y_stride = y_stride,
                     .k_pad = x->k_pad,
                     .blocks = w->n_in / QK,
                     .panel_bytes = w->panel_bytes};

    if (m <= TILE_ROWS)
        slice = blocks;
    for (uint32_t p = p0, n; p < p1; p += n) {
        n = p1 - p < TILE_PANELS ? p1 - p : TILE_PANELS;
        t.panel = panel_at(w, p);
        t.last = lanes_avx512(w->n_out - (p + n - 1) * PANEL_ROWS);
        for (t.b0 = 0; t.b0 < blocks; t.b0 = t.b1) {
            t.b1 = blocks - t.b0 < slice ? blocks : t.b0 + slice;
            t.fetch = true;
            for (size_t i = 0; i < m; i += TILE_ROWS) {
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.q = x->q + i * x->k_pad;
                t.d = x->d + i * t.blocks;
                t.sum = x->sum + 2 * i * t.blocks;
                run(&t, n, m - i < TILE_ROWS ? (uint32_t)(m - i) : TILE_ROWS);
                t.fetch = false;
            }
        }
    }
}
