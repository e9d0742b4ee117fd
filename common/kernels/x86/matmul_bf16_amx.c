/* DESIGN: y = x W^T on the matrix unit. Weights are unpacked to tiles of bf16 in L1 and multiplied
 * there; x is in the order of tiles already. Every sum of y is one accumulator to which blocks of
 * QK products are added in ascending order, however the work is cut, so the ways below agree.
 *
 * Few rows (up to 64, or as the panels say): the sums stay in tile registers over all of k. Tiles of weights pass through
 * a ring, unpacked a block before they are multiplied, so that both units have work:
 *
 *     panel --unpack--> ring[LAG ahead] --load--> B;  C[m] += A[m] B  for 1 to 4 tiles of rows
 *
 * Many rows: a slab of 2 panels by ACT_BF16_KC stays in L1 while all rows, 32 at a time, pass over
 * it (2 x 2 tiles). The first 32 pass while it is unpacked, a block behind, so that their tiles are
 * multiplied beside that work and read from L1. All the while the next slab's bytes are fetched.
 * Between slabs the sums wait in L2. Where all of x fits L2 too, two panels at a time take all of k.
 * Else a scratch has the sums of as many panels as there is room for: a part of x is read from L2
 * once a slab, from L3 once a scratch. */
#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/unpack_amx.h"
#include "kernels/x86/tile_config_amx.h"

#define LAG 1  /* blocks that unpacking is ahead of multiplying; 2 and 3 were slower */
#define RING 2 /* tiles a panel: LAG written, one read, a power of two */
#define SLAB_AHEAD 576 /* of its unpacking, from L2 */
#define KC_BLOCKS (ACT_BF16_KC / QK)
#define SCRATCH_BYTES (512 << 10) /* sums that wait; with its part of x it fits an L2 of 2 MiB */
#define ROWS_BLOCK 512            /* of x; its 512 KiB of a part of k stay in L2 */
#define X_BYTES (1 << 20)         /* of x that stay in L2 */

struct job {
    float *y;
    size_t y_stride;
    const struct panels *w;
    const struct act_bf16 *x;
    uint32_t m, p0, p1;
};

/* Tiles 0-3 are sums, 4 and 5 rows of x, 6 and 7 weights. Those of the last rows of x (5 and the
 * sums from `last_sum` on) have `rows` rows. */
static void configure(uint32_t last_sum, uint32_t rows)
{
    struct tile_config c = {.palette = 1};

    for (uint32_t i = 0; i < 8; i++) {
        c.bytes[i] = PANEL_LINE;
        c.rows[i] = (uint8_t)(i == 5 || (i < 4 && i >= last_sum) ? rows : 16);
    }
    tile_config_load(&c);
}

