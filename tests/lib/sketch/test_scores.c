#include "base/coins.h"
#include "sketch/scores.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *numbers(size_t n, float scale, uint64_t seed)
{
    float *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = scale * (float)(2 * coin(seed, 0, i, 0) - 1);
    return x;
}

/* Keys as a block of rows holds them. */
static void *block_of(const struct kernels *k, enum storage_id id, const float *keys, size_t n, size_t d)
{
    size_t rows = (n + PANEL - 1) / PANEL * PANEL, bytes = (rows + PANEL) * storage_table[id].key_bytes(d);
    void *block = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(block, 0, (bytes + 63) / 64 * 64);
    k->pack_keys[id](keys, n, d, block, 0);
    return block;
}

static void reference(const float *keys, const float *w, size_t n, const float *q, size_t n_q, size_t d, double *total)
{
    double *s = malloc((n + 1) * sizeof *s);
    for (size_t i = 0; i < n_q; i++) {
        double max = -INFINITY, sum = 0;
        for (size_t j = 0; j < n; j++) {
            s[j] = w ? w[j] : 0;
            for (size_t c = 0; c < d; c++)
                s[j] += (double)q[i * d + c] * keys[j * d + c];
            max = s[j] > max ? s[j] : max;
        }
        for (size_t j = 0; j < n; j++)
            sum += s[j] > -INFINITY ? exp(s[j] - max) : 0;
        for (size_t j = 0; j < n; j++)
            total[j] += sum > 0 && s[j] > -INFINITY ? exp(s[j] - max) / sum : 0;
    }
    free(s);
}

/* Scores reach 60, so probabilities span 100 nats; f32 scores of 60 are off by 4e-6 and more, and so are probabilities,
 * relatively; the worst was 2.3e-5. */
static void probabilities_equal_float64(void)
{
    static const size_t sizes[][3] = {{1, 1, 1},    {5, 3, 2},     {16, 8, 4},   {255, 7, 8},  {256, 64, 9},
                                      {257, 17, 1}, {700, 20, 19}, {5000, 4, 9}, {8192, 4, 3}, {8193, 4, 9}};
    const struct kernels *kernels[KERNELS_MAX];
    size_t n_kernels = kernels_runnable(kernels);
    double worst = 0;
    for (size_t k = 0; k < n_kernels; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int weighted = 0; weighted < 3; weighted++) {
                size_t n = sizes[i][0], d = sizes[i][1], n_q = sizes[i][2];
                float *keys = numbers(n * d, 1, 1), *q = numbers(n_q * d, 60 / sqrtf((float)d), 2), *w = numbers(n, 3, 3);
                for (size_t j = 0; weighted == 2 && j < n; j += 3)
                    w[j] = -INFINITY; /* left out */
                void *block = block_of(kernels[k], STORAGE_F32, keys, n, d);
                float *total = calloc(2 * n, sizeof *total);
                double *expected = calloc(n, sizeof *expected);
                struct score_rows rows = {&storage_table[STORAGE_F32], block, weighted ? w : NULL, n};
                reference(keys, rows.log_weight, n, q, n_q, d, expected);
                scores_add(kernels[k], &rows, q, n_q, d, SCORE_PLAIN, total, 2);
                for (size_t j = 0; j < n; j++) {
                    double error = fabs(total[2 * j] - expected[j]) / (expected[j] + 1e-30);
                    worst = error > worst ? error : worst;
                    CU_ASSERT(total[2 * j + 1] == 0); /* what lies between is not touched */
                }
                free(keys);
                free(q);
                free(w);
                free(block);
                free(total);
                free(expected);
            }
    ASSERT_NEAR(worst, 0, 1e-4);
}

static void a_querys_probabilities_sum_to_one(void)
{
    enum { N = 300, D = 12, QUERIES = 11 };
    const struct kernels *k = kernels_best();
    float *keys = numbers(N * D, 1, 4), *q = numbers(QUERIES * D, 3, 5), total[N] = {0};
    for (int id = 0; id < N_ROW_STORAGE; id++) {
        void *block = block_of(k, (enum storage_id)id, keys, N, D);
        struct score_rows rows = {&storage_table[id], block, NULL, N};
        memset(total, 0, sizeof total);
        scores_add(k, &rows, q, QUERIES, D, SCORE_PLAIN, total, 1);
        double sum = 0;
        for (size_t j = 0; j < N; j++)
            sum += total[j];
        ASSERT_NEAR(sum, QUERIES, 1e-4);
        free(block);
    }
    free(keys);
    free(q);
}

static void nothing_is_added_where_there_are_no_rows_or_no_weight(void)
{
    const struct kernels *k = kernels_best();
    float key[2] = {1, 2}, q[4] = {1, 1, 2, 2}, w[1] = {-INFINITY}, total[1] = {5};
    void *block = block_of(k, STORAGE_F32, key, 1, 2);
    struct score_rows none = {&storage_table[STORAGE_F32], block, NULL, 0};
    struct score_rows weightless = {&storage_table[STORAGE_F32], block, w, 1};
    scores_add(k, &none, q, 2, 2, SCORE_PLAIN, total, 1);
    scores_add(k, &weightless, q, 2, 2, SCORE_PLAIN, total, 1);
    CU_ASSERT_EQUAL(total[0], 5);
    free(block);
}

/* Tokens are scored alone or with others of their group: a query's share must not depend on its neighbours. */
static void queries_do_not_change_each_other(void)
{
    enum { N = 40, D = 8, QUERIES = 10 };
    const struct kernels *k = kernels_best();
    float *keys = numbers(N * D, 1, 6), *q = numbers(QUERIES * D, 3, 7), together[N] = {0}, alone[N] = {0};
    void *block = block_of(k, STORAGE_BF16, keys, N, D);
    struct score_rows rows = {&storage_table[STORAGE_BF16], block, NULL, N};
    scores_add(k, &rows, q, QUERIES, D, SCORE_PLAIN, together, 1);
    for (size_t i = 0; i < QUERIES; i++)
        scores_add(k, &rows, q + i * D, 1, D, SCORE_PLAIN, alone, 1);
    CU_ASSERT_EQUAL(memcmp(together, alone, sizeof alone), 0);
    free(block);
    free(keys);
    free(q);
}

TEST_SUITE("lib/sketch/scores", TEST(probabilities_equal_float64), TEST(a_querys_probabilities_sum_to_one),
           TEST(nothing_is_added_where_there_are_no_rows_or_no_weight), TEST(queries_do_not_change_each_other))
