#include "cache/subgen/subgen_plan.h"

#include "attention/view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    RECENT_DEFAULT = 256, /* tokens, where nothing bounds the rows */
    VALUES_DEFAULT = 128,
    ROWS_DEFAULT = 1024, /* samples, where delta is to be found and nothing else bounds the clusters */
    EXACT_MAX = 1 << 24, /* tokens */
};

const char *const subgen_estimators[] = {[SUBGEN_PAPER] = "paper", [SUBGEN_RATIO] = "ratio", NULL};

static size_t panels_up(size_t rows)
{
    return (rows + PANEL - 1) / PANEL * PANEL;
}

/* ---- delta */

/* A positive number that ends at `end`; 0 when there is none. */
static double positive(const char *text, const char *end)
{
    char buffer[KEY_TEXT_BYTES], *stop;
    size_t n = (size_t)(end - text);
    if (n == 0 || n >= sizeof buffer)
        return 0;
    memcpy(buffer, text, n);
    buffer[n] = '\0';
    if (strspn(buffer, "0123456789+-.eE") != n) /* strtod also reads "nan", "inf" and hexadecimal */
        return 0;
    double x = strtod(buffer, &stop);
    return *stop == '\0' && isfinite(x) && x > 0 ? x : 0;
}

int subgen_parse_delta(const char *text, size_t n, double delta[2], struct fault *fault)
{
    const char *end = text + strlen(text), *cross = n > 1 ? strchr(text, 'x') : NULL;
    delta[0] = delta[1] = 0;
    if (strcmp(text, "auto") == 0)
        return 0;
    delta[0] = positive(text, cross ? cross : end);
    delta[1] = cross ? positive(cross + 1, end) : delta[0];
    if (delta[0] > 0 && delta[1] > 0)
        return 0;
    return fault_set(fault, ERR_INVALID, "must be auto%s, not '%s'",
                     n > 1 ? ", a number above 0, or two as 0.5x0.7" : " or a number above 0", text);
}

/* ---- the sketch */

struct sketch_plan subgen_sketch_plan(const struct policy *policy, const struct cache_dims *dims, bool automatic)
{
    const struct subgen_params *params = (const void *)policy->params;
    return (struct sketch_plan){
        .net = {.storage = policy->key_storage, .d = dims->d, .automatic = automatic},
        .value_storage = policy->value_storage,
        .seed = dims->seed,
        .e = (uint32_t)dims->e,
        .n_samples = (uint32_t)params->samples,
        .n_values = params->estimator == SUBGEN_RATIO ? 0
                    : params->value_samples           ? (uint32_t)params->value_samples
                                                      : VALUES_DEFAULT,
    };
}

bool subgen_bound_sketch(struct sketch_plan *plan, const struct policy *policy, size_t budget)
{
    const struct subgen_params *params = (const void *)policy->params;
    plan->net.most = (size_t)params->max_clusters;
    if (budget == 0) {
        plan->net.early = plan->refills = plan->net.automatic;
        if (plan->net.automatic && plan->net.most == 0)
            plan->net.most = plan->n_samples < ROWS_DEFAULT ? ROWS_DEFAULT / plan->n_samples : 1;
        return true;
    }
    if (plan->n_values > 0 && params->value_samples == 0) {
        struct row_format values = sketch_values_format(plan);
        size_t fitting = rows_fitting(&values, budget / 2);
        plan->n_values = fitting > 0 ? (uint32_t)fitting : 1;
    }
    plan->refills = true;
    size_t fitting = sketch_fitting(plan, budget);
    if (plan->net.most == 0 || fitting < plan->net.most)
        plan->net.most = fitting;
    return fitting > 0;
}

/* ---- streams */

struct front_plan subgen_front_plan(const struct subgen_plan *plan)
{
    const struct sketch_plan *s = &plan->sketch;
    return (struct front_plan){
        .format = {s->net.storage, s->value_storage, s->net.d, s->e, ROWS_PLAIN, 0},
        .sinks = plan->sinks,
        .recent = plan->recent,
    };
}

size_t subgen_segments(const struct subgen_plan *plan)
{
    return (plan->sinks > 0) + 2 * (plan->recent > 0) + 1 + sketch_is_paper(&plan->sketch);
}

/* A block of so many rows' worth of recent tokens, beside the sinks. */
static uint32_t recent_within(const struct subgen_plan *plan, size_t rows)
{
    return rows > plan->sinks ? (uint32_t)(rows - plan->sinks) : 0;
}

