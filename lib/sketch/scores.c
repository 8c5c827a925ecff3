#include "sketch/scores.h"

#include <math.h>

enum { QUERIES = 8, TILE = 256, LDS = TILE + PANEL };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Queries [0, n_q), n_q <= QUERIES, whose maxima and sums over all rows are known once `known` is set. */
struct pass {
    float max[QUERIES], sum[QUERIES];
    bool known;
};

static void run_pass(const struct kernels *kernels, const struct score_rows *rows, const float *q, size_t n_q, size_t d,
                     struct pass *pass, float *total, size_t stride)
{
    float s[QUERIES * LDS];
    for (size_t at = 0, n; at < rows->n; at += n) {
        n = smaller(rows->n - at, TILE);
        const float *log_weight = rows->log_weight ? rows->log_weight + at : NULL;
        kernels->score[rows->storage->id](q, n_q, d, rows->keys, at, n, s, LDS);
        for (size_t i = 0; i < n_q; i++) {
            float *p = s + i * LDS;
            if (!pass->known) {
                kernels->weigh(p, 0, n, n, log_weight, &pass->max[i], &pass->sum[i]);
                continue;
            }
            float max = pass->max[i], unused = 0, share = pass->sum[i] > 0 ? 1 / pass->sum[i] : 0;
            kernels->weigh(p, 0, n, n, log_weight, &max, &unused);
            for (size_t j = 0; j < n; j++)
                total[(at + j) * stride] += p[j] * share;
        }
    }
    pass->known = true;
}

void scores_add(const struct kernels *kernels, const struct score_rows *rows, const float *q, size_t n_q, size_t d,
                float *total, size_t stride)
{
    for (size_t i = 0, n; i < n_q; i += n) {
        n = smaller(n_q - i, QUERIES);
        struct pass pass = {.known = false};
        for (size_t j = 0; j < n; j++)
            pass.max[j] = -INFINITY;
        run_pass(kernels, rows, q + i * d, n, d, &pass, total, stride);
        run_pass(kernels, rows, q + i * d, n, d, &pass, total, stride);
    }
}
