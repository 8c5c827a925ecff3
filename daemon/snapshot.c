#include "daemon/snapshot.h"

#include "daemon/measure.h"
#include "workers/tradeoff.h"

#include <stdio.h>
#include <string.h>

enum { STATES_MAX = 32 }; /* policies told apart in one place */

/* ------------------------------------------------------------------ values to JSON */

static json_t *histogram_json(const struct histogram *h)
{
    uint64_t n = histogram_count(h);
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "count", (json_int_t)n, "sum", histogram_sum(h), "mean",
                     n ? histogram_sum(h) / (double)n : 0.0, "p50", histogram_quantile(h, 0.5), "p99",
                     histogram_quantile(h, 0.99), "p999", histogram_quantile(h, 0.999));
}

static json_t *reasons_json(const struct metric_reasons *reasons)
{
    json_t *object = json_object();
    for (size_t i = 0; i < metric_n_reasons(); i++)
        if (metric_reason_count(reasons, i))
            json_object_set_new(object, metric_reason_name(i), json_integer((json_int_t)metric_reason_count(reasons, i)));
    return object;
}

static json_t *info_json(const char *const *info)
{
    json_t *object = json_object();
    for (; info[0]; info += 2)
        json_object_set_new(object, info[0], json_string(info[1]));
    return object;
}

static json_t *number_json(double x)
{
    return x == (double)(json_int_t)x ? json_integer((json_int_t)x) : json_real(x);
}

static json_t *value_json(const struct metric *metric, const struct metric_value *value)
{
    if (value->histogram)
        return histogram_json(value->histogram);
    if (value->count)
        return reasons_json(value->count);
    if (value->info)
        return info_json(value->info);
    return metric->type == METRIC_GAUGE || metric->type == METRIC_COUNTER ? number_json(value->number) : json_null();
}

/* One flat object, in the order of the table, after an optional name. */
static json_t *values_json(const char *name, const struct metric_values *values)
{
    json_t *object = json_object();
    if (name)
        json_object_set_new(object, "name", json_string(name));
    for (size_t i = 0; i < N_METRIC; i++)
        if (values->value[i].present)
            json_object_set_new(object, metric_table[i].name, value_json(&metric_table[i], &values->value[i]));
    return object;
}

/* [{policy, heads, gauges...}]: counts summed over the heads, averages over them. */
static json_t *policies_json(const struct engine_policy_state *states, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct cache_ops *ops = states[i].ops;
        json_t *object = json_pack("{s:s, s:I}", "policy", ops->name, "heads", (json_int_t)states[i].n_heads);
        for (size_t g = 0; g < ops->n_gauges; g++)
            json_object_set_new(
                object, ops->gauges[g].name,
                number_json(ops->gauges[g].averaged ? states[i].sum[g] / (double)states[i].n_heads : states[i].sum[g]));
        json_array_append_new(array, object);
    }
    return array;
}

/* Of all streams of one profile. */
static json_t *profile_policies(struct gateway *gateway, const char *profile)
{
    struct streams *streams = &gateway->streams;
    struct engine_policy_state states[STATES_MAX];
    size_t n = 0, seen = 0;
    pthread_mutex_lock(&streams->lock);
    for (size_t i = 0; i < streams->n_slots && seen < streams->n_open; i++) {
        const struct stream *stream = streams->slot[i];
        seen += stream != NULL;
        if (stream && strcmp(engine_stream_profile(stream->engine_stream), profile) == 0)
            n = engine_stream_policies(stream->engine_stream, states, n, STATES_MAX);
    }
    pthread_mutex_unlock(&streams->lock);
    return policies_json(states, n);
}

static void take_values(void *context, const char *name, const struct metric_values *values)
{
    json_t **object = context;
    *object = values_json(name, values);
}

static void take_member(void *context, const char *name, const struct metric_values *values)
{
    json_array_append_new(context, values_json(name, values));
}

json_t *snapshot_daemon(struct gateway *gateway)
{
    json_t *object = NULL;
    measure_daemon(gateway, take_values, &object);
    return object;
}

json_t *snapshot_pools(struct gateway *gateway)
{
    json_t *array = json_array();
    measure_pools(gateway, take_member, array);
    return array;
}

json_t *snapshot_profiles(struct gateway *gateway)
{
    json_t *array = json_array();
    measure_profiles(gateway, take_member, array);
    for (size_t i = 0; i < json_array_size(array); i++) {
        json_t *object = json_array_get(array, i);
        const char *name = json_string_value(json_object_get(object, "name"));
        json_object_set_new(object, "policies", profile_policies(gateway, name));
    }
    return array;
}

