#include "daemon/control.h"

#include "daemon/credit.h"
#include "daemon/egress.h"
#include "daemon/reload.h"
#include "daemon/telemetry.h"

#include <stdlib.h>
#include <string.h>

static int open_checked(struct gateway *gateway, const struct control_request *request, struct connection *writer,
                        struct stream **out, struct fault *fault)
{
    const struct config_limits *limits = &gateway->config->limits;
    const struct shape *shape = &request->shape;
    struct engine_stream *engine_stream = NULL;
    size_t bytes = 0;
    if (atomic_load(&gateway->stopping))
        return fault_set(fault, ERR_CLOSING, "the daemon is draining");
    if (streams_find_name(&gateway->streams, request->name))
        return fault_set(fault, ERR_EXISTS, "stream '%s' is open already", request->name);
    if (gateway->streams.n_heads + shape->n_layers * shape->kv_heads > limits->heads)
        return fault_set(fault, ERR_TOO_LARGE, "%zu heads are open, %zu more would pass %llu (limits.heads)",
                         gateway->streams.n_heads, shape->n_layers * shape->kv_heads, (unsigned long long)limits->heads);
    if (gateway->streams.n_open >= limits->streams) /* before memory is taken for it */
        return fault_set(fault, ERR_TOO_LARGE, "%zu streams are open, the limit (limits.streams)", gateway->streams.n_open);
    size_t room = credit_memory_left(gateway);
    int err = engine_open_within(gateway->engine, shape, request->profile, room, &engine_stream, fault);
    if (err == ERR_NO_MEMORY && room != SIZE_MAX)
        fault_set(fault, err, "stream '%s' takes more than the %zu bytes that are left of %llu (limits.memory_bytes)",
                  request->name, room, (unsigned long long)limits->memory_bytes);
    if (!err) {
        struct engine_stream_state state;
        engine_stream_state(engine_stream, &state);
        bytes = state.allocated + state.control;
        err = streams_add(&gateway->streams, request->name, &engine_stream, writer, out, fault);
    }
    engine_close(gateway->engine, &engine_stream); /* still set only when it was not taken */
    if (!err) {
        gateway->reserved_bytes += bytes;
        (*out)->reserved_bytes = bytes;
        atomic_fetch_add(&gateway->counters.streams_opened, 1);
        atomic_store(&gateway->counters.streams_open, gateway->streams.n_open);
    }
    return err;
}

static bool same_shape(const struct shape *a, const struct shape *b)
{
    return a->n_layers == b->n_layers && memcmp(a->kind, b->kind, a->n_layers) == 0 && a->heads == b->heads &&
           a->kv_heads == b->kv_heads && a->key_dim == b->key_dim && a->value_dim == b->value_dim && a->element == b->element;
}

static int take_over(struct gateway *gateway, struct stream *stream, const struct control_request *request,
                     struct connection *writer, struct fault *fault)
{
    if (stream->closing)
        return fault_set(fault, ERR_EXISTS, "stream '%s' is being closed", stream->name);
    if (!same_shape(engine_stream_shape(stream->engine_stream), &request->shape))
        return fault_set(fault, ERR_WRONG_SHAPE, "stream '%s' is open with another shape", stream->name);
    streams_hand_over(&gateway->streams, stream, writer); /* the old connection is forgotten when its messages have left */
    return 0;
}

