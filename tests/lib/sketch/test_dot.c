#include "base/coins.h"
#include "sketch/dot.h"
#include "tests/test.h"

#include <math.h>

enum { MOST = 67 };

/* Each product and each sum is rounded once: below n + 3 roundings of the sum of absolute products. */
static void dots_equal_float64(void)
{
    float a[MOST], b[MOST];
    for (size_t n = 0; n <= MOST; n++) {
        double sum = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            a[i] = (float)(2 * coin(1, n, i, 0) - 1);
            b[i] = (float)(2 * coin(1, n, i, 1) - 1);
            sum += (double)a[i] * b[i];
            size += fabs((double)a[i] * b[i]);
        }
        ASSERT_NEAR(dot(a, b, n), sum, (double)(n + 3) * 0x1p-24 * size);
    }
}

static void zeros_have_no_direction(void)
{
    float a[3] = {0}, b[3] = {3, 0, -4};
    CU_ASSERT_EQUAL(inverse_norm(a, 3), 0);
    CU_ASSERT_EQUAL(inverse_norm(b, 3), 0.2f);
}

TEST_SUITE("lib/sketch/dot", TEST(dots_equal_float64), TEST(zeros_have_no_direction))
