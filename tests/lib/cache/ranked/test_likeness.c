#include "base/coins.h"
#include "cache/ranked/likeness.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>

static void likeness_equals_float64(void)
{
    enum { N = 90 };
    static const size_t dims[] = {1, 5, 64, 1024};
    const struct storage *f32 = &storage_table[STORAGE_F32];
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        size_t d = dims[i];
        struct held_plan plan = {.format = {f32, f32, d, 1, ROWS_PLAIN, 0}, .limit = 96, .capacity = 96, .interval = 1};
        struct page_account account = {0};
        struct held held = {0};
        float *keys = malloc(N * d * sizeof *keys), values[N] = {0}, *mean = malloc(d * sizeof *mean), likeness[N];
        double *expected = calloc(d, sizeof *expected), inverse[N];
        CU_ASSERT_EQUAL_FATAL(held_reserve(&held, &plan, &account, N), 0);
        for (size_t x = 0; x < N * d; x++)
            keys[x] = x / d == 7 ? 0 : (float)(3 * coin(2, d, x, 0) - 1); /* row 7 is all zeros */
        for (size_t j = 0; j < N; j++) {
            double square = 0;
            for (size_t c = 0; c < d; c++)
                square += (double)keys[j * d + c] * keys[j * d + c];
            inverse[j] = square > 0 ? 1 / sqrt(square) : 0;
            for (size_t c = 0; c < d; c++)
                expected[c] += keys[j * d + c] * inverse[j] / N;
        }
        held_append(&held, &plan, kernels_best(), N, keys, values);
        likeness_mean(&held, &plan, kernels_best(), mean);
        likeness_of(mean, keys, N, d, likeness);
        for (size_t c = 0; c < d; c++)
            ASSERT_NEAR(mean[c], expected[c], 1e-6);
        for (size_t j = 0; j < N; j++) {
            double sum = 0;
            for (size_t c = 0; c < d; c++)
                sum += keys[j * d + c] * expected[c] * inverse[j];
            ASSERT_NEAR(likeness[j], sum, 2e-6);
        }
        held_release(&held);
        free(keys);
        free(mean);
        free(expected);
    }
}

TEST_SUITE("lib/cache/ranked/likeness", TEST(likeness_equals_float64))
