/* DESIGN: y = x W^T for up to 64 rows of x and weights in panels by rows. Both operands change
 * places: a tile of 16 rows of weights is the matrix unit's first operand, and x, turned so that a
 * line is two k of all its rows, the second. Each product's factors commute and sums are over k as
 * before, so the bits are those of matmul_bf16_amx.c, and weights are unpacked by table look-up.
 *
 *     scales --> table[1 ahead];  panel --table--> ring[1 ahead] --load--> A;
 *     C[row of W][row of x] += A B
 *
 * While block t is looked up, the tables of t + 1 are made and t - 1 is multiplied, in turns so short
 * that the processor has all three before it, and with such a distance between a store and the load of
 * what it stored that nothing waits.
 * The sums of up to four panels and one tile of rows of x, of two and two, or of one and up to four,
 * stay in tile registers over all of k, and are turned on their way to y. */
#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/table_amx.h"
#include "kernels/x86/tile_config_amx.h"

#define RING 2 /* tiles a panel: one written, one read */
#define PANELS 4

struct job {
    float *y;
    size_t y_stride;
    const struct panels *w;
    const uint8_t *x; /* turned: [tiles of rows][blocks][QK / 2 lines], so many bytes each: */
    size_t x_step, x_block, x_line;
    uint32_t m, blocks;
};

/* Tiles 0-3 are sums, 4 and 5 rows of x, 6 and 7 weights. Those of the last rows of x (5 and the
 * sums from `last_sum` on) are `rows` wide. */
static void configure(uint32_t last_sum, uint32_t rows)
{
    struct tile_config c = {.palette = 1};

    for (uint32_t i = 0; i < 8; i++) {
        c.bytes[i] = (uint16_t)(i == 5 || (i < 4 && i >= last_sum) ? 4 * rows : PANEL_LINE);
        c.rows[i] = 16;
    }
    tile_config_load(&c);
}

/* y from the sums of tile `tile` of rows of x and panel p. */
static void put(const struct job *j, const float *sums, uint32_t tile, uint32_t p)
{
    uint32_t left = j->w->n_out - p * PANEL_ROWS, rows = j->m - tile * 16;
    float *y = j->y + tile * 16 * j->y_stride + p * PANEL_ROWS;
    __mmask16 cols = lanes_avx512(left < PANEL_ROWS ? left : PANEL_ROWS);
    __m512i l[16];

    for (uint32_t n = 0; n < 16; n++)
        l[n] = _mm512_load_si512(sums + n * 16);
    table_turn(l);
    for (uint32_t r = 0; r < 16; r++) /* unrolled: l stays in registers */
        if (r < rows)
            _mm512_mask_storeu_ps(y + r * j->y_stride, cols, _mm512_castsi512_ps(l[r]));
}

/* Part q of 4 of: sums += weights at a, those of the next panel RING tiles on, by a tile of rows of x; 1, 2
 * or 4 panels. What is stored last is loaded last. */
UNPACK_INLINE void multiply_tile(const struct job *j, const uint8_t *a, const uint8_t *x, int panels,
                                 int q)
{
    if (q == 0)
        _tile_loadd(5, x, j->x_line);
    switch ((q + 1) * panels) { /* 4 (panel + 1): that panel's turn */
    case 4:
        _tile_loadd(6, a, PANEL_LINE);
        _tile_dpbf16ps(0, 6, 5);
        break;
    case 8:
        _tile_loadd(7, a + RING * TILE_BYTES, PANEL_LINE);
        _tile_dpbf16ps(1, 7, 5);
        break;
    case 12:
        _tile_loadd(6, a + 2 * RING * TILE_BYTES, PANEL_LINE);
        _tile_dpbf16ps(2, 6, 5);
        break;
    case 16:
        _tile_loadd(7, a + 3 * RING * TILE_BYTES, PANEL_LINE);
        _tile_dpbf16ps(3, 7, 5);
    }
}

