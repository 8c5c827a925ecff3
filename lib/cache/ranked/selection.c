#include "cache/ranked/selection.h"
#include "sketch/scores.h"

#include <assert.h>
#include <stdlib.h>

_Static_assert(sizeof(struct selection) < CACHE_CONTROL_MAX, "control state is small");

const struct cache_gauge selection_gauges[SELECTION_GAUGES] = {SELECTION_GAUGE_ROWS, SELECTION_GAUGE_EVICTIONS};

static size_t extra_bytes(const struct selection_rule *rule, const struct policy *policy, const struct cache_dims *dims)
{
    size_t bytes = rule->extra_bytes ? rule->extra_bytes(policy, dims) : 0;
    return bytes ? page_rounded(bytes) : 0;
}

int selection_plan(struct held_plan *plan, const struct selection_rule *rule, const struct policy *policy,
                   const struct cache_dims *dims, size_t side_bytes, struct fault *fault)
{
    struct row_format format = {.key_storage = policy->key_storage,
                                .value_storage = policy->value_storage,
                                .d = dims->d,
                                .e = dims->e,
                                .weights = rule->weights,
                                .side_bytes = side_bytes};
    struct held_wish wish = {.recent_share = rule->recent_share,
                             .extra_bytes = extra_bytes(rule, policy, dims),
                             .n_streams = 1,
                             .least_interval = rule->least_interval};
    return held_plan_make(plan, &format, policy, dims, &wish, fault);
}

static int plan_make(struct held_plan *plan, size_t *option, const struct policy *policy, const struct cache_dims *dims,
                     struct fault *fault)
{
    const struct selection_rule *rule = policy->ops->rule;
    size_t side_bytes = rule->side_bytes ? rule->side_bytes(policy, dims) : 0;
    int err = selection_plan(plan, rule, policy, dims, side_bytes, fault);
    return !err && rule->settle ? rule->settle(option, plan, policy, dims, fault) : err;
}

int selection_check(const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    struct held_plan plan;
    size_t option;
    return plan_make(&plan, &option, policy, dims, fault);
}

int selection_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                     const struct kernels *kernels)
{
    struct selection *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c)
        return ERR_NO_MEMORY;
    c->base.ops = policy->ops;
    c->kernels = kernels;
    c->rule = policy->ops->rule;
    c->group = dims->group;
    c->seed = dims->seed;
    size_t extra = extra_bytes(c->rule, policy, dims);
    int err = plan_make(&c->plan, &c->option, policy, dims, NULL);
    if (!err && extra)
        err = page_create(&c->extra, &c->base.account, extra);
    if (err) {
        selection_destroy(&c->base);
        return err;
    }
    *out = &c->base;
    return 0;
}

void selection_destroy(struct cache *cache)
{
    struct selection *c = (struct selection *)cache;
    if (!c)
        return;
    held_release(&c->held);
    page_release(&c->extra);
    free(c);
}

size_t selection_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens)
{
    struct held_plan plan;
    size_t option;
    if (plan_make(&plan, &option, policy, dims, NULL))
        return 0;
    return extra_bytes(policy->ops->rule, policy, dims) + held_bytes(&plan, n_tokens);
}

size_t selection_run_max(const struct cache *cache)
{
    const struct selection *c = (const struct selection *)cache;
    return held_room(&c->held, &c->plan);
}

int selection_append(struct cache *cache, const struct token_run *run)
{
    struct selection *c = (struct selection *)cache;
    if (c->extra && !page_write(&c->extra, page_bytes(c->extra)))
        return ERR_NO_MEMORY;
    int err = held_reserve(&c->held, &c->plan, &c->base.account, c->base.n_tokens + run->n);
    if (err)
        return err;
    if (c->held.n == c->plan.limit) {
        uint32_t gone[HELD_INTERVAL_MAX];
        c->rule->choose(c, gone);
        held_drop(&c->held, &c->plan, gone, c->plan.interval);
        c->n_dropped += c->plan.interval;
    }
    held_append(&c->held, &c->plan, c->kernels, run->n, run->key[0], run->value[0]);
    c->base.n_tokens += run->n;
    return 0;
}

size_t selection_view(struct cache *cache, uint64_t first_query, const float *q, struct view out[2])
{
    struct selection *c = (struct selection *)cache;
    if (c->held.n > 0)
        c->segment = held_segment(&c->held, &c->plan, c->base.n_tokens);
    out[0] = (struct view){&c->segment, c->held.n > 0};
    return 1;
}

void selection_observe(struct cache *cache, const struct attention_record *record)
{
    struct selection *c = (struct selection *)cache;
    size_t query = c->group * c->plan.format.d;
    if (c->held.n == 0 || rows_own(&c->held.rows) || (c->extra && !page_write(&c->extra, page_bytes(c->extra))))
        return; /* a shared block that finds no memory of its own: these queries teach nothing */
    for (size_t i = 0; i < record->n_tokens; i++) {
        size_t n_seen = held_seen(&c->held, c->base.n_tokens, record->first + i);
        if (n_seen > 0)
            c->rule->learn(c, record->q + i * query, n_seen);
    }
}

bool selection_check_state(const struct cache *cache, const char **reason)
{
    const struct selection *c = (const struct selection *)cache;
    if (!held_check(&c->held, &c->plan, c->base.n_tokens, reason))
        return false;
    *reason = "rows held and rows dropped are not those that came";
    if (c->held.n + c->n_dropped != c->base.n_tokens)
        return false;
    size_t allocated = (c->held.rows.page ? page_bytes(c->held.rows.page) : 0) + (c->extra ? page_bytes(c->extra) : 0);
    *reason = "the account differs from the pages";
    return allocated == c->base.account.allocated;
}

void selection_measure(const struct cache *cache, double *values)
{
    const struct selection *c = (const struct selection *)cache;
    values[0] = (double)c->held.n;
    values[1] = (double)c->n_dropped;
}

float *selection_sides(struct selection *c, size_t place)
{
    return (float *)rows_side(&c->held.rows, &c->plan.format, 0) + place;
}

void selection_add_scores(struct selection *c, const float *q, size_t n_seen, size_t place)
{
    const struct row_format *f = &c->plan.format;
    float *total = selection_sides(c, place);
    struct segment all = rows_segment(&c->held.rows, f, 0, n_seen, 0, 0);
    struct score_rows rows = {f->key_storage, all.keys, all.log_den, n_seen};
    scores_add(c->kernels, &rows, q, c->group, f->d, SCORE_PLAIN, total, f->side_bytes / sizeof(float));
}

void selection_lowest(struct selection *c, size_t place, uint32_t *gone)
{
    size_t stride = c->plan.format.side_bytes / sizeof(float), first = c->plan.sinks, end = first + held_candidates(&c->plan);
    const float *score = selection_sides(c, place);
    struct lowest lowest;
    lowest_init(&lowest, c->plan.interval);
    for (size_t row = first; row < end; row++)
        lowest_offer(&lowest, score[row * stride], row);
    lowest_rows(&lowest, gone);
}

size_t selection_one_score(const struct policy *policy, const struct cache_dims *dims)
{
    return sizeof(float);
}
