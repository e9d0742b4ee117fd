/* DESIGN: y = x W^T for up to 16 rows of x and weights in panels by rows. Both operands change
 * places: a tile of 16 rows of weights is the matrix unit's first operand, and x, turned so that a
 * line is two k of all its rows, the second. Each product's factors commute and sums are over k as
 * before, so the bits are those of matmul_bf16_amx.c, and weights are unpacked by table look-up.
 *
 *     panel --table--> ring[LAG ahead] --load--> A;  C[row of W][row of x] += A B
 *
 * The sums of two panels stay in tile registers over all of k. */
#include "kernels/panel_layout.h"
#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/table_amx.h"
#include "kernels/x86/tile_config_amx.h"

#define LAG 1 /* blocks that unpacking is ahead of multiplying; 2 was slower */
#define RING 2 /* tiles a panel, a power of two */
#define AHEAD 2048 /* bytes; 1024 and 4096 were slower */
#define PANELS 2

struct job {
    float *y;
    size_t y_stride;
    const struct panels *w;
    const uint8_t *x; /* turned: of a block QK / 2 lines, x_step bytes apart */
    size_t x_step;
    uint32_t m, blocks;
};

/* Tiles 0-3 are sums, 4 rows of x, 6 and 7 weights. */
static void configure(uint32_t m)
{
    struct tile_config c = {.palette = 1};

    for (uint32_t i = 0; i < 8; i++) {
        c.bytes[i] = (uint16_t)(i < 6 ? 4 * m : PANEL_LINE);
        c.rows[i] = 16;
    }
    tile_config_load(&c);
}

/* 16 lines of 16 dwords: lane n of line i <-> lane i of line n. */
UNPACK_INLINE void turn(__m512i l[16])
{
    __m512i t[16];

    for (int i = 0; i < 16; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(l[i], l[i + 1]), b = _mm512_unpackhi_epi32(l[i], l[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(l[i + 2], l[i + 3]);
        __m512i d = _mm512_unpackhi_epi32(l[i + 2], l[i + 3]);

        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x88);
        __m512i b = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x88);
        __m512i d = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xdd);

        l[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        l[4 + i] = _mm512_shuffle_i32x4(b, d, 0x88);
        l[8 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
        l[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

/* Rows of y from the sums of panel p. */
static void put(const struct job *j, const float *sums, uint32_t p)
{
    uint32_t left = j->w->n_out - p * PANEL_ROWS;
    __mmask16 cols = lanes_avx512(left < PANEL_ROWS ? left : PANEL_ROWS);
    __m512i l[16];

    for (uint32_t n = 0; n < 16; n++)
        l[n] = _mm512_load_si512(sums + n * 16);
    turn(l);
    for (uint32_t r = 0; r < 16; r++) /* unrolled: l stays in registers */
        if (r < j->m)
            _mm512_mask_storeu_ps(j->y + r * j->y_stride + p * PANEL_ROWS, cols,
                                  _mm512_castsi512_ps(l[r]));
}

/* Panels p to p + panels: all of y that they give. */
UNPACK_INLINE void stream(const struct job *j, uint32_t p, enum dtype type, int panels)
{
    uint8_t ring[PANELS * RING * TILE_BYTES] __attribute__((aligned(64)));
    float sums[PANELS][16 * 16] __attribute__((aligned(64)));
    struct table table[PANELS];
    size_t bytes = j->w->panel_bytes;
    const uint8_t *panel = panel_at(j->w, p);

    _tile_zero(0);
    _tile_zero(1);
    for (uint32_t t = 0; t < j->blocks + LAG; t++) {
        uint32_t b = t - LAG;

        for (int i = 0; t < j->blocks && i < panels; i++)
            table_block(ring + (i * RING + t % RING) * TILE_BYTES, &table[i], type,
                        panel + i * bytes, t, AHEAD);
        if (t < LAG)
            continue;
        _tile_loadd(4, j->x + (size_t)b * TILE_BYTES, j->x_step);
        _tile_loadd(6, ring + b % RING * TILE_BYTES, PANEL_LINE);
        _tile_dpbf16ps(0, 6, 4);
        if (panels > 1) {
            _tile_loadd(7, ring + (RING + b % RING) * TILE_BYTES, PANEL_LINE);
            _tile_dpbf16ps(1, 7, 4);
        }
    }
    _tile_stored(0, sums[0], PANEL_LINE);
    _tile_stored(1, sums[1], PANEL_LINE);
    for (int i = 0; i < panels; i++)
        put(j, sums[i], p + (uint32_t)i);
}

UNPACK_INLINE void run(const struct job *j, enum dtype type, uint32_t p0, uint32_t p1)
{
    uint32_t p = p0;

    for (; p + PANELS <= p1; p += PANELS)
        stream(j, p, type, PANELS);
    for (; p < p1; p++)
        stream(j, p, type, 1);
}

/* Block b of the first m rows of x, turned. */
static void turn_block(uint8_t *to, const struct act_bf16 *x, uint32_t m, uint32_t b)
{
    const uint16_t *from = act_bf16_at(x, 0, b);
    __m512i l[16];

    for (uint32_t r = 0; r < 16; r++)
        l[r] = r < m ? _mm512_load_si512(from + r * QK) : _mm512_setzero_si512();
    turn(l);
    for (uint32_t i = 0; i < 16; i++)
        _mm512_store_si512(to + i * PANEL_LINE, l[i]);
}

void matmul_few_amx(float *y, size_t y_stride, const struct panels *w, const struct act_bf16 *x,
                    uint32_t m, uint32_t p0, uint32_t p1)
{
    uint8_t turned[MATMUL_FEW_K / QK * TILE_BYTES] __attribute__((aligned(64)));
    struct job j = {y, y_stride, w, turned, PANEL_LINE, m, x->k_pad / QK};

    for (uint32_t b = 0; b < j.blocks; b++)
        turn_block(turned + b * TILE_BYTES, x, m, b);
    configure(m);
    if (w->type == DTYPE_Q4_0)
        run(&j, DTYPE_Q4_0, p0, p1);
    else
        run(&j, DTYPE_Q4_K, p0, p1);
    _tile_release();
}
