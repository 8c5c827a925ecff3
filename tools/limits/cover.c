#include "tools/limits/cover.h"

#include <stdio.h>
#include <stdlib.h>

static int open_stream(struct trial *trial, size_t n, size_t d, double delta, struct fault *fault)
{
    char profile[160];
    struct shape *shape = calloc(1, sizeof *shape);
    if (!cache_find("subgen")) {
        free(shape);
        return fault_set(fault, ERR_UNSUPPORTED, "this build has no policy subgen, whose clusters are counted here");
    }
    if (!shape)
        return fault_set(fault, ERR_NO_MEMORY, "a stream");
    *shape = (struct shape){
        .n_layers = 1, .heads = 1, .kv_heads = 1, .key_dim = d, .value_dim = 1, .scale = 1, .expected_tokens = n};
    snprintf(profile, sizeof profile, TRIAL_POLICY "subgen,delta=%.9g,sink_tokens=0,recent_tokens=0", delta);
    int err = trial_open(trial, shape, profile, fault);
    free(shape);
    return err;
}

int cover_count(struct trial *trial, const float *key, size_t n, size_t d, double delta, const size_t *at, size_t n_at,
                double *clusters, struct fault *fault)
{
    float *value = malloc(n * sizeof *value); /* of one number each: they do not matter */
    int err = value ? open_stream(trial, n, d, delta, fault) : fault_set(fault, ERR_NO_MEMORY, "values");
    for (size_t t = 0; t < n && !err; t++)
        value[t] = 1;
    for (size_t i = 0, t = 0; i < n_at && !err; t = at[i++]) {
        struct trial_step step = {.n_tokens = at[i] - t, .flags = PART_APPEND, .key = {key + t * d}, .value = {value + t}};
        if (step.n_tokens > 0)
            err = trial_step(trial, &step, fault);
        if (!err && !trial_gauge(trial, "clusters", &clusters[i]))
            err = fault_set(fault, ERR_UNSUPPORTED, "the policy subgen has no gauge 'clusters'");
    }
    trial_close(trial);
    free(value);
    return err;
}
