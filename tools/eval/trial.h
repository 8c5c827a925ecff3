/* Trials: streams that run through an engine of this process, one part after the other, so that what a policy holds, takes and
 * answers can be measured. The engine is the daemon's own.
 *
 * Beside the profiles of its configuration a trial knows one for each policy, `policy:NAME`: that policy with its defaults (and its
 * companion where a stream has layers that it does not serve), whatever profile the configuration gives the same name.
 *
 *     struct trial *t;
 *     trial_create(&t, NULL, &fault);
 *     trial_open(t, &shape, "policy:window,budget_fraction=0.125,storage=bf16", &fault);
 *     trial_step(t, &step, &fault); ...
 *     trial_state(t, &state);
 *     trial_close(t);                          then the next stream, or trial_destroy(t)
 *
 * One stream at a time. Threads: one at a time. */
#ifndef ATTND_TOOLS_EVAL_TRIAL_H
#define ATTND_TOOLS_EVAL_TRIAL_H

#include "cache/policy.h"
#include "workers/engine.h"

struct trial;

/* What a policy's own profile is called. */
#define TRIAL_POLICY "policy:"

/* config: a YAML file, or NULL for the built-in default. Its errors go to stderr, one line each. */
int trial_create(struct trial **out, const char *config, struct fault *fault);
void trial_destroy(struct trial *trial); /* closes what is open; NULL is allowed */

int trial_open(struct trial *trial, const struct shape *shape, const char *profile, struct fault *fault);
void trial_close(struct trial *trial);

/* A run of tokens of one layer; letters as in workers/engine.h. Every tensor is f32. */
struct trial_step {
    uint32_t layer;
    size_t n_tokens;
    unsigned flags; /* PART_APPEND, PART_ATTEND */
    const float *q, *key[2], *value[2];
    float *out;
    double append_seconds, attend_seconds; /* answers: summed over heads */
};
int trial_step(struct trial *trial, struct trial_step *step, struct fault *fault);

void trial_state(const struct trial *trial, struct engine_stream_state *state);

/* A gauge of the open stream's policies, summed over heads, or averaged where the policy says so. False when none has it. */
bool trial_gauge(const struct trial *trial, const char *name, double *value);

/* The settings of one head of the open stream. */
int trial_policy(const struct trial *trial, uint32_t layer, size_t kv_head, struct policy *out, struct fault *fault);

/* What n tokens more in every layer may come to take. */
double trial_worst_growth(const struct trial *trial, uint64_t n_tokens);

#endif
