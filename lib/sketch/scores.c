#include "sketch/scores.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    QUERIES = 8, /* that share a look at the rows */
    TILE = 256,
    LDS = TILE + PANEL,
    ONCE = 8192, /* rows whose scores are all held at once */
    ONCE_TILES = ONCE / TILE,
    ONCE_SCORES = QUERIES * ONCE / 2,
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Queries q (n_q, d) and the rows that they ask. */
struct asking {
    const struct kernels *kernels;
    const struct score_rows *rows;
    const float *q;
    size_t n_q, d;
};

static const float *weights_at(const struct score_rows *rows, size_t at)
{
    return rows->log_weight ? rows->log_weight + at : NULL;
}

/* Rows [at, at + n) for queries [i, i + n_q), at most QUERIES. */
static void score_tile(const struct asking *a, size_t i, size_t n_q, size_t at, size_t n, float *s, size_t lds)
{
    a->kernels->score[a->rows->storage->id](a->q + i * a->d, n_q, a->d, a->rows->keys, at, n, s, lds);
}

static void add_power(const float *sum, size_t n, enum score_power power, float *total, size_t stride)
{
    for (size_t j = 0; j < n; j++)
        total[j * stride] += power == SCORE_ROOT ? sqrtf(sum[j]) : sum[j];
}

/* ---- up to ONCE rows: one look at each */

/* Adds the probabilities of one query to sum (n,): s (n,) are its scores. Each tile's exponentials are below the maximum that was
 * known by then. */
static void normalise(const struct asking *a, float *s, float *sum)
{
    float top[ONCE_TILES], max = -INFINITY, all = 0;
    for (size_t at = 0; at < a->rows->n; at += TILE) {
        size_t n = smaller(a->rows->n - at, TILE);
        a->kernels->weigh(s + at, 0, n, n, weights_at(a->rows, at), &max, &all);
        top[at / TILE] = max;
    }
    for (size_t at = 0; all > 0 && at < a->rows->n; at += TILE)
        if (top[at / TILE] > -INFINITY)
            a->kernels->combine(1, sum + at, expf(top[at / TILE] - max) / all, s + at, smaller(a->rows->n - at, TILE));
}

static void add_at_once(const struct asking *a, enum score_power power, float *total, size_t stride)
{
    float s[ONCE_SCORES], sum[ONCE];
    size_t lds = (a->rows->n + PANEL - 1) / PANEL * PANEL, most = lds ? smaller(ONCE_SCORES / lds, QUERIES) : QUERIES;
    memset(sum, 0, a->rows->n * sizeof *sum);
    for (size_t i = 0, m; i < a->n_q; i += m) {
        m = smaller(a->n_q - i, most);
        score_tile(a, i, m, 0, a->rows->n, s, lds);
        for (size_t x = 0; x < m; x++)
            normalise(a, s + x * lds, sum);
    }
    add_power(sum, a->rows->n, power, total, stride);
}

/* ---- more: two looks */

/* Over all rows, of every query: the largest score, and the sum of the exponentials below it. */
struct sums {
    float max[SHAPE_HEADS_MAX], sum[SHAPE_HEADS_MAX];
};

static void add_up(const struct asking *a, struct sums *sums)
{
    float s[QUERIES * LDS];
    for (size_t at = 0, n; at < a->rows->n; at += n) {
        n = smaller(a->rows->n - at, TILE);
        for (size_t i = 0, m; i < a->n_q; i += m) {
            m = smaller(a->n_q - i, QUERIES);
            score_tile(a, i, m, at, n, s, LDS);
            for (size_t x = 0; x < m; x++)
                a->kernels->weigh(s + x * LDS, 0, n, n, weights_at(a->rows, at), &sums->max[i + x], &sums->sum[i + x]);
        }
    }
}

/* Adds the probabilities of rows [at, at + n) to tile (n,). */
static void probabilities(const struct asking *a, const struct sums *sums, size_t at, size_t n, float *tile)
{
    float s[QUERIES * LDS];
    for (size_t i = 0, m; i < a->n_q; i += m) {
        m = smaller(a->n_q - i, QUERIES);
        score_tile(a, i, m, at, n, s, LDS);
        for (size_t x = 0; x < m; x++) {
            float max = sums->max[i + x], sum = sums->sum[i + x], unused = 0;
            a->kernels->weigh(s + x * LDS, 0, n, n, weights_at(a->rows, at), &max, &unused);
            a->kernels->combine(1, tile, sum > 0 ? 1 / sum : 0, s + x * LDS, n);
        }
    }
}

static void add_in_two_looks(const struct asking *a, enum score_power power, float *total, size_t stride)
{
    struct sums sums;
    assert(a->n_q <= SHAPE_HEADS_MAX);
    for (size_t i = 0; i < a->n_q; i++) {
        sums.max[i] = -INFINITY;
        sums.sum[i] = 0;
    }
    add_up(a, &sums);
    for (size_t at = 0, n; at < a->rows->n; at += n) {
        float tile[TILE] = {0};
        n = smaller(a->rows->n - at, TILE);
        probabilities(a, &sums, at, n, tile);
        add_power(tile, n, power, total + at * stride, stride);
    }
}

void scores_add(const struct kernels *kernels, const struct score_rows *rows, const float *q, size_t n_q, size_t d,
                enum score_power power, float *total, size_t stride)
{
    struct asking asking = {kernels, rows, q, n_q, d};
    if (rows->n <= ONCE)
        add_at_once(&asking, power, total, stride);
    else
        add_in_two_looks(&asking, power, total, stride);
}
