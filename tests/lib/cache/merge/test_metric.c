#include "base/coins.h"
#include "cache/merge/metric.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>

enum { QUERIES = 40, DIM_MAX = 33 };

/* D^2 is the mean over queries of the squared difference of two keys' scores; of the diagonal, coordinate by coordinate. */
static void distances_are_those_of_scores(void)
{
    static const size_t dims[] = {1, 3, 16, DIM_MAX};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int full = 0; full < 2; full++) {
            size_t d = dims[i];
            struct moments m = {calloc(1, moments_bytes(d, full)), d, full};
            float q[QUERIES * DIM_MAX], k[DIM_MAX], l[DIM_MAX], diagonal[DIM_MAX], measured[DIM_MAX];
            double square = 0, product = 0;
            for (size_t c = 0; c < d; c++) {
                k[c] = (float)(2 * coin(1, d, c, 0) - 1);
                l[c] = (float)(2 * coin(1, d, c, 1) - 1);
            }
            for (size_t x = 0; x < QUERIES; x++) {
                double apart = 0, score = 0;
                for (size_t c = 0; c < d; c++) {
                    float at = q[x * d + c] = (float)(3 * coin(1, d, x, 2 + c) - 1);
                    double gap = (double)at * ((double)k[c] - l[c]);
                    apart += full ? gap : 0;
                    square += full ? 0 : gap * gap / QUERIES;
                    score += full ? at * k[c] : 0;
                    product += full ? 0 : (double)at * at * k[c] * k[c] / QUERIES;
                }
                square += apart * apart / QUERIES;
                product += score * score / QUERIES;
            }
            moments_add(&m, kernels_best(), q, QUERIES);
            moments_diagonal(&m, diagonal);
            struct metric metric = {kernels_best(), d, full ? &m : NULL, diagonal};
            ASSERT_NEAR(metric_square(&metric, k, l), square, 1e-5 * (1 + square));
            CU_ASSERT_EQUAL(metric_square(&metric, k, k), 0);
            metric_apply(&metric, k, 1, measured);
            double form = 0;
            for (size_t c = 0; c < d; c++)
                form += (double)measured[c] * k[c];
            ASSERT_NEAR(form, product, 1e-5 * (1 + product));
            free(m.block);
        }
}

TEST_SUITE("lib/cache/merge/metric", TEST(distances_are_those_of_scores))
