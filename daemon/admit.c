#include "daemon/admit.h"

#include "daemon/credit.h"
#include "daemon/egress.h"

#include <assert.h>
#include <stdlib.h>

/* Where the next part's numbers start in each tensor frame: parts lie one after the other. Order: q, k1, v1, k2, v2. */
struct cursor {
    const char *at[SHAPE_STREAMS_MAX_TENSORS];
    size_t left[SHAPE_STREAMS_MAX_TENSORS];
};

static bool wants_queries(const struct wire_part *part)
{
    return part->flags & (WIRE_ATTEND | WIRE_OBSERVE);
}

/* ------------------------------------------------------------------ frames */

/* Points the cursor at the tensor frames. The message's parts must agree on the attention kind; checked by the caller. */
static int open_frames(struct message *message, enum attention_kind kind, struct cursor *cursor, struct fault *fault)
{
    bool q = false, rows = false;
    size_t frame = 1, n_rows = 2 * attention_streams(kind);
    for (size_t i = 0; i < message->n_parts; i++) {
        q |= wants_queries(&message->part[i].wire);
        rows |= (message->part[i].wire.flags & WIRE_APPEND) != 0;
    }
    size_t expected = 1 + (size_t)q + (rows ? n_rows : 0);
    if (message->n_frames != expected)
        return fault_set(fault, ERR_MALFORMED, "%zu frames, the flags and a %s layer make it %zu", message->n_frames,
                         attention_name(kind), expected);
    *cursor = (struct cursor){0};
    for (size_t t = 0; t < 1 + n_rows; t++) {
        if (t == 0 ? !q : !rows)
            continue;
        cursor->at[t] = zmq_msg_data(&message->frame[frame]);
        cursor->left[t] = zmq_msg_size(&message->frame[frame]);
        frame++;
    }
    return 0;
}

static const char *tensor_name(enum attention_kind kind, size_t t)
{
    static const char *const names[N_ATTENTION][SHAPE_STREAMS_MAX_TENSORS] = {{"q", "k", "v"}, {"q", "k1", "v1", "k2", "v2"}};
    return names[kind][t];
}

static int take_tensor(struct cursor *cursor, enum attention_kind kind, size_t t, size_t bytes, const void **out,
                       struct fault *fault)
{
    if (cursor->left[t] < bytes)
        return fault_set(fault, ERR_WRONG_SHAPE, "tensor %s has %zu bytes left for this part, its shape takes %zu",
                         tensor_name(kind, t), cursor->left[t], bytes);
    *out = cursor->at[t];
    cursor->at[t] += bytes;
    cursor->left[t] -= bytes;
    return 0;
}

static int take_tensors(struct message_part *part, enum attention_kind kind, struct cursor *cursor, struct fault *fault)
{
    const struct shape *s = engine_stream_shape(part->stream->engine_stream);
    size_t number = element_bytes(s->element), n = part->wire.n_tokens;
    int err = 0;
    if (wants_queries(&part->wire))
        err = take_tensor(cursor, kind, 0, n * s->heads * s->key_dim * number, &part->q, fault);
    for (size_t i = 0; part->wire.flags & WIRE_APPEND && i < attention_streams(kind) && !err; i++) {
        err = take_tensor(cursor, kind, 1 + 2 * i, n * s->kv_heads * s->key_dim * number, &part->key[i], fault);
        if (!err)
            err = take_tensor(cursor, kind, 2 + 2 * i, n * s->kv_heads * s->value_dim * number, &part->value[i], fault);
    }
    return err;
}

/* Every part's tensors off the frames. A part whose stream is unknown hides where the next one's numbers start, so then, as when
 * bytes are missing or left over, nothing of the message can be read. */
static int read_frames(struct message *message, enum attention_kind kind, struct fault *fault)
{
    struct cursor cursor;
    int err = open_frames(message, kind, &cursor, fault);
    for (size_t i = 0; i < message->n_parts && !err; i++) {
        struct message_part *part = &message->part[i];
        if (!part->stream || message->header.layer >= engine_stream_shape(part->stream->engine_stream)->n_layers)
            err = fault_set(fault, ERR_WRONG_SHAPE,
                            "part %zu of this message is of unknown shape: where the others lie cannot be told", i);
        else
            err = take_tensors(part, kind, &cursor, fault);
    }
    for (size_t t = 0; t < SHAPE_STREAMS_MAX_TENSORS && !err; t++)
        if (cursor.left[t])
            err = fault_set(fault, ERR_WRONG_SHAPE, "tensor %s has %zu bytes more than the parts' shapes take",
                            tensor_name(kind, t), cursor.left[t]);
    return err;
}

/* ------------------------------------------------------------------ checks */

