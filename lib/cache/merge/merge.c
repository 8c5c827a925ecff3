/* Merge: rows that queries tell apart least are merged under the metric of the queries, with their values and weights; rows that
 * none is near are dropped. Ours.
 *
 * What a merge costs. Let rows j and l of weights w_j, w_l become one with shares a and 1 - a:
 *     k = a k_j + (1 - a) k_l,   v likewise,   log w = a log(w_j / a) + (1 - a) log(w_l / (1 - a))
 * By Jensen's inequality w e^<q,k> <= w_j e^<q,k_j> + w_l e^<q,k_l>, with equality where the two rows share a query's attention as a
 * to 1 - a. Rows that no query tells apart share it as their weights, and then this is the mean row with the sum of the weights;
 * others as they shared what attention they drew, as far as scores can differ:
 *     log a / (1 - a) = log m_j / m_l, within 2 D of log w_j / w_l
 * Off that point the error grows with <q, k_j - k_l>, over all queries
 *     D^2 = (k_j - k_l)^T M (k_j - k_l),    M = E[q q^T] (q scaled), its diagonal alone by default
 * in first order times the difference of the values. So row l into its nearest j costs
 *     m_j m_l / (m_j + m_l) x / (4 R^2 + x),    x = D^2 (1 + |v_j - v_l|^2 / E|v - v'|^2) / 2,    R = merge_within
 * where m is what a row is worth: the mass of attention that it drew, sum over queries of sqrt(p), times e^(-c likeness), since
 * rows that are needed again are those whose keys are unlike the others (cache/ranked/likeness.h; c = distinctness). The root counts
 * rows that many queries use a little before rows that one query used much.
 *
 * Every `interval` tokens (cache/held.h) the 2 interval candidates of least m look for their nearest among the 1,024 rows around
 * them (cache/merge/neighbours.h), and the cheapest go: into the nearest if D <= R, else away. So no step is quadratic in the
 * tokens. Sinks and recent rows stay exact, and so do rows that are far heavier than what merges with them. Weights never add up
 * to more than the tokens that they stand for; where D is 0 to as many, but for the steps in which odds are counted (0.2 %).
 *
 * Tensor layers: both streams. Row i of stream 1 asks stream 2 the query q * k1_i, so the queries that stream 2 sees have the second
 * moment E[q q^T] * E[k1 k1^T] (elementwise, q and k1 taken as independent), whose diagonal is E[q_c^2] E[k1_c^2]; likewise for stream
 * 1. The mass of a row is that of its pairs. By default half of the rows are recent ones, but no more than 128 and an eighth.
 *
 * Sources: cost and metric: our algorithms, section 8; merging rows of least attention: CaM (ICML 2024), D2O (arXiv 2406.13035);
 * shares by Jensen's bound and the root of probabilities are derived and measured here. */
#include "cache/merge/merge_batch.h"
#include "cache/policies.h"
#include "sketch/pair_scores.h"

#include <math.h>
#include <stdlib.h>

enum { METRIC_DIAGONAL, METRIC_FULL };

struct merge_params {
    struct held_params held;
    double within, distinctness;
    uint64_t learn_every;
    int metric;
};

_Static_assert(sizeof(struct merge_params) <= POLICY_PARAMS_BYTES, "the parameters fit");

static const char *const metrics[] = {"diagonal", "full", NULL};