static void open_stream(struct gateway *gateway, struct connection *connection, const struct control_request *request)
{
    struct fault fault = {0};
    struct stream *stream = NULL;
    if (request->resume)
        stream = streams_find_name(&gateway->streams, request->name);
    if (stream)
        take_over(gateway, stream, request, connection, &fault);
    else
        open_checked(gateway, request, connection, &stream, &fault);
    struct control_open *answer = fault.err ? NULL : calloc(1, sizeof *answer);
    if (!fault.err && !answer)
        fault_set(&fault, ERR_NO_MEMORY, "the answer");
    if (answer && stream) {
        answer->stream = stream->id;
        answer->seed = engine_stream_seed(stream->engine_stream);
        strncpy(answer->isa, engine_kernels(gateway->engine)->isa, sizeof answer->isa - 1);
        answer->n_layers = request->shape.n_layers;
        for (size_t l = 0; l < answer->n_layers; l++)
            answer->next_token[l] = engine_next_token(stream->engine_stream, (uint32_t)l);
        answer->rules = engine_stream_rules(stream->engine_stream);
        egress_control(gateway, connection, control_encode_open(request->id, answer));
        log_event(gateway->log, LOG_INFO, "stream_opened", LOG_TEXT("stream", stream->name), LOG_COUNT("id", stream->id),
                  LOG_TEXT("profile", engine_stream_profile(stream->engine_stream)));
    } else {
        metric_reasons_add(&gateway->counters.refused, fault.err);
        egress_control(gateway, connection, control_encode_fault(request->id, "open", &fault));
    }
    free(answer);
}

void control_finish_close(struct gateway *gateway, struct stream *stream)
{
    struct engine_stream_state state;
    engine_stream_state(stream->engine_stream, &state);
    struct control_close answer = {
        .bytes = state.allocated,
        .bytes_full_bf16 = state.full_bf16,
        .attention_seconds = (double)(state.append_ns + state.attend_ns) * 1e-9,
    };
    for (size_t l = 0; l < engine_stream_shape(stream->engine_stream)->n_layers; l++) {
        uint64_t n = engine_next_token(stream->engine_stream, (uint32_t)l);
        answer.tokens = n > answer.tokens ? n : answer.tokens;
    }
    if (stream->closer) /* else its lease ran out */
        egress_control(gateway, stream->closer, control_encode_close(stream->close_id, &answer));
    log_event(gateway->log, LOG_INFO, "stream_closed", LOG_TEXT("stream", stream->name), LOG_COUNT("tokens", answer.tokens),
              LOG_COUNT("bytes", state.allocated));
    gateway->reserved_bytes -= stream->reserved_bytes;
    streams_remove(&gateway->streams, gateway->engine, &gateway->counters, stream);
    atomic_store(&gateway->counters.streams_open, gateway->streams.n_open);
}

static void close_stream(struct gateway *gateway, struct connection *connection, const struct control_request *request)
{
    struct fault fault = {0};
    struct stream *stream = streams_find(&gateway->streams, request->stream);
    if (!stream || stream->closing) {
        fault_set(&fault, ERR_UNKNOWN_STREAM, "stream %llu is not open", (unsigned long long)request->stream);
        metric_reasons_add(&gateway->counters.refused, fault.err);
        egress_control(gateway, connection, control_encode_fault(request->id, "close", &fault));
        return;
    }
    stream->closing = true;
    stream->close_id = request->id;
    stream->closer = connection;
    connection_hold(connection);
    if (!stream->first)
        control_finish_close(gateway, stream);
}

/* What has arrived of every layer's replies: they are kept no longer. */
static void confirm(struct gateway *gateway, struct connection *connection, const struct control_request *request)
{
    struct fault fault = {0};
    struct stream *stream = streams_find(&gateway->streams, request->stream);
    size_t n_layers = stream ? engine_stream_shape(stream->engine_stream)->n_layers : 0;
    if (!stream)
        fault_set(&fault, ERR_UNKNOWN_STREAM, "stream %llu is not open", (unsigned long long)request->stream);
    else if (stream->writer != connection)
        fault_set(&fault, ERR_NOT_OWNER, "stream '%s' is written by another connection", stream->name);
    else if (request->n_layers != n_layers)
        fault_set(&fault, ERR_WRONG_SHAPE, "\"received\" has %zu layers, stream '%s' has %zu", request->n_layers, stream->name,
                  n_layers);
    if (fault.err) {
        metric_reasons_add(&gateway->counters.refused, fault.err);
        egress_control(gateway, connection, control_encode_fault(request->id, "confirm", &fault));
        return;
    }
    for (size_t l = 0; l < n_layers; l++)
        credit_confirm(gateway, stream, (uint32_t)l, request->received[l]);
    struct control_confirm answer = {.unconfirmed_bytes = stream->kept_bytes};
    egress_control(gateway, connection, control_encode_confirm(request->id, &answer));
}

