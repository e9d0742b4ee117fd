/* Tiles 0-3 accumulate, 4 and 5 are rows of x, 6 and 7 of W: the 2 x 2 blocking that has the most
 * products a load. In the L1 loops all four operands are loaded for each four products. */
#include <immintrin.h>
#include <string.h>

#include "kernels/roofline_loops.h"
#include "kernels/x86/tile_config_amx.h"

static void tiles_begin(struct tile_config *before, uint32_t l1[4 * 256], uint32_t any,
                        uint32_t fixed)
{
    struct tile_config c = {.palette = 1};

    roofline_noise(l1, 4 * 256, any, fixed);
    __asm__ volatile("" : : "r"(l1) : "memory");
    memset(before, 0, sizeof(*before));
    _tile_storeconfig(before);
    __asm__ volatile("" : : "r"(before) : "memory");
    for (int i = 0; i < 8; i++) {
        c.bytes[i] = 64;
        c.rows[i] = 16;
    }
    tile_config_load(&c); /* and zeroes all tiles */
    _tile_loadd(4, l1, 64);
    _tile_loadd(5, l1 + 2 * 256, 64);
    _tile_loadd(6, l1 + 256, 64);
    _tile_loadd(7, l1 + 3 * 256, 64);
}

#define TILES_MULTIPLY(product)                                                                    \
    do {                                                                                           \
        product(0, 4, 6);                                                                          \
        product(1, 4, 7);                                                                          \
        product(2, 5, 6);                                                                          \
        product(3, 5, 7);                                                                          \
    } while (0)

#define LOOP(name, product, k, any, fixed)                                                         \
    double roofline_##name##_amx(uint32_t turns)                                                   \
    {                                                                                              \
        _Alignas(64) uint32_t l1[4 * 256];                                                         \
        struct tile_config before;                                                                 \
                                                                                                   \
        tiles_begin(&before, l1, any, fixed);                                                      \
        for (uint32_t i = 0; i < turns; i++)                                                       \
            TILES_MULTIPLY(product);                                                               \
        tile_config_load(&before);                                                                 \
        return 4 * 2.0 * 16 * 16 * (k) * turns;                                                    \
    }                                                                                              \
                                                                                                   \
    double roofline_##name##_l1_amx(uint32_t turns)                                                \
    {                                                                                              \
        _Alignas(64) uint32_t l1[4 * 256];                                                         \
        struct tile_config before;                                                                 \
                                                                                                   \
        tiles_begin(&before, l1, any, fixed);                                                      \
        for (uint32_t i = 0; i < turns; i++) {                                                     \
            _tile_loadd(4, l1, 64);                                                                \
            _tile_loadd(6, l1 + 256, 64);                                                          \
            product(0, 4, 6);                                                                      \
            _tile_loadd(5, l1 + 2 * 256, 64);                                                      \
            product(2, 5, 6);                                                                      \
            _tile_loadd(7, l1 + 3 * 256, 64);                                                      \
            product(1, 4, 7);                                                                      \
            product(3, 5, 7);                                                                      \
        }                                                                                          \
        tile_config_load(&before);                                                                 \
        return 4 * 2.0 * 16 * 16 * (k) * turns;                                                    \
    }

LOOP(bf16, _tile_dpbf16ps, 32, ROOFLINE_ANY_BF16, ROOFLINE_ONE_BF16)
LOOP(int8, _tile_dpbssd, 64, UINT32_MAX, 0)