static const struct key merge_keys[] = {
    HELD_KEY_ROWS,
    HELD_KEY_INTERVAL,
    {.name = "merge_within",
     .type = KEY_NUMBER,
     .offset = offsetof(struct merge_params, within),
     .min = 0,
     .max = 1e6,
     .unit = "nats",
     .initial = "3.5",
     .help = "rows merge whose scores differ by at most so much, root mean square over queries; others are dropped"},
    {.name = "distinctness",
     .type = KEY_NUMBER,
     .offset = offsetof(struct merge_params, distinctness),
     .min = 0,
     .max = 64,
     .unit = "",
     .initial = "8",
     .help = "how much rows are worth whose keys are unlike the others, beside the attention that they drew"},
    {.name = "learn_every",
     .type = KEY_COUNT,
     .offset = offsetof(struct merge_params, learn_every),
     .min = 1,
     .max = 1 << 16,
     .unit = "tokens",
     .initial = "2",
     .help = "the queries of one token in so many teach what rows are worth: 1 gives the smallest error, more takes less time"},
    {.name = "metric",
     .type = KEY_CHOICE,
     .offset = offsetof(struct merge_params, metric),
     .unit = "",
     .initial = "diagonal",
     .choices = metrics,
     .help =
         "the second moment of the queries under which rows are near: its diagonal, or full (d (d + 1) / 2 numbers; softmax)"},
};

struct merge {
    struct cache base;
    const struct kernels *kernels;
    struct held_plan plan; /* of each stream */
    struct held held[2];
    struct page *queries; /* their moments */
    size_t n_streams, group;
    uint64_t n_merged, n_dropped; /* rows of all streams */
    uint64_t learn_every;
    float within, distinctness;
    bool full;
    struct segment segment[2];
};

_Static_assert(sizeof(struct merge) < CACHE_CONTROL_MAX, "control state is small");

/* ---- settings */

static const struct merge_params *params_of(const struct policy *policy)
{
    return (const void *)policy->params;
}

static size_t queries_bytes(const struct policy *policy, const struct cache_dims *dims)
{
    return page_rounded(moments_bytes(dims->d, params_of(policy)->metric == METRIC_FULL));
}

static int plan_make(struct held_plan *plan, const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    size_t n_streams = attention_streams(dims->kind);
    struct row_format format = {.key_storage = policy->key_storage,
                                .value_storage = policy->value_storage,
                                .d = dims->d,
                                .e = dims->e,
                                .weights = ROWS_WEIGHTED,
                                .side_bytes = n_streams * sizeof(float)}; /* mass; tensor: and the last token's attention */
    struct held_wish wish = {
        .recent_share = 0.5, .recent_most = 128, .extra_bytes = queries_bytes(policy, dims), .n_streams = n_streams};
    if (n_streams > 1 && params_of(policy)->metric == METRIC_FULL)
        return fault_set(fault, ERR_UNSUPPORTED, "a full metric serves softmax layers only");
    return held_plan_make(plan, &format, policy, dims, &wish, fault);
}

static int merge_check(const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    struct held_plan plan;
    return plan_make(&plan, policy, dims, fault);
}

static void merge_destroy(struct cache *cache)
{
    struct merge *c = (struct merge *)cache;
    if (!c)
        return;
    for (size_t s = 0; s < 2; s++)
        held_release(&c->held[s]);
    page_release(&c->queries);
    free(c);
}

static int merge_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                        const struct kernels *kernels)
{
    struct merge *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c)
        return ERR_NO_MEMORY;
    c->base.ops = &policy_merge;
    c->kernels = kernels;
    c->n_streams = attention_streams(dims->kind);
    c->group = dims->group;
    c->within = (float)params_of(policy)->within;
    c->distinctness = (float)params_of(policy)->distinctness;
    c->learn_every = params_of(policy)->learn_every;
    c->full = params_of(policy)->metric == METRIC_FULL;
    int err = plan_make(&c->plan, policy, dims, NULL);
    if (!err)
        err = page_create(&c->queries, &c->base.account, queries_bytes(policy, dims));
    if (err) {
        merge_destroy(&c->base);
        return err;
    }
    *out = &c->base;
    return 0;
}

static size_t merge_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens)
{
    struct held_plan plan;
    if (plan_make(&plan, policy, dims, NULL))
        return 0;
    return queries_bytes(policy, dims) + attention_streams(dims->kind) * held_bytes(&plan, n_tokens);
}

static size_t merge_run_max(const struct cache *cache)
{
    const struct merge *c = (const struct merge *)cache;
    return held_room(&c->held[0], &c->plan);
}

/* ---- batches */

