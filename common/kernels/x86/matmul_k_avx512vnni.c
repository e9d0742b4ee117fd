#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/tile.h"

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
    size_t b0, b1; /* of 32 k */
    bool fetch;    /* the weights are not in cache yet */
    __mmask16 last; /* lanes of the tile's last panel that are rows of W */
};

TILE_INLINE __m512i broadcast(const void *dword)
{
    return _mm512_set1_epi32(*(const int32_t *)dword);
}

TILE_INLINE __m512i load(const uint8_t *line, size_t ahead)
{
    _mm_prefetch(line + ahead, _MM_HINT_T0);
    return _mm512_load_si512(line);
}

/* The lines of scales before block b of a panel, if it is the first to use them. */
TILE_INLINE void fetch_scales(const uint8_t *panel, enum dtype type, size_t b, size_t ahead)
{
    bool small = type == DTYPE_Q4_1 || type == DTYPE_Q5_1;

    if (b % 8 == 0 || small)
        for (int l = 0; l < (small ? 1 : 5); l++)
            _mm_prefetch(panel + panel_k_at(type, b) + l * PANEL_LINE + ahead, _MM_HINT_T0);
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

/* A panel's scale and minimum for block b. */
TILE_INLINE void scales_min(__m512 *d, __m512 *dmin, const uint8_t *panel, enum dtype type,
                            size_t b)
{
    const uint8_t *half = panel + panel_k_at(type, b);

    *d = f16(half);
    *dmin = f16(half + 2 * PANEL_ROWS);
    if (type == DTYPE_Q4_K || type == DTYPE_Q5_K) {
        const __m128i *sc = (const __m128i *)(panel + panel_k_scales_at(type, b));

        *d = _mm512_mul_ps(*d, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128(sc))));
        *dmin = _mm512_mul_ps(*dmin,
                              _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128(sc + 1))));
    }
}

/* nibble | (bits << left & mask); left may be negative. 0xf8 is a | (b & c). */
TILE_INLINE __m512i join(__m512i nibble, __m512i bits, int left, int mask)
{
    __m512i upper = left < 0 ? _mm512_srli_epi16(bits, (unsigned)-left)
                             : _mm512_slli_epi16(bits, (unsigned)left);

    return _mm512_ternarylogic_epi32(nibble, upper, _mm512_set1_epi8((char)mask), 0xf8);
}

/* acc += block b */
TILE_INLINE void block_min(__m512 (*acc)[TILE_ROWS], const struct tile *t, enum dtype type,
                           size_t b, int panels, int rows)
{
    const __m512i nibble = _mm512_set1_epi8(15), ones = _mm512_set1_epi16(1);
    const uint8_t *line = t->panel + panel_k_lines_at(type, b);
    size_t ahead = t->fetch ? panel_ahead(type, b, t->blocks, t->panel_bytes, panels) : 0;
    __m512i s[TILE_PANELS][TILE_ROWS], fifth[TILE_PANELS];

    TILE_UNROLL for (int i = 0; i < panels; i++) {
        fetch_scales(t->panel + i * t->panel_bytes, type, b, ahead);
        if (panel_k_lines(type) == 5)
            fifth[i] = load(line + i * t->panel_bytes + 4 * PANEL_LINE, ahead);
        TILE_UNROLL for (int m = 0; m < rows; m++)
            s[i][m] = _mm512_setzero_si512();
    }
    TILE_UNROLL for (int l = 0; l < 4; l++) {
        __m512i lo[TILE_PANELS], hi[TILE_PANELS];

        TILE_UNROLL for (int i = 0; i < panels; i++) {
            __m512i w = load(line + i * t->panel_bytes + l * PANEL_LINE, ahead);

            lo[i] = _mm512_and_si512(w, nibble);
            hi[i] = _mm512_and_si512(_mm512_srli_epi16(w, 4), nibble);
            if (panel_k_lines(type) == 5) {
                lo[i] = join(lo[i], fifth[i], 4 - 2 * l, 16);
                hi[i] = join(hi[i], fifth[i], 3 - 2 * l, 16);
            }
        }
        TILE_UNROLL for (int m = 0; m < rows; m++) {
            const int8_t *x = t->q + b * QK + m * t->k_pad + l * 8;

            TILE_UNROLL for (int i = 0; i < panels; i++)
                s[i][m] = _mm512_dpbusd_epi32(s[i][m], lo[i], broadcast(x));
            TILE_UNROLL for (int i = 0; i < panels; i++)
                s[i][m] = _mm512_dpbusd_epi32(s[i][m], hi[i], broadcast(x + 4));
        }
    }
    TILE_UNROLL for (int i = 0; i < panels; i++) {
        __m512 d, dmin;

        scales_min(&d, &dmin, t->panel + i * t->panel_bytes, type, b);
        TILE_UNROLL for (int m = 0; m < rows; m++) {
            __m512i sum = _mm512_dpwssd_epi32(_mm512_setzero_si512(), ones,
                                              broadcast(t->sum + 2 * (m * t->blocks + b)));
            __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(s[i][m]));

            v = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(sum), v);
            acc[i][m] = _mm512_fmadd_ps(v, _mm512_set1_ps(t->d[m * t->blocks + b]), acc[i][m]);
        }
    }
}

/* w[4] = 16 k of a panel, 0..63, four k a dword */
TILE_INLINE void unpack_q6(__m512i *w, const uint8_t *line, size_t ahead)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i a = load(line, ahead), b = load(line + PANEL_LINE, ahead);
    __m512i bits = load(line + 2 * PANEL_LINE, ahead);

    w[0] = join(_mm512_and_si512(a, nibble), bits, 4, 0x30);
    w[1] = join(_mm512_and_si512(_mm512_srli_epi16(a, 4), nibble), bits, 2, 0x30);
    w[2] = join(_mm512_and_si512(b, nibble), bits, 0, 0x30);
    w[3] = join(_mm512_and_si512(_mm512_srli_epi16(b, 4), nibble), bits, -2, 0x30);
}