static int find_stream(struct gateway *gateway, struct message *message, struct message_part *part)
{
    struct fault *fault = &part->fault;
    part->stream = streams_find(&gateway->streams, part->wire.stream);
    if (!part->stream)
        return fault_set(fault, ERR_UNKNOWN_STREAM, "stream %llu is not open", (unsigned long long)part->wire.stream);
    struct stream *stream = part->stream;
    const struct shape *s = engine_stream_shape(stream->engine_stream);
    if (message->header.layer >= s->n_layers)
        return fault_set(fault, ERR_WRONG_SHAPE, "stream '%s' has %zu layers, there is no layer %u", stream->name, s->n_layers,
                         message->header.layer);
    if (stream->writer != message->connection)
        return fault_set(fault, ERR_NOT_OWNER, "stream '%s' is written by another connection", stream->name);
    if (stream->closing)
        return fault_set(fault, ERR_UNKNOWN_STREAM, "stream '%s' is being closed", stream->name);
    if (part->wire.n_tokens > gateway->config->limits.tokens_per_message)
        return fault_set(fault, ERR_TOO_LARGE, "%u tokens in one part, at most %llu (limits.tokens_per_message)",
                         part->wire.n_tokens, (unsigned long long)gateway->config->limits.tokens_per_message);
    credit_confirm(gateway, stream, message->header.layer, part->wire.position);
    return 0;
}

static int wrong_index(struct message_part *part, uint64_t next, const char *why)
{
    int err = fault_set(&part->fault, ERR_WRONG_INDEX, "stream '%s': first_token %llu with %u tokens, expected %llu: %s",
                        part->stream->name, (unsigned long long)part->wire.first_token, part->wire.n_tokens,
                        (unsigned long long)next, why);
    part->fault.expected = next;
    return err;
}

/* A part that lies wholly before the next index was applied already: *resent. */
static int check_index(struct message_part *part, uint64_t next, bool *resent)
{
    uint64_t first = part->wire.first_token, n = part->wire.n_tokens;
    *resent = false;
    if (!(part->wire.flags & WIRE_APPEND))
        return first == next ? 0 : wrong_index(part, next, "queries alone stand at the tokens held");
    if (first == next)
        return 0;
    if (first > next)
        return wrong_index(part, next, "tokens in between are missing");
    if (first + n > next)
        return wrong_index(part, next, "it overlaps what was applied and goes on after it");
    *resent = true;
    return 0;
}

static int reserve(struct gateway *gateway, struct message_part *part)
{
    if (!(part->wire.flags & WIRE_APPEND))
        return 0;
    size_t growth = engine_worst_growth(part->stream->engine_stream, part->message->header.layer, part->wire.n_tokens);
    size_t left = credit_memory_left(gateway);
    if (growth > left)
        return fault_set(&part->fault, ERR_NO_MEMORY,
                         "%zu bytes more for stream '%s', %zu are left of %llu (limits.memory_bytes)", growth,
                         part->stream->name, left, (unsigned long long)gateway->config->limits.memory_bytes);
    gateway->reserved_bytes += growth;
    part->stream->reserved_bytes += growth;
    return 0;
}

/* ------------------------------------------------------------------ hand-over */

static int make_part(struct gateway *gateway, struct message_part *part)
{
    struct stream *stream = part->stream;
    if (message_take_part(&gateway->shelf, gateway->engine, stream->engine_stream, &part->part))
        return fault_set(&part->fault, ERR_NO_MEMORY, "a part of stream '%s'", stream->name);
    struct part *p = part->part;
    p->stream = stream->engine_stream;
    p->layer = part->message->header.layer;
    p->n_tokens = part->wire.n_tokens;
    p->flags = part->wire.flags;
    p->first_token = part->wire.first_token;
    p->q = part->q;
    p->out = p->lse = NULL;
    p->owner = part;
    for (size_t i = 0; i < 2; i++) {
        p->key[i] = part->key[i];
        p->value[i] = part->value[i];
    }
    return 0;
}

/* Everything that decides about one part, in order; submits nothing yet. */
static int consider(struct gateway *gateway, struct message *message, struct message_part *part)
{
    bool resent = false;
    assert(part->stream); /* without one it was refused before */
    if (atomic_load(&gateway->stopping))
        return fault_set(&part->fault, ERR_CLOSING, "the daemon is draining");
    struct engine_stream_state state;
    engine_stream_state(part->stream->engine_stream, &state);
    if (state.err)
        return fault_set(&part->fault, ERR_FAILED, "stream '%s' failed before: %s", part->stream->name,
                         err_sentence(state.err));
    uint64_t next = engine_next_token(part->stream->engine_stream, message->header.layer);
    int err = check_index(part, next, &resent);
    if (!err)
        err = credit_check(gateway, part, resent);
    if (!err && resent) {
        part->state = PART_RESENT;
        return 0;
    }
    if (!err)
        err = make_part(gateway, part);
    if (!err)
        err = engine_check_part(part->part, &part->fault);
    if (!err)
        err = reserve(gateway, part);
    if (err) {
        message_give_part(&gateway->shelf, part->part);
        part->part = NULL;
        return err;
    }
    part->state = PART_RUNNING;
    return 0;
}

/* One buffer for all outputs, then all lse. Sizes count every part that wants outputs, refused ones too: they are cut out when the
 * reply is made. */
