#include "host/cpu.h"

#include <string.h>

#include "base/str.h"

static const char *const tier_names[CPU_TIER_COUNT] = {"ref", "avx2", "avx512vnni", "amx",
                                                       "neon-dotprod", "neon-i8mm"};

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* XCR0 bits: the operating system saves these registers at a context switch (Intel SDM vol. 1, 13.3). */
#define XCR0_AVX 0x6u     /* XMM, YMM */
#define XCR0_AVX512 0xe6u /* and opmask, upper ZMM, ZMM16-31 */
#define XCR0_AMX 0x60000u /* tile configuration, tiles */

/* Linux hands out the tiles on demand: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA). */
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

#define LEAF7_1_EAX_AVX512_BF16 (1u << 5)
/* amx-bf16, amx-tile, amx-int8; clang 14 has no names for them */
#define LEAF7_EDX_AMX (1u << 22 | 1u << 24 | 1u << 25)

struct features {
    uint32_t leaf1_ecx, leaf7_ebx, leaf7_ecx, leaf7_edx, leaf7_1_eax;
    uint64_t xcr0;
};

static struct features features_read(void)
{
    struct features f = {0};
    uint32_t a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d))
        return f;
    f.leaf1_ecx = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        f.leaf7_ebx = b;
        f.leaf7_ecx = c;
        f.leaf7_edx = d;
        if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
            f.leaf7_1_eax = a;
    }
    if (f.leaf1_ecx & bit_OSXSAVE) {
        uint32_t lo, hi;

        __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
        f.xcr0 = (uint64_t)hi << 32 | lo;
    }
    return f;
}

bool cpu_tier_available(enum cpu_tier tier)
{
    const uint32_t avx2_1c = bit_AVX | bit_FMA | bit_F16C;
    const uint32_t avx512_7b = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    struct features f = features_read();
    bool avx2 = (f.leaf1_ecx & avx2_1c) == avx2_1c && (f.leaf7_ebx & bit_AVX2) &&
                (f.xcr0 & XCR0_AVX) == XCR0_AVX;
    bool avx512 = avx2 && (f.leaf7_ebx & avx512_7b) == avx512_7b &&
                  (f.leaf7_ecx & bit_AVX512VNNI) && (f.xcr0 & XCR0_AVX512) == XCR0_AVX512;

    switch (tier) {
    case CPU_REF:
        return true;
    case CPU_AVX2:
        return avx2;
    case CPU_AVX512VNNI:
        return avx512;
    case CPU_AMX:
        return avx512 && (f.leaf7_ecx & bit_AVX512VBMI) &&
               (f.leaf7_1_eax & LEAF7_1_EAX_AVX512_BF16) && cpu_amx_allow();
    default:
        return false;
    }
}

bool cpu_amx_allow(void)
{
    struct features f = features_read();

    return (f.leaf7_edx & LEAF7_EDX_AMX) == LEAF7_EDX_AMX && (f.xcr0 & XCR0_AMX) == XCR0_AMX &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

bool cpu_tier_available(enum cpu_tier tier)
{
    bool dotprod = getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
    bool i8mm = getauxval(AT_HWCAP2) & HWCAP2_I8MM;

    return tier == CPU_REF || (tier == CPU_NEON_DOTPROD && dotprod) ||
           (tier == CPU_NEON_I8MM && dotprod && i8mm);
}

bool cpu_amx_allow(void) { return false; }
#else
bool cpu_tier_available(enum cpu_tier tier) { return tier == CPU_REF; }

bool cpu_amx_allow(void) { return false; }
#endif

const char *cpu_tier_name(enum cpu_tier tier)
{
    return (unsigned)tier < CPU_TIER_COUNT ? tier_names[tier] : "?";
}

static enum cpu_tier best_tier(void)
{
    enum cpu_tier best = CPU_REF;

    for (unsigned t = 0; t < CPU_TIER_COUNT; t++)
        if (cpu_tier_available((enum cpu_tier)t))
            best = (enum cpu_tier)t;
    return best;
}

int cpu_tier_choose(enum cpu_tier *tier, const char *name, struct err *e)
{
    struct str list = {0};
    int rc;

    if (strcmp(name, "auto") == 0) {
        *tier = best_tier();
        return ERR_OK;
    }
    for (unsigned t = 0; t < CPU_TIER_COUNT; t++) {
        if (strcmp(name, tier_names[t]) != 0)
            continue;
        if (!cpu_tier_available((enum cpu_tier)t))
            return err_set(e, ERR_UNSUPPORTED, "cpu: this machine cannot run tier %s, its best is %s",
                           name, tier_names[best_tier()]);
        *tier = (enum cpu_tier)t;
        return ERR_OK;
    }
    for (unsigned t = 0; t < CPU_TIER_COUNT; t++)
        str_addf(&list, ", %s", tier_names[t]);
    rc = err_set(e, ERR_ARG, "cpu: no tier is called \"%s\": auto%s", name, str_text(&list));
    str_fini(&list);
    return rc;
}
