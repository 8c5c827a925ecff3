#include "isas.h"
#include "kernels/element.h"
#include "tests/test.h"

#include <math.h>

enum { STEP = 4001, RUN = 59 }; /* every STEP-th float, in odd runs */

/* |y - e^x| in units of the spacing of floats at e^x. */
static double ulps_off(float y, float x)
{
    long double truth = expl(x);
    int exponent;
    frexpl(truth, &exponent);
    long double spacing = ldexpl(1, exponent > -125 ? exponent - 24 : -149);
    return fabs((double)(((long double)y - truth) / spacing));
}

static double worst_between(const struct kernels *k, uint32_t from, uint32_t to)
{
    float x[RUN], y[RUN];
    double worst = 0;
    for (uint32_t bits = from; bits < to; bits += RUN * STEP) {
        for (uint32_t i = 0; i < RUN; i++)
            x[i] = f32_of_bits(bits + i * STEP < to ? bits + i * STEP : to);
        k->exponential(x, RUN, y);
        for (size_t i = 0; i < RUN; i++) {
            double off = ulps_off(y[i], x[i]);
            worst = off > worst || off != off ? off : worst;
        }
    }
    return worst;
}

static void it_is_within_2_ulp_over_the_whole_range_and_where_results_are_denormal(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n = test_isas(isa);
    for (size_t i = 0; i < n; i++) {
        ASSERT_NEAR(worst_between(isa[i], f32_bits(0), f32_bits(88.7228f)), 0, 2);
        ASSERT_NEAR(worst_between(isa[i], f32_bits(-0.0f), f32_bits(-87.3f)), 0, 2);
        ASSERT_NEAR(worst_between(isa[i], f32_bits(-87.3f), f32_bits(-110.0f)), 0, 2);
    }
}

static void its_ends_are_0_infinity_and_nan(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n = test_isas(isa);
    for (size_t i = 0; i < n; i++) {
        float x[] = {-INFINITY, INFINITY, NAN, 0, -0.0f, 88.73f, 1e30f, -1e30f, -104}, y[9];
        isa[i]->exponential(x, 9, y);
        CU_ASSERT(y[0] == 0 && y[7] == 0 && y[8] == 0);
        CU_ASSERT(y[1] == INFINITY && y[5] == INFINITY && y[6] == INFINITY);
        CU_ASSERT(isnan(y[2]));
        CU_ASSERT(y[3] == 1 && y[4] == 1);
    }
}

static void it_writes_n_numbers_and_no_more(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    for (size_t i = 0; i < n_isas; i++)
        for (size_t n = 0; n <= 67; n++) {
            float x[69], y[69], reference[69];
            for (size_t j = 0; j < 69; j++) {
                x[j] = (float)j - 33.3f;
                y[j] = reference[j] = -1;
            }
            isa[0]->exponential(x + 1, n, reference + 1);
            isa[i]->exponential(x + 1, n, y + 1);
            for (size_t j = 0; j < 69; j++)
                ASSERT_NEAR(y[j], reference[j], 3e-7 * fabs(reference[j]));
            CU_ASSERT(y[0] == -1 && y[n + 1] == -1);
        }
}

TEST_SUITE("lib/kernels/exponential", TEST(it_is_within_2_ulp_over_the_whole_range_and_where_results_are_denormal),
           TEST(its_ends_are_0_infinity_and_nan), TEST(it_writes_n_numbers_and_no_more))