static struct moments moments_of(struct merge *c)
{
    return (struct moments){page_write(&c->queries, page_bytes(c->queries)), c->plan.format.d, c->full};
}

/* diagonal[c] *= the mean of k_c^2 over the rows held. */
static void times_square_of_keys(const struct merge *c, size_t stream, float *diagonal)
{
    const struct held *held = &c->held[stream];
    size_t d = c->plan.format.d;
    float key[SHAPE_DIM_MAX], mean[SHAPE_DIM_MAX] = {0};
    for (size_t row = 0; row < held->n; row++) {
        rows_read_keys(&held->rows, &c->plan.format, c->kernels, row, 1, key);
        c->kernels->multiply_add(1 / (float)held->n, key, key, d, mean);
    }
    c->kernels->multiply(diagonal, mean, d, diagonal);
}

static void make_room(struct merge *c)
{
    struct moments queries = moments_of(c);
    uint32_t gone[HELD_INTERVAL_MAX];
    for (size_t s = 0; s < c->n_streams; s++) {
        float diagonal[SHAPE_DIM_MAX];
        moments_diagonal(&queries, diagonal);
        if (c->n_streams > 1)
            times_square_of_keys(c, 1 - s, diagonal);
        struct merge_batch batch = {.held = &c->held[s],
                                    .plan = &c->plan,
                                    .metric = {c->kernels, c->plan.format.d, c->full ? &queries : NULL, diagonal},
                                    .within = c->within,
                                    .distinctness = c->distinctness};
        size_t n_merged = merge_batch_run(&batch, gone);
        held_drop(&c->held[s], &c->plan, gone, c->plan.interval);
        c->n_merged += n_merged;
        c->n_dropped += c->plan.interval - n_merged;
    }
}

static int own_pages(struct merge *c, uint64_t n_tokens)
{
    int err = page_write(&c->queries, page_bytes(c->queries)) ? 0 : ERR_NO_MEMORY;
    for (size_t s = 0; s < c->n_streams && !err; s++)
        err = held_reserve(&c->held[s], &c->plan, &c->base.account, n_tokens);
    return err;
}

static int merge_append(struct cache *cache, const struct token_run *run)
{
    struct merge *c = (struct merge *)cache;
    int err = own_pages(c, c->base.n_tokens + run->n);
    if (err)
        return err;
    if (c->held[0].n == c->plan.limit)
        make_room(c);
    for (size_t s = 0; s < c->n_streams; s++)
        held_append(&c->held[s], &c->plan, c->kernels, run->n, run->key[s], run->value[s]);
    c->base.n_tokens += run->n;
    return 0;
}

static size_t merge_view(struct cache *cache, uint64_t first_query, const float *q, struct view out[2])
{
    struct merge *c = (struct merge *)cache;
    for (size_t s = 0; s < c->n_streams; s++) {
        if (c->held[s].n > 0)
            c->segment[s] = held_segment(&c->held[s], &c->plan, c->base.n_tokens);
        out[s] = (struct view){&c->segment[s], c->held[s].n > 0};
    }
    return c->n_streams;
}

/* ---- mass */

static struct score_rows seen_rows(const struct merge *c, size_t stream, size_t n_seen)
{
    struct segment all = rows_segment(&c->held[stream].rows, &c->plan.format, 0, n_seen, 0, 0);
    return (struct score_rows){c->plan.format.key_storage, all.keys, all.log_den, n_seen};
}

static float *side_of(struct merge *c, size_t stream)
{
    return rows_side(&c->held[stream].rows, &c->plan.format, 0);
}

static void learn_pairs(struct merge *c, const float *q, size_t n_seen)
{
    enum { MASS, TOKEN, SIDE };
    float *side[2], *token[2];
    struct score_rows rows[2];
    for (size_t s = 0; s < 2; s++) {
        rows[s] = seen_rows(c, s, n_seen);
        side[s] = side_of(c, s);
        token[s] = side[s] + TOKEN;
    }
    pair_scores_add(c->kernels, rows, q, c->group, c->plan.format.d, token, SIDE);
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < n_seen; i++) {
            side[s][i * SIDE + MASS] += sqrtf(side[s][i * SIDE + TOKEN]);
            side[s][i * SIDE + TOKEN] = 0;
        }
}

