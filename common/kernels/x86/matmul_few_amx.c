/* DESIGN: y = x W^T for up to 64 rows of x and weights in panels by rows. Both operands change
 * places: a tile of 16 rows of weights is the matrix unit's first operand, and x, turned so that a
 * line is two k of all its rows, the second. Each product's factors commute and sums are over k as
 * before, so the bits are those of matmul_bf16_amx.c, and weights are unpacked by table look-up.
 *
 *     panel --table--> ring[LAG ahead] --load--> A;  C[row of W][row of x] += A B
 *
 * The sums of one or two panels and 1 to 4 tiles of rows of x stay in tile registers over all of k,
 * and are turned on their way to y. */
#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/table_amx.h"
#include "kernels/x86/tile_config_amx.h"

#define LAG 1 /* blocks that unpacking is ahead of multiplying; 2 was slower */
#define RING 2 /* tiles a panel, a power of two */
#define AHEAD 2048 /* bytes; 1024 and 4096 were slower */

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

/* Sums += weights at a, those of the second panel RING tiles on, by the tiles of rows of x: of up to
 * four products that of number q. */
UNPACK_INLINE void multiply(const struct job *j, const uint8_t *a, const uint8_t *x, int row_tiles,
                            int panels, int q)
{
    size_t step = j->x_step;

    switch (q) {
    case 0:
        _tile_loadd(6, a, PANEL_LINE);
        if (row_tiles == 1) {
            _tile_loadd(5, x, j->x_line);
            _tile_dpbf16ps(0, 6, 5);
        } else {
            _tile_stream_loadd(4, x, PANEL_LINE);
            _tile_dpbf16ps(0, 6, 4);
        }
        break;
    case 1:
        if (panels == 2) {
            _tile_loadd(7, a + RING * TILE_BYTES, PANEL_LINE);
            if (row_tiles == 1)
                _tile_dpbf16ps(1, 7, 5);
            else
                _tile_dpbf16ps(1, 7, 4);
        } else if (row_tiles > 2) {
            _tile_stream_loadd(4, x + step, PANEL_LINE);
            _tile_dpbf16ps(1, 6, 4);
        }
        break;
    case 2:
        if (row_tiles == 4) {
            _tile_stream_loadd(4, x + 2 * step, PANEL_LINE);
            _tile_dpbf16ps(2, 6, 4);
        } else if (row_tiles > 1) {
            _tile_stream_loadd(5, x + (size_t)(row_tiles - 1) * step, PANEL_LINE);
            _tile_dpbf16ps(2, 6, 5);
        }
        break;
    default:
        if (row_tiles == 4) {
            _tile_stream_loadd(5, x + 3 * step, PANEL_LINE);
            _tile_dpbf16ps(3, 6, 5);
        } else if (row_tiles == 2 && panels == 2) {
            _tile_dpbf16ps(3, 7, 5);
        }
    }
}

/* A quarter of block t, of one or two panels; product q of the block before it. */
#define UNPACK(q)                                                                                  \
    do {                                                                                           \
        for (int i = 0; t < j->blocks && i < panels; i++)                                          \
            table_quarter(ring + (i * RING + t % RING) * TILE_BYTES, &table[i], type,              \
                          panel + i * bytes, t, q, ahead);                                         \
        TABLE_STORED();                                                                            \
    } while (0)
#define MULTIPLY(q)                                                                                \
    do {                                                                                           \
        if (t >= LAG)                                                                              \
            multiply(j, ring + b % RING * TILE_BYTES, j->x + b * j->x_block, row_tiles, panels, q); \
    } while (0)

/* Panel p, or two, by all rows of x: all of y that they give. */
UNPACK_INLINE void stream(const struct job *j, uint32_t p, enum dtype type, int row_tiles,
                          int panels)
{
    uint8_t ring[2 * RING * TILE_BYTES] __attribute__((aligned(64)));
    float sums[4][16 * 16] __attribute__((aligned(64)));
    struct table table[2];
    size_t bytes = j->w->panel_bytes;
    const uint8_t *panel = panel_at(j->w, p);
    /* from here on, what is AHEAD is of the panel after these */
    uint32_t in_panel = j->blocks - (uint32_t)(j->blocks * (size_t)AHEAD / (bytes + AHEAD));

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (uint32_t t = 0; t < j->blocks + LAG; t++) {
        uint32_t b = t - LAG;
        size_t ahead = t < in_panel ? AHEAD : AHEAD + (panels - 1) * bytes;

        /* in turns so short that the processor has both before it at any time */
        if (panels == 2) {
            UNPACK(0);
            MULTIPLY(0);
            UNPACK(1);
            MULTIPLY(1);
            UNPACK(2);
            MULTIPLY(2);
            UNPACK(3);
            MULTIPLY(3);
        } else {
            UNPACK(0);
            UNPACK(1);
            MULTIPLY(0);
            MULTIPLY(1);
            UNPACK(2);
            UNPACK(3);
            MULTIPLY(2);
            MULTIPLY(3);
        }
    }
    _tile_stored(0, sums[0], PANEL_LINE);
    _tile_stored(1, sums[1], PANEL_LINE);
    _tile_stored(2, sums[2], PANEL_LINE);
    _tile_stored(3, sums[3], PANEL_LINE);
    for (uint32_t i = 0; i < (uint32_t)row_tiles; i++) {
        put(j, sums[row_tiles > 2 ? i : 2 * i], i, p);
        if (panels == 2)
            put(j, sums[2 * i + 1], i, p + 1);
    }
}

UNPACK_INLINE void stream_all(const struct job *j, enum dtype type, int row_tiles, uint32_t p0,
                              uint32_t p1)
{
    uint32_t p = p0;

    configure(row_tiles == 1 ? 0 : row_tiles == 4 ? 3 : 2, (j->m - 1) % 16 + 1);
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

/* Block b of up to 16 rows of x from `row` on, turned. */
static void turn_block(uint8_t *to, const struct act_bf16 *x, uint32_t row, uint32_t m, uint32_t b)
{
    const uint16_t *from = act_bf16_at(x, row, b);
    __m512i l[16];

    for (uint32_t r = 0; r < 16; r++)
        l[r] = row + r < m ? _mm512_load_si512(from + r * QK) : _mm512_setzero_si512();
    table_turn(l);
    for (uint32_t i = 0; i < 16; i++)
        _mm512_store_si512(to + i * PANEL_LINE, l[i]);
}

void matmul_few_amx(float *y, size_t y_stride, const struct panels *w, const struct act_bf16 *x,
                    uint32_t m, uint32_t p0, uint32_t p1)
{
    uint8_t turned[MATMUL_FEW_K / QK * TILE_BYTES] __attribute__((aligned(64)));
    uint32_t blocks = x->k_pad / QK;
    struct job j = {y, y_stride, w, turned, (size_t)blocks * TILE_BYTES, TILE_BYTES, PANEL_LINE,
                    m, blocks};

    if (m == 1) { /* lines of 4 bytes beside each other: all of x stays in L1 */
        j.x_block = PANEL_LINE;
        j.x_line = 4;
        for (uint32_t b = 0; b < blocks; b++)
            memcpy(turned + b * j.x_block, act_bf16_at(x, 0, b), j.x_block);
    }
    for (uint32_t row = 0; m > 1 && row < m; row += 16)
        for (uint32_t b = 0; b < blocks; b++)
            turn_block(turned + row / 16 * j.x_step + b * TILE_BYTES, x, row, m, b);
    if (w->type == DTYPE_Q4_0)
        run_q4_0(&j, p0, p1);
    else
        run_q4_k(&j, p0, p1);
    _tile_release();
}
