/* SnapKV: keeps the rows to which the last queries gave most attention, and their neighbours with them.
 *
 *     rank of row j = 1/5 sum_(|j' - j| <= 2) a_j',    a_j = 1/W sum_i p_ij over the last W = observe_tokens tokens' queries
 *
 * p_ij is the softmax over the rows held when token i came; neighbours are those among the candidates, in the order of their
 * tokens, and outside of them a is 0.
 * Source: Li et al., SnapKV: LLM Knows What You are Looking for Before Generation, arXiv 2404.14469 (window 32, average pooling
 * over 5). Differences: the paper compresses once, at the end of the prompt, and lets the cache grow from there; here it is done
 * again every `interval` tokens, so that memory stays bounded. The sum goes over the queries of the group.
 *
 * Attention is summed in one place per row when an interval holds the W queries, else in W / interval places, of which the
 * oldest is given up with every interval:
 *
 *     tokens before the rows are dropped    W-1 ... interval | interval-1 ... 0
 *     place                                 0, 1, ...        | last                */
#include "cache/policies.h"
#include "cache/ranked/selection.h"

#include <string.h>

enum { REACH = 2, POOL = 2 * REACH + 1, OBSERVE_MAX = 1024 };

struct snapkv_params {
    struct held_params held;
    uint64_t observe_tokens;
};

_Static_assert(sizeof(struct snapkv_params) <= POLICY_PARAMS_BYTES, "the parameters fit");

static const struct key snapkv_keys[] = {
    HELD_KEY_ROWS,
    HELD_KEY_INTERVAL,
    {.name = "observe_tokens",
     .type = KEY_COUNT,
     .offset = offsetof(struct snapkv_params, observe_tokens),
     .min = 1,
     .max = OBSERVE_MAX,
     .unit = "tokens",
     .initial = "32",
     .help = "the last tokens whose queries decide which rows stay; a multiple of the interval, or no more than it"},
};

static const struct selection_rule snapkv_rule;

static size_t observed(const struct policy *policy)
{
    return (size_t)((const struct snapkv_params *)(const void *)policy->params)->observe_tokens;
}

/* As few places as cover the queries. More places make rows wider, so fewer of them fit, and that may shorten the interval. */
static size_t snapkv_side_bytes(const struct policy *policy, const struct cache_dims *dims)
{
    struct held_plan plan;
    for (size_t n = 1;;) {
        size_t needed = n;
        if (!selection_plan(&plan, &snapkv_rule, policy, dims, n * sizeof(float), NULL))
            needed = (observed(policy) + plan.interval - 1) / plan.interval;
        if (needed <= n)
            return n * sizeof(float);
        n = needed;
    }
}

static int snapkv_settle(size_t *option, const struct held_plan *plan, const struct policy *policy,
                         const struct cache_dims *dims, struct fault *fault)
{
    size_t n = *option = observed(policy);
    if (n <= plan->interval || n % plan->interval == 0)
        return 0;
    return fault_set(fault, ERR_INVALID, "observe_tokens is %zu, neither a multiple of the interval, %zu, nor below it", n,
                     plan->interval);
}

static size_t n_places(const struct selection *c)
{
    return c->plan.format.side_bytes / sizeof(float);
}

static void snapkv_learn(struct selection *c, const float *q, size_t n_seen)
{
    size_t left = c->plan.limit - n_seen;
    if (left < c->option)
        selection_add_scores(c, q, n_seen, n_places(c) - 1 - left / c->plan.interval);
}

static float attention_of(const float *side, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += side[i];
    return sum;
}

/* The ranks are sums where the paper has means: the order is the same. */
static void snapkv_choose(struct selection *c, uint32_t *gone)
{
    size_t n = n_places(c), first = c->plan.sinks, end = first + held_candidates(&c->plan);
    float *side = selection_sides(c, 0), near[POOL] = {0}; /* attention of rows row - REACH to row + REACH, by row % POOL */
    struct lowest lowest;
    lowest_init(&lowest, c->plan.interval);
    for (size_t row = first; row < end + REACH; row++) {
        near[row % POOL] = row < end ? attention_of(side + row * n, n) : 0;
        float sum = 0;
        for (size_t i = 0; i < POOL; i++)
            sum += near[(row + 1 + i) % POOL]; /* the oldest first, so that equal neighbours give equal sums */
        if (row >= first + REACH)
            lowest_offer(&lowest, sum, row - REACH);
    }
    lowest_rows(&lowest, gone);
    for (size_t row = 0; row < c->held.n; row++) {
        memmove(side + row * n, side + row * n + 1, (n - 1) * sizeof *side);
        side[row * n + n - 1] = 0;
    }
}

static const struct selection_rule snapkv_rule = {.recent_share = 0.25,
                                                  .least_interval = 32,
                                                  .side_bytes = snapkv_side_bytes,
                                                  .settle = snapkv_settle,
                                                  .choose = snapkv_choose,
                                                  .learn = snapkv_learn};

const struct cache_ops policy_snapkv = {
    .name = "snapkv",
    .help = "keeps the rows that drew most attention from the last queries, and their neighbours",
    SELECTION_SLOTS,
    .rule = &snapkv_rule,
    .needs_queries = true,
    .keys = snapkv_keys,
    .n_keys = sizeof snapkv_keys / sizeof *snapkv_keys,
    .observe = selection_observe,
    .gauges = selection_gauges,
    .n_gauges = SELECTION_GAUGES,
    .measure = selection_measure,
};