/* A quarter of the stream's bytes, in whole panels, or what the sinks' last panel has room for. */
static uint32_t recent_by_default(const struct subgen_plan *plan, size_t stream_budget)
{
    struct front_plan front = subgen_front_plan(plan);
    size_t rows = rows_fitting(&front.format, stream_budget / 4), sinks = panels_up(plan->sinks);
    return recent_within(plan, rows > sinks ? rows : sinks);
}

/* Bytes that no further cluster fits in hold recent tokens. */
static void widen_window(struct subgen_plan *plan, size_t stream_budget)
{
    struct front_plan front = subgen_front_plan(plan);
    size_t sketch = sketch_bytes(&plan->sketch, UINT64_MAX), rows = rows_fitting(&front.format, stream_budget - sketch);
    uint32_t recent = recent_within(plan, rows);
    plan->recent = recent > plan->recent ? recent : plan->recent;
}

uint64_t subgen_least_budget(const struct policy *policy, const struct cache_dims *dims,
                             bool (*fits)(const struct policy *policy, const struct cache_dims *dims))
{
    struct policy p = *policy;
    uint64_t less = 0;
    p.budget_fraction = 0;
    p.budget_bytes = PAGE_ALIGNMENT;
    while (!fits(&p, dims) && p.budget_bytes < UINT64_C(1) << 48) {
        less = p.budget_bytes;
        p.budget_bytes *= 2;
    }
    uint64_t enough = p.budget_bytes;
    while (enough - less > PAGE_ALIGNMENT) {
        p.budget_bytes = less + (enough - less) / 2;
        *(fits(&p, dims) ? &enough : &less) = p.budget_bytes;
    }
    return enough;
}

/* All but delta. False: the budget holds no cluster. */
static bool share_out(struct subgen_plan *plan, const struct policy *policy, const struct cache_dims *dims, bool automatic)
{
    size_t n_streams = attention_streams(dims->kind);
    uint64_t budget = policy_budget(policy, dims);
    *plan = (struct subgen_plan){.sketch = subgen_sketch_plan(policy, dims, automatic), .sinks = (uint32_t)policy->sink_tokens};
    plan->recent = 1; /* a window has segments */
    size_t segments = page_rounded(n_streams * subgen_segments(plan) * sizeof(struct segment));
    size_t each = budget > segments ? (size_t)(budget - segments) / n_streams : 0;
    bool by_default = policy->recent_tokens == UINT64_MAX;
    plan->recent = !by_default ? (uint32_t)policy->recent_tokens : budget > 0 ? recent_by_default(plan, each) : RECENT_DEFAULT;
    struct front_plan front = subgen_front_plan(plan);
    size_t exact = front_bytes(&front, UINT64_MAX), rest = each > exact ? each - exact : 1; /* 0 would be no budget */
    if (!subgen_bound_sketch(&plan->sketch, policy, budget > 0 ? rest : 0))
        return false;
    if (budget > 0 && by_default)
        widen_window(plan, each);
    return true;
}

static bool fits(const struct policy *policy, const struct cache_dims *dims)
{
    struct subgen_plan plan;
    return share_out(&plan, policy, dims, true);
}

int subgen_plan_make(struct subgen_plan *plan, double *delta, const struct policy *policy, const struct cache_dims *dims,
                     struct fault *fault)
{
    const struct subgen_params *params = (const void *)policy->params;
    size_t n_streams = attention_streams(dims->kind);
    uint64_t recent = policy->recent_tokens == UINT64_MAX ? 0 : policy->recent_tokens;
    double deltas[2];
    struct fault why = {0};
    if (subgen_parse_delta(params->delta, n_streams, deltas, &why))
        return fault_set(fault, ERR_INVALID, "delta: %s", why.text);
    if (recent > EXACT_MAX || policy->sink_tokens > EXACT_MAX)
        return fault_set(fault, ERR_INVALID, "a window has at most %d sink tokens and as many recent ones", EXACT_MAX);
    if (!share_out(plan, policy, dims, deltas[0] == 0))
        return fault_set(fault, ERR_INVALID,
                         "a budget of %llu bytes holds no cluster of %u samples beside %u sink and %u recent tokens; a head of "
                         "this shape needs at least %llu bytes",
                         (unsigned long long)policy_budget(policy, dims), plan->sketch.n_samples, plan->sinks, plan->recent,
                         (unsigned long long)subgen_least_budget(policy, dims, fits));
    if (delta)
        memcpy(delta, deltas, n_streams * sizeof *delta);
    return 0;
}

size_t subgen_stream_bytes(const struct subgen_plan *plan, uint64_t n_tokens)
{
    struct front_plan front = subgen_front_plan(plan);
    return front_bytes(&front, n_tokens) + sketch_bytes(&plan->sketch, front_gone(&front, n_tokens));
}
