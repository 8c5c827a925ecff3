#include "workers/stream.h"

#include "base/coins.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds now - before, which may be less than nothing. */
static void move_total(atomic_size_t *totals[3], size_t now, size_t *before)
{
    if (now != *before)
        for (size_t i = 0; i < 3; i++)
            atomic_fetch_add(totals[i], now - *before);
    *before = now;
}

void stream_account(struct head *head, size_t allocated, size_t resident, size_t audited)
{
    struct engine_stream *stream = head->stream;
    struct engine_totals *pool = pool_totals(head->pool), *profile = &stream->profile->totals;
    move_total((atomic_size_t *[]){&stream->allocated, &pool->allocated, &profile->allocated}, allocated, &head->allocated);
    move_total((atomic_size_t *[]){&stream->resident, &pool->resident, &profile->resident}, resident, &head->resident);
    move_total((atomic_size_t *[]){&stream->audited, &pool->audited, &profile->audited}, audited, &head->audited);
}

static struct cache_dims dims_of(const struct engine_stream *stream, uint64_t seed, size_t layer, size_t kv_head)
{
    const struct shape *s = &stream->shape;
    return (struct cache_dims){
        .kind = (enum attention_kind)s->kind[layer],
        .d = s->key_dim,
        .e = s->value_dim,
        .group = s->heads / s->kv_heads,
        .scale = s->scale,
        .seed = head_seed(seed, layer, kv_head),
        .expected_tokens = s->expected_tokens,
    };
}

/* The policy of one head, kept once however many heads have it. */
static int resolve(struct engine_stream *stream, const struct profile *profile, const struct profile_choice *choice,
                   size_t layer, size_t kv_head, size_t *index, struct fault *fault)
{
    struct policy policy;
    struct cache_dims dims = dims_of(stream, 0, layer, kv_head);
    int err = policy_resolve(&policy, profile, choice, &dims, layer, kv_head, fault);
    if (err)
        return err;
    for (*index = stream->n_policies; *index > 0; --*index)
        if (policy_same(&stream->policy[*index - 1], &policy)) {
            --*index;
            return 0;
        }
    struct policy *more = realloc(stream->policy, (stream->n_policies + 1) * sizeof *more);
    if (!more)
        return fault_set(fault, ERR_NO_MEMORY, "the stream's policies");
    stream->policy = more;
    *index = stream->n_policies++;
    stream->policy[*index] = policy;
    return 0;
}

static float smaller(float a, float b)
{
    return a < b ? a : b;
}

/* Fills a layer's groups, heads and limits. index: the policies of its heads. *room: bytes that they may take, less what they do. */
static int build_layer(struct engine_stream *stream, size_t layer, const size_t *index, size_t *room, struct fault *fault)
{
    size_t n = stream->shape.kv_heads;
    struct stream_layer *l = &stream->layer[layer];
    l->head = stream->head + layer * n;
    l->group = calloc(n, sizeof *l->group);
    if (!l->group)
        return fault_set(fault, ERR_NO_MEMORY, "layer %zu of %zu heads", layer, n);
    l->key_limit = l->value_limit = FLT_MAX;
    for (size_t h = 0; h < n; h++) {
        const struct policy *policy = &stream->policy[index[h]];
        struct cache_dims dims = dims_of(stream, policy->seed, layer, h);
        struct head *head = &l->head[h];
        size_t g = 0;
        while (g < l->n_groups && l->group[g].policy != policy)
            g++;
        if (g == l->n_groups)
            l->group[l->n_groups++] = (struct policy_group){.policy = policy, .dims = dims};
        l->group[g].n_heads++;
        l->needs_queries |= policy->ops->needs_queries;
        float computed = policy->compute == COMPUTE_BF16 ? storage_table[STORAGE_BF16].max_magnitude : FLT_MAX;
        l->key_limit = smaller(smaller(l->key_limit, computed), policy->key_storage->max_magnitude);
        l->value_limit = smaller(smaller(l->value_limit, computed), policy->value_storage->max_magnitude);
        *head = (struct head){.stream = stream, .compute = policy->compute, .layer = (uint32_t)layer, .kv_head = (uint32_t)h};
        size_t needed = sizeof *head + policy->ops->worst_bytes(policy, &dims, 0);
        if (needed > *room)
            return fault_set(fault, ERR_NO_MEMORY, "layer %zu head %zu: %zu bytes, %zu are left", layer, h, needed, *room);
        int err = policy->ops->create(&head->cache, &dims, policy, engine_kernels(stream->engine));
        if (err)
            return fault_set(fault, err, "layer %zu head %zu: its %s cache", layer, h, policy->ops->name);
        head->cache->account.slabs = engine_slabs(stream->engine); /* for what it holds once it grows */
        if (audit_picks(policy->audit, layer * n + h)) {
            err = audit_create(&head->audit, &dims, engine_kernels(stream->engine));
            if (!err)
                head->audit.full->account.slabs = engine_slabs(stream->engine);
            l->n_audited++;
        }
        if (!err && policy->ops->n_gauges && !(head->gauge = calloc(policy->ops->n_gauges, sizeof *head->gauge)))
            err = ERR_NO_MEMORY;
        if (err)
            return fault_set(fault, err, "layer %zu head %zu: its audit and gauges", layer, h);
        size_t control = sizeof *head + cache_control_bytes(head->cache);
        size_t taken = control + atomic_load(&head->cache->account.allocated);
        atomic_fetch_add(&stream->control, control);
        *room -= taken < *room ? taken : *room;
    }
    return 0;
}

