/* weights_q: what the Arm matmuls of quantised weights share: a panel's integers and scales, four
 * rows of W at a time (vector v = rows 4v .. 4v + 3), and the types that there are. */
#ifndef TANDEM_KERNELS_ARM_WEIGHTS_Q_H
#define TANDEM_KERNELS_ARM_WEIGHTS_Q_H

#include "kernels/arm/lanes_neon.h"
#include "kernels/panel_layout.h"
#include "kernels/tile.h"

#define VECTORS (PANEL_ROWS / 4)

/* w = d q - dmin: the types with a minimum. */
TILE_INLINE bool has_min(enum dtype type) { return panel_is_k(type) && type != DTYPE_Q6_K; }

/* Sums of products start over after 16 k, not 32. */
TILE_INLINE bool has_halves(enum dtype type) { return type == DTYPE_Q6_K; }

/* What is taken off each stored integer of the type; that is left to the sums of x. */
TILE_INLINE int offset_of(enum dtype type)
{
    return type == DTYPE_Q4_0 ? 8 : type == DTYPE_Q6_K ? 32 : 0;
}

TILE_INLINE const uint8_t *lines_at(const uint8_t *panel, enum dtype type, size_t b)
{
    return panel + (panel_is_k(type) ? panel_k_lines_at(type, b) : panel_lines_at(type, b));
}

TILE_INLINE uint8x16_t low(uint8x16_t line) { return vandq_u8(line, vdupq_n_u8(15)); }

/* v with the bits of `mask` taken from `bits`. */
TILE_INLINE uint8x16_t join(uint8x16_t v, uint8x16_t bits, uint8_t mask)
{
    return vbslq_u8(vdupq_n_u8(mask), bits, v);
}

/* w[i] = integers k = 16 half + 4i .. of block b, of the rows of vector v: a dword a row. */
TILE_INLINE void unpack(int8x16_t *w, const uint8_t *panel, enum dtype type, size_t b, size_t half,
                        size_t v)
{
    const uint8_t *line = lines_at(panel, type, b) + 16 * v;
    uint8x16_t n[4], bits;

    if (type == DTYPE_Q8_0) {
        TILE_UNROLL for (size_t i = 0; i < 4; i++)
            w[i] = vreinterpretq_s8_u8(vld1q_u8(line + (4 * half + i) * PANEL_LINE));
        return;
    }
    TILE_UNROLL for (size_t i = 0; i < 2; i++) {
        uint8x16_t x = vld1q_u8(line + ((type == DTYPE_Q6_K ? 3 : 2) * half + i) * PANEL_LINE);

        n[2 * i] = low(x);
        n[2 * i + 1] = vshrq_n_u8(x, 4);
    }
    if (type == DTYPE_Q6_K) {
        bits = vld1q_u8(line + (3 * half + 2) * PANEL_LINE);
        n[0] = join(n[0], vshlq_n_u8(bits, 4), 0x30);
        n[1] = join(n[1], vshlq_n_u8(bits, 2), 0x30);
        n[2] = join(n[2], bits, 0x30);
        n[3] = join(n[3], vshrq_n_u8(bits, 2), 0x30);
    } else if (panel_is_k(type) && panel_k_lines(type) == 5) {
        bits = vld1q_u8(line + 4 * PANEL_LINE);
        n[0] = join(n[0], half ? bits : vshlq_n_u8(bits, 4), 0x10);
        n[1] = join(n[1], half ? vshrq_n_u8(bits, 1) : vshlq_n_u8(bits, 3), 0x10);
        n[2] = join(n[2], half ? vshrq_n_u8(bits, 2) : vshlq_n_u8(bits, 2), 0x10);
        n[3] = join(n[3], half ? vshrq_n_u8(bits, 3) : vshlq_n_u8(bits, 1), 0x10);
    }
    TILE_UNROLL for (size_t i = 0; i < 4; i++) w[i] = vreinterpretq_s8_u8(n[i]);
}

/* 4 bytes as f32. */
TILE_INLINE float32x4_t bytes_u(const uint8_t *p)
{
    uint8x8_t v = vreinterpret_u8_u32(vld1_dup_u32((const uint32_t *)(const void *)p));

    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(v))));
}
TILE_INLINE float32x4_t bytes_s(const uint8_t *p)
{
    int8x8_t v = vreinterpret_s8_u32(vld1_dup_u32((const uint32_t *)(const void *)p));

    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(v))));
}

/* The scale of block b (of its half, if it has halves) for the rows of vector v, and what a minimum
 * counts if the type has one. */
TILE_INLINE float32x4_t scale(const uint8_t *panel, enum dtype type, size_t b, size_t half,
                              size_t v)
{
    const uint8_t *sc = panel + panel_k_scales_at(type, b) + 4 * v;

    if (!panel_is_k(type))
        return halves_neon(panel + panel_scales_at(type, b) + 8 * v);
    if (type == DTYPE_Q6_K)
        return vmulq_f32(halves_neon(panel + panel_k_at(type, b) + 8 * v),
                         bytes_s(sc + half * PANEL_ROWS));
    if (type == DTYPE_Q4_1 || type == DTYPE_Q5_1)
        return halves_neon(panel + panel_k_at(type, b) + 8 * v);
    return vmulq_f32(halves_neon(panel + panel_k_at(type, b) + 8 * v), bytes_u(sc));
}
TILE_INLINE float32x4_t minimum(const uint8_t *panel, enum dtype type, size_t b, size_t v)
{
    float32x4_t d = halves_neon(panel + panel_k_at(type, b) + 2 * PANEL_ROWS + 8 * v);

    if (type == DTYPE_Q4_1 || type == DTYPE_Q5_1)
        return d;
    return vmulq_f32(d, bytes_u(panel + panel_k_scales_at(type, b) + PANEL_ROWS + 4 * v));
}

/* Bytes of 32 k in a panel, about. */
static inline size_t block_bytes(enum dtype type)
{
    return panel_is_k(type) ? panel_k_bytes(type) / 8 : panel_block_bytes(type);
}

/* The lines that far on are asked for. */
TILE_INLINE void fetch(const uint8_t *panel, enum dtype type, size_t b, size_t ahead)
{
    const uint8_t *line = lines_at(panel, type, b) + ahead;

    TILE_UNROLL for (size_t l = 0; l < block_bytes(type) / PANEL_LINE; l++)
        __builtin_prefetch(line + l * PANEL_LINE);
}

/* One copy of run for each packed type: a switch whose cases call it with a constant. */
#define WITH_TYPE(type, run)                                                                       \
    switch (type) {                                                                                \
    case DTYPE_Q8_0:                                                                               \
        run(DTYPE_Q8_0);                                                                           \
        break;                                                                                     \
    case DTYPE_Q4_0:                                                                               \
        run(DTYPE_Q4_0);                                                                           \
        break;                                                                                     \
    case DTYPE_Q4_K:                                                                               \
        run(DTYPE_Q4_K);                                                                           \
        break;                                                                                     \
    case DTYPE_Q5_K:                                                                               \
        run(DTYPE_Q5_K);                                                                           \
        break;                                                                                     \
    case DTYPE_Q6_K:                                                                               \
        run(DTYPE_Q6_K);                                                                           \
        break;                                                                                     \
    case DTYPE_Q4_1:                                                                               \
        run(DTYPE_Q4_1);                                                                           \
        break;                                                                                     \
    default:                                                                                       \
        run(DTYPE_Q5_1);                                                                           \
    }

#endif
