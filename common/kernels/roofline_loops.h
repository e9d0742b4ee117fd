/* roofline_loops: the loops of each instruction set, for roofline.c and the files that define them.
 * Each runs `turns` times over its multiply-adds and returns how many operations that were. */
#ifndef TANDEM_KERNELS_ROOFLINE_LOOPS_H
#define TANDEM_KERNELS_ROOFLINE_LOOPS_H

#include <stddef.h>
#include <stdint.h>

/* Operands: words whose bits under `any` have no pattern, as weights have none, over `fixed`. With zeros
 * or one value again and again few wires of a unit switch, and the clock is up to a fifth higher than it
 * is with any model's numbers. */
static inline void roofline_noise(uint32_t *words, size_t n, uint32_t any, uint32_t fixed)
{
    uint32_t x = 0x9e3779b9;

    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        words[i] = fixed | (x & any);
    }
}

/* 1 to 2, of either sign. */
#define ROOFLINE_ANY_F32 0x807fffffu
#define ROOFLINE_ONE_F32 0x3f800000u
#define ROOFLINE_ANY_BF16 0x807f807fu
#define ROOFLINE_ONE_BF16 0x3f803f80u

/* Independent chains: more than latency times ports of any core these tiers run on. */
#define ROOFLINE_CHAINS 12

#ifdef __x86_64__
double roofline_f32_avx2(uint32_t turns);
double roofline_int8_avx2(uint32_t turns);
double roofline_f32_avx512vnni(uint32_t turns);
double roofline_int8_avx512vnni(uint32_t turns);

/* Reads p[n], n a multiple of 256; returns a sum, to be used. */
uint64_t roofline_read_avx512vnni(const uint8_t *p, size_t n);

/* Only after cpu_amx_allow. They leave the thread's tile configuration as it was, the tiles zero. */
double roofline_bf16_amx(uint32_t turns);
double roofline_bf16_l1_amx(uint32_t turns);
double roofline_int8_amx(uint32_t turns);
double roofline_int8_l1_amx(uint32_t turns);
#endif
#ifdef __aarch64__
double roofline_f32_neon(uint32_t turns);
double roofline_int8_dotprod(uint32_t turns);
double roofline_int8_i8mm(uint32_t turns);
#endif

#endif
