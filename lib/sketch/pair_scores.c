#include "sketch/pair_scores.h"

#include <math.h>

enum { ROWS = 16, TILE = 256, LDS = TILE + PANEL };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* One query, and what is known of the sum over all pairs: (max, sum) once the first pass is over. */
struct pass {
    const struct kernels *kernels;
    const struct score_rows *rows; /* of the two streams */
    const float *q;
    size_t d;
    float max, sum;
};

static float log_weight_of(const struct score_rows *rows, size_t row)
{
    return rows->log_weight ? rows->log_weight[row] : 0;
}

/* asked (n, d) = q * k1_i for rows [at, at + n) of stream 1. */
static void ask(const struct pass *p, size_t at, size_t n, float *asked)
{
    const struct score_rows *one = &p->rows[0];
    p->kernels->unpack_keys[one->storage->id](one->keys, at, n, p->d, asked);
    for (size_t i = 0; i < n; i++)
        p->kernels->multiply(asked + i * p->d, p->q, p->d, asked + i * p->d);
}

static void add_up(struct pass *p)
{
    const struct score_rows *one = &p->rows[0], *two = &p->rows[1];
    float asked[ROWS * SHAPE_DIM_MAX], s[ROWS * LDS];
    for (size_t at = 0, n; at < one->n; at += n) {
        float max[ROWS], sum[ROWS] = {0};
        n = smaller(one->n - at, ROWS);
        ask(p, at, n, asked);
        for (size_t i = 0; i < n; i++)
            max[i] = -INFINITY;
        for (size_t j = 0, m; j < two->n; j += m) {
            m = smaller(two->n - j, TILE);
            p->kernels->score[two->storage->id](asked, n, p->d, two->keys, j, m, s, LDS);
            for (size_t i = 0; i < n; i++)
                p->kernels->weigh(s + i * LDS, 0, m, m, two->log_weight ? two->log_weight + j : NULL, &max[i], &sum[i]);
        }
        for (size_t i = 0; i < n; i++) { /* row i's share joins the sum over all */
            float top = max[i] + log_weight_of(one, at + i), larger = top > p->max ? top : p->max;
            if (larger > -INFINITY)
                p->sum = p->sum * expf(p->max - larger) + sum[i] * expf(top - larger);
            p->max = larger;
        }
    }
}

static void give(const struct pass *p, float *const total[2], size_t stride)
{
    const struct score_rows *one = &p->rows[0], *two = &p->rows[1];
    float asked[ROWS * SHAPE_DIM_MAX], s[ROWS * LDS];
    for (size_t at = 0, n; at < one->n; at += n) {
        n = smaller(one->n - at, ROWS);
        ask(p, at, n, asked);
        for (size_t j = 0, m; j < two->n; j += m) {
            float tile[TILE] = {0};
            m = smaller(two->n - j, TILE);
            p->kernels->score[two->storage->id](asked, n, p->d, two->keys, j, m, s, LDS);
            for (size_t i = 0; i < n; i++) {
                float log_weight = log_weight_of(one, at + i), max = p->max - log_weight, sum = 0;
                if (log_weight == -INFINITY)
                    continue;
                p->kernels->weigh(s + i * LDS, 0, m, m, two->log_weight ? two->log_weight + j : NULL, &max, &sum);
                p->kernels->combine(1, tile, 1 / p->sum, s + i * LDS, m);
                total[0][(at + i) * stride] += sum / p->sum;
            }
            for (size_t x = 0; x < m; x++)
                total[1][(j + x) * stride] += tile[x];
        }
    }
}

void pair_scores_add(const struct kernels *kernels, const struct score_rows rows[2], const float *q, size_t n_q, size_t d,
                     float *const total[2], size_t stride)
{
    for (size_t i = 0; i < n_q; i++) {
        struct pass pass = {kernels, rows, q + i * d, d, -INFINITY, 0};
        add_up(&pass);
        if (pass.sum > 0)
            give(&pass, total, stride);
    }
}
