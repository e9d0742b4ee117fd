#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host/cpu.h"

static void ref_runs_everywhere(void **state)
{
    enum cpu_tier tier = CPU_TIER_COUNT;

    (void)state;
    assert_true(cpu_tier_available(CPU_REF));
    assert_int_equal(cpu_tier_choose(&tier, "ref", NULL), ERR_OK);
    assert_int_equal(tier, CPU_REF);
}

static void auto_is_the_best_available(void **state)
{
    enum cpu_tier tier;

    (void)state;
    assert_int_equal(cpu_tier_choose(&tier, "auto", NULL), ERR_OK);
    assert_true(cpu_tier_available(tier));
    for (unsigned t = tier + 1; t < CPU_TIER_COUNT; t++)
        assert_false(cpu_tier_available((enum cpu_tier)t));
}

static void tiers_are_what_the_compiler_runtime_sees(void **state)
{
    (void)state;
#if defined(__x86_64__)
    __builtin_cpu_init();
    assert_int_equal(cpu_tier_available(CPU_AVX2), __builtin_cpu_supports("avx2") &&
                                                       __builtin_cpu_supports("fma") &&
                                                       __builtin_cpu_supports("f16c"));
    assert_int_equal(cpu_tier_available(CPU_AVX512VNNI),
                     __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                         __builtin_cpu_supports("avx512vnni"));
    if (cpu_tier_available(CPU_AMX))
        assert_true(cpu_tier_available(CPU_AVX512VNNI) && __builtin_cpu_supports("avx512vbmi") &&
                    __builtin_cpu_supports("avx512bf16"));
    else
        print_message("skipped: tier amx is not available on this machine\n");
    assert_false(cpu_tier_available(CPU_NEON_DOTPROD) || cpu_tier_available(CPU_NEON_I8MM));
#else
    assert_false(cpu_tier_available(CPU_AVX2));
    if (cpu_tier_available(CPU_NEON_I8MM))
        assert_true(cpu_tier_available(CPU_NEON_DOTPROD));
#endif
}

static void names_lead_back_to_their_tier(void **state)
{
    (void)state;
    for (unsigned t = 0; t < CPU_TIER_COUNT; t++) {
        enum cpu_tier tier = CPU_TIER_COUNT;
        struct err e;
        int rc = cpu_tier_choose(&tier, cpu_tier_name((enum cpu_tier)t), &e);

        if (cpu_tier_available((enum cpu_tier)t)) {
            assert_int_equal(rc, ERR_OK);
            assert_int_equal(tier, t);
        } else {
            assert_int_equal(rc, ERR_UNSUPPORTED);
            assert_non_null(strstr(e.text, cpu_tier_name((enum cpu_tier)t)));
        }
    }
}

static void an_unknown_name_is_answered_with_the_list(void **state)
{
    enum cpu_tier tier;
    struct err e;

    (void)state;
    assert_int_equal(cpu_tier_choose(&tier, "sse9", &e), ERR_ARG);
    assert_string_equal(e.text, "cpu: no tier is called \"sse9\": auto, ref, avx2, avx512vnni, amx, "
                                "neon-dotprod, neon-i8mm");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref_runs_everywhere),
        cmocka_unit_test(auto_is_the_best_available),
        cmocka_unit_test(tiers_are_what_the_compiler_runtime_sees),
        cmocka_unit_test(names_lead_back_to_their_tier),
        cmocka_unit_test(an_unknown_name_is_answered_with_the_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
