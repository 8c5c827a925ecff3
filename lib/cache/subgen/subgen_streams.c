#include "cache/subgen/subgen_streams.h"

#include "base/coins.h"
#include "cache/subgen/subgen_gauges.h"

#include <assert.h>
#include <stdlib.h>

int subgen_streams_check(const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    struct subgen_plan plan;
    return subgen_plan_make(&plan, NULL, policy, dims, fault);
}

static size_t segments_bytes(const struct subgen_plan *plan, size_t n_streams)
{
    return n_streams * subgen_segments(plan) * sizeof(struct segment);
}

void subgen_streams_destroy(struct cache *cache)
{
    struct subgen_streams *c = (struct subgen_streams *)cache;
    if (!c)
        return;
    for (size_t s = 0; s < 2; s++) {
        rows_release(&c->front[s]);
        sketch_release(&c->sketch[s]);
    }
    page_release(&c->segments);
    free(c);
}

int subgen_streams_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                          const struct kernels *kernels)
{
    static const uint32_t lanes[2] = {LANE_NORMALISER_1, LANE_NORMALISER_2};
    struct subgen_streams *c = calloc(1, sizeof *c);
    double delta[2] = {0, 0};
    *out = NULL;
    if (!c)
        return ERR_NO_MEMORY;
    c->base.ops = policy->ops;
    c->kernels = kernels;
    c->n_streams = attention_streams(dims->kind);
    int err = subgen_plan_make(&c->plan, delta, policy, dims, NULL);
    if (!err)
        err = page_create(&c->segments, &c->base.account, segments_bytes(&c->plan, c->n_streams));
    if (err) {
        subgen_streams_destroy(&c->base);
        return err;
    }
    for (size_t s = 0; s < 2; s++)
        sketch_init(&c->sketch[s], &c->plan.sketch, delta[s], lanes[s]);
    *out = &c->base;
    return 0;
}

size_t subgen_streams_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens)
{
    struct subgen_plan plan;
    size_t n_streams = attention_streams(dims->kind);
    if (subgen_plan_make(&plan, NULL, policy, dims, NULL))
        return 0;
    return page_rounded(segments_bytes(&plan, n_streams)) + n_streams * subgen_stream_bytes(&plan, n_tokens);
}

/* Which rows are shown changes with every token. */
size_t subgen_streams_run_max(const struct cache *cache)
{
    return 1;
}

int subgen_streams_append(struct cache *cache, const struct token_run *run)
{
    struct subgen_streams *c = (struct subgen_streams *)cache;
    struct front_plan front = subgen_front_plan(&c->plan);
    uint64_t token = c->base.n_tokens, leaving;
    bool leaves = front_gone(&front, token + 1) > front_gone(&front, token);
    float key[SHAPE_DIM_MAX], value[SHAPE_DIM_MAX];
    assert(run->n == 1);
    int err = page_write(&c->segments, 0) ? 0 : ERR_NO_MEMORY;
    for (size_t s = 0; s < c->n_streams && !err; s++) {
        err = front_reserve(&c->front[s], &front, &c->base.account, token);
        if (!err && leaves)
            err = sketch_reserve(&c->sketch[s], &c->base.account, 1);
    }
    if (err)
        return err;
    for (size_t s = 0; s < c->n_streams; s++) {
        if (front_leaving(&c->front[s], &front, c->kernels, token, run->key[s], run->value[s], &leaving, key, value))
            sketch_append(&c->sketch[s], c->kernels, key, value, leaving, 1);
        front_put(&c->front[s], &front, c->kernels, token, run->key[s], run->value[s]);
    }
    c->base.n_tokens++;
    return 0;
}

size_t subgen_streams_view(struct cache *cache, uint64_t first_query, const float *q, struct view out[2])
{
    struct subgen_streams *c = (struct subgen_streams *)cache;
    struct front_plan front = subgen_front_plan(&c->plan);
    struct segment *seg = page_write(&c->segments, page_bytes(c->segments));
    assert(seg); /* it has one owner since the last append */
    for (size_t s = 0; s < c->n_streams; s++, seg += subgen_segments(&c->plan)) {
        size_t n = front_show(&c->front[s], &front, c->base.n_tokens, seg);
        n += sketch_show(&c->sketch[s], seg + n);
        assert(n <= subgen_segments(&c->plan));
        out[s] = (struct view){seg, n};
    }
    return c->n_streams;
}

void subgen_streams_measure(const struct cache *cache, double *values)
{
    const struct subgen_streams *c = (const struct subgen_streams *)cache;
    subgen_measure(c->sketch, c->n_streams, values);
}

bool subgen_streams_check_state(const struct cache *cache, const char **reason)
{
    const struct subgen_streams *c = (const struct subgen_streams *)cache;
    struct front_plan front = subgen_front_plan(&c->plan);
    size_t allocated = page_bytes(c->segments);
    for (size_t s = 0; s < c->n_streams; s++) {
        if (!sketch_check(&c->sketch[s], c->kernels, reason))
            return false;
        *reason = "the sketch has seen other rows than those that left the window";
        if (c->sketch[s].net.weight != (double)front_gone(&front, c->base.n_tokens))
            return false;
        allocated += sketch_allocated(&c->sketch[s]) + (c->front[s].page ? page_bytes(c->front[s].page) : 0);
    }
    *reason = "the account differs from the pages";
    return allocated == c->base.account.allocated;
}
