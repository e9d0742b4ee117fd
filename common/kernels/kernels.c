#include "kernels/kernels.h"

#include "kernels/tiers.h"

static const struct kernels tables[CPU_TIER_COUNT] = {
    [CPU_REF] = KERNELS_TABLE(CPU_REF, ref),
#ifdef __x86_64__
    [CPU_AVX2] = KERNELS_TABLE(CPU_AVX2, avx2),
    [CPU_AVX512VNNI] = KERNELS_TABLE(CPU_AVX512VNNI, avx512vnni),
#endif
};

const struct kernels *kernels_get(enum cpu_tier tier)
{
    if (!tables[tier].quantize || !cpu_tier_available(tier))
        return NULL;
    return &tables[tier];
}
