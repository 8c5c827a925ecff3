/* H2O: keeps the rows that have drawn most attention so far ("heavy hitters"), half of the rows for them, half for the recent ones.
 *
 *     rank of row j = sum over all queries i since token j of p_ij,  p_ij the softmax over the rows held when query i came
 *
 * Source: Zhang et al., H2O: Heavy-Hitter Oracle, arXiv 2306.14048. Differences: the sum goes over the queries of the group that
 * share the kv head; rows are dropped `interval` at a time; sink tokens are never dropped. Sums are f32, which loses what is
 * below 2^-24 of a row's sum: such rows are far from being dropped. */
#include "cache/policies.h"
#include "cache/ranked/selection.h"

static const struct key h2o_keys[] = {HELD_KEY_ROWS, HELD_KEY_INTERVAL};

static void h2o_choose(struct selection *c, uint32_t *gone)
{
    selection_lowest(c, 0, gone);
}

static void h2o_learn(struct selection *c, const float *q, size_t n_seen)
{
    selection_add_scores(c, q, n_seen, 0);
}

static const struct selection_rule h2o_rule = {
    .recent_share = 0.5, .side_bytes = selection_one_score, .choose = h2o_choose, .learn = h2o_learn};

const struct cache_ops policy_h2o = {
    .name = "h2o",
    .help = "keeps the rows that drew most attention so far, and the last ones",
    SELECTION_SLOTS,
    .rule = &h2o_rule,
    .needs_queries = true,
    .keys = h2o_keys,
    .n_keys = sizeof h2o_keys / sizeof *h2o_keys,
    .observe = selection_observe,
    .gauges = selection_gauges,
    .n_gauges = SELECTION_GAUGES,
    .measure = selection_measure,
};
