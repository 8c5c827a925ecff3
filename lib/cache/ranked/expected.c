/* Expected attention: keeps the rows that queries to come will attend to most, if they are as those that came.
 *
 *     rank of row j = softmax_j(m^T k_j + k_j^T C k_j / 2) |v_j|
 *
 * m and C are the mean and the covariance of all queries so far, which arrive scaled: for Gaussian queries the exponent is
 * log E[e^<q, k_j>], and |v_j| says how much the row moves an output. Ranks are compared as logarithms, without the sum that
 * the softmax divides all of them by.
 *
 * Source: Devoto et al., Expected Attention, arXiv 2510.00636. Differences: the paper models the queries before their rotary
 * positions and averages the rotation over the positions to come; here queries come rotated, so the mean over positions that
 * were is what stands for those that come. It has a model per query head and averages their ranks; here one model is that of
 * all queries of the group. C takes d (d + 1) / 2 floats of the budget; where that is more than an eighth of it, its diagonal
 * stands for it (key `covariance`). Sink tokens and recent rows stay. */
#include "cache/policies.h"
#include "cache/ranked/selection.h"
#include "sketch/moments.h"

#include <math.h>

enum { TILE = 128, TILE_FLOATS = PANEL * SHAPE_DIM_MAX, BLOCK = 8 }; /* rows; their floats; rows of C at a time */
enum { COVARIANCE_AUTO, COVARIANCE_FULL, COVARIANCE_DIAGONAL };

struct expected_params {
    struct held_params held;
    int covariance;
};

_Static_assert(sizeof(struct expected_params) <= POLICY_PARAMS_BYTES, "the parameters fit");

static const char *const covariances[] = {"auto", "full", "diagonal", NULL};

static const struct key expected_keys[] = {
    HELD_KEY_ROWS,
    HELD_KEY_INTERVAL,
    {.name = "covariance",
     .type = KEY_CHOICE,
     .offset = offsetof(struct expected_params, covariance),
     .unit = "",
     .initial = "auto",
     .choices = covariances,
     .help = "of the queries: full, its diagonal, or auto: full where that takes at most an eighth of the budget"},
};

static bool is_full(const struct policy *policy, const struct cache_dims *dims)
{
    int covariance = ((const struct expected_params *)(const void *)policy->params)->covariance;
    uint64_t budget = policy_budget(policy, dims);
    bool fits = budget == 0 || moments_bytes(dims->d, true) <= budget / 8;
    return covariance == COVARIANCE_FULL || (covariance == COVARIANCE_AUTO && fits);
}

static int expected_settle(size_t *option, const struct held_plan *plan, const struct policy *policy,
                           const struct cache_dims *dims, struct fault *fault)
{
    *option = is_full(policy, dims);
    return 0;
}

static size_t expected_extra_bytes(const struct policy *policy, const struct cache_dims *dims)
{
    return moments_bytes(dims->d, is_full(policy, dims));
}

static struct moments moments_of(struct selection *c)
{
    return (struct moments){page_write(&c->extra, page_bytes(c->extra)), c->plan.format.d, c->option};
}

static void expected_learn(struct selection *c, const float *q, size_t n_seen)
{
    struct moments m = moments_of(c);
    moments_add(&m, c->kernels, q, c->group);
}

/* x[j] = m^T k_j + k_j^T C k_j / 2 for rows [row, row + n), row in whole panels. keys (n, d) are theirs. */
static void exponents(const struct selection *c, const struct moments *m, size_t row, size_t n, const float *keys, float *x)
{
    const struct row_format *f = &c->plan.format;
    const void *block = page_data(c->held.rows.page);
    float part[BLOCK * SHAPE_DIM_MAX], s[BLOCK * TILE];
    c->kernels->score[f->key_storage->id](moments_mean(m), 1, f->d, block, row, n, x, TILE);
    for (size_t a = 0, rows; a < f->d; a += rows) {
        rows = f->d - a < BLOCK ? f->d - a : BLOCK;
        moments_rows(m, a, rows, true, part);
        c->kernels->score[f->key_storage->id](part, rows, f->d, block, row, n, s, TILE);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < n; j++)
                x[j] += 0.5f * s[i * TILE + j] * keys[j * f->d + a + i];
    }
}

static float log_norm(const float *v, size_t e)
{
    float square = 0;
    for (size_t i = 0; i < e; i++)
        square += v[i] * v[i];
    return square > 0 ? 0.5f * logf(square) : -INFINITY;
}

static void expected_choose(struct selection *c, uint32_t *gone)
{
    const struct row_format *f = &c->plan.format;
    size_t first = c->plan.sinks, end = first + held_candidates(&c->plan), widest = f->d > f->e ? f->d : f->e;
    size_t tile = TILE_FLOATS / widest / PANEL * PANEL;
    struct moments m = moments_of(c);
    float numbers[TILE_FLOATS], x[TILE];
    struct lowest lowest;
    tile = tile < TILE ? tile : TILE;
    lowest_init(&lowest, c->plan.interval);
    for (size_t row = first / PANEL * PANEL, n; row < end; row += n) {
        n = end - row < tile ? end - row : tile;
        rows_read_keys(&c->held.rows, f, c->kernels, row, n, numbers);
        exponents(c, &m, row, n, numbers, x);
        rows_read_values(&c->held.rows, f, c->kernels, row, n, numbers);
        for (size_t j = row < first ? first - row : 0; j < n; j++)
            lowest_offer(&lowest, x[j] + log_norm(numbers + j * f->e, f->e), row + j);
    }
    lowest_rows(&lowest, gone);
}

static const struct selection_rule expected_rule = {.recent_share = 0.25,
                                                    .extra_bytes = expected_extra_bytes,
                                                    .settle = expected_settle,
                                                    .choose = expected_choose,
                                                    .learn = expected_learn};

const struct cache_ops policy_expected = {
    .name = "expected",
    .help = "keeps the rows that queries to come will see most, if they are as those that came",
    SELECTION_SLOTS,
    .rule = &expected_rule,
    .needs_queries = true,
    .keys = expected_keys,
    .n_keys = sizeof expected_keys / sizeof *expected_keys,
    .observe = selection_observe,
    .gauges = selection_gauges,
    .n_gauges = SELECTION_GAUGES,
    .measure = selection_measure,
};
