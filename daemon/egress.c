#include "daemon/egress.h"

#include "base/clock.h"
#include "daemon/control.h"
#include "daemon/credit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ sending to one producer */

/* What a producer does not read waits for it in ZeroMQ's memory. New work is refused from its credit on, so that only refusals and
 * answers to control go beyond; from here on they are dropped. */
static size_t most_unread(const struct gateway *gateway)
{
    return 2 * (size_t)gateway->config->limits.credit_bytes;
}

/* Sends frames to a connection. A peer that is gone or does not read costs nothing: the reply is dropped and counted; what it
 * said is kept for a resend. */
static void send_frames(struct gateway *gateway, struct connection *connection, zmq_msg_t *frame, size_t n)
{
    size_t bytes = 0;
    errno = EAGAIN;
    bool sent = connection_unread(connection) <= most_unread(gateway) &&
                zmq_send(gateway->ingest, connection->identity, connection->n_identity, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0;
    for (size_t i = 0; i < n && sent; i++) {
        bytes += zmq_msg_size(&frame[i]);
        sent = zmq_msg_send(&frame[i], gateway->ingest, (i + 1 < n ? ZMQ_SNDMORE : 0) | ZMQ_DONTWAIT) >= 0;
    }
    for (size_t i = 0; i < n; i++)
        zmq_msg_close(&frame[i]); /* of a sent frame: nothing */
    if (sent) {
        atomic_fetch_add(&gateway->counters.sent_bytes, bytes);
    } else {
        atomic_fetch_add(&gateway->counters.replies_dropped, 1);
        log_event(gateway->log, LOG_WARNING, "reply_dropped", LOG_TEXT("detail", zmq_strerror(errno)));
    }
}

static void free_text(void *text, void *hint)
{
    (void)hint;
    free(text);
}

/* A frame that owns malloc'd text; an empty one when text is NULL. */
static void text_frame(zmq_msg_t *frame, char *text)
{
    if (!text || zmq_msg_init_data(frame, text, strlen(text), free_text, NULL)) {
        free(text);
        zmq_msg_init(frame);
    }
}

void egress_control(struct gateway *gateway, struct connection *connection, char *text)
{
    zmq_msg_t frame;
    size_t bytes = text ? strlen(text) : 0;
    if (connection_text(connection, text, bytes, &frame) == 0)
        send_frames(gateway, connection, &frame, 1);
}

bool egress_probe(struct gateway *gateway, struct connection *connection)
{
    uint64_t lease = gateway->config->limits.lease_seconds;
    char *text = control_encode_lease(lease);
    size_t bytes = text ? strlen(text) : 0;
    zmq_msg_t frame;
    if (connection_unread(connection) > gateway->config->limits.credit_bytes ||
        connection_text(connection, text, bytes, &frame))
        return false;
    bool there = zmq_send(gateway->ingest, connection->identity, connection->n_identity, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
                 zmq_msg_send(&frame, gateway->ingest, ZMQ_DONTWAIT) >= 0;
    zmq_msg_close(&frame);
    return there;
}

/* In KiB, as replies tell it; at least one, since 0 tells nothing. */
static uint32_t told_credit(const struct gateway *gateway)
{
    size_t kib = credit_bytes(gateway) / 1024;
    return kib < 1 ? 1 : kib > UINT32_MAX ? UINT32_MAX : (uint32_t)kib;
}

void egress_refuse(struct gateway *gateway, struct connection *connection, const struct wire_header *header,
                   const struct fault *fault)
{
    struct wire_header reply = {.type = WIRE_REPLY,
                                .layer = header->layer,
                                .id = header->id,
                                .frames = WIRE_HAS_FAULTS,
                                .credit = told_credit(gateway)};
    struct part_fault whole = {.part = UINT32_MAX, .fault = *fault};
    zmq_msg_t frame[2];
    char *text = control_encode_faults(&whole, 1);
    size_t bytes = wire_encoded_bytes(0);
    if (connection_frame(connection, bytes, bytes + (text ? strlen(text) : 0), &frame[0])) {
        free(text);
        return;
    }
    wire_encode(&reply, NULL, zmq_msg_data(&frame[0]));
    text_frame(&frame[1], text);
    send_frames(gateway, connection, frame, 2);
}

/* ------------------------------------------------------------------ a message's reply */

/* Resent parts get the numbers of the first time; parts that failed in a head become refusals. */
static void settle_part(struct gateway *gateway, struct message_part *part)
{
    struct stream *stream = part->stream;
    uint32_t layer = part->message->header.layer;
    if (part->state == PART_RUNNING) {
        int err = atomic_load(&part->part->err);
        if (err) {
            fault_set(&part->fault, ERR_FAILED, "stream '%s' failed at layer %u: %s", stream->name, layer, err_sentence(err));
            if (!stream->failed_counted)
                atomic_fetch_add(&gateway->counters.streams_failed, 1);
            stream->failed_counted = true;
            log_event(gateway->log, LOG_ERROR, "stream_failed", LOG_TEXT("stream", stream->name), LOG_ERR("reason", err));
        }
        message_give_part(&gateway->shelf, part->part);
        part->part = NULL;
    } else if (part->state == PART_RESENT) {
        const struct shape *s = engine_stream_shape(stream->engine_stream);
        float *out = part->wire.flags & WIRE_ATTEND ? part->message->buffer->data + part->out_at : NULL;
        float *lse = part->wire.flags & WIRE_PARTIAL ? part->message->buffer->data + part->lse_at : NULL;
        struct engine_stream_state state;
        engine_stream_state(stream->engine_stream, &state);
        atomic_fetch_add(&gateway->counters.resent, 1);
        if (state.err) /* since it was admitted: the first of the two may have been what failed */
            fault_set(&part->fault, ERR_FAILED, "stream '%s' failed: %s", stream->name, err_sentence(state.err));
        else if (out && !replies_copy(&stream->replies[layer], part->wire.first_token, part->wire.n_tokens,
                                      s->heads * s->value_dim, out, s->heads, lse))
            fault_set(&part->fault, ERR_NOT_KEPT,
                      "stream '%s': tokens %" PRIu64 "+%u of layer %u were applied, their outputs are gone", stream->name,
                      part->wire.first_token, part->wire.n_tokens, layer);
    }
}

/* Whether a resend of the part would have outputs to be answered with. */
static bool is_kept(const struct message_part *part)
{
    enum { BOTH = WIRE_APPEND | WIRE_ATTEND };
    return !part->fault.err && part->state == PART_RUNNING && (part->wire.flags & BOTH) == BOTH;
}

/* Moves the numbers of the parts that succeeded together, where refused parts left holes. */
static struct buffer *compact(struct gateway *gateway, struct message *message, size_t *n_out, size_t *n_lse)
{
    struct buffer *buffer = message->buffer;
    size_t total = 0, at = 0;
    *n_out = *n_lse = 0;
    for (size_t i = 0; i < message->n_parts; i++) {
        const struct message_part *part = &message->part[i];
        if (part->stream && !part->fault.err) {
            *n_out += message_part_outputs(part);
            *n_lse += message_part_lse(part);
        }
    }
    total = *n_out + *n_lse;
    if (!buffer || total == buffer->n)
        return buffer ? buffer_share(buffer) : NULL;
    struct buffer *dense = buffer_create(gateway->buffers, total);
    for (int lse = 0; lse < 2 && dense; lse++)
        for (size_t i = 0; i < message->n_parts; i++) {
            const struct message_part *part = &message->part[i];
            if (!part->stream || part->fault.err)
                continue;
            size_t n = lse ? message_part_lse(part) : message_part_outputs(part);
            if (n)
                memcpy(dense->data + at, buffer->data + (lse ? part->lse_at : part->out_at), n * sizeof(float));
            at += n;
        }
    return dense;
}

static char *faults_text(const struct message *message)
{
    size_t n = 0;
    for (size_t i = 0; i < message->n_parts; i++)
        n += message->part[i].fault.err != 0;
    struct part_fault *faults = n ? calloc(n, sizeof *faults) : NULL;
    if (!faults)
        return NULL;
    n = 0;
    for (size_t i = 0; i < message->n_parts; i++)
        if (message->part[i].fault.err)
            faults[n++] = (struct part_fault){.part = (uint32_t)i, .fault = message->part[i].fault};
    char *text = control_encode_faults(faults, n);
    free(faults);
    return text;
}

static void reply(struct gateway *gateway, struct message *message)
{
    struct wire_header header = {.type = WIRE_REPLY,
                                 .n_parts = message->header.n_parts,
                                 .layer = message->header.layer,
                                 .id = message->header.id,
                                 .credit = told_credit(gateway)};
    struct wire_part on_stack[8], *parts = message->n_parts <= 8 ? on_stack : calloc(message->n_parts, sizeof *parts);
    zmq_msg_t frame[4];
    size_t n = 1, n_out, n_lse;
    struct buffer *buffer = compact(gateway, message, &n_out, &n_lse);
    char *faults = faults_text(message);
    bool lost = !parts || (n_out + n_lse && !buffer);
    size_t head = wire_encoded_bytes(message->n_parts),
           bytes = head + (n_out + n_lse) * sizeof(float) + (faults ? strlen(faults) : 0);
    if (lost || connection_frame(message->connection, head, bytes, &frame[0])) {
        log_event(gateway->log, LOG_ERROR, "reply_lost", LOG_ERR("reason", ERR_NO_MEMORY));
        goto out;
    }
    for (size_t i = 0; i < message->n_parts; i++) {
        const struct message_part *part = &message->part[i];
        bool refused = part->fault.err != 0;
        parts[i] = part->wire;
        parts[i].status = wire_status(part->fault.err);
        parts[i].n_tokens = !refused && part->wire.flags & WIRE_ATTEND ? part->wire.n_tokens : 0;
        parts[i].position = refused && part->fault.expected ? part->fault.expected
                            : part->stream && message->header.layer < engine_stream_shape(part->stream->engine_stream)->n_layers
                                ? engine_next_token(part->stream->engine_stream, message->header.layer)
                                : 0;
        if (!refused && part->wire.flags & WIRE_APPEND) /* what this reply acknowledges; later parts may be under way */
            parts[i].position = part->wire.first_token + part->wire.n_tokens;
    }
    header.frames = (n_out ? WIRE_HAS_OUTPUTS : 0u) | (n_lse ? WIRE_HAS_LSE : 0u) | (faults ? WIRE_HAS_FAULTS : 0u);
    wire_encode(&header, parts, zmq_msg_data(&frame[0]));
    if (n_out && buffer_frame(buffer, 0, n_out, &frame[n++]))
        zmq_msg_init(&frame[n - 1]);
    if (n_lse && buffer_frame(buffer, n_out, n_lse, &frame[n++]))
        zmq_msg_init(&frame[n - 1]);
    if (faults) {
        text_frame(&frame[n++], faults);
        faults = NULL;
    }
    send_frames(gateway, message->connection, frame, n);
out:
    free(faults);
    buffer_release(buffer);
    if (parts != on_stack)
        free(parts);
}

/* ------------------------------------------------------------------ publishing */

void egress_subscriptions(struct gateway *gateway)
{
    unsigned char text[512];
    int n;
    while ((n = zmq_recv(gateway->outputs, text, sizeof text, ZMQ_DONTWAIT)) >= 0)
        if (n > 0 && text[0] == 1)
            gateway->subscriptions++;
        else if (n > 0 && text[0] == 0 && gateway->subscriptions)
            gateway->subscriptions--;
}

/* Sends the topic frame. With NODROP a full subscriber makes it fail instead of losing silently, and that is counted. When it is
 * not alone the others get the message all the same; but ZeroMQ then passes over the full one, and says nothing, until it has
 * read half of its queue: with several subscribers the count is a lower bound, and the gaps in the sequence are exact. */
static bool send_topic(struct gateway *gateway, const char *topic)
{
    size_t n = strlen(topic);
    if (zmq_send(gateway->outputs, topic, n, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
        return true;
    int off = 0, on = 1;
    atomic_fetch_add(&gateway->counters.outputs_dropped, 1);
    if (gateway->subscriptions == 1)
        return false;
    zmq_setsockopt(gateway->outputs, ZMQ_XPUB_NODROP, &off, sizeof off);
    bool sent = zmq_send(gateway->outputs, topic, n, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0;
    zmq_setsockopt(gateway->outputs, ZMQ_XPUB_NODROP, &on, sizeof on);
    return sent;
}

static void publish(struct gateway *gateway, struct message_part *part)
{
    struct stream *stream = part->stream;
    uint32_t layer = part->message->header.layer;
    uint64_t sequence = stream->sequence[layer]++; /* counts what nobody heard too: a late subscriber sees where it came in */
    if (!gateway->subscriptions)
        return;
    struct wire_header header = {.type = WIRE_OUTPUT, .n_parts = 1, .layer = layer, .id = sequence, .frames = WIRE_HAS_OUTPUTS};
    struct wire_part wire = part->wire;
    char topic[CONTROL_NAME_BYTES + 24];
    unsigned char head[WIRE_HEADER_BYTES + WIRE_PART_BYTES];
    zmq_msg_t outputs;
    gateway->used_outputs = true;
    snprintf(topic, sizeof topic, "out/%s/%u/", stream->name, layer);
    wire.position = wire.first_token + (wire.flags & WIRE_APPEND ? wire.n_tokens : 0);
    wire_encode(&header, &wire, head);
    if (buffer_frame(part->message->buffer, part->out_at, message_part_outputs(part), &outputs))
        return;
    if (send_topic(gateway, topic) && zmq_send(gateway->outputs, head, sizeof head, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
        zmq_msg_send(&outputs, gateway->outputs, ZMQ_DONTWAIT) >= 0)
        atomic_fetch_add(&gateway->counters.outputs, 1);
    zmq_msg_close(&outputs);
}

/* ------------------------------------------------------------------ order */

static bool may_leave(const struct message *message)
{
    if (!message->complete)
        return false;
    for (size_t i = 0; i < message->n_parts; i++) {
        const struct message_part *part = &message->part[i];
        if (part->stream && part->before && part->before->message != message)
            return false;
    }
    return true;
}

/* Sends one message and forgets it; messages that it held up join the list at *ready. */
static void leave(struct gateway *gateway, struct message *message, struct message **ready)
{
    uint64_t end_ns = 0;
    for (size_t i = 0; i < message->n_parts; i++) {
        struct message_part *part = &message->part[i];
        if (part->part && part->part->end_ns > end_ns)
            end_ns = part->part->end_ns;
        if (!part->stream)
            continue;
        settle_part(gateway, part);
        if (is_kept(part))
            credit_keep(gateway, part); /* at once: a later part of the message may be its resend */
    }
    reply(gateway, message);
    for (size_t i = 0; i < message->n_parts; i++) {
        struct message_part *part = &message->part[i];
        if (part->stream && !part->fault.err && part->state == PART_RUNNING && part->wire.flags & WIRE_ATTEND)
            publish(gateway, part);
    }
    if (end_ns)
        histogram_add(&gateway->counters.publish, clock_ns() - end_ns);
    for (size_t i = 0; i < message->n_parts; i++) {
        struct stream *stream = message->part[i].stream;
        if (!stream)
            continue;
        stream_leave(stream, &message->part[i]);
        if (stream->first && stream->first->message != message && may_leave(stream->first->message)) {
            stream->first->message->complete = false; /* listed once */
            stream->first->message->next = *ready;
            *ready = stream->first->message;
        }
        if (!stream->first && stream->closing)
            control_finish_close(gateway, stream);
    }
    credit_release_reply(gateway, message);
    connections_message_ends(&gateway->streams.connections, message->connection);
    gateway->in_flight--;
    message_destroy(&gateway->shelf, message);
}

/* Nobody reads the received numbers any more: they are freed and count against no credit, although the message may have to wait
 * for its turn to leave. Else what was refused for want of credit would use up more of it. */
static void release_input(struct gateway *gateway, struct message *message)
{
    message_drop_frames(message);
    credit_release_input(gateway, message);
}

void egress_complete(struct gateway *gateway, struct message *message)
{
    message->complete = true;
    release_input(gateway, message);
    if (!may_leave(message))
        return;
    struct message *ready = message;
    message->next = NULL;
    while (ready) {
        struct message *first = ready;
        ready = first->next;
        leave(gateway, first, &ready);
    }
}
