/* tile_config_amx: the shapes of the matrix unit's tiles, and how to load them. */
#ifndef TANDEM_KERNELS_X86_TILE_CONFIG_AMX_H
#define TANDEM_KERNELS_X86_TILE_CONFIG_AMX_H

#include <immintrin.h>
#include <stdint.h>

/* What LDTILECFG reads; palette 1. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16]; /* of a row */
    uint8_t rows[16];
} __attribute__((aligned(64)));

/* Sets the thread's tiles, and zeroes them all. */
static inline void tile_config_load(const struct tile_config *c)
{
    /* gcc 12 believes that only the first 8 bytes are read, and drops the stores to the others */
    __asm__ volatile("" : : "r"(c) : "memory");
    _tile_loadconfig(c);
}

#endif
