/* What is known of a stream now. */
#include "workers/stream.h"

void engine_stream_state(const struct engine_stream *stream, struct engine_stream_state *out)
{
    *out = (struct engine_stream_state){
        .allocated = atomic_load(&stream->allocated),
        .resident = atomic_load(&stream->resident),
        .control = atomic_load(&stream->control),
        .audited = atomic_load(&stream->audited),
        .full_bf16 = atomic_load(&stream->full_bf16),
        .tokens = atomic_load(&stream->tokens),
        .append_ns = atomic_load(&stream->append_ns),
        .attend_ns = atomic_load(&stream->attend_ns),
        .err = atomic_load(&stream->err),
    };
}

const struct shape *engine_stream_shape(const struct engine_stream *stream)
{
    return &stream->shape;
}

const char *engine_stream_profile(const struct engine_stream *stream)
{
    return stream->profile->name;
}

uint64_t engine_stream_tokens(const struct engine_stream *stream)
{
    return atomic_load(&stream->longest);
}

uint64_t engine_stream_seed(const struct engine_stream *stream)
{
    return stream->seed;
}

const char *engine_stream_rules(const struct engine_stream *stream)
{
    return stream->rules;
}

const struct histogram *engine_stream_error(const struct engine_stream *stream)
{
    return &stream->error;
}

static struct engine_policy_state *entry(struct engine_policy_state *states, size_t *n, size_t max, const struct cache_ops *ops)
{
    for (size_t i = 0; i < *n; i++)
        if (states[i].ops == ops)
            return &states[i];
    if (*n == max)
        return NULL;
    states[*n] = (struct engine_policy_state){.ops = ops};
    return &states[(*n)++];
}

size_t engine_stream_policies(const struct engine_stream *stream, struct engine_policy_state *states, size_t n, size_t max)
{
    for (size_t h = 0; h < stream->shape.n_layers * stream->shape.kv_heads; h++) {
        const struct head *head = &stream->head[h];
        const struct cache_ops *ops = head->cache->ops;
        struct engine_policy_state *state = head->gauge ? entry(states, &n, max, ops) : NULL;
        if (!state)
            continue;
        state->n_heads++;
        for (size_t i = 0; i < ops->n_gauges; i++)
            state->sum[i] += atomic_load_explicit(&head->gauge[i], memory_order_relaxed);
    }
    return n;
}