void to_bf16_amx(struct act_bf16 *a, uint32_t row, const float *x, size_t k)
{
    for (uint32_t b = 0; b < a->k_pad / QK; b++) {
        size_t n = k > b * QK ? k - b * QK : 0;
        __m512 lo = _mm512_maskz_loadu_ps(lanes_avx512(n), x + b * QK);
        __m512 hi = _mm512_maskz_loadu_ps(lanes_avx512(n > 16 ? n - 16 : 0), x + b * QK + 16);

        _mm512_store_si512(act_bf16_at(a, row, b), (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
}

/* Rows of x up to which the sums stay in tiles. */
static uint32_t few_rows(const struct panels *w)
{
    return w->few && w->few < MATMUL_FEW_BF16 ? w->few : MATMUL_FEW_BF16;
}

static uint32_t columns(const struct panels *w, uint32_t p)
{
    uint32_t left = w->n_out - p * PANEL_ROWS;

    return left < PANEL_ROWS ? left : PANEL_ROWS;
}

/* y = a tile of sums, which do not all exist */
static void copy_part(float *y, size_t y_stride, const float *sums, uint32_t rows, uint32_t cols)
{
    for (uint32_t r = 0; r < rows; r++)
        _mm512_mask_storeu_ps(y + r * y_stride, lanes_avx512(cols), _mm512_load_ps(sums + r * 16));
}

/* Sums += the rows of x at a, tiles `step` values apart, by 1 or 2 tiles of weights. */
UNPACK_INLINE void multiply(const uint16_t *a, size_t step, const uint8_t *b, int row_tiles,
                            int panels)
{
    _tile_loadd(6, b, PANEL_LINE);
    if (panels == 2)
        _tile_loadd(7, b + RING * TILE_BYTES, PANEL_LINE);
    if (row_tiles > 1) {
        _tile_stream_loadd(4, a, PANEL_LINE);
        _tile_dpbf16ps(0, 4, 6);
        if (panels == 2)
            _tile_dpbf16ps(1, 4, 7);
    }
    if (row_tiles > 2) {
        _tile_stream_loadd(4, a + step, PANEL_LINE);
        _tile_dpbf16ps(1, 4, 6);
    }
    if (row_tiles > 3) {
        _tile_stream_loadd(4, a + 2 * step, PANEL_LINE);
        _tile_dpbf16ps(2, 4, 6);
    }
    _tile_stream_loadd(5, a + (row_tiles - 1) * step, PANEL_LINE);
    switch ((row_tiles - 1) * panels) {
    case 0:
        _tile_dpbf16ps(0, 5, 6);
        if (panels == 2)
            _tile_dpbf16ps(1, 5, 7);
        break;
    case 1:
        _tile_dpbf16ps(1, 5, 6);
        break;
    case 2:
        _tile_dpbf16ps(2, 5, 6);
        if (panels == 2)
            _tile_dpbf16ps(3, 5, 7);
        break;
    default:
        _tile_dpbf16ps(3, 5, 6);
    }
}

/* Sums of row tile `row_tile` and panel p to y. */
#define STORE(tile, row_tile, p)                                                                   \
    do {                                                                                           \
        float *out = j->y + (row_tile) * 16 * j->y_stride + (p) * PANEL_ROWS;                      \
        if (columns(j->w, p) == PANEL_ROWS) {                                                      \
            _tile_stored(tile, out, j->y_stride * sizeof(float));                                  \
        } else {                                                                                   \
            _tile_stored(tile, part, PANEL_LINE);                                                  \
            copy_part(out, j->y_stride, part, j->m - (row_tile) * 16 < 16 ? j->m % 16 : 16,        \
                      columns(j->w, p));                                                           \
        }                                                                                          \
    } while (0)

/* A quarter of block u->b of a panel. The compiler does not move it past tile instructions. */
UNPACK_INLINE void turn(struct unpack *u, uint8_t *tile, const struct panels *w, enum dtype type,
                        const uint8_t *panel, int q)
{
    unpack_quarter(u, tile, w, type, panel, q);
    __asm__ volatile("" : : : "memory");
}

/* Block b > 0 of two panels to tiles, and the one before it, at `last`, multiplied by a tile of rows of x,
 * in turns as in slab_both. */
UNPACK_INLINE void stream_both(const struct job *j, enum dtype type, const uint8_t *panel,
                               uint32_t b, size_t ahead, uint8_t *tile, const uint8_t *last)
{
    struct unpack u = {.b = b, .ahead = ahead}, v = u;
    const uint8_t *second = panel + j->w->panel_bytes;

    turn(&u, tile, j->w, type, panel, 0);
    _tile_stream_loadd(5, act_bf16_at(j->x, 0, b - 1), PANEL_LINE);
    turn(&u, tile, j->w, type, panel, 1);
    _tile_loadd(6, last, PANEL_LINE);
    _tile_dpbf16ps(0, 5, 6);
    turn(&u, tile, j->w, type, panel, 2);
    turn(&u, tile, j->w, type, panel, 3);
    tile += RING * TILE_BYTES;
    turn(&v, tile, j->w, type, second, 0);
    turn(&v, tile, j->w, type, second, 1);
    _tile_loadd(7, last + RING * TILE_BYTES, PANEL_LINE);
    _tile_dpbf16ps(1, 5, 7);
    turn(&v, tile, j->w, type, second, 2);
    turn(&v, tile, j->w, type, second, 3);
}

/* Panel p, or two, by row_tiles tiles of rows: all of y that they give. */
UNPACK_INLINE void stream(const struct job *j, uint32_t p, enum dtype type, int row_tiles,
                          int panels)
{
    uint8_t ring[2 * RING * TILE_BYTES] __attribute__((aligned(64)));
    float part[16 * 16] __attribute__((aligned(64)));
    uint32_t blocks = j->x->k_pad / QK;
    const uint8_t *panel = panel_at(j->w, p);
    size_t bytes = j->w->panel_bytes;

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (uint32_t t = 0; t < blocks + LAG; t++) {
        uint32_t b = t - LAG, first = b & ~(KC_BLOCKS - 1u);
        uint32_t n = blocks - first < KC_BLOCKS ? blocks - first : KC_BLOCKS;
        size_t ahead = panel_ahead(type, t, blocks, bytes, panels);
        uint8_t *tile = ring + t % RING * TILE_BYTES;

        if (row_tiles == 1 && panels == 2 && t >= LAG && t < blocks) {
            stream_both(j, type, panel, t, ahead, tile, ring + b % RING * TILE_BYTES);
            continue;
        }
        for (int i = 0; t < blocks && i < panels; i++)
            unpack_block(tile + i * RING * TILE_BYTES, j->w, type, panel + i * bytes, t, ahead);
        if (t >= LAG)
            multiply(act_bf16_at(j->x, 0, b), n * 16 * QK, ring + b % RING * TILE_BYTES, row_tiles,
                     panels);
    }
    STORE(0, 0, p);
    if (panels == 2)
        STORE(1, 0, p + 1);
    if (panels == 1 && row_tiles > 1)
        STORE(1, 1, p);
    if (panels == 2 && row_tiles > 1) {
        STORE(2, 1, p);
        STORE(3, 1, p + 1);
    }
    if (row_tiles > 2)
        STORE(2, 2, p);
    if (row_tiles > 3)
        STORE(3, 3, p);
}

UNPACK_INLINE void stream_all(const struct job *j, enum dtype type, int row_tiles, int panels)
{
    uint32_t p = j->p0;

    configure((uint32_t)((row_tiles - 1) * panels), (j->m - 1) % 16 + 1);
    if (panels == 2)
        for (; p + 2 <= j->p1; p += 2)
            stream(j, p, type, row_tiles, 2);
    if (p == j->p1)
        return;
    if (panels == 2)
        configure((uint32_t)(row_tiles - 1), (j->m - 1) % 16 + 1);
    for (; p < j->p1; p++)
        stream(j, p, type, row_tiles, 1);
}

struct slab {
    uint8_t tiles[2 * KC_BLOCKS * TILE_BYTES];
    float sums[SCRATCH_BYTES / sizeof(float)];
} __attribute__((aligned(64)));

/* Tile of the next sums in, the finished ones out. */
#define SWAP(tile)                                                                                 \
    do {                                                                                           \
        _tile_stored(tile, out[tile], stride);                                                     \
        if (first)                                                                                 \
            _tile_zero(tile);                                                                      \
        else                                                                                       \
            _tile_loadd(tile, next + (tile) * 256, PANEL_LINE);                                    \
    } while (0)

/* What the next slabs read: their weights, of two panels, and part of x. */
struct coming {
    const uint8_t *weights[2], *x;
    uint32_t lines, x_lines; /* to be asked for, and in a step: */
    uint32_t step, x_step;
};

/* The slab that is multiplied: blocks b0 to b0 + n of panels p and p + 1, rows m0 <= row < m1 of x. */
struct part {
    uint8_t *tiles;
    float *sums; /* unfinished ones, four tiles for each 32 rows */
    const uint8_t *panel[2];
    uint32_t p, m0, m1, b0, n;
};

/* Asks for the next lines of each, if there are any. */
UNPACK_INLINE void fetch(struct coming *c)
{
    if (c->lines) {
        uint32_t n = c->lines < c->step ? c->lines : c->step;

        for (uint32_t i = 0; i < n; i++) {
            _mm_prefetch(c->weights[0] + i * PANEL_LINE, _MM_HINT_T1);
            _mm_prefetch(c->weights[1] + i * PANEL_LINE, _MM_HINT_T1);
        }
        c->weights[0] += n * PANEL_LINE;
        c->weights[1] += n * PANEL_LINE;
        c->lines -= n;
    }
    if (c->x_lines) {
        uint32_t n = c->x_lines < c->x_step ? c->x_lines : c->x_step;

        for (uint32_t i = 0; i < n; i++)
            _mm_prefetch(c->x + i * PANEL_LINE, _MM_HINT_T1);
        c->x += n * PANEL_LINE;
        c->x_lines -= n;
    }
}

/* Sums += 32 rows of x at a by a block of two panels at b. */
#define MULTIPLY_2X2(a, down, b)                                                                   \
    do {                                                                                           \
        _tile_stream_loadd(4, a, PANEL_LINE);                                                      \
        _tile_loadd(6, b, PANEL_LINE);                                                             \
        _tile_dpbf16ps(0, 4, 6);                                                                   \
        _tile_loadd(7, (b) + KC_BLOCKS * TILE_BYTES, PANEL_LINE);                                  \
        _tile_dpbf16ps(1, 4, 7);                                                                   \
        _tile_stream_loadd(5, (a) + (down), PANEL_LINE);                                           \
        _tile_dpbf16ps(2, 5, 6);                                                                   \
        _tile_dpbf16ps(3, 5, 7);                                                                   \
    } while (0)

/* Block i of the slab's two panels. */
UNPACK_INLINE void slab_unpack(const struct job *j, const struct part *s, enum dtype type,
                               uint32_t i)
{
    for (uint32_t k = 0; k < 2; k++)
        unpack_block(s->tiles + (k * KC_BLOCKS + i) * TILE_BYTES, j->w, type, s->panel[k],
                     s->b0 + i, SLAB_AHEAD);
}

/* A quarter of block i of panel k. */
UNPACK_INLINE void slab_quarter(const struct job *j, const struct part *s, enum dtype type,
                                struct unpack *u, uint32_t i, uint32_t k, int q)
{
    turn(u, s->tiles + (k * KC_BLOCKS + i) * TILE_BYTES, j->w, type, s->panel[k], q);
}

/* Block i is unpacked and the one before it, at b, multiplied, in turns so short that the processor
 * has both before it at any time: MULTIPLY_2X2 after slab_unpack takes 1.2 times as long. */
UNPACK_INLINE void slab_both(const struct job *j, const struct part *s, enum dtype type, uint32_t i,
                             const uint16_t *a, size_t down, const uint8_t *b)
{
    struct unpack u = {.b = s->b0 + i, .ahead = SLAB_AHEAD}, v = u;

    _tile_stream_loadd(4, a, PANEL_LINE);
    _tile_loadd(6, b, PANEL_LINE);
    slab_quarter(j, s, type, &u, i, 0, 0);
    _tile_dpbf16ps(0, 4, 6);
    slab_quarter(j, s, type, &u, i, 0, 1);
    _tile_loadd(7, b + KC_BLOCKS * TILE_BYTES, PANEL_LINE);
    slab_quarter(j, s, type, &u, i, 0, 2);
    _tile_dpbf16ps(1, 4, 7);
    slab_quarter(j, s, type, &u, i, 0, 3);
    _tile_stream_loadd(5, a + down, PANEL_LINE);
    slab_quarter(j, s, type, &v, i, 1, 0);
    _tile_dpbf16ps(2, 5, 6);
    slab_quarter(j, s, type, &v, i, 1, 1);
    slab_quarter(j, s, type, &v, i, 1, 2);
    _tile_dpbf16ps(3, 5, 7);
    slab_quarter(j, s, type, &v, i, 1, 3);
}

/* Finished sums go to y where all four tiles are full. */
UNPACK_INLINE void slab_multiply(const struct job *j, const struct part *s, enum dtype type,
                                 struct coming *c)
{
    bool first = s->b0 == 0, last = s->b0 + s->n == j->x->k_pad / QK;
    bool full = s->p + 2 <= j->p1 && columns(j->w, s->p + 1) == PANEL_ROWS;
    uint32_t steps = (s->m1 - s->m0 + 31) / 32 * (s->n - 1);
    float *sums = s->sums;

    if (steps) {
        c->step = (c->lines + steps - 1) / steps;
        c->x_step = (c->x_lines + steps - 1) / steps;
    }
    slab_unpack(j, s, type, 0);
    if (first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, sums, PANEL_LINE);
        _tile_loadd(1, sums + 256, PANEL_LINE);
        _tile_loadd(2, sums + 512, PANEL_LINE);
        _tile_loadd(3, sums + 768, PANEL_LINE);
    }
    for (uint32_t m = s->m0; m < s->m1; m += 32, sums += 1024) {
        const uint16_t *a = act_bf16_at(j->x, m, s->b0);
        /* past the end: any tile will do */
        size_t down = m + 16 < s->m1 ? (size_t)(act_bf16_at(j->x, m + 16, s->b0) - a) : 0;
        const uint8_t *b = s->tiles;
        float *out[4] = {sums, sums + 256, sums + 512, sums + 768};
        const float *next = m + 32 < s->m1 ? sums + 1024 : sums;
        size_t stride = PANEL_LINE;

        if (last && full && m + 32 <= s->m1) {
            stride = j->y_stride * sizeof(float);
            out[0] = j->y + m * j->y_stride + s->p * PANEL_ROWS;
            out[1] = out[0] + PANEL_ROWS;
            out[2] = out[0] + 16 * j->y_stride;
            out[3] = out[2] + PANEL_ROWS;
        }
        for (uint32_t i = 1; m == s->m0 && i < s->n; i++, a += 16 * QK, b += TILE_BYTES) {
            slab_both(j, s, type, i, a, down, b);
            fetch(c);
        }
        for (uint32_t i = 1; m > s->m0 && i < s->n; i++, a += 16 * QK, b += TILE_BYTES) {
            MULTIPLY_2X2(a, down, b);
            fetch(c);
        }
        _tile_stream_loadd(4, a, PANEL_LINE);
        _tile_loadd(6, b, PANEL_LINE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + KC_BLOCKS * TILE_BYTES, PANEL_LINE);
        _tile_dpbf16ps(1, 4, 7);
        _tile_stream_loadd(5, a + down, PANEL_LINE);
        SWAP(0);
        _tile_dpbf16ps(2, 5, 6);
        SWAP(1);
        _tile_dpbf16ps(3, 5, 7);
        SWAP(2);
        SWAP(3);
    }
}

/* The sums that slab_multiply could not put into y. */
static void slab_finish(const struct job *j, const float *sums, uint32_t p, uint32_t m0,
                        uint32_t m1)
{
    bool full = p + 2 <= j->p1 && columns(j->w, p + 1) == PANEL_ROWS;

    for (uint32_t m = m0; m < m1; m += 32, sums += 1024) {
        if (full && m + 32 <= m1)
            continue;
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t row = m + i / 2 * 16, q = p + i % 2;

            if (row < m1 && q < j->p1)
                copy_part(j->y + row * j->y_stride + q * PANEL_ROWS, j->y_stride, sums + i * 256,
                          m1 - row < 16 ? m1 - row : 16, columns(j->w, q));
        }
    }
}

/* Weights of the slab of panel p from block b0 on. */
static void coming_weights(struct coming *c, const struct job *j, uint32_t p, uint32_t b0)
{
    uint32_t blocks = j->x->k_pad / QK, n = blocks - b0 < KC_BLOCKS ? blocks - b0 : KC_BLOCKS;
    size_t panel = j->w->panel_bytes, at = panel * b0 / blocks & ~(size_t)(PANEL_LINE - 1);

    c->lines = (uint32_t)(panel * n / blocks / PANEL_LINE + 1);
    for (uint32_t i = 0; i < 2; i++)
        c->weights[i] = panel_at(j->w, p + i < j->w->n_panels ? p + i : p) + at;
}

/* x from block b0 on: slab i of n fetches a share of the rows. */
static void coming_x(struct coming *c, const struct job *j, const struct part *s, uint32_t b0,
                     uint32_t i, uint32_t n)
{
    uint32_t tiles = (s->m1 - s->m0 + 15) / 16, t0 = tiles * i / n, t1 = tiles * (i + 1) / n;
    uint32_t blocks = j->x->k_pad / QK - b0;

    c->x = (const uint8_t *)act_bf16_at(j->x, s->m0 + t0 * 16, b0);
    c->x_lines = (t1 - t0) * (blocks < KC_BLOCKS ? blocks : KC_BLOCKS) * (TILE_BYTES / PANEL_LINE);
}

/* Rows m0 <= row < m1 of x by panels q0 <= p < q1, as many as the scratch holds. */
UNPACK_INLINE void slab_group(const struct job *j, struct slab *s, enum dtype type, uint32_t m0,
                              uint32_t m1, uint32_t q0, uint32_t q1)
{
    uint32_t blocks = j->x->k_pad / QK, pairs = (q1 - q0 + 1) / 2;
    size_t sums = (size_t)((m1 - m0 + 31) / 32) * 1024;

    for (uint32_t b0 = 0; b0 < blocks; b0 += KC_BLOCKS) {
        uint32_t n = blocks - b0 < KC_BLOCKS ? blocks - b0 : KC_BLOCKS;
        uint32_t next = b0 + n < blocks ? b0 + n : 0;

        for (uint32_t p = q0; p < q1; p += 2) {
            struct part part = {s->tiles, s->sums + (p - q0) / 2 * sums,
                                {panel_at(j->w, p), panel_at(j->w, p + 1 < q1 ? p + 1 : p)},
                                p, m0, m1, b0, n};
            struct coming c = {.x_lines = 0};

            coming_weights(&c, j, p + 2 < q1 ? p + 2 : next || q1 >= j->w->n_panels ? q0 : q1,
                           p + 2 < q1 ? b0 : next);
            if (pairs > 1)
                coming_x(&c, j, &part, next, (p - q0) / 2, pairs);
            slab_multiply(j, &part, type, &c);
        }
    }
    for (uint32_t p = q0; p < q1; p += 2)
        slab_finish(j, s->sums + (p - q0) / 2 * sums, p, m0, m1);
}

UNPACK_INLINE void slab_all(const struct job *j, enum dtype type)
{
    uint32_t most = ROWS_BLOCK / 2 * j->x->k_pad * 2 > X_BYTES ? ROWS_BLOCK : ROWS_BLOCK / 2;
    uint32_t parts = (j->m + most - 1) / most;
    uint32_t rows = ((j->m + parts - 1) / parts + 31) / 32 * 32;
    uint32_t group = rows * j->x->k_pad * 2 > X_BYTES ? SCRATCH_BYTES / (rows / 32 * 4096) * 2 : 2;
    struct slab s;

    configure(0, 16);
    for (uint32_t m0 = 0; m0 < j->m; m0 += rows)
        for (uint32_t q = j->p0; q < j->p1; q += group)
            slab_group(j, &s, type, m0, j->m - m0 < rows ? j->m : m0 + rows, q,
                       j->p1 - q < group ? j->p1 : q + group);
}

UNPACK_INLINE void run(const struct job *j, enum dtype type)
{
    if (j->m > few_rows(j->w))
        slab_all(j, type);
    else if (j->m > 48)
        stream_all(j, type, 4, 1);
    else if (j->m > 32)
        stream_all(j, type, 3, 1);
    else if (j->m > 16)
        stream_all(j, type, 2, 2);
    else
        stream_all(j, type, 1, 2);
}

static void run_q8_0(const struct job *j) { run(j, DTYPE_Q8_0); }
static void run_q4_0(const struct job *j) { run(j, DTYPE_Q4_0); }
static void run_q4_k(const struct job *j) { run(j, DTYPE_Q4_K); }
static void run_q6_k(const struct job *j) { run(j, DTYPE_Q6_K); }
static void run_bf16(const struct job *j) { run(j, DTYPE_BF16); }

void matmul_bf16_amx(float *y, size_t y_stride, const struct panels *w, const struct act_bf16 *x,
                     uint32_t m, uint32_t p0, uint32_t p1)
{
    struct job j = {y, y_stride, w, x, m, p0, p1};

    if (p0 == p1)
        return;
    if (w->by_rows && m <= few_rows(w) && (m + 15) / 16 * x->k_pad <= MATMUL_FEW_K) {
        matmul_few_amx(y, y_stride, w, x, m, p0, p1);
        return;
    }
    switch (w->type) {
    case DTYPE_Q8_0:
        run_q8_0(&j);
        break;
    case DTYPE_Q4_0:
        run_q4_0(&j);
        break;
    case DTYPE_Q4_K:
        run_q4_k(&j);
        break;
    case DTYPE_Q6_K:
        run_q6_k(&j);
        break;
    default:
        run_bf16(&j);
    }
    _tile_release();
}