/* The same of two to four tiles of rows of x, by two panels or one. */
UNPACK_INLINE void multiply_tiles(const struct job *j, const uint8_t *a, const uint8_t *x,
                                  int row_tiles, int panels, int q)
{
    size_t step = j->x_step;

    switch (q) {
    case 0:
        _tile_stream_loadd(4, x, PANEL_LINE);
        break;
    case 1:
        _tile_loadd(6, a, PANEL_LINE);
        _tile_dpbf16ps(0, 6, 4);
        if (row_tiles > 2) {
            _tile_stream_loadd(4, x + step, PANEL_LINE);
            _tile_dpbf16ps(1, 6, 4);
        }
        break;
    case 2:
        if (row_tiles == 4) {
            _tile_stream_loadd(4, x + 2 * step, PANEL_LINE);
            _tile_dpbf16ps(2, 6, 4);
        } else {
            _tile_stream_loadd(5, x + (size_t)(row_tiles - 1) * step, PANEL_LINE);
            _tile_dpbf16ps(2, 6, 5);
        }
        break;
    default:
        if (row_tiles == 4) {
            _tile_stream_loadd(5, x + 3 * step, PANEL_LINE);
            _tile_dpbf16ps(3, 6, 5);
        }
        if (panels == 2) {
            _tile_loadd(7, a + RING * TILE_BYTES, PANEL_LINE);
            _tile_dpbf16ps(1, 7, 4);
            _tile_dpbf16ps(3, 7, 5);
        }
    }
}

UNPACK_INLINE void multiply(const struct job *j, const uint8_t *a, const uint8_t *x, int row_tiles,
                            int panels, int q)
{
    if (row_tiles == 1)
        multiply_tile(j, a, x, panels, q);
    else
        multiply_tiles(j, a, x, row_tiles, panels, q);
}

/* What the steps of a stream share: per panel a ring of tiles and tables, of even blocks and of odd
 * ones, and what lies `bytes` further in the next panel. */
struct steps {
    uint8_t ring[PANELS][RING][TILE_BYTES] __attribute__((aligned(64)));
    struct table table[PANELS][2];
    size_t bytes;
};

/* One block of the panels to tiles; asks for what is at `ahead` instead of `lines`. Beside it the
 * tables of the next block, whose scales are at `next`, and the products of the block before it, with x. */
UNPACK_INLINE void step(struct steps *s, const struct job *j, enum dtype type, int row_tiles,
                        int panels, int odd, const uint8_t *lines, const uint8_t *ahead,
                        struct table_at next, const uint8_t *x)
{
    struct table_make make[PANELS];
    size_t bytes = s->bytes;

#pragma GCC unroll 16
    for (int k = 0; k < 4 * panels; k++) {
        int i = k / 4, q = k % 4;

        table_quarter(s->ring[i][odd], &s->table[i][odd], type, lines + i * bytes, q);
        _mm_prefetch(ahead + i * bytes + q * PANEL_LINE, _MM_HINT_T0);
        TABLE_STORED();
        for (int part = 2 * q; part < 2 * q + 2; part++)
            table_part(&s->table[i][!odd], &make[i], type, next.f16 + i * bytes,
                       next.scales + i * bytes, part);
        TABLE_STORED();
        if (x && k % panels == panels - 1)
            multiply(j, s->ring[0][!odd], x, row_tiles, panels, k / panels);
    }
    table_whole(&s->table[0][!odd], 2, make, type, next.f16, bytes, panels);
}

/* y from the sums of one row of x, which tiles have beside each other. */
static void put_row(const struct job *j, const float *sums, uint32_t p)
{
    uint32_t left = j->w->n_out - p * PANEL_ROWS;

    _mm512_mask_storeu_ps(j->y + p * PANEL_ROWS, lanes_avx512(left < PANEL_ROWS ? left : PANEL_ROWS),
                          _mm512_load_ps(sums));
}

/* Panels from p on by all rows of x: all of y that they give. */
UNPACK_INLINE void stream(const struct job *j, uint32_t p, enum dtype type, int row_tiles,
                          int panels)
{
    float sums[4][16 * 16] __attribute__((aligned(64)));
    struct steps s;
    struct table_make make[PANELS];
    const uint8_t *panel = panel_at(j->w, p), *x = j->x, *before = NULL;
    size_t blocks = j->blocks, bytes = j->w->panel_bytes, b;
    size_t line = j->m == 1 ? 4 : PANEL_LINE; /* of sums */
    struct table_at at = table_at(type, panel, 0);

    s.bytes = bytes;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int i = 0; i < panels; i++)
