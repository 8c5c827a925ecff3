/* Balance: keeps rows chosen so that what went is like what stayed, each standing for a power of two of tokens.
 *
 *     out = (sum_exact e^(s_j) v_j + sum_rest 2^(l_j) e^(s_j) v_j) / (sum_exact e^(s_j) + sum_rest 2^(l_j) e^(s_j))
 *
 * exact: sinks and recent rows. When the rows are full, a group of older ones of one level l is halved by a self-balancing walk
 * (balance_walk.h) and what stays is of level l + 1; which group, balance_levels.h says. Numerator and denominator are unbiased.
 *
 * Source: Han, Kapralov, Kochetkova, Sheth, Zandieh, BalanceKV, arXiv 2502.07861. Differences: its tree has one more level each
 * time the stream doubles, with the rows of all levels kept; here the number of rows is fixed, so groups are halved where there
 * is no room, for ever. The walk fills both classes to one half, where the paper keeps the smaller class. The constant in the
 * values' product is their mean square. c is a setting, 1 by default (theory wants 30 log of rows over failure probability).
 *
 * It gains where rows of a group are alike, in few dimensions or in clusters. Where keys are long and lie apart, e^(<k_i, k_j>)
 * of two rows is nothing beside that of a row with itself, every sign is as good as another, and this is a sample as `uniform`
 * is; the gauge `imbalance` tells, near 1. */
#include "cache/balance/balance_levels.h"
#include "cache/balance/balance_walk.h"
#include "cache/held.h"
#include "cache/policies.h"

#include "base/coins.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK_DEFAULT_MAX = 256, BLOCK_SHARE = 8 };

struct balance_params {
    struct held_params held; /* interval is 0: groups have sizes of their own */
    uint64_t block_rows;
    double constant;
};

_Static_assert(sizeof(struct balance_params) <= POLICY_PARAMS_BYTES, "the parameters fit");

static const struct key balance_keys[] = {
    HELD_KEY_ROWS,
    {.name = "block_rows",
     .type = KEY_COUNT,
     .offset = offsetof(struct balance_params, block_rows),
     .min = 0,
     .max = WALK_ROWS_MAX,
     .unit = "rows",
     .initial = "0",
     .help = "halved at once where rows weigh most; 0: an eighth of those that are neither sinks nor recent, at most 256"},
    {.name = "balance_constant",
     .type = KEY_NUMBER,
     .offset = offsetof(struct balance_params, constant),
     .min = 1e-6,
     .max = 1e6,
     .unit = "",
     .initial = "1",
     .help = "the smaller, the harder signs follow what is out of balance; large: fair coins"},
};

struct balance {
    struct cache base;
    const struct kernels *kernels;
    struct held_plan plan;
    struct held held;
    struct segment segment; /* the view's */
    size_t half;            /* rows that a group of the highest level loses */
    uint64_t seed, n_dropped;
    double constant, imbalance; /* imbalance: summed over the n_blocks largest groups */
    uint64_t n_blocks;
    float scale;
};

_Static_assert(sizeof(struct balance) < CACHE_CONTROL_MAX, "control state is small");

static int plan_make(struct held_plan *plan, const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    struct row_format format = {.key_storage = policy->key_storage,
                                .value_storage = policy->value_storage,
                                .d = dims->d,
                                .e = dims->e,
                                .weights = ROWS_WEIGHTED};
    struct held_wish wish = {.recent_share = 0.25, .n_streams = 1};
    return held_plan_make(plan, &format, policy, dims, &wish, fault);
}

static int balance_check(const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    struct held_plan plan;
    return plan_make(&plan, policy, dims, fault);
}

static void balance_destroy(struct cache *cache)
{
    struct balance *c = (struct balance *)cache;
    if (!c)
        return;
    held_release(&c->held);
    free(c);
}

