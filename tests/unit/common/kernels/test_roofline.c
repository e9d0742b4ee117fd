#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/roofline.h"
#include "kernels/roofline_loops.h"

/* The rates themselves are the machine's business: nothing here compares one with a number. */

static void what_the_machine_has_is_measured(void **state)
{
    struct team *team;
    struct roofline r;
    enum cpu_tier best;

    (void)state;
    assert_int_equal(cpu_tier_choose(&best, "auto", NULL), ERR_OK);
    for (uint32_t n = 1; n <= 3; n++) {
        assert_int_equal(team_new(&team, NULL, n, NULL), ERR_OK);
        roofline_measure(&r, team, best, NULL, 0, 0);
        assert_int_equal(r.threads, n);
        assert_true(r.rounds >= 3);
        for (int i = 0; i < ROOF_COUNT; i++) {
            bool has = i <= ROOF_READ_ONE || (i >= ROOF_AMX_BF16 ? cpu_amx_allow() : best != CPU_REF);

            assert_int_equal(r.rate[i].median > 0, has);
            assert_true(r.rate[i].best >= r.rate[i].median);
        }
        team_free(&team);
    }
}

static void the_reference_tier_has_no_unit_of_its_own(void **state)
{
    struct team *team;
    struct roofline r;

    (void)state;
    assert_int_equal(team_new(&team, NULL, 1, NULL), ERR_OK);
    roofline_measure(&r, team, CPU_REF, NULL, 0, 0);
    assert_true(r.rate[ROOF_READ].best > 0);
    assert_true(r.rate[ROOF_READ_ONE].best == r.rate[ROOF_READ].best);
    assert_true(r.rate[ROOF_F32].best == 0 && r.rate[ROOF_INT8].best == 0);
    team_free(&team);
}

static void any_memory_is_read_within_its_bounds(void **state)
{
    static const size_t sizes[] = {0, 255, 256, 767, 1000, 100000};
    static _Alignas(64) uint8_t memory[100000];
    struct team *team;

    (void)state;
    assert_int_equal(team_new(&team, NULL, 2, NULL), ERR_OK);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
        for (uint32_t round = 0; round < 3; round++) {
            double rate = roofline_once(team, CPU_REF, ROOF_READ, memory, sizes[i], round);

            assert_int_equal(rate > 0, sizes[i] >= 512);
        }
    team_free(&team);
}

static void text_lists_what_there_is(void **state)
{
    struct roofline r = {.rate = {[ROOF_READ] = {2e9, 1e9}, [ROOF_AMX_BF16] = {3e12, 2e12}}};
    struct str s = {0};

    (void)state;
    roofline_text(&s, &r);
    assert_string_equal(str_text(&s), "read=2.0/1.0GB/s amx_bf16=3000/2000G/s");
    str_fini(&s);
    assert_string_equal(roof_name(roof_of_matmul(CPU_AVX2, true)), "int8");
    assert_string_equal(roof_name(roof_of_matmul(CPU_AVX2, false)), "f32");
}

/* Each bit under `any` is 0 and is 1 in some operand; none is over. */
static void operands_are_no_pattern(void **state)
{
    static const uint32_t any[] = {UINT32_MAX, ROOFLINE_ANY_F32, ROOFLINE_ANY_BF16};
    static const uint32_t fixed[] = {0, ROOFLINE_ONE_F32, ROOFLINE_ONE_BF16};
    uint32_t words[4][16];

    (void)state;
    for (int i = 0; i < 3; i++) {
        uint32_t ones = 0, zeros = 0;

        roofline_noise(words[0], 64, any[i], fixed[i]);
        for (int j = 0; j < 64; j++) {
            assert_int_equal(words[j / 16][j % 16] & ~any[i], fixed[i]);
            ones |= words[j / 16][j % 16];
            zeros |= ~words[j / 16][j % 16];
        }
        assert_int_equal(ones & zeros & any[i], any[i]);
        assert_memory_not_equal(words[0], words[1], sizeof(words[0]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_machine_has_is_measured),
        cmocka_unit_test(operands_are_no_pattern),
        cmocka_unit_test(the_reference_tier_has_no_unit_of_its_own),
        cmocka_unit_test(any_memory_is_read_within_its_bounds),
        cmocka_unit_test(text_lists_what_there_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
