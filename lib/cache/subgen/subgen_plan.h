/* What the settings of SubGen's policies come to: the keys of subgen, subgen4 and subgen2, and how a budget is shared out.
 *
 * Budget of a stream: the view's segments, then sinks and recent window (a quarter of the bytes where recent_tokens isn't given),
 * then the sketch. Of the sketch `paper` gives half to value samples where value_samples isn't given; the rest holds as many
 * clusters as fit with `samples` rows each (centre, count, rows, what moving them takes), max_clusters of them at most. Bytes that
 * no further cluster fits in go to the window, where its size isn't given.
 * Without a budget a given delta is plain SubGen, with as many clusters as come; an automatic one is bounded all the same, since
 * keys that don't cluster would be kept several times over: to 1024 samples, as other policies hold 1024 rows. */
#ifndef ATTND_CACHE_SUBGEN_PLAN_H
#define ATTND_CACHE_SUBGEN_PLAN_H

#include "cache/policy.h"
#include "cache/subgen/subgen_front.h"
#include "cache/subgen/subgen_sketch.h"

enum subgen_estimator { SUBGEN_PAPER, SUBGEN_RATIO };

/* Every policy takes a part of these. */
struct subgen_params {
    char delta[KEY_TEXT_BYTES], factor_delta[KEY_TEXT_BYTES];
    uint64_t samples, value_samples, max_clusters;
    int estimator;
    bool history;
};

_Static_assert(sizeof(struct subgen_params) <= POLICY_PARAMS_BYTES, "the parameters fit");

extern const char *const subgen_estimators[];

/* clang-format off */
#define SUBGEN_KEYS(delta_help)                                                                                                \
    {.name = "delta", .type = KEY_TEXT, .offset = offsetof(struct subgen_params, delta), .unit = "", .initial = "auto",        \
     .help = delta_help},                                                                                                      \
    {.name = "samples", .type = KEY_COUNT, .offset = offsetof(struct subgen_params, samples), .min = 1, .max = 1 << 16,        \
     .unit = "rows", .initial = "4",                                                                                           \
     .help = "sampled from each cluster; under a budget at least: rows that are left over become further samples"},            \
    {.name = "value_samples", .type = KEY_COUNT, .offset = offsetof(struct subgen_params, value_samples), .min = 0,            \
     .max = 1 << 24, .unit = "rows", .initial = "0",                                                                           \
     .help = "of the paper's estimator, sampled by the size of their values; 0: half of the budget, 128 without one"},         \
    {.name = "estimator", .type = KEY_CHOICE, .offset = offsetof(struct subgen_params, estimator), .unit = "",                 \
     .initial = "ratio", .choices = subgen_estimators,                                                                         \
     .help = "paper: numerator and denominator from samples of their own; ratio: both from the clusters' samples"},            \
    {.name = "max_clusters", .type = KEY_COUNT, .offset = offsetof(struct subgen_params, max_clusters), .min = 0,              \
     .max = 1 << 24, .unit = "clusters", .initial = "0",                                                                       \
     .help = "in each sketch; with more, delta grows and clusters merge. 0: as many as the budget holds; without one any for a " \
             "given delta, 1024 samples' worth for an automatic one"}
/* clang-format on */

/* One text of delta: "auto" (0), or one or two positive numbers as 0.5 or 0.5x0.7. ERR_INVALID. */
int subgen_parse_delta(const char *text, size_t n, double delta[2], struct fault *fault);

/* Streams of rows with a front and a sketch each, alike but for delta. */
struct subgen_plan {
    struct sketch_plan sketch;
    uint32_t sinks, recent;
};

struct front_plan subgen_front_plan(const struct subgen_plan *plan);

/* The sketch without its bounds: net.most 0, refills false, n_values as given or 0. */
struct sketch_plan subgen_sketch_plan(const struct policy *policy, const struct cache_dims *dims, bool automatic);

/* Bounds the sketch by max_clusters and by these bytes (0: no budget), and settles n_values. False: it doesn't fit. */
bool subgen_bound_sketch(struct sketch_plan *plan, const struct policy *policy, size_t budget);

/* A budget that fits holds for, about the smallest. For words about one that doesn't. */
uint64_t subgen_least_budget(const struct policy *policy, const struct cache_dims *dims,
                             bool (*fits)(const struct policy *policy, const struct cache_dims *dims));

/* delta (n_streams,) may be NULL. ERR_INVALID with the reason. */
int subgen_plan_make(struct subgen_plan *plan, double *delta, const struct policy *policy, const struct cache_dims *dims,
                     struct fault *fault);

/* Segments of one stream's view. */
size_t subgen_segments(const struct subgen_plan *plan);

/* What one stream counts once n_tokens have come, at most. */
size_t subgen_stream_bytes(const struct subgen_plan *plan, uint64_t n_tokens);

#endif
