/* tile: how the x86 matmuls walk. A tile is up to TILE_PANELS panels by up to TILE_ROWS rows of x
 * whose sums stay in registers, over a slice of k. With few rows the slice is all of k and the
 * weights stream by once. With more, a slice of the panels stays in L1 while all rows pass over it,
 * and between slices a row's sums wait in y, where they lose nothing.
 *
 * A file defines TILE(n_panels, n_rows) as the call of its always-inlined tile with constant
 * arguments, and TILE_DISPATCH makes one copy of the tile for each shape. */
#ifndef TANDEM_KERNELS_X86_TILE_H
#define TANDEM_KERNELS_X86_TILE_H

#define TILE_ROWS 8
#define TILE_PANELS 2
/* A panel's slice: two of them and their rows of x fit L1 (32 KiB and up). */
#define TILE_SLICE_BYTES 8192
/* How far ahead of its use a line of weights is asked for: with 4 KiB the hardware's own prefetcher,
 * which stops at page ends, is never alone. */
#define TILE_AHEAD 4096

#define TILE_INLINE static inline __attribute__((always_inline))
#define TILE_UNROLL _Pragma("GCC unroll 8")

#define TILE_ROWS_SWITCH(panels, rows)                                                             \
    switch (rows) {                                                                                \
    case 1: TILE(panels, 1); break;                                                                \
    case 2: TILE(panels, 2); break;                                                                \
    case 3: TILE(panels, 3); break;                                                                \
    case 4: TILE(panels, 4); break;                                                                \
    case 5: TILE(panels, 5); break;                                                                \
    case 6: TILE(panels, 6); break;                                                                \
    case 7: TILE(panels, 7); break;                                                                \
    default: TILE(panels, 8);                                                                      \
    }
#define TILE_DISPATCH(panels, rows)                                                                \
    do {                                                                                           \
        if ((panels) == 2)                                                                         \
            TILE_ROWS_SWITCH(2, rows)                                                              \
        else                                                                                       \
            TILE_ROWS_SWITCH(1, rows)                                                              \
    } while (0)

#endif
