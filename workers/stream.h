/* The engine's side of a stream: its shape, its heads and their places, its resolved policies. Inside workers/ only. */
#ifndef ATTND_WORKERS_STREAM_H
#define ATTND_WORKERS_STREAM_H

#include "cache/policy.h"
#include "workers/head.h"

struct engine_profile { /* totals of all streams of one profile; never freed before the engine */
    char name[PROFILE_NAME_BYTES];
    struct engine_totals totals;
    struct engine_profile *next;
};

/* Heads of one layer that share a policy: what admission asks once instead of once per head. */
struct policy_group {
    const struct policy *policy;
    struct cache_dims dims;
    size_t n_heads;
};

struct stream_layer {
    struct head *head;          /* (Hkv) */
    struct policy_group *group; /* (n_groups) */
    size_t n_groups;
    size_t n_audited; /* heads with a full bf16 cache beside their own */
    bool needs_queries;
    float key_limit, value_limit;               /* the largest magnitude that every head's storage holds */
    uint64_t next_token;                        /* once everything submitted is done; the submitting thread's */
    float key_magnitude[2], value_magnitude[2]; /* largest so far, for the bounds on results; the submitting thread's */
};

struct engine_stream {
    struct engine *engine;
    struct shape shape;
    struct engine_profile *profile;
    struct policy *policy; /* distinct ones */
    size_t n_policies;
    struct stream_layer *layer; /* (n_layers) */
    struct head *head;          /* (n_layers * Hkv): layer l's are head + l * Hkv */
    uint64_t seed;
    char *rules;                         /* text */
    struct engine_stream *before, *next; /* in the engine's list */

    atomic_int err;
    atomic_size_t allocated, resident, control, audited;
    struct histogram error; /* relative, of audited heads */
    atomic_uint_fast64_t tokens, full_bf16, append_ns, attend_ns;
    atomic_uint in_flight;                          /* parts */
    atomic_uint_fast64_t longest;                   /* tokens that the longest layer holds */
    _Atomic(double) seconds_per_token[N_ATTENTION]; /* of one layer, all heads: a moving average */
};

/* ERR_NO_MEMORY before a head is made that would take the stream beyond `room` bytes. */
int stream_create(struct engine_stream **out, struct engine *engine, const struct shape *shape, const struct profile *profile,
                  const struct profile_choice *choice, size_t room, struct fault *fault);
void stream_destroy(struct engine_stream *stream);

/* Brings every total that covers the head (its stream, pool and profile) up to what its cache and its audit take now. */
void stream_account(struct head *head, size_t allocated, size_t resident, size_t audited);

#endif
