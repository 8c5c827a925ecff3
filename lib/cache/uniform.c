/* Uniform: a uniform sample of the tokens, which stands for all of them; what every cleverer choice must beat.
 *
 *     out = (sum_exact e^(s_j) v_j + n/K sum_sample e^(s_j) v_j) / (sum_exact e^(s_j) + n/K sum_sample e^(s_j))
 *
 * exact: sinks and recent rows. The n rows that left them are in a reservoir of K (algorithm R: Vitter, Random sampling with a
 * reservoir, 1985): the m-th row is taken with probability K/m and replaces one of the K, each as likely. Numerator and
 * denominator are unbiased, their quotient nearly so.
 *
 * Rows leave the recent ones when rows are dropped, `interval` at a time, and until then they are exact. The slots of the
 * reservoir are the first K candidates in their order. */
#include "base/coins.h"
#include "cache/policies.h"
#include "cache/ranked/selection.h"

#include <math.h>

static const struct key uniform_keys[] = {HELD_KEY_ROWS, HELD_KEY_INTERVAL};

/* Rows of the reservoir, K. */
static size_t sample_size(const struct held_plan *plan)
{
    return held_candidates(plan) - plan->interval;
}

/* The candidates beyond the reservoir's K are offered in the order of their tokens; either they or the row whose slot they
 * take are gone. A slot that was taken before within the same interval holds the row that took it. */
static void uniform_choose(struct selection *c, uint32_t *gone)
{
    const struct held_plan *plan = &c->plan;
    size_t size = sample_size(plan), n_taken = 0;
    uint64_t n_offered = c->base.n_tokens - plan->sinks - plan->recent; /* those of this interval included */
    struct {
        size_t slot;
        uint32_t row;
    } taken[HELD_INTERVAL_MAX];
    for (size_t i = 0; i < plan->interval; i++) {
        uint32_t row = (uint32_t)(plan->sinks + size + i);
        uint64_t m = n_offered - plan->interval + i + 1;
        double u = coin(c->seed, LANE_RESERVOIR, plan->sinks + m - 1, 0) * (double)m;
        if (u >= (double)size) {
            gone[i] = row;
            continue;
        }
        size_t slot = (size_t)u, t = n_taken;
        while (t > 0 && taken[t - 1].slot != slot)
            t--;
        gone[i] = t > 0 ? taken[t - 1].row : (uint32_t)(plan->sinks + slot);
        taken[n_taken].slot = slot;
        taken[n_taken++].row = row;
    }
    rows_sort(gone, plan->interval);
    float weight = (float)log((double)n_offered / (double)size);
    for (size_t i = 0; i < size + plan->interval; i++) /* whichever stays is of the reservoir now */
        rows_weigh(&c->held.rows, &plan->format, plan->sinks + i, weight, weight);
}

static const struct selection_rule uniform_rule = {.recent_share = 0.25, .weights = ROWS_WEIGHTED, .choose = uniform_choose};

/* Of K slots, those that hold a row that left the recent ones. */
static double reservoir_fill(const struct selection *c)
{
    size_t exact = c->plan.sinks + c->plan.recent, size = sample_size(&c->plan);
    size_t left = c->held.n > exact ? c->held.n - exact : 0;
    return left < size ? (double)left / (double)size : 1;
}

static void uniform_measure(const struct cache *cache, double *values)
{
    selection_measure(cache, values);
    values[SELECTION_GAUGES] = reservoir_fill((const struct selection *)cache);
}

static const struct cache_gauge uniform_gauges[] = {
    SELECTION_GAUGE_ROWS, SELECTION_GAUGE_EVICTIONS, {"reservoir_fill", "", "Share of the reservoir that is filled", true}};

const struct cache_ops policy_uniform = {
    .name = "uniform",
    .help = "keeps a uniform sample of the tokens, weighted to stand for all, beside the last ones and the first few",
    SELECTION_SLOTS,
    .rule = &uniform_rule,
    .keys = uniform_keys,
    .n_keys = sizeof uniform_keys / sizeof *uniform_keys,
    .gauges = uniform_gauges,
    .n_gauges = sizeof uniform_gauges / sizeof *uniform_gauges,
    .measure = uniform_measure,
};
