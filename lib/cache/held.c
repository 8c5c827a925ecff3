#include "cache/held.h"

#include <assert.h>
#include <string.h>

enum {
    START = 64, /* rows a block starts with */
    ROWS_DEFAULT = 1024,
    INTERVAL_DEFAULT_MAX = 64,
};

/* ---- the plan */

static size_t panels_up(size_t rows)
{
    return (rows + PANEL - 1) / PANEL * PANEL;
}

static size_t default_interval(size_t limit, size_t least)
{
    size_t interval = 1;
    while (2 * interval <= limit / 16 && interval < INTERVAL_DEFAULT_MAX)
        interval *= 2;
    while (interval < least && 2 * interval <= limit / 4)
        interval *= 2;
    return interval;
}

int held_plan_make(struct held_plan *plan, const struct row_format *format, const struct policy *policy,
                   const struct cache_dims *dims, const struct held_wish *wish, struct fault *fault)
{
    const struct held_params *params = (const void *)policy->params;
    uint64_t budget = policy_budget(policy, dims);
    size_t rest = budget > wish->extra_bytes ? (size_t)(budget - wish->extra_bytes) / wish->n_streams : 0;
    size_t fitting = budget ? rows_fitting(format, rest) : SIZE_MAX;
    size_t asked = params->rows ? (size_t)params->rows : budget ? SIZE_MAX : ROWS_DEFAULT;
    size_t limit = asked < fitting ? asked : fitting;
    *plan = (struct held_plan){.format = *format, .limit = limit, .sinks = (size_t)policy->sink_tokens};
    plan->capacity = panels_up(limit);
    plan->interval = params->interval ? (size_t)params->interval : default_interval(limit, wish->least_interval);
    size_t share = (size_t)(wish->recent_share * (double)limit), most = wish->recent_most + limit / 8;
    share = wish->recent_most && most < share ? most : share;
    bool given = policy->recent_tokens != UINT64_MAX;
    if (given && policy->recent_tokens > limit)
        return fault_set(fault, ERR_INVALID, "recent_tokens is %llu, but only %zu rows are held",
                         (unsigned long long)policy->recent_tokens, limit);
    plan->recent = given ? (size_t)policy->recent_tokens : share;
    size_t least = plan->sinks + plan->recent + plan->interval + 1;
    if (limit >= least)
        return 0;
    if (!budget)
        return fault_set(fault, ERR_INVALID,
                         "%zu rows do not hold %zu sink tokens, %zu recent ones, an interval of %zu and a row to choose", limit,
                         plan->sinks, plan->recent, plan->interval);
    return fault_set(fault, ERR_INVALID,
                     "a budget of %llu bytes holds %zu rows, too few for %zu sink tokens, %zu recent ones, an interval of %zu "
                     "and a row to choose; that takes %zu bytes",
                     (unsigned long long)budget, limit, plan->sinks, plan->recent, plan->interval,
                     wish->extra_bytes + wish->n_streams * rows_bytes(format, panels_up(least)));
}

/* Rows of the block once n tokens have come: of their number alone, so that batches cannot change it. */
static size_t capacity_at(const struct held_plan *plan, uint64_t n_tokens)
{
    size_t most = plan->capacity;
    return rows_doubled(n_tokens < most ? (size_t)n_tokens : most, most < START ? most : START, most);
}

size_t held_bytes(const struct held_plan *plan, uint64_t n_tokens)
{
    return n_tokens ? rows_bytes(&plan->format, capacity_at(plan, n_tokens)) : 0;
}

size_t held_candidates(const struct held_plan *plan)
{
    return plan->limit - plan->sinks - plan->recent;
}

/* ---- rows */

void held_release(struct held *held)
{
    rows_release(&held->rows);
    held->n = 0;
}

int held_reserve(struct held *held, const struct held_plan *plan, struct page_account *account, uint64_t n_tokens)
{
    size_t capacity = capacity_at(plan, n_tokens);
    if (held->rows.capacity == 0)
        return rows_create(&held->rows, &plan->format, account, capacity);
    if (held->rows.capacity < capacity)
        return rows_grow(&held->rows, &plan->format, account, held->n, capacity);
    return rows_own(&held->rows);
}

size_t held_room(const struct held *held, const struct held_plan *plan)
{
    return held->n < plan->limit ? plan->limit - held->n : plan->interval;
}

void held_append(struct held *held, const struct held_plan *plan, const struct kernels *kernels, size_t n, const float *keys,
                 const float *values)
{
    const struct row_format *f = &plan->format;
    assert(held->n + n <= plan->limit);
    rows_write(&held->rows, f, kernels, held->n, n, keys, values);
    for (size_t i = 0; f->weights != ROWS_PLAIN && i < n; i++)
        rows_weigh(&held->rows, f, held->n + i, 0, 0);
    if (f->side_bytes)
        memset(rows_side(&held->rows, f, held->n), 0, n * f->side_bytes);
    held->n += n;
}

void held_drop(struct held *held, const struct held_plan *plan, const uint32_t *gone, size_t n_gone)
{
    size_t to = n_gone ? gone[0] : 0;
    for (size_t i = 0; i < n_gone; i++) {
        size_t from = gone[i] + (size_t)1, end = i + 1 < n_gone ? gone[i + 1] : held->n;
        assert(from <= end && end <= held->n);
        rows_move_down(&held->rows, &plan->format, to, from, end - from);
        to += end - from;
    }
    held->n -= n_gone;
}

struct segment held_segment(const struct held *held, const struct held_plan *plan, uint64_t n_tokens)
{
    return rows_segment(&held->rows, &plan->format, 0, held->n, n_tokens - held->n, SPAN_ALL);
}

size_t held_seen(const struct held *held, uint64_t n_tokens, uint64_t token)
{
    uint64_t later = token + 1 < n_tokens ? n_tokens - token - 1 : 0;
    return later < held->n ? held->n - (size_t)later : 0;
}

bool held_check(const struct held *held, const struct held_plan *plan, uint64_t n_tokens, const char **reason)
{
    *reason = "more rows are held than tokens came, or than the limit";
    if (held->n > n_tokens || held->n > plan->limit)
        return false;
    *reason = "rows were dropped between two indices at which they may be";
    size_t expected = n_tokens <= plan->limit
                          ? (size_t)n_tokens
                          : plan->limit - plan->interval + 1 + (size_t)((n_tokens - plan->limit - 1) % plan->interval);
    if (held->n != expected)
        return false;
    *reason = "the block has no room for its rows, or too much";
    return held->rows.capacity >= held->n &&
           (n_tokens == 0 || (held->rows.capacity >= capacity_at(plan, n_tokens) && held->rows.capacity <= plan->capacity));
}
