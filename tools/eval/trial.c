#include "tools/eval/trial.h"

#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct trial {
    struct config *config;
    struct engine *engine;
    struct engine_stream *stream; /* NULL while none is open */
    struct part *part;            /* of the open stream */
    char *profile;                /* its text */
};

/* One part is under way at a time, and whoever sent it waits until the engine is idle. */
static void part_done(void *context, struct part *part)
{
    (void)context;
    (void)part;
}

static void print_config_error(void *context, const char *message)
{
    (void)context;
    fprintf(stderr, "%s\n", message);
}

/* One profile more for each policy. */
static int add_policies(struct config *config)
{
    size_t n = 0;
    while (cache_table[n])
        n++;
    struct profile *grown = realloc(config->profile, (config->n_profiles + n) * sizeof *grown);
    if (!grown)
        return ERR_NO_MEMORY;
    config->profile = grown;
    for (size_t i = 0; i < n; i++) {
        struct profile *own = &grown[config->n_profiles++];
        int err = profile_find(own, NULL, 0, cache_table[i]->name, NULL);
        if (err)
            return err;
        snprintf(own->name, sizeof own->name, TRIAL_POLICY "%.30s", cache_table[i]->name);
    }
    return 0;
}

int trial_create(struct trial **out, const char *config, struct fault *fault)
{
    struct trial *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t)
        return fault_set(fault, ERR_NO_MEMORY, "an engine");

    const struct kernels *kernels = NULL;
    int err = config_load(&t->config, config, policy_check_rule, print_config_error, NULL);
    if (!err)
        err = add_policies(t->config);
    if (err) {
        fault_set(fault, err, "configuration %.160s: %s", config ? config : "(built in)", err_sentence(err));
    } else {
        const char *isa = t->config->isa;
        kernels = strcmp(isa, "auto") == 0 ? kernels_best() : kernels_find(isa);
        if (!kernels)
            err = fault_set(fault, ERR_UNSUPPORTED, "isa: this CPU does not run %s", isa);
    }
    if (!err)
        err = engine_create(&t->engine, t->config, kernels, part_done, t, fault);
    if (err) {
        trial_destroy(t);
        return err;
    }
    *out = t;
    return 0;
}

void trial_destroy(struct trial *t)
{
    if (!t)
        return;
    trial_close(t);
    engine_destroy(t->engine);
    config_destroy(t->config);
    free(t);
}

int trial_open(struct trial *t, const struct shape *shape, const char *profile, struct fault *fault)
{
    trial_close(t);
    int err = engine_open(t->engine, shape, profile, &t->stream, fault);
    if (err)
        return err;
    t->profile = strdup(profile);
    if (!t->profile || part_create(&t->part, t->engine, t->stream)) {
        trial_close(t);
        return fault_set(fault, ERR_NO_MEMORY, "a stream");
    }
    return 0;
}

void trial_close(struct trial *t)
{
    if (!t->engine)
        return;
    engine_drain(t->engine);
    part_destroy(t->part);
    t->part = NULL;
    free(t->profile);
    t->profile = NULL;
    engine_close(t->engine, &t->stream);
}

int trial_step(struct trial *t, struct trial_step *step, struct fault *fault)
{
    struct part *part = t->part;
    part->stream = t->stream;
    part->layer = step->layer;
    part->n_tokens = (uint32_t)step->n_tokens;
    part->flags = step->flags;
    part->first_token = engine_next_token(t->stream, step->layer);
    part->q = step->q;
    for (int i = 0; i < 2; i++) {
        part->key[i] = step->key[i];
        part->value[i] = step->value[i];
    }
    part->out = step->out;
    int err = engine_check_part(part, fault);
    if (err)
        return err;
    engine_submit(t->engine, part);
    engine_drain(t->engine);
    step->append_seconds = (double)atomic_load(&part->append_ns) * 1e-9;
    step->attend_seconds = (double)atomic_load(&part->attend_ns) * 1e-9;
    err = atomic_load(&part->err);
    return err ? fault_set(fault, err, "layer %u, token %llu: %s", step->layer, (unsigned long long)part->first_token,
                           err_sentence(err))
               : 0;
}

void trial_state(const struct trial *t, struct engine_stream_state *state)
{
    engine_drain(t->engine);
    engine_stream_state(t->stream, state);
}

bool trial_gauge(const struct trial *t, const char *name, double *value)
{
    struct engine_policy_state states[N_ATTENTION];
    bool found = false, averaged = false;
    size_t n_heads = 0, n = engine_stream_policies(t->stream, states, 0, N_ATTENTION);
    *value = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < states[i].ops->n_gauges; g++) {
            if (strcmp(states[i].ops->gauges[g].name, name) != 0)
                continue;
            found = true;
            averaged = states[i].ops->gauges[g].averaged;
            n_heads += states[i].n_heads;
            *value += states[i].sum[g];
        }
    if (averaged && n_heads)
        *value /= (double)n_heads;
    return found;
}

int trial_policy(const struct trial *t, uint32_t layer, size_t kv_head, struct policy *out, struct fault *fault)
{
    const struct shape *s = engine_stream_shape(t->stream);
    struct cache_dims dims = {.kind = (enum attention_kind)s->kind[layer],
                              .d = s->key_dim,
                              .e = s->value_dim,
                              .group = s->heads / s->kv_heads,
                              .scale = s->scale,
                              .expected_tokens = s->expected_tokens};
    struct profile_choice choice;
    struct profile *profile = calloc(1, sizeof *profile); /* tens of kilobytes: not for the stack */
    if (!profile)
        return fault_set(fault, ERR_NO_MEMORY, "a profile");
    int err = profile_choice_parse(&choice, t->profile, fault);
    if (!err)
        err = profile_find(profile, t->config->profile, t->config->n_profiles, choice.name, fault);
    if (!err)
        err = policy_resolve(out, profile, &choice, &dims, layer, kv_head, fault);
    free(profile);
    return err;
}

double trial_worst_growth(const struct trial *t, uint64_t n_tokens)
{
    double bytes = 0;
    for (uint32_t l = 0; l < engine_stream_shape(t->stream)->n_layers; l++)
        bytes += (double)engine_worst_growth(t->stream, l, n_tokens);
    return bytes;
}