/* Half of a block; a block has 2 rows at least and no more than there are to choose among. */
static size_t half_of(const struct held_plan *plan, uint64_t block_rows)
{
    size_t most = held_candidates(plan), share = most / BLOCK_SHARE;
    size_t block = block_rows > 0 ? (size_t)block_rows : share < BLOCK_DEFAULT_MAX ? share : BLOCK_DEFAULT_MAX;
    block = block < most ? block : most;
    return block / 2 > 0 ? block / 2 : 1;
}

static int balance_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                          const struct kernels *kernels)
{
    const struct balance_params *params = (const void *)policy->params;
    struct balance *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c)
        return ERR_NO_MEMORY;
    c->base.ops = policy->ops;
    c->kernels = kernels;
    c->seed = dims->seed;
    c->scale = dims->scale;
    c->constant = params->constant;
    int err = plan_make(&c->plan, policy, dims, NULL);
    if (err) {
        balance_destroy(&c->base);
        return err;
    }
    c->half = half_of(&c->plan, params->block_rows);
    *out = &c->base;
    return 0;
}

static size_t balance_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens)
{
    struct held_plan plan;
    return plan_make(&plan, policy, dims, NULL) ? 0 : held_bytes(&plan, n_tokens);
}

/* ---- appending */

/* Of full rows. */
static struct halving next_halving(const struct balance *c)
{
    const float *log_weight = rows_log_den(&c->held.rows, &c->plan.format) + c->plan.sinks;
    struct halving h = levels_next(log_weight, held_candidates(&c->plan), c->half);
    h.first += c->plan.sinks;
    return h;
}

static size_t balance_run_max(const struct cache *cache)
{
    const struct balance *c = (const struct balance *)cache;
    return c->held.n < c->plan.limit ? c->plan.limit - c->held.n : next_halving(c).n / 2;
}

static void weigh(struct balance *c, size_t row, unsigned level)
{
    float log_weight = level_log_weight(level);
    rows_weigh(&c->held.rows, &c->plan.format, row, log_weight, log_weight);
}

/* Halves a group of one level; returns the number of rows in gone. */
static size_t halve(struct balance *c, const struct halving *h, unsigned level, uint32_t *gone)
{
    struct walk walk = {c->kernels, &c->plan.format, c->scale, c->constant, c->seed, c->base.n_tokens};
    bool plus[WALK_ROWS_MAX];
    size_t n_gone = 0;
    double imbalance = walk_signs(&walk, &c->held.rows, h->first, h->n, plus);
    if (h->n == 2 * c->half) {
        c->imbalance += imbalance;
        c->n_blocks++;
    }
    for (size_t i = 0; i < h->n; i++) {
        if (plus[i])
            weigh(c, h->first + i, level + 1);
        else
            gone[n_gone++] = (uint32_t)(h->first + i);
    }
    return n_gone;
}

/* The row of the higher level and the one after it; returns the row that goes. */
static uint32_t choose_one(struct balance *c, size_t row, unsigned level, unsigned lower)
{
    bool takes_part = coin(c->seed, LANE_BALANCE, c->base.n_tokens, 0) < ldexp(1, (int)lower - (int)level);
    bool second = takes_part && coin(c->seed, LANE_BALANCE, c->base.n_tokens, 1) < 0.5;
    if (takes_part)
        weigh(c, row + second, level + 1);
    return (uint32_t)(second ? row : row + 1);
}

static void make_room(struct balance *c)
{
    struct halving h = next_halving(c);
    const float *log_weight = rows_log_den(&c->held.rows, &c->plan.format) + h.first;
    uint32_t gone[WALK_ROWS_MAX / 2] = {0};
    size_t n_gone = 1;
    if (h.uneven)
        gone[0] = choose_one(c, h.first, level_of(log_weight[0]), level_of(log_weight[1]));
    else
        n_gone = halve(c, &h, level_of(log_weight[0]), gone);
    held_drop(&c->held, &c->plan, gone, n_gone);
    c->n_dropped += n_gone;
}

