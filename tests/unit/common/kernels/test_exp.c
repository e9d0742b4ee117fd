#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"

static void test_within_2_ulp_of_libm(void **state)
{
    double worst = 0;
    float at = 0;

    (void)state;
    for (int sign = 0; sign < 2; sign++)
        for (uint32_t bits = 0; bits < 0x42b18000; bits += 769) { /* up to 88.75 */
            float x, ulp;
            double want, got;

            memcpy(&x, &bits, 4);
            x = sign ? -x : x;
            if (x < -87.3f || x > 88.7f)
                continue;
            want = exp((double)x);
            got = kernels_exp(x);
            ulp = nextafterf((float)want, INFINITY) - (float)want;
            if (fabs(got - want) / (double)ulp > worst) {
                worst = fabs(got - want) / (double)ulp;
                at = x;
            }
        }
    print_message("worst: %.3f ulp at %a\n", worst, (double)at);
    assert_true(worst <= 2);
}

static void test_ends_of_the_range(void **state)
{
    (void)state;
    assert_true(kernels_exp(0) == 1 && kernels_exp(-0.0f) == 1);
    assert_true(kernels_exp(-87.31f) == 0 && kernels_exp(-INFINITY) == 0);
    assert_true(kernels_exp(-87.3f) > 0x1p-126f);
    assert_true(kernels_exp(88.7f) < INFINITY);
    assert_true(isinf(kernels_exp(88.71f)) && isinf(kernels_exp(INFINITY)));
    assert_true(isnan(kernels_exp(NAN)));
}

static void test_never_decreases_coarsely(void **state)
{
    float last = 0;

    (void)state;
    for (float x = -87.3f; x < 88.7f; x += 0.001f) {
        float y = kernels_exp(x);

        assert_true(y > last);
        last = y;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_within_2_ulp_of_libm),
        cmocka_unit_test(test_ends_of_the_range),
        cmocka_unit_test(test_never_decreases_coarsely),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
