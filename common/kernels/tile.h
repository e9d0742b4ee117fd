/* tile: how the matmuls walk. A tile is one or two panels by some rows of x whose sums stay in
 * registers, over a slice of k. With as few rows as a tile has, the slice is all of k and the
 * weights stream by once. With more, a slice of the panels stays in L1 while all rows pass over
 * it, and between slices a row's sums wait in y, where they lose nothing.
 *
 * A file defines TILE(panels, rows) as the call of its always-inlined tile with constant arguments;
 * TILE_2X8 and TILE_1X4 make one copy of the tile for each shape, and call the one asked for. */
#ifndef TANDEM_KERNELS_TILE_H
#define TANDEM_KERNELS_TILE_H

/* A panel's slice: two of them and their rows of x fit L1 (32 KiB and up). */
#define TILE_SLICE_BYTES 8192
/* How far ahead of its use a line of weights is asked for: with 4 KiB the hardware's own
 * prefetcher, which stops at page ends, is never alone. */
#define TILE_AHEAD 4096

/* A sanitized build needs one copy of a tile and compiles minutes sooner with it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TILE_INLINE static __attribute__((noinline))
#define TILE_UNROLL
#else
#define TILE_INLINE static inline __attribute__((always_inline))
#define TILE_UNROLL _Pragma("GCC unroll 8")
#endif

#define TILE_ROWS_8(panels, rows)                                                                  \
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
#define TILE_2X8(panels, rows)                                                                     \
    do {                                                                                           \
        if ((panels) == 2)                                                                         \
            TILE_ROWS_8(2, rows)                                                                   \
        else                                                                                       \
            TILE_ROWS_8(1, rows)                                                                   \
    } while (0)

#define TILE_1X4(rows)                                                                             \
    switch (rows) {                                                                                \
    case 1: TILE(1, 1); break;                                                                     \
    case 2: TILE(1, 2); break;                                                                     \
    case 3: TILE(1, 3); break;                                                                     \
    default: TILE(1, 4);                                                                           \
    }

#endif