static void hello(struct gateway *gateway, struct connection *connection, const struct control_request *request)
{
    const struct config *config = gateway->config;
    const struct identity *identity = gateway->identity;
    struct control_hello *answer = calloc(1, sizeof *answer);
    const char **profiles = calloc(config->n_profiles + 1, sizeof *profiles);
    if (answer && profiles) {
        answer->protocol = WIRE_VERSION;
        strncpy(answer->version, ATTND_VERSION, sizeof answer->version - 1);
        strncpy(answer->isa, engine_kernels(gateway->engine)->isa, sizeof answer->isa - 1);
        memcpy(answer->instance, identity->instance, sizeof answer->instance);
        answer->n_outputs = identity->outputs.n_endpoints;
        answer->n_telemetry = identity->telemetry.n_endpoints;
        memcpy(answer->outputs, identity->outputs.endpoint, sizeof answer->outputs);
        memcpy(answer->telemetry, identity->telemetry.endpoint, sizeof answer->telemetry);
        answer->message_bytes = config->limits.message_bytes;
        answer->parts = config->limits.parts;
        answer->tokens_per_message = config->limits.tokens_per_message;
        answer->credit_bytes = config->limits.credit_bytes;
        answer->lease_seconds = config->limits.lease_seconds;
        for (size_t i = 0; i < config->n_profiles; i++)
            profiles[i] = config->profile[i].name;
        answer->profiles = profiles;
        egress_control(gateway, connection, control_encode_hello(request->id, answer));
    }
    free(profiles);
    free(answer);
}

static void status(struct gateway *gateway, struct connection *connection, const struct control_request *request)
{
    struct fault fault = {0};
    char *text = telemetry_status(gateway, request->stream, &fault);
    egress_control(gateway, connection,
                   text ? control_encode_status(request->id, text) : control_encode_fault(request->id, "status", &fault));
    free(text);
}

static void reload_config(struct gateway *gateway, struct connection *connection, const struct control_request *request)
{
    struct fault fault = {0};
    struct control_reload answer;
    int err = reload(gateway, request->file, request->config, &answer, &fault);
    if (err) {
        metric_reasons_add(&gateway->counters.refused, err);
        log_event(gateway->log, LOG_WARNING, "reload_refused", LOG_ERR("reason", err), LOG_TEXT("detail", fault.text));
    }
    egress_control(gateway, connection,
                   err ? control_encode_fault(request->id, "reload", &fault) : control_encode_reload(request->id, &answer));
}

void control_take(struct gateway *gateway, struct connection *connection, const void *text, size_t bytes)
{
    struct fault fault = {0};
    struct control_request *request = calloc(1, sizeof *request);
    if (!request)
        fault_set(&fault, ERR_NO_MEMORY, "a control request");
    else
        control_decode_request(text, bytes, request, &fault);
    if (fault.err) {
        metric_reasons_add(&gateway->counters.refused, fault.err);
        log_event(gateway->log, LOG_WARNING, "control_refused", LOG_ERR("reason", fault.err), LOG_TEXT("detail", fault.text));
        const char *op = request ? control_op_name(request->op) : NULL;
        egress_control(gateway, connection, control_encode_fault(request ? request->id : 0, op, &fault));
        free(request);
        return;
    }
    static void (*const answer[N_CONTROL])(struct gateway *, struct connection *, const struct control_request *) = {
        [CONTROL_HELLO] = hello,    [CONTROL_OPEN] = open_stream,     [CONTROL_CLOSE] = close_stream,
        [CONTROL_STATUS] = status,  [CONTROL_RELOAD] = reload_config,

        [CONTROL_CONFIRM] = confirm};
    answer[request->op](gateway, connection, request);
    free(request->config);
    free(request);
}
