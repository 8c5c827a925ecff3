#include "base/coins.h"
#include "sketch/pair_scores.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUERIES = 2, STRIDE = 2 };

/* One stream: keys (n, d), as f32 and as a block of rows holds them, and log weights. */
struct stream {
    size_t n;
    float *key, *log_weight;
    void *block;
};

static void stream_make(struct stream *s, const struct kernels *k, size_t n, size_t d, int weighted, uint64_t seed)
{
    size_t bytes = (n + 2 * PANEL) * storage_table[STORAGE_F32].key_bytes(d) / 64 * 64 + 64;
    *s = (struct stream){n, calloc(n * d, sizeof(float)), weighted ? calloc(n, sizeof(float)) : NULL, aligned_alloc(64, bytes)};
    memset(s->block, 0, bytes);
    for (size_t i = 0; i < n * d; i++)
        s->key[i] = (float)(4 * coin(seed, 0, i, 0) - 2);
    for (size_t i = 0; weighted && i < n; i++)
        s->log_weight[i] = weighted == 2 && i % 3 == 0 ? -INFINITY : (float)(6 * coin(seed, 1, i, 0) - 3);
    k->pack_keys[STORAGE_F32](s->key, n, d, s->block, 0);
}

static void stream_free(struct stream *s)
{
    free(s->key);
    free(s->log_weight);
    free(s->block);
}

static double score(const struct stream s[2], const float *q, size_t d, size_t i, size_t j)
{
    double sum = s[0].log_weight ? s[0].log_weight[i] : 0;
    sum += s[1].log_weight ? s[1].log_weight[j] : 0;
    for (size_t c = 0; c < d; c++)
        sum += (double)q[c] * s[0].key[i * d + c] * s[1].key[j * d + c];
    return sum;
}

static void reference(const struct stream s[2], const float *q, size_t d, double *total[2])
{
    double max = -INFINITY, all = 0;
    for (size_t i = 0; i < s[0].n; i++)
        for (size_t j = 0; j < s[1].n; j++)
            max = fmax(max, score(s, q, d, i, j));
    for (size_t i = 0; i < s[0].n && max > -INFINITY; i++)
        for (size_t j = 0; j < s[1].n; j++)
            all += exp(score(s, q, d, i, j) - max);
    for (size_t i = 0; i < s[0].n && all > 0; i++)
        for (size_t j = 0; j < s[1].n; j++) {
            double p = exp(score(s, q, d, i, j) - max) / all;
            total[0][i] += p;
            total[1][j] += p;
        }
}

/* Scores reach 30; f32 scores of that size are off by 2e-6 and more, and so are probabilities, relatively. */
static void probabilities_equal_float64(void)
{
    static const size_t sizes[][3] = {{1, 1, 1}, {3, 20, 5}, {16, 256, 8}, {17, 257, 8}, {40, 1, 3}, {70, 70, 33}};
    const struct kernels *kernels[KERNELS_MAX];
    size_t n_kernels = kernels_runnable(kernels);
    for (size_t k = 0; k < n_kernels; k++)
        for (size_t x = 0; x < sizeof sizes / sizeof *sizes; x++)
            for (int weighted = 0; weighted < 3; weighted++) {
                size_t d = sizes[x][2];
                struct stream s[2];
                float q[QUERIES * 33], *total[2];
                double *expected[2];
                struct score_rows rows[2];
                for (size_t i = 0; i < QUERIES * d; i++)
                    q[i] = (float)(8 / sqrt((double)d) * (2 * coin(9, 0, i, 0) - 1));
                for (size_t w = 0; w < 2; w++) {
                    stream_make(&s[w], kernels[k], sizes[x][w], d, weighted, 3 + w);
                    total[w] = calloc(STRIDE * s[w].n, sizeof(float));
                    expected[w] = calloc(s[w].n, sizeof(double));
                    rows[w] = (struct score_rows){&storage_table[STORAGE_F32], s[w].block, s[w].log_weight, s[w].n};
                }
                pair_scores_add(kernels[k], rows, q, QUERIES, d, total, STRIDE);
                for (size_t i = 0; i < QUERIES; i++)
                    reference(s, q + i * d, d, expected);
                for (size_t w = 0; w < 2; w++) {
                    for (size_t i = 0; i < s[w].n; i++) {
                        ASSERT_NEAR(total[w][STRIDE * i], expected[w][i], 1e-6 + 1e-4 * expected[w][i]);
                        CU_ASSERT_EQUAL(total[w][STRIDE * i + 1], 0);
                    }
                    stream_free(&s[w]);
                    free(total[w]);
                    free(expected[w]);
                }
            }
}

TEST_SUITE("lib/sketch/pair_scores", TEST(probabilities_equal_float64))