static int make_buffer(struct gateway *gateway, struct message *message, struct fault *fault)
{
    uint64_t limit = gateway->config->limits.queued_bytes;
    size_t n_out = 0, n_lse = 0;
    for (size_t i = 0; i < message->n_parts; i++) {
        struct message_part *part = &message->part[i];
        if (!part->stream || part->fault.err)
            continue;
        part->out_at = n_out;
        part->lse_at = n_lse;
        n_out += message_part_outputs(part);
        n_lse += message_part_lse(part);
    }
    if (n_out + n_lse == 0)
        return 0;
    if ((n_out + n_lse) * sizeof(float) > limit) /* few queries of a wide stream can ask for very much */
        return fault_set(fault, ERR_TOO_LARGE, "the reply would have %zu bytes, at most %llu (limits.queued_bytes)",
                         (n_out + n_lse) * sizeof(float), (unsigned long long)limit);
    size_t left = credit_memory_left(gateway);
    if ((n_out + n_lse) * sizeof(float) > left)
        return fault_set(fault, ERR_NO_MEMORY, "the reply would have %zu bytes, %zu are left of %llu (limits.memory_bytes)",
                         (n_out + n_lse) * sizeof(float), left, (unsigned long long)gateway->config->limits.memory_bytes);
    message->buffer = buffer_create(gateway->buffers, n_out + n_lse);
    if (!message->buffer)
        return fault_set(fault, ERR_NO_MEMORY, "the outputs of %zu parts", message->n_parts);
    for (size_t i = 0; i < message->n_parts; i++)
        message->part[i].lse_at += n_out;
    return 0;
}

/* Outputs that nobody will write take no room while the refusals wait for their turn to leave. */
static void drop_buffer(struct gateway *gateway, struct message *message)
{
    for (size_t i = 0; i < message->n_parts; i++)
        if (!message->part[i].fault.err)
            return;
    credit_release_reply(gateway, message);
    buffer_release(message->buffer);
    message->buffer = NULL;
}

/* The attention kind that all parts share at this layer. */
static int find_kind(struct message *message, enum attention_kind *kind, struct fault *fault)
{
    bool any = false;
    for (size_t i = 0; i < message->n_parts; i++) {
        const struct message_part *part = &message->part[i];
        const struct shape *s = part->stream ? engine_stream_shape(part->stream->engine_stream) : NULL;
        if (!s || message->header.layer >= s->n_layers)
            continue;
        enum attention_kind k = (enum attention_kind)s->kind[message->header.layer];
        if (any && k != *kind)
            return fault_set(fault, ERR_WRONG_SHAPE, "the parts' streams are of different attention kinds at layer %u",
                             message->header.layer);
        *kind = k;
        any = true;
    }
    return 0;
}

static void refuse_all(struct message *message, const struct fault *fault)
{
    for (size_t i = 0; i < message->n_parts; i++)
        if (!message->part[i].fault.err)
            message->part[i].fault = *fault;
}

/* Lines a considered part up. Raises the next index, so that a later part of the same stream is considered after it. */
static void line_up(struct gateway *gateway, struct message *message, struct message_part *part)
{
    if (part->wire.flags & WIRE_ATTEND)
        part->part->out = message->buffer->data + part->out_at;
    if (part->wire.flags & WIRE_PARTIAL)
        part->part->lse = message->buffer->data + part->lse_at;
    if (part->wire.flags & WIRE_APPEND)
        atomic_fetch_add(&gateway->counters.tokens, part->wire.n_tokens);
    atomic_fetch_add(&message->running, 1);
    part->part->patient = true; /* gateway_run helps */
    engine_line_up(gateway->engine, part->part);
}

static void admit_parts(struct gateway *gateway, struct message *message)
{
    struct fault fault = {0};
    enum attention_kind kind = ATTENTION_SOFTMAX;
    for (size_t i = 0; i < message->n_parts; i++)
        find_stream(gateway, message, &message->part[i]);
    if (find_kind(message, &kind, &fault) || read_frames(message, kind, &fault))
        refuse_all(message, &fault);
    if (make_buffer(gateway, message, &fault))
        refuse_all(message, &fault);
    credit_take(gateway, message);
    for (size_t i = 0; i < message->n_parts; i++) {
        struct message_part *part = &message->part[i];
        if (part->stream)
            stream_line_up(part->stream, part);
        if (!part->fault.err && consider(gateway, message, part) == 0 && part->state == PART_RUNNING)
            line_up(gateway, message, part);
        if (part->fault.err)
            metric_reasons_add(&gateway->counters.refused, part->fault.err);
    }
    engine_hand_over(gateway->engine);
    drop_buffer(gateway, message);
}

void admit(struct gateway *gateway, struct message *message)
{
    connections_message_begins(&gateway->streams.connections, message->connection);
    gateway->in_flight++;
    atomic_fetch_add(&gateway->counters.parts, message->n_parts);
    atomic_store(&message->running, 1); /* the gateway's own, so that it cannot finish while parts are still handed over */
    admit_parts(gateway, message);
    if (atomic_fetch_sub(&message->running, 1) == 1)
        egress_complete(gateway, message);
}
