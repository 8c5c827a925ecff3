/* The engine in this process as a carrier: what the daemon runs, without sockets. Its streams' numbers count from 0. */
#include "base/clock.h"
#include "config/config.h"
#include "tools/feed/carrier.h"
#include "workers/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct local {
    struct carrier base;
    struct config *config;
    struct engine *engine;
    struct engine_stream **stream; /* (n_streams); NULL where closed */
    size_t n_streams;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t n_done; /* under lock: flights that ended */
    uint64_t n_seen;
};

static void part_done(void *context, struct part *part)
{
    struct local *l = context;
    struct flight *flight = part->owner;
    if (atomic_fetch_sub(&flight->left, 1) > 1)
        return;
    pthread_mutex_lock(&l->lock);
    l->n_done++;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static int make_stream(struct attnd_stream *stream, const struct shape *shape, uint64_t id, struct fault *fault)
{
    *stream =
        (struct attnd_stream){.id = id, .shape = malloc(sizeof *shape), .next = calloc(shape->n_layers, sizeof *stream->next)};
    if (!stream->shape || !stream->next) {
        attnd_forget(stream);
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a stream");
    }
    *stream->shape = *shape;
    return 0;
}

static int open_local(struct carrier *carrier, const char *name, const struct shape *shape, const char *profile, bool resume,
                      struct attnd_stream *stream, struct fault *fault)
{
    struct local *l = (struct local *)carrier;
    size_t id = 0;
    while (id < l->n_streams && l->stream[id])
        id++;
    if (id == l->n_streams) {
        size_t n = l->n_streams ? 2 * l->n_streams : 16;
        struct engine_stream **grown = realloc(l->stream, n * sizeof(struct engine_stream *));
        if (!grown)
            return fault_set(fault, ERR_NO_MEMORY, "no memory for stream %s", name);
        for (size_t i = l->n_streams; i < n; i++)
            grown[i] = NULL;
        l->stream = grown;
        l->n_streams = n;
    }
    int err = make_stream(stream, shape, id, fault);
    if (!err)
        err = engine_open(l->engine, shape, profile, &l->stream[id], fault);
    if (err)
        attnd_forget(stream);
    return err;
}

static int close_local(struct carrier *carrier, struct attnd_stream *stream, struct control_close *last, struct fault *fault)
{
    struct local *l = (struct local *)carrier;
    struct engine_stream_state state;
    engine_drain(l->engine);
    engine_stream_state(l->stream[stream->id], &state);
    *last = (struct control_close){.bytes = state.allocated,
                                   .bytes_full_bf16 = state.full_bf16,
                                   .tokens = state.tokens,
                                   .attention_seconds = (double)(state.append_ns + state.attend_ns) * 1e-9};
    engine_close(l->engine, &l->stream[stream->id]);
    attnd_forget(stream);
    return 0;
}

static int submit(struct local *l, struct flight *flight, size_t i)
{
    struct attnd_part *part = &flight->part[i];
    struct engine_stream *stream = l->stream[part->stream->id];
    int err = flight->task[i] ? 0 : part_create(&flight->task[i], l->engine, stream);
    if (err)
        return fault_set(&part->fault, err, "a part of %u tokens: %s", part->n_tokens, err_sentence(err));
    struct part *p = flight->task[i];
    p->stream = stream;
    p->layer = flight->layer;
    p->n_tokens = part->n_tokens;
    p->flags = PART_APPEND | (part->flags & WIRE_ATTEND ? PART_ATTEND : PART_OBSERVE);
    p->first_token = engine_next_token(stream, flight->layer);
    p->q = part->q;
    for (size_t k = 0; k < 2; k++) {
        p->key[k] = part->key[k];
        p->value[k] = part->value[k];
    }
    p->out = part->out;
    p->owner = flight;
    err = engine_check_part(p, &part->fault);
    if (!err)
        engine_submit(l->engine, p);
    return err;
}

static int send_local(struct carrier *carrier, struct flight *flight, struct fault *fault)
{
    struct local *l = (struct local *)carrier;
    atomic_store(&flight->left, flight->n + 1); /* one more, until all are handed over */
    for (size_t i = 0; i < flight->n; i++) {
        flight->part[i].fault = (struct fault){0};
        if (submit(l, flight, i))
            atomic_fetch_sub(&flight->left, 1);
        else
            flight->part[i].stream->next[flight->layer] += flight->part[i].n_tokens;
    }
    if (atomic_fetch_sub(&flight->left, 1) == 1) {
        pthread_mutex_lock(&l->lock);
        l->n_done++;
        pthread_mutex_unlock(&l->lock);
    }
    return 0;
}

static int receive_local(struct carrier *carrier, double seconds, struct fault *fault)
{
    struct local *l = (struct local *)carrier;
    uint64_t end = clock_ns() + (uint64_t)(seconds * 1e9);
    struct timespec until = {.tv_sec = (time_t)(end / 1000000000), .tv_nsec = (long)(end % 1000000000)};
    int err = 0;
    pthread_mutex_lock(&l->lock);
    while (l->n_done == l->n_seen && !err)
        err = pthread_cond_timedwait(&l->changed, &l->lock, &until);
    bool any = l->n_done != l->n_seen;
    l->n_seen = l->n_done;
    pthread_mutex_unlock(&l->lock);
    return any ? 0 : fault_set(fault, ERR_TIMEOUT, "no part was finished in time");
}

static bool answered_local(struct carrier *carrier, struct flight *flight)
{
    return atomic_load(&flight->left) == 0;
}

static int take_local(struct carrier *carrier, struct flight *flight, struct fault *fault)
{
    for (size_t i = 0; i < flight->n; i++) {
        int err = flight->part[i].fault.err ? 0 : atomic_load(&flight->task[i]->err);
        if (err)
            fault_set(&flight->part[i].fault, err, "layer %u: %s", flight->layer, err_sentence(err));
    }
    return 0;
}

static void destroy_local(struct carrier *carrier)
{
    struct local *l = (struct local *)carrier;
    for (size_t i = 0; i < l->n_streams; i++)
        if (l->stream[i]) {
            engine_drain(l->engine);
            engine_close(l->engine, &l->stream[i]);
        }
    engine_destroy(l->engine);
    config_destroy(l->config);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l->stream);
    free(l);
}

