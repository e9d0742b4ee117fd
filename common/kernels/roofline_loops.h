/* roofline_loops: the loops of each instruction set, for roofline.c and the files that define them.
 * Each runs `turns` times over its multiply-adds and returns how many operations that were. */
#ifndef TANDEM_KERNELS_ROOFLINE_LOOPS_H
#define TANDEM_KERNELS_ROOFLINE_LOOPS_H

#include <stddef.h>
#include <stdint.h>

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
