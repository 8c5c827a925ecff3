#include "workers/tradeoff.h"

#include "workers/stream.h"

#include <stdlib.h>
#include <string.h>

/* Operations in the time of reading a byte: 200 GFLOP/s beside 40 GB/s, as CPUs of these years have it. */
static const double BALANCE = 5;

static double cost(const struct policy *policy, const struct cache_dims *dims, double bytes)
{
    double row = (double)(policy->key_storage->key_bytes(dims->d) + policy->value_storage->value_bytes(dims->e));
    double rows = bytes / row, width = (double)(dims->d + dims->e), g = (double)dims->group;
    bool one_view = dims->kind == ATTENTION_SOFTMAX || policy->ops->product_rows;
    double operations = 2 * g * width * (one_view ? rows : rows / 2 * (rows / 2));
    return operations > BALANCE * bytes ? operations : BALANCE * bytes;
}

/* The policy of this name with the storage and the budget of the one in use. */
static bool like(struct policy *out, const struct policy *in_use, const struct cache_ops *ops, const struct cache_dims *dims)
{
    struct profile_choice choice;
    struct profile *profile = calloc(1, sizeof *profile);
    bool ok = profile && profile_choice_parse(&choice, ops->name, NULL) == 0 &&
              profile_find(profile, NULL, 0, ops->name, NULL) == 0 &&
              policy_resolve(out, profile, &choice, dims, 0, 0, NULL) == 0;
    free(profile);
    if (!ok || out->ops != ops)
        return false;
    out->key_storage = in_use->key_storage;
    out->value_storage = in_use->value_storage;
    if (ops->takes_budget) {
        out->budget_bytes = in_use->budget_bytes;
        out->budget_fraction = in_use->budget_fraction;
    }
    return !ops->check || ops->check(out, dims, NULL) == 0;
}

bool tradeoff_of(const struct engine_stream *stream, enum attention_kind kind, struct tradeoff *out)
{
    const struct shape *s = &stream->shape;
    size_t layer = 0;
    while (layer < s->n_layers && s->kind[layer] != kind)
        layer++;
    *out = (struct tradeoff){.kind = kind};
    if (layer == s->n_layers)
        return false;
    const struct stream_layer *l = &stream->layer[layer];
    const struct policy *in_use = l->group->policy;
    const struct cache_dims *dims = &l->group->dims;
    out->tokens = atomic_load(&stream->longest);
    if (!out->tokens)
        return false;
    double now = (double)in_use->ops->worst_bytes(in_use, dims, out->tokens);
    double seconds = atomic_load(&stream->seconds_per_token[kind]), cost_now = cost(in_use, dims, now);
    for (size_t i = 0; cache_table[i] && out->n_forms < TRADEOFF_FORMS_MAX; i++) {
        const struct cache_ops *ops = cache_table[i];
        struct policy policy;
        if (!(ops->kinds & 1u << kind))
            continue;
        if (ops == in_use->ops)
            policy = *in_use;
        else if (!like(&policy, in_use, ops, dims))
            continue;
        double bytes = (double)ops->worst_bytes(&policy, dims, out->tokens);
        out->form[out->n_forms++] = (struct tradeoff_form){
            .policy = ops->name,
            .in_use = ops == in_use->ops,
            .bytes = bytes,
            .seconds_per_token = seconds * cost(&policy, dims, bytes) / cost_now,
        };
    }
    return true;
}
