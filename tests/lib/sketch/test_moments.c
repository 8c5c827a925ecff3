#include "base/coins.h"
#include "sketch/moments.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>

static float number(size_t i, size_t c)
{
    return (float)(3 * coin(1, 0, i, c) - 1);
}

/* Averages over 3,000 vectors of size 3: the worst of all was 4e-6. */
static void moments_equal_float64(void)
{
    enum { N = 3000 };
    static const size_t dims[] = {1, 2, 7, 33};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int full = 0; full < 2; full++) {
            size_t d = dims[i];
            struct moments m = {calloc(1, moments_bytes(d, full)), d, full};
            double *mean = calloc(d, sizeof *mean), *second = calloc(d * d, sizeof *second), worst = 0;
            float *x = malloc(d * sizeof *x), *rows = malloc(d * d * sizeof *rows);
            for (size_t n = 0; n < N; n++) {
                for (size_t c = 0; c < d; c++) {
                    x[c] = number(n, c);
                    mean[c] += x[c] / (double)N;
                }
                for (size_t a = 0; a < d; a++)
                    for (size_t b = 0; b < d; b++)
                        second[a * d + b] += full || a == b ? (double)x[a] * x[b] / N : 0;
                moments_add(&m, kernels_best(), x, 1);
            }
            CU_ASSERT_EQUAL(moments_count(&m), N);
            for (size_t c = 0; c < d; c++)
                worst = fmax(worst, fabs(moments_mean(&m)[c] - mean[c]));
            for (int central = 0; central < 2; central++) {
                for (size_t a = 0; a < d; a += 3) /* a few rows at a time */
                    moments_rows(&m, a, d - a < 3 ? d - a : 3, central, rows + a * d);
                for (size_t a = 0; a < d; a++)
                    for (size_t b = 0; b < d; b++) {
                        double want = second[a * d + b] - (central && (full || a == b) ? mean[a] * mean[b] : 0);
                        worst = fmax(worst, fabs(rows[a * d + b] - want));
                    }
            }
            moments_diagonal(&m, x);
            for (size_t c = 0; c < d; c++)
                worst = fmax(worst, fabs(x[c] - second[c * d + c]));
            ASSERT_NEAR(worst, 0, 3e-5);
            free(m.block);
            free(mean);
            free(second);
            free(x);
            free(rows);
        }
}

static void vectors_may_come_together_or_apart(void)
{
    enum { N = 50, D = 5 };
    float x[N * D];
    struct moments one = {calloc(1, moments_bytes(D, true)), D, true}, many = {calloc(1, moments_bytes(D, true)), D, true};
    float a[D * D], b[D * D];
    for (size_t i = 0; i < N * D; i++)
        x[i] = number(i, 0);
    for (size_t i = 0; i < N; i++)
        moments_add(&one, kernels_best(), x + i * D, 1);
    moments_add(&many, kernels_best(), x, N);
    moments_rows(&one, 0, D, false, a);
    moments_rows(&many, 0, D, false, b);
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        CU_ASSERT_EQUAL(a[i], b[i]);
    free(one.block);
    free(many.block);
}

TEST_SUITE("lib/sketch/moments", TEST(moments_equal_float64), TEST(vectors_may_come_together_or_apart))
