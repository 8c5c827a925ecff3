/* Paired comparisons: the interval holds the truth as often as it says. */
#include "base/coins.h"
#include "tests/test.h"
#include "tools/tune/paired.h"

#include <math.h>

static void a_constant_ratio_has_no_width(void)
{
    const double x[] = {2, 20, 200}, y[] = {1, 10, 100};
    struct paired p = paired_compare(x, y, 3);
    CU_ASSERT(fabs(p.ratio - 2) < 1e-12 && fabs(p.low - 2) < 1e-9 && fabs(p.high - 2) < 1e-9);
    p = paired_compare(x, y, 1);
    CU_ASSERT(fabs(p.ratio - 2) < 1e-12 && p.low == 0 && isinf(p.high));
    CU_ASSERT(fabs(geometric_mean(x, 3) - 20) < 1e-9);
}

/* By hand: logarithms of the ratios 0, 1, 2: mean 1, deviation 1, t(2) = 4.303. */
static void the_interval_is_students(void)
{
    const double x[] = {1, M_E, M_E * M_E}, y[] = {1, 1, 1};
    struct paired p = paired_compare(x, y, 3);
    CU_ASSERT(fabs(log(p.ratio) - 1) < 1e-12);
    CU_ASSERT(fabs(log(p.high) - 1 - 4.303 / sqrt(3)) < 1e-9 && fabs(1 - log(p.low) - 4.303 / sqrt(3)) < 1e-9);
}

/* Normal noise around the ratio 1, in common disturbances 100 times as large: of 4,000 intervals 95 % hold 1; three standard
 * deviations of that count are 1.03 %. */
static void the_interval_holds_the_truth_95_times_in_100(void)
{
    enum { TRIALS = 4000 };
    for (size_t n = 2; n <= 24; n += 11) {
        size_t held = 0;
        for (uint64_t trial = 0; trial < TRIALS; trial++) {
            double x[24], y[24];
            for (size_t i = 0; i < n; i++) {
                double common = exp(coin(5, n, trial, 100 + i)), noise = 0;
                for (uint64_t k = 0; k < 12; k++)
                    noise += coin(5, n, trial, 1000 + 12 * i + k) - 0.5;
                x[i] = common * exp(0.01 * noise);
                y[i] = common;
            }
            struct paired p = paired_compare(x, y, n);
            held += p.low <= 1 && p.high >= 1;
        }
        CU_ASSERT(fabs((double)held / TRIALS - 0.95) < 0.0104);
    }
}

TEST_SUITE("tools/tune/paired", TEST(a_constant_ratio_has_no_width), TEST(the_interval_is_students),
           TEST(the_interval_holds_the_truth_95_times_in_100))