static void learn(struct merge *c, const float *q, size_t n_seen)
{
    struct moments queries = moments_of(c);
    moments_add(&queries, c->kernels, q, c->group);
    if (c->n_streams > 1) {
        learn_pairs(c, q, n_seen);
        return;
    }
    struct score_rows rows = seen_rows(c, 0, n_seen);
    scores_add(c->kernels, &rows, q, c->group, c->plan.format.d, SCORE_ROOT, side_of(c, 0), 1);
}

static void merge_observe(struct cache *cache, const struct attention_record *record)
{
    struct merge *c = (struct merge *)cache;
    if (c->base.n_tokens == 0 || own_pages(c, c->base.n_tokens))
        return; /* shared pages that find no memory of their own: these queries teach nothing */
    for (size_t i = 0; i < record->n_tokens; i++) {
        size_t n_seen = held_seen(&c->held[0], c->base.n_tokens, record->first + i);
        if (n_seen > 0 && (record->first + i) % c->learn_every == 0)
            learn(c, record->q + i * c->group * c->plan.format.d, n_seen);
    }
}

/* ---- state */

enum { GAUGE_ROWS, GAUGE_MERGES, GAUGE_EVICTIONS, N_GAUGES };

static const struct cache_gauge merge_gauges[N_GAUGES] = {
    {"rows", "", "Rows held", false},
    {"merges", "", "Rows merged into others so far", false},
    {"evictions", "", "Rows dropped so far", false},
};

static void merge_measure(const struct cache *cache, double *values)
{
    const struct merge *c = (const struct merge *)cache;
    values[GAUGE_ROWS] = (double)(c->held[0].n + c->held[1].n);
    values[GAUGE_MERGES] = (double)c->n_merged;
    values[GAUGE_EVICTIONS] = (double)c->n_dropped;
}

static bool merge_check_state(const struct cache *cache, const char **reason)
{
    const struct merge *c = (const struct merge *)cache;
    size_t allocated = page_bytes(c->queries), n_held = 0;
    for (size_t s = 0; s < c->n_streams; s++) {
        if (!held_check(&c->held[s], &c->plan, c->base.n_tokens, reason))
            return false;
        allocated += c->held[s].rows.page ? page_bytes(c->held[s].rows.page) : 0;
        n_held += c->held[s].n;
        *reason = "a row has no finite weight";
        for (size_t i = 0; i < c->held[s].n; i++)
            if (!isfinite(rows_log_den(&c->held[s].rows, &c->plan.format)[i]))
                return false;
    }
    *reason = "rows held, merged and dropped are not those that came";
    if (n_held + c->n_merged + c->n_dropped != c->n_streams * c->base.n_tokens)
        return false;
    *reason = "the account differs from the pages";
    return allocated == c->base.account.allocated;
}

const struct cache_ops policy_merge = {
    .name = "merge",
    .help = "merges rows that queries tell apart least, and keeps the heaviest, the last ones and the first few",
    .kinds = 1u << ATTENTION_SOFTMAX | 1u << ATTENTION_TENSOR,
    .takes_budget = true,
    .takes_recent = true,
    .stores_again = true,
    .needs_queries = true,
    .control_bytes = sizeof(struct merge),
    .keys = merge_keys,
    .n_keys = sizeof merge_keys / sizeof *merge_keys,
    .check = merge_check,
    .create = merge_create,
    .destroy = merge_destroy,
    .worst_bytes = merge_worst_bytes,
    .run_max = merge_run_max,
    .append = merge_append,
    .view = merge_view,
    .observe = merge_observe,
    .gauges = merge_gauges,
    .n_gauges = N_GAUGES,
    .measure = merge_measure,
    .check_state = merge_check_state,
};
