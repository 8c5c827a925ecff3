#include "tools/local.h"

#include "config/config.h"
#include "workers/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct local {
    struct attention_service base;
    struct config *config;
    struct engine *engine;
    struct engine_stream *stream; /* NULL while none is open */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done; /* under lock: the part that was submitted is finished */
};

static void part_done(void *context, struct part *part)
{
    struct local *l = context;
    (void)part;
    pthread_mutex_lock(&l->lock);
    l->done = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static void print_config_error(void *context, const char *message)
{
    (void)context;
    fprintf(stderr, "%s\n", message);
}

static int open_local(struct attention_service *service, const struct shape *shape, const char *profile, struct fault *fault)
{
    struct local *l = (struct local *)service;
    return engine_open(l->engine, shape, profile, &l->stream, fault);
}

static int step_local(struct attention_service *service, uint32_t layer, size_t n_tokens, const float *q,
                      const float *const key[2], const float *const value[2], float *out, struct fault *fault)
{
    struct local *l = (struct local *)service;
    struct part *part;
    int err = part_create(&part, l->engine, l->stream);
    if (err)
        return fault_set(fault, err, "layer %u: a part of %zu tokens: %s", layer, n_tokens, err_sentence(err));
    part->stream = l->stream;
    part->layer = layer;
    part->n_tokens = (uint32_t)n_tokens;
    part->flags = PART_APPEND | PART_ATTEND;
    part->first_token = engine_next_token(l->stream, layer);
    part->q = q;
    for (int i = 0; i < 2; i++) {
        part->key[i] = key[i];
        part->value[i] = value[i];
    }
    part->out = out;
    part->patient = true;
    err = engine_check_part(part, fault);
    if (!err) {
        l->done = false;
        engine_submit(l->engine, part);
        while (engine_help(l->engine))
            ;
        pthread_mutex_lock(&l->lock);
        while (!l->done)
            pthread_cond_wait(&l->changed, &l->lock);
        pthread_mutex_unlock(&l->lock);
        err = part->err;
        if (err)
            fault_set(fault, err, "layer %u, token %llu: %s", layer, (unsigned long long)part->first_token, err_sentence(err));
    }
    part_destroy(part);
    return err;
}

static int close_local(struct attention_service *service, struct service_totals *totals, struct fault *fault)
{
    struct local *l = (struct local *)service;
    struct engine_stream_state state;
    (void)fault;
    engine_drain(l->engine);
    engine_stream_state(l->stream, &state);
    *totals = (struct service_totals){.bytes = state.allocated,
                                      .bytes_full_bf16 = state.full_bf16,
                                      .head_seconds = (double)(state.append_ns + state.attend_ns) * 1e-9};
    engine_close(l->engine, &l->stream);
    return 0;
}

static void destroy_local(struct attention_service *service)
{
    struct local *l = (struct local *)service;
    engine_destroy(l->engine);
    config_destroy(l->config);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static const struct service_ops ops_local = {open_local, step_local, close_local, destroy_local};

static const struct kernels *choose_kernels(const struct config *config)
{
    return strcmp(config->isa, "auto") == 0 ? kernels_best() : kernels_find(config->isa);
}

int local_create(struct attention_service **out, const char *config, struct fault *fault)
{
    *out = NULL;
    struct local *l = calloc(1, sizeof *l);
    if (!l)
        return fault_set(fault, ERR_NO_MEMORY, "the local engine");
    l->base.ops = &ops_local;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);

    const struct kernels *kernels = NULL;
    int err = config_load(&l->config, config, policy_check_rule, print_config_error, NULL);
    if (err) {
        fault_set(fault, err, "configuration %.160s: %s", config ? config : "(built in)", err_sentence(err));
    } else {
        const struct config_limits *limits = &l->config->limits;
        service_set_limits(&l->base, limits->tokens_per_message, limits->message_bytes, limits->credit_bytes);
        kernels = choose_kernels(l->config);
        if (!kernels)
            err = fault_set(fault, ERR_UNSUPPORTED, "isa: this CPU does not run %s", l->config->isa);
    }
    if (!err)
        err = engine_create(&l->engine, l->config, kernels, part_done, l, fault);
    if (err) {
        destroy_local(&l->base);
        return err;
    }
    *out = &l->base;
    return 0;
}