#pragma GCC unroll 8
        for (int part = 0; part < 8; part++)
            table_part(&s.table[i][0], &make[i], type, at.f16 + i * bytes, at.scales + i * bytes,
                       part);
    table_whole(&s.table[0][0], 2, make, type, at.f16, bytes, panels);
    for (b = 0; b + 2 <= blocks; b += 2) {
        struct table_at next = table_next(type, at);
        const uint8_t *lines = at.lines;
        const uint8_t *ahead = lines + panel_ahead(type, b, blocks, bytes, panels);

        __asm__("" : "+r"(ahead)); /* one register, of which the compiler would make eight */
        for (int i = 0; i < panels; i++)
            table_ahead(type, ahead + i * bytes, b);
        step(&s, j, type, row_tiles, panels, 0, lines, ahead, next, before);
        if (b + 2 < blocks) /* the last one's tables are made of any scales */
            at = table_at(type, panel, b + 2);
        step(&s, j, type, row_tiles, panels, 1, next.lines, ahead + panel_block_bytes(type), at, x);
        before = x + j->x_block;
        x = before + j->x_block;
    }
    if (b < blocks) {
        step(&s, j, type, row_tiles, panels, 0, at.lines, at.lines, at, before);
        before = x;
    }
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++)
        multiply(j, s.ring[0][(blocks - 1) % RING], before, row_tiles, panels, q);
    _tile_stored(0, sums[0], line);
    _tile_stored(1, sums[1], line);
    _tile_stored(2, sums[2], line);
    _tile_stored(3, sums[3], line);
    for (uint32_t i = 0; i < (uint32_t)panels; i++)
        if (j->m == 1)
            put_row(j, sums[i], p + i);
        else
            for (uint32_t r = 0; r < (uint32_t)row_tiles; r++)
                put(j, sums[row_tiles > 2 ? r : 2 * r + i], r, p + i);
}

UNPACK_INLINE void stream_all(const struct job *j, enum dtype type, int row_tiles, uint32_t p0,
                              uint32_t p1)
{
    uint32_t p = p0;

    configure(row_tiles == 1 ? 0 : row_tiles == 4 ? 3 : 2, (j->m - 1) % 16 + 1);
    if (row_tiles == 1)
        for (; p + PANELS <= p1; p += PANELS)
            stream(j, p, type, row_tiles, PANELS);
    if (row_tiles <= 2)
        for (; p + 2 <= p1; p += 2)
            stream(j, p, type, row_tiles, 2);
    for (; p < p1; p++)
        stream(j, p, type, row_tiles, 1);
}

UNPACK_INLINE void run(const struct job *j, enum dtype type, uint32_t p0, uint32_t p1)
{
    if (j->m > 48)
        stream_all(j, type, 4, p0, p1);
    else if (j->m > 32)
        stream_all(j, type, 3, p0, p1);
    else if (j->m > 16)
        stream_all(j, type, 2, p0, p1);
    else
        stream_all(j, type, 1, p0, p1);
}

static void run_q4_0(const struct job *j, uint32_t p0, uint32_t p1)
{
    run(j, DTYPE_Q4_0, p0, p1);
}
static void run_q4_k(const struct job *j, uint32_t p0, uint32_t p1)
{
    run(j, DTYPE_Q4_K, p0, p1);
}

/* Block b of up to 16 rows of x from `row` on, turned, in lines of so many bytes. */
static void turn_block(uint8_t *to, const struct act_bf16 *x, uint32_t row, uint32_t m, uint32_t b,
                       size_t line)
{
    const uint16_t *from = act_bf16_at(x, row, b);
    __m512i l[16];

    for (uint32_t r = 0; r < 16; r++)
        l[r] = row + r < m ? _mm512_load_si512(from + r * QK) : _mm512_setzero_si512();
    table_turn(l);
    for (uint32_t i = 0; i < 16; i++) /* what is over a line is overwritten by the next */
        _mm512_storeu_si512(to + i * line, l[i]);
}

void matmul_few_amx(float *y, size_t y_stride, const struct panels *w, const struct act_bf16 *x,
                    uint32_t m, uint32_t p0, uint32_t p1)
{
    uint8_t turned[MATMUL_FEW_K / QK * TILE_BYTES] __attribute__((aligned(64)));
    uint32_t blocks = x->k_pad / QK;
    /* of few rows beside each other: x takes half of L1 or less */
    size_t line = m == 1 ? 4 : m == 2 ? 8 : m <= 4 ? 16 : m <= 8 ? 32 : PANEL_LINE;
    struct job j = {y, y_stride, w, turned, (size_t)blocks * TILE_BYTES, 16 * line, line, m, blocks};

    if (m == 1) /* past the lines of up to 8 rows there is room for what a store writes too much */
        for (uint32_t b = 0; b < blocks; b++)
            memcpy(turned + b * j.x_block, act_bf16_at(x, 0, b), j.x_block);
    for (uint32_t row = 0; m > 1 && row < m; row += 16)
        for (uint32_t b = 0; b < blocks; b++)
            turn_block(turned + row / 16 * j.x_step + b * j.x_block, x, row, m, b, line);
    if (w->type == DTYPE_Q4_0)
        run_q4_0(&j, p0, p1);
    else
        run_q4_k(&j, p0, p1);
    _tile_release();
}
