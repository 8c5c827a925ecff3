/* TOVA: drops the rows to which the last query gives least attention.
 *
 *     rank of row j = p_ij, i the last token before rows are dropped, p_ij the softmax over the rows held
 *
 * Source: Oren et al., Transformers are Multi-State RNNs, arXiv 2401.06104. Differences: the paper averages over the heads of a
 * layer and drops one row per token; here each kv head decides by the sum over its group, and the last query before the
 * interval ends decides for `interval` rows at once. Sink tokens and recent rows are kept, which the paper does not need. */
#include "cache/policies.h"
#include "cache/ranked/selection.h"

static const struct key tova_keys[] = {HELD_KEY_ROWS, HELD_KEY_INTERVAL};

static void tova_choose(struct selection *c, uint32_t *gone)
{
    selection_lowest(c, 0, gone);
}

/* Only the query after which the rows are full decides. Without it (a token that brought no queries) all ranks are 0 and the
 * oldest go. */
static void tova_learn(struct selection *c, const float *q, size_t n_seen)
{
    if (n_seen < c->plan.limit)
        return;
    float *score = selection_sides(c, 0);
    for (size_t row = 0; row < n_seen; row++)
        score[row] = 0;
    selection_add_scores(c, q, n_seen, 0);
}

static const struct selection_rule tova_rule = {
    .recent_share = 0.25, .side_bytes = selection_one_score, .choose = tova_choose, .learn = tova_learn};

const struct cache_ops policy_tova = {
    .name = "tova",
    .help = "drops the rows to which the last query gave least attention",
    SELECTION_SLOTS,
    .rule = &tova_rule,
    .needs_queries = true,
    .keys = tova_keys,
    .n_keys = sizeof tova_keys / sizeof *tova_keys,
    .observe = selection_observe,
    .gauges = selection_gauges,
    .n_gauges = SELECTION_GAUGES,
    .measure = selection_measure,
};