/* acc += block j of the 16 blocks of 16 k at `at`, block b of the row's. (Addresses from b alone,
 * or two blocks of 16 as one of 32, cost a tenth at M = 1.) */
TILE_INLINE void block_q6(__m512 (*acc)[TILE_ROWS], const struct tile *t, const uint8_t *at,
                          size_t j, size_t b, size_t ahead, int panels, int rows)
{
    /* The weights are 32 too large; of the two sums in a dword one is of these 16. */
    const __m512i offset = _mm512_set1_epi32(b % 2 ? (int)0xffe00000 : 0xffe0);
    const uint8_t *line = at + PANEL_K_LINES + j * 3 * PANEL_LINE;
    __m512i s[TILE_PANELS][TILE_ROWS], w[TILE_PANELS][4];

    TILE_UNROLL for (int i = 0; i < panels; i++)
        unpack_q6(w[i], line + i * t->panel_bytes, ahead);
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
        const uint8_t *half = at + i * t->panel_bytes;
        __m128i sc = _mm_load_si128((const __m128i *)(half + PANEL_K_SCALES + j * PANEL_ROWS));
        __m512 d = _mm512_mul_ps(f16(half), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sc)));

        TILE_UNROLL for (int m = 0; m < rows; m++) {
            __m512 dx = _mm512_set1_ps(t->d[m * t->blocks + b / 2]);

            acc[i][m] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[i][m]), _mm512_mul_ps(d, dx), acc[i][m]);
        }
    }
}

TILE_INLINE void tile(const struct tile *t, enum dtype type, int panels, int rows)
{
    __m512 acc[TILE_PANELS][TILE_ROWS];

    sums_load(acc, t, panels, rows);
    for (size_t b = t->b0; type != DTYPE_Q6_K && b < t->b1; b++)
        block_min(acc, t, type, b, panels, rows);
    for (size_t b = t->b0; type == DTYPE_Q6_K && b < t->b1; b += 8) {
        size_t ahead = t->fetch ? panel_ahead(type, b, t->blocks, t->panel_bytes, panels) : 0;

        TILE_UNROLL for (int i = 0; i < panels; i++)
            fetch_scales(t->panel + i * t->panel_bytes, type, b, ahead);
        for (size_t j = 0; j < 16; j++)
            block_q6(acc, t, t->panel + panel_k_at(type, b), j, b * 2 + j, ahead, panels, rows);
    }
    sums_store(acc, t, panels, rows);
}

#define TILE(panels, rows) tile(t, DTYPE_Q4_K, panels, rows)
static void tile_q4_k(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_Q5_K, panels, rows)
static void tile_q5_k(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_Q6_K, panels, rows)
static void tile_q6_k(const struct tile *t, uint32_t panels, uint32_t rows)
{
    TILE_2X8(panels, rows);
}
#undef TILE
/* Nobody makes files of these two any more: they get fewer shapes. */
#define TILE(panels, rows) tile(t, DTYPE_Q4_1, panels, rows)
static void tile_q4_1(const struct tile *t, uint32_t panels, uint32_t rows)
{
    (void)panels;
    TILE_1X4(rows)
}
#undef TILE
#define TILE(panels, rows) tile(t, DTYPE_Q5_1, panels, rows)
static void tile_q5_1(const struct tile *t, uint32_t panels, uint32_t rows)
{
    (void)panels;
    TILE_1X4(rows)
}
#undef TILE

void matmul_k_avx512vnni(float *y, size_t y_stride, const struct panels *w,
                         const struct act_q8 *x, uint32_t m, uint32_t p0, uint32_t p1)
{
    void (*run)(const struct tile *, uint32_t, uint32_t) = w->type == DTYPE_Q4_K   ? tile_q4_k
                                                           : w->type == DTYPE_Q5_K ? tile_q5_k
                                                           : w->type == DTYPE_Q6_K ? tile_q6_k
                                                           : w->type == DTYPE_Q4_1 ? tile_q4_1
                                                                                   : tile_q5_1;
    bool small = w->type == DTYPE_Q4_1 || w->type == DTYPE_Q5_1;
    uint32_t rows = small ? 4 : TILE_ROWS, panels = small ? 1 : TILE_PANELS;
    size_t blocks = w->n_in / QK, slice = TILE_SLICE_BYTES / panel_k_bytes(w->type) * 8;
    struct tile t = {
        .y_stride = y_stride, .k_pad = x->k_pad, .blocks = blocks, .panel_bytes = w->panel_bytes};

    if (m <= rows)
        slice = blocks;
    for (uint32_t p = p0, n; p < p1; p += n) {
        n = p1 - p < panels ? p1 - p : panels;
        t.panel = panel_at(w, p);
        t.last = lanes_avx512(w->n_out - (p + n - 1) * PANEL_ROWS);
        for (t.b0 = 0; t.b0 < blocks; t.b0 = t.b1) {
            t.b1 = blocks - t.b0 < slice ? blocks : t.b0 + slice;
            t.fetch = true;
            for (size_t i = 0; i < m; i += rows) {
                t.y = y + i * y_stride + p * PANEL_ROWS;
                t.q = x->q + i * x->k_pad;
                t.d = x->d + i * blocks;
                t.sum = x->sum + 2 * i * blocks;
                run(&t, n, m - i < rows ? (uint32_t)(m - i) : rows);
                t.fetch = false;
            }
        }
    }
}
