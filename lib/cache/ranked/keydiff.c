/* KeyDiff: drops the rows whose keys are most like the others', whatever the queries; distinctive keys stay.
 *
 *     rank of row j = - cos(k_j, m),    m = the mean of k_l / |k_l| over the rows held
 *
 * Source: Park et al., KeyDiff: Key Similarity-Based KV Cache Eviction, arXiv 2504.15364. Differences: rows are dropped every
 * `interval` tokens in decode as well as in the prompt; sink tokens and recent rows stay. It learns nothing from queries. */
#include "cache/policies.h"
#include "cache/ranked/selection.h"

#include <math.h>

enum { TILE = 64, TILE_FLOATS = 8192 };

static const struct key keydiff_keys[] = {HELD_KEY_ROWS, HELD_KEY_INTERVAL};

/* Keys [row, row + n) into keys (n, d), and one over their norms (0 for a key of zeros). */
static void read_unit(const struct selection *c, size_t row, size_t n, float *keys, float *inverse_norm)
{
    size_t d = c->plan.format.d;
    rows_read_keys(&c->held.rows, &c->plan.format, c->kernels, row, n, keys);
    for (size_t i = 0; i < n; i++) {
        float square = 0;
        for (size_t x = 0; x < d; x++)
            square += keys[i * d + x] * keys[i * d + x];
        inverse_norm[i] = square > 0 ? 1 / sqrtf(square) : 0;
    }
}

/* The length of m is left out: it changes no order. */
static void keydiff_choose(struct selection *c, uint32_t *gone)
{
    size_t d = c->plan.format.d, first = c->plan.sinks, end = first + held_candidates(&c->plan);
    size_t tile = TILE_FLOATS / d < TILE ? TILE_FLOATS / d : TILE;
    float keys[TILE_FLOATS], inverse_norm[TILE], mean[SHAPE_DIM_MAX] = {0};
    struct lowest lowest;
    lowest_init(&lowest, c->plan.interval);
    for (size_t row = 0, n; row < c->held.n; row += n) {
        n = c->held.n - row < tile ? c->held.n - row : tile;
        read_unit(c, row, n, keys, inverse_norm);
        for (size_t i = 0; i < n; i++)
            c->kernels->combine(1, mean, inverse_norm[i], keys + i * d, d);
    }
    for (size_t row = first, n; row < end; row += n) {
        n = end - row < tile ? end - row : tile;
        read_unit(c, row, n, keys, inverse_norm);
        for (size_t i = 0; i < n; i++) {
            float dot = 0;
            for (size_t x = 0; x < d; x++)
                dot += keys[i * d + x] * mean[x];
            lowest_offer(&lowest, -dot * inverse_norm[i], row + i);
        }
    }
    lowest_rows(&lowest, gone);
}

static const struct selection_rule keydiff_rule = {.recent_share = 0.25, .choose = keydiff_choose};

static int keydiff_check(const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    return selection_check(&keydiff_rule, policy, dims, fault);
}

static int keydiff_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                          const struct kernels *kernels)
{
    return selection_create(out, &keydiff_rule, dims, policy, kernels);
}

static size_t keydiff_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens)
{
    return selection_worst_bytes(&keydiff_rule, policy, dims, n_tokens);
}

const struct cache_ops policy_keydiff = {
    .name = "keydiff",
    .help = "keeps the rows whose keys are least like the mean of all keys",
    .kinds = 1u << ATTENTION_SOFTMAX,
    .companion = "window",
    .takes_budget = true,
    .takes_recent = true,
    .control_bytes = sizeof(struct selection),
    .keys = keydiff_keys,
    .n_keys = sizeof keydiff_keys / sizeof *keydiff_keys,
    .check = keydiff_check,
    .create = keydiff_create,
    .destroy = selection_destroy,
    .worst_bytes = keydiff_worst_bytes,
    .run_max = selection_run_max,
    .append = selection_append,
    .view = selection_view,
    .gauges = selection_gauges,
    .n_gauges = SELECTION_GAUGES,
    .measure = selection_measure,
    .check_state = selection_check_state,
};
