/* cpu: which kernel tier this machine can run. A tier is one numeric path: every node of a tier
 * computes the same bits. Pure queries; any thread. */
#ifndef TANDEM_HOST_CPU_H
#define TANDEM_HOST_CPU_H

#include <stdbool.h>

#include "base/err.h"

/* Those of one architecture in ascending order of speed on a machine that has them all. */
enum cpu_tier {
    CPU_REF,          /* plain C, any machine: the definition */
    CPU_AVX2,         /* AVX2, FMA, F16C */
    CPU_AVX512VNNI,   /* AVX-512 F, BW, VL, DQ, VNNI */
    CPU_AMX,          /* and AMX tiles of bf16, AVX-512 BF16 and VBMI (Sapphire Rapids on) */
    CPU_NEON_DOTPROD, /* 64-bit Arm: SDOT (Neoverse N1: Ampere Altra, Graviton 2) */
    CPU_NEON_I8MM,    /* and SMMLA (AmpereOne, Neoverse V1: Graviton 3) */
    CPU_TIER_COUNT
};

const char *cpu_tier_name(enum cpu_tier tier); /* "ref", "avx2", ..., "neon-i8mm" */

/* This processor and operating system can run the tier (cpuid and the enabled register state; on
 * Arm what the auxiliary vector says). For CPU_AMX this calls cpu_amx_allow. */
bool cpu_tier_available(enum cpu_tier tier);

/* The processor has AMX with bf16 and int8, and the system lets this process use its tiles. Asks for
 * that permission, which is the whole process's: call it before threads start. The answer stays. */
bool cpu_amx_allow(void);

/* name: a tier's name, or "auto" for the best available. ERR_ARG for a name that is no tier (the
 * sentence lists them), ERR_UNSUPPORTED for one this machine cannot run. */
int cpu_tier_choose(enum cpu_tier *tier, const char *name, struct err *e);

#endif