/* Lines such as "layers 0-3: window(...)"; layers with the same policies for their heads share lines. */
static int describe(struct engine_stream *stream, const size_t *index, struct fault *fault)
{
    size_t n = stream->shape.kv_heads, size = 0, at = 0;
    FILE *out = open_memstream(&stream->rules, &size);
    if (!out)
        return fault_set(fault, ERR_NO_MEMORY, "the description of the rules");
    while (at < stream->shape.n_layers) {
        size_t end = at + 1;
        while (end < stream->shape.n_layers && memcmp(index + at * n, index + end * n, n * sizeof *index) == 0)
            end++;
        for (size_t h = 0, last; h < n; h = last + 1) {
            char text[512];
            for (last = h; last + 1 < n && index[at * n + last + 1] == index[at * n + h];)
                last++;
            policy_describe(&stream->policy[index[at * n + h]], text, sizeof text);
            fprintf(out, "layers %zu-%zu, kv heads %zu-%zu: %s\n", at, end - 1, h, last, text);
        }
        at = end;
    }
    return fclose(out) == 0 ? 0 : fault_set(fault, ERR_NO_MEMORY, "the description of the rules");
}

int stream_create(struct engine_stream **out, struct engine *engine, const struct shape *shape, const struct profile *profile,
                  const struct profile_choice *choice, size_t room, struct fault *fault)
{
    size_t n = shape->n_layers * shape->kv_heads;
    struct engine_stream *stream = calloc(1, sizeof *stream);
    size_t *index = calloc(n, sizeof *index);
    int err = 0;
    *out = NULL;
    if (!stream || !index)
        goto no_memory;
    stream->engine = engine;
    stream->shape = *shape;
    stream->layer = calloc(shape->n_layers, sizeof *stream->layer);
    stream->head = calloc(n, sizeof *stream->head);
    if (!stream->layer || !stream->head)
        goto no_memory;
    for (size_t i = 0; i < n && !err; i++)
        err = resolve(stream, profile, choice, i / shape->kv_heads, i % shape->kv_heads, &index[i], fault);
    if (!err)
        stream->seed = stream->policy[0].seed;
    for (size_t l = 0; l < shape->n_layers && !err; l++)
        err = build_layer(stream, l, index + l * shape->kv_heads, &room, fault);
    if (!err)
        err = describe(stream, index, fault);
    free(index);
    if (err) {
        stream_destroy(stream);
        return err;
    }
    *out = stream;
    return 0;
no_memory:
    free(index);
    stream_destroy(stream);
    return fault_set(fault, ERR_NO_MEMORY, "a stream of %zu heads", n);
}

void stream_destroy(struct engine_stream *stream)
{
    if (!stream)
        return;
    for (size_t i = 0; stream->head && i < stream->shape.n_layers * stream->shape.kv_heads; i++)
        head_retire(&stream->head[i]);
    for (size_t l = 0; stream->layer && l < stream->shape.n_layers; l++)
        free(stream->layer[l].group);
    free(stream->layer);
    free(stream->head);
    free(stream->policy);
    free(stream->rules);
    free(stream);
}