static int balance_append(struct cache *cache, const struct token_run *run)
{
    struct balance *c = (struct balance *)cache;
    int err = held_reserve(&c->held, &c->plan, &c->base.account, c->base.n_tokens + run->n);
    if (err)
        return err;
    if (c->held.n == c->plan.limit)
        make_room(c);
    held_append(&c->held, &c->plan, c->kernels, run->n, run->key[0], run->value[0]);
    c->base.n_tokens += run->n;
    return 0;
}

static size_t balance_view(struct cache *cache, uint64_t first_query, const float *q, struct view out[2])
{
    struct balance *c = (struct balance *)cache;
    if (c->held.n > 0)
        c->segment = held_segment(&c->held, &c->plan, c->base.n_tokens);
    out[0] = (struct view){&c->segment, c->held.n > 0};
    return 1;
}

/* ---- what it tells */

static const struct cache_gauge balance_gauges[] = {
    {"rows", "", "Rows held", false},
    {"evictions", "", "Rows dropped so far", false},
    {"top_weight", "", "Tokens that one row of the oldest stands for", true},
    {"imbalance", "", "What balancing leaves of a block's rows, squared, as a share; near 1: no better than fair coins", true},
};

static void balance_measure(const struct cache *cache, double *values)
{
    const struct balance *c = (const struct balance *)cache;
    bool dropped = c->n_dropped > 0;
    values[0] = (double)c->held.n;
    values[1] = (double)c->n_dropped;
    values[2] = dropped ? exp((double)rows_log_den(&c->held.rows, &c->plan.format)[c->plan.sinks]) : 1;
    values[3] = c->n_blocks > 0 ? c->imbalance / (double)c->n_blocks : 1;
}

/* Levels of what is chosen among: whole numbers that never rise from old to new. All other rows stand for themselves. */
static bool levels_are_right(const struct balance *c)
{
    size_t first = c->plan.sinks, end = c->held.n > c->plan.recent ? c->held.n - c->plan.recent : 0;
    const float *log_weight = rows_log_den(&c->held.rows, &c->plan.format);
    for (size_t row = 0; row < c->held.n; row++) {
        if (row < first || row >= end ? log_weight[row] != 0 : log_weight[row] != level_log_weight(level_of(log_weight[row])))
            return false;
        if (row > first && log_weight[row] > log_weight[row - 1])
            return false;
    }
    return true;
}

static bool balance_check_state(const struct cache *cache, const char **reason)
{
    const struct balance *c = (const struct balance *)cache;
    *reason = "rows held and rows dropped are not those that came";
    if (c->held.n + c->n_dropped != c->base.n_tokens || c->held.n > c->plan.limit)
        return false;
    *reason = "weights are not those of levels in order";
    if (c->held.n > 0 && !levels_are_right(c))
        return false;
    *reason = "the account differs from the pages";
    return (c->held.rows.page ? page_bytes(c->held.rows.page) : 0) == c->base.account.allocated;
}

const struct cache_ops policy_balance = {
    .name = "balance",
    .help = "halves blocks of rows so that those that go are like those that stay, which then weigh twice as much",
    .kinds = 1u << ATTENTION_SOFTMAX,
    .companion = "window",
    .takes_budget = true,
    .takes_recent = true,
    .control_bytes = sizeof(struct balance),
    .keys = balance_keys,
    .n_keys = sizeof balance_keys / sizeof *balance_keys,
    .check = balance_check,
    .create = balance_create,
    .destroy = balance_destroy,
    .worst_bytes = balance_worst_bytes,
    .run_max = balance_run_max,
    .append = balance_append,
    .view = balance_view,
    .gauges = balance_gauges,
    .n_gauges = sizeof balance_gauges / sizeof *balance_gauges,
    .measure = balance_measure,
    .check_state = balance_check_state,
};
