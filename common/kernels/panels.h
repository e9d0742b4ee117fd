/* panels: a weight matrix W[n_out][n_in] in the packed form that kernels read directly ("P16").
 *
 * A panel is 16 output rows by all of n_in, contiguous, so a range of panels is a range of bytes
 * that one thread packs, owns and reads. Everything is in 64-byte lines in which dword lane n is
 * row n:
 *   F32   line = 16 rows x 1 k
 *   F16   line = 16 rows x 2 k: 16 halves of k even, then 16 of k odd
 *   BF16  line = 16 rows x 2 k, lane n = k even low half, k odd high half
 *   Q8_0  a block of 32 k: 8 lines (16 rows x 4 k, bytes w XOR 0x80 but on Arm) and the 16 f16
 *         scales (32 bytes)                                                     = 544 bytes
 *   Q4_0  a block of 32 k: 4 lines (16 rows x 8 k: byte 4n+i, low nibble k = i, high k = 4+i)
 *         and the 16 f16 scales                                                 = 288 bytes
 *   Q4_1  a block of 32 k: lines as Q4_0's, the f16 d and -m                    = 320 bytes
 *   Q5_1  the same and a line of fifth bits (16 rows x 32 k: byte 4n+i, bit j
 *         holds k = 4j + i)                                                     = 384 bytes
 *   Q4_K  a block of 256 k: 32 lines as Q4_0's, the f16 d and dmin, and 8 scales and 8 minima a
 *         row, a byte each                                                      = 2368 bytes
 *   Q5_K  the same and 8 lines of fifth bits                                    = 2880 bytes
 *   Q6_K  a block of 256 k: 32 lines of low nibbles as Q4_0's, 16 lines of upper bits (16 rows x 16
 *         k: byte 4n+i, bits 2j and 2j + 1 hold k = 4j + i), the f16 d and 16 scales a row, a byte
 *         each, and 32 bytes of nothing                                         = 3392 bytes
 *   TQ2_0 a block of 256 k: 16 f32 scales and 16 lines (16 rows x 16 k: byte 4n+i, bits 2j and 2j + 1
 *         hold w + 1 of k = 4j + i); n_in is padded to the block                = 1088 bytes
 * Types without a form of their own become one of the same values: Q5_0 and IQ4_NL Q8_0, TQ1_0 and
 * I2_S TQ2_0, Q3_K Q6_K; or, where there is none, the nearest: Q2_K, IQ4_XS and MXFP4 Q8_0
 * (blocks_rounded.h).
 * How blocks and their scales interleave is panels.c's business and is documented there. Rows past
 * n_out are zero with zero scales; n_in is padded to the line (floats) with zeros. */
#ifndef TANDEM_KERNELS_PANELS_H
#define TANDEM_KERNELS_PANELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/dtype.h"

#define PANEL_ROWS 16

struct panels {
    enum dtype type; /* the packed form: what kernels read */
    enum dtype from; /* the file's type */
    bool by_rows;    /* in the other order; see panels_init_by_rows */
    uint32_t n_out, n_in;
    float scale; /* of all weights, I2_S only: 1 until whoever packs says otherwise */
    uint32_t few; /* rows of x that go the way for few, where a tier has two; 0: kernels_few's usual */
    uint32_t n_panels;
    size_t panel_bytes; /* a multiple of 64 */
    uint8_t *data;      /* 64-byte aligned, n_panels * panel_bytes; not owned */
};

/* Describes the packed form; data stays NULL. type is supported, n_in a multiple of its block. */
void panels_init(struct panels *p, enum dtype type, uint32_t n_out, uint32_t n_in);

/* The same, for kernels that would rather have all of a block of a row in one line: in each 4 lines
 * of nibbles that hold 32 k of 16 rows, row n is in line n % 8 / 2, byte 2k + n % 2, and high in it
 * from n = 8 on. Other types are as panels_init has them. */
void panels_init_by_rows(struct panels *p, enum dtype type, uint32_t n_out, uint32_t n_in);

/* n_panels * panel_bytes */
size_t panels_bytes(const struct panels *p);

/* Packs panels p0 <= p < p1 from rows in the file's layout (row r at rows + r * row_bytes). */
void panels_pack(struct panels *p, const void *rows, uint32_t p0, uint32_t p1);

/* out[n_in] = row r, exactly as dtype_row_to_f32 of the file's row: the embedding lookup. Of types
 * that are rounded, the row as it is packed. */
void panels_row(float *out, const struct panels *p, uint32_t row);

#endif