static json_t *stream_json(const struct stream *stream)
{
    struct engine_stream_state s;
    engine_stream_state(stream->engine_stream, &s);
    json_t *object = json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "name", stream->name, "stream",
                               (json_int_t)stream->id, "profile", engine_stream_profile(stream->engine_stream), "state",
                               err_name(s.err), "tokens_total", (json_int_t)s.tokens, "memory_allocated_bytes",
                               (json_int_t)s.allocated, "memory_resident_bytes", (json_int_t)s.resident, "memory_control_bytes",
                               (json_int_t)s.control, "memory_full_bf16_bytes", (json_int_t)s.full_bf16, "append_seconds_total",
                               (double)s.append_ns * 1e-9, "attend_seconds_total", (double)s.attend_ns * 1e-9);
    if (s.full_bf16) {
        json_object_set_new(object, "memory_kept_fraction", json_real((double)s.allocated / (double)s.full_bf16));
        json_object_set_new(object, "memory_bits_per_coordinate", json_real((double)s.allocated * 16 / (double)s.full_bf16));
    }
    if (histogram_count(engine_stream_error(stream->engine_stream))) {
        json_object_set_new(object, "audited_relative_error", histogram_json(engine_stream_error(stream->engine_stream)));
        json_object_set_new(object, "memory_audited_bytes", json_integer((json_int_t)s.audited));
    }
    struct engine_policy_state states[STATES_MAX];
    json_object_set_new(object, "policies",
                        policies_json(states, engine_stream_policies(stream->engine_stream, states, 0, STATES_MAX)));
    json_object_set_new(object, "rules", json_string(engine_stream_rules(stream->engine_stream)));
    return object;
}

/* What each layer of a stream holds. On the gateway's thread, to which the counts belong. */
static json_t *layers_json(const struct engine_stream *stream)
{
    const struct shape *shape = engine_stream_shape(stream);
    json_t *array = json_array();
    for (uint32_t l = 0; l < shape->n_layers; l++) {
        char name[16];
        enum attention_kind kind = (enum attention_kind)shape->kind[l];
        uint64_t tokens = engine_next_token(stream, l);
        size_t allocated = engine_layer_bytes(stream, l);
        size_t full = shape->kv_heads * shape_full_bf16_bytes(shape, kind, tokens);
        snprintf(name, sizeof name, "%u", l);
        json_t *object = json_pack("{s:s, s:s, s:I, s:I, s:I}", "name", name, "attention", attention_name(kind), "tokens_total",
                                   (json_int_t)tokens, "memory_allocated_bytes", (json_int_t)allocated,
                                   "memory_full_bf16_bytes", (json_int_t)full);
        if (full)
            json_object_set_new(object, "memory_kept_fraction", json_real((double)allocated / (double)full));
        json_array_append_new(array, object);
    }
    return array;
}

json_t *snapshot_stream(struct gateway *gateway, uint64_t id)
{
    json_t *array = snapshot_streams(gateway, id);
    const struct stream *stream = streams_find(&gateway->streams, id);
    if (stream && json_array_size(array))
        json_object_set_new(json_array_get(array, 0), "layers", layers_json(stream->engine_stream));
    return array;
}

json_t *snapshot_streams(struct gateway *gateway, uint64_t id)
{
    struct streams *streams = &gateway->streams;
    json_t *array = json_array();
    size_t seen = 0;
    pthread_mutex_lock(&streams->lock);
    for (size_t i = 0; i < streams->n_slots && seen < streams->n_open && json_array_size(array) < SNAPSHOT_STREAMS_MAX; i++) {
        const struct stream *stream = streams->slot[i];
        seen += stream != NULL;
        if (stream && (id == 0 || stream->id == id))
            json_array_append_new(array, stream_json(stream));
    }
    pthread_mutex_unlock(&streams->lock);
    return array;
}

static json_t *tradeoff_json(const struct stream *stream, const struct tradeoff *t)
{
    json_t *forms = json_array();
    for (size_t i = 0; i < t->n_forms; i++) {
        const struct tradeoff_form *f = &t->form[i];
        json_array_append_new(forms, json_pack("{s:s, s:b, s:f, s:f}", "policy", f->policy, "in_use", f->in_use,
                                               "bytes_per_head", f->bytes, "seconds_per_token", f->seconds_per_token));
    }
    return json_pack("{s:s, s:s, s:s, s:I, s:o}", "profile", engine_stream_profile(stream->engine_stream), "stream",
                     stream->name, "attention", attention_name(t->kind), "tokens", (json_int_t)t->tokens, "forms", forms);
}

/* The profile's open stream that holds the most tokens in a layer of this kind. */
static const struct stream *longest(const struct streams *streams, const char *profile, enum attention_kind kind,
                                    struct tradeoff *out)
{
    const struct stream *best = NULL;
    size_t seen = 0;
    for (size_t i = 0; i < streams->n_slots && seen < streams->n_open; i++) {
        const struct stream *stream = streams->slot[i];
        struct tradeoff t;
        seen += stream != NULL;
        if (!stream || strcmp(engine_stream_profile(stream->engine_stream), profile) != 0 ||
            engine_stream_tokens(stream->engine_stream) <= (best ? out->tokens : 0) ||
            !tradeoff_of(stream->engine_stream, kind, &t))
            continue;
        best = stream;
        *out = t;
    }
    return best;
}

json_t *snapshot_tradeoff(struct gateway *gateway)
{
    json_t *array = json_array();
    pthread_mutex_lock(&gateway->streams.lock);
    for (size_t p = 0; p < engine_n_profiles(gateway->engine); p++)
        for (int kind = 0; kind < N_ATTENTION; kind++) {
            struct tradeoff t;
            const struct stream *stream =
                longest(&gateway->streams, engine_profile_name(gateway->engine, p), (enum attention_kind)kind, &t);
            if (stream)
                json_array_append_new(array, tradeoff_json(stream, &t));
        }
    pthread_mutex_unlock(&gateway->streams.lock);
    return array;
}
