/* Streams: the cache of subgen and subgen4, one or two streams of rows with an exact front and a sketch each.
 *
 * The view of a stream is the front's rows, the samples and the values: a few segments in a page of their own, written when they are
 * asked for. The policies differ in what attends to the views: softmax to one, pairs of rows to two. */
#ifndef ATTND_CACHE_SUBGEN_STREAMS_H
#define ATTND_CACHE_SUBGEN_STREAMS_H

#include "cache/cache.h"
#include "cache/subgen/subgen_gauges.h"
#include "cache/subgen/subgen_plan.h"

struct subgen_streams {
    struct cache base;
    const struct kernels *kernels;
    struct subgen_plan plan;
    struct page *segments;
    struct rows front[2];
    struct sketch sketch[2];
    size_t n_streams;
};

_Static_assert(sizeof(struct subgen_streams) < CACHE_CONTROL_MAX, "control state is small");

/* Slots of cache_ops. */
int subgen_streams_check(const struct policy *policy, const struct cache_dims *dims, struct fault *fault);
int subgen_streams_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                          const struct kernels *kernels);
void subgen_streams_destroy(struct cache *cache);
size_t subgen_streams_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens);
size_t subgen_streams_run_max(const struct cache *cache);
int subgen_streams_append(struct cache *cache, const struct token_run *run);
size_t subgen_streams_view(struct cache *cache, uint64_t first_query, const float *q, struct view out[2]);
void subgen_streams_measure(const struct cache *cache, double *values);
bool subgen_streams_check_state(const struct cache *cache, const char **reason);

/* clang-format off */
#define SUBGEN_STREAMS_SLOTS                                                                                                   \
    .takes_budget = true, .takes_recent = true, .stores_again = true, .control_bytes = sizeof(struct subgen_streams),                                \
    .check = subgen_streams_check, .create = subgen_streams_create, .destroy = subgen_streams_destroy,                         \
    .worst_bytes = subgen_streams_worst_bytes, .run_max = subgen_streams_run_max, .append = subgen_streams_append,             \
    .view = subgen_streams_view, .gauges = subgen_gauges, .n_gauges = SUBGEN_GAUGES, .measure = subgen_streams_measure,        \
    .check_state = subgen_streams_check_state
/* clang-format on */

#endif
