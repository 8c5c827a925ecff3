/* KeyDiff: drops the rows whose keys are most like the others', whatever the queries; distinctive keys stay.
 *
 *     rank of row j = - cos(k_j, m),    m = the mean of k_l / |k_l| over the rows held
 *
 * Source: Park et al., KeyDiff: Key Similarity-Based KV Cache Eviction, arXiv 2504.15364. Differences: rows are dropped every
 * `interval` tokens in decode as well as in the prompt; sink tokens and recent rows stay. It learns nothing from queries. */
#include "cache/policies.h"
#include "cache/ranked/likeness.h"
#include "cache/ranked/selection.h"

enum { TILE_FLOATS = 8 * SHAPE_DIM_MAX };

static const struct key keydiff_keys[] = {HELD_KEY_ROWS, HELD_KEY_INTERVAL};

/* The length of m changes no order. */
static void keydiff_choose(struct selection *c, uint32_t *gone)
{
    size_t d = c->plan.format.d, first = c->plan.sinks, end = first + held_candidates(&c->plan), tile = TILE_FLOATS / d;
    float keys[TILE_FLOATS], likeness[TILE_FLOATS], mean[SHAPE_DIM_MAX];
    struct lowest lowest;
    lowest_init(&lowest, c->plan.interval);
    likeness_mean(&c->held, &c->plan, c->kernels, mean);
    for (size_t row = first, n; row < end; row += n) {
        n = end - row < tile ? end - row : tile;
        rows_read_keys(&c->held.rows, &c->plan.format, c->kernels, row, n, keys);
        likeness_of(mean, keys, n, d, likeness);
        for (size_t i = 0; i < n; i++)
            lowest_offer(&lowest, -likeness[i], row + i);
    }
    lowest_rows(&lowest, gone);
}

static const struct selection_rule keydiff_rule = {.recent_share = 0.25, .choose = keydiff_choose};

const struct cache_ops policy_keydiff = {
    .name = "keydiff",
    .help = "keeps the rows whose keys are least like the mean of all keys",
    SELECTION_SLOTS,
    .rule = &keydiff_rule,
    .keys = keydiff_keys,
    .n_keys = sizeof keydiff_keys / sizeof *keydiff_keys,
    .gauges = selection_gauges,
    .n_gauges = SELECTION_GAUGES,
    .measure = selection_measure,
};