static const struct carrier_ops ops_local = {open_local, close_local, send_local, receive_local, answered_local,
                                             take_local, NULL,        NULL,       destroy_local};

static void print_config_error(void *context, const char *message)
{
    (void)context;
    fprintf(stderr, "%s\n", message);
}

int carrier_local_create(struct carrier **out, const char *config, const char *isa, struct fault *fault)
{
    struct local *l = calloc(1, sizeof *l);
    *out = NULL;
    if (!l)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for an engine");
    l->base.ops = &ops_local;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&l->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&l->lock, NULL);

    const struct kernels *kernels = NULL;
    int err = config_load(&l->config, config, policy_check_rule, print_config_error, NULL);
    if (err) {
        fault_set(fault, err, "configuration %.160s: %s", config ? config : "(built in)", err_sentence(err));
    } else {
        isa = isa ? isa : l->config->isa;
        kernels = strcmp(isa, "auto") == 0 ? kernels_best() : kernels_find(isa);
        if (!kernels)
            err = fault_set(fault, ERR_UNSUPPORTED, "this CPU does not run the kernels %s", isa);
    }
    if (!err)
        err = engine_create(&l->engine, l->config, kernels, part_done, l, fault);
    if (err) {
        destroy_local(&l->base);
        return err;
    }
    snprintf(l->base.isa, sizeof l->base.isa, "%s", kernels->isa);
    *out = &l->base;
    return 0;
}
