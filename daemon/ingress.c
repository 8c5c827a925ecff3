#include "daemon/ingress.h"

#include "daemon/admit.h"
#include "daemon/control.h"
#include "daemon/egress.h"

#include <stdlib.h>

/* Receives what follows the identity. Frames beyond MESSAGE_FRAMES_MAX are read and thrown away. Returns their number. */
static size_t receive_frames(struct gateway *gateway, zmq_msg_t frame[MESSAGE_FRAMES_MAX], size_t *bytes)
{
    size_t n = 0;
    int more = 1;
    *bytes = 0;
    while (more) {
        zmq_msg_t extra;
        zmq_msg_t *to = n < MESSAGE_FRAMES_MAX ? &frame[n] : &extra;
        if (to == &extra)
            zmq_msg_init(&extra);
        if (zmq_msg_recv(to, gateway->ingest, ZMQ_DONTWAIT) < 0) /* cannot fail within a message but for interrupts */
            break;
        *bytes += zmq_msg_size(to);
        more = zmq_msg_more(to);
        if (to == &extra)
            zmq_msg_close(&extra);
        n++;
    }
    return n;
}

/* A message that is refused as a whole, before its parts are known. */
static void refuse(struct gateway *gateway, struct message *message, const struct fault *fault)
{
    metric_reasons_add(&gateway->counters.refused, fault->err);
    log_event(gateway->log, LOG_WARNING, "message_refused", LOG_ERR("reason", fault->err), LOG_TEXT("detail", fault->text));
    egress_refuse(gateway, &message->identity, &message->header, fault);
    message_destroy(message);
}

static void take_data(struct gateway *gateway, struct message *message)
{
    struct fault fault = {0};
    const struct config_limits *limits = &gateway->config->limits;
    struct wire_part parts_on_stack[8], *parts = parts_on_stack;
    size_t max_parts = sizeof parts_on_stack / sizeof *parts_on_stack;
    void *frame = zmq_msg_data(&message->frame[0]);
    size_t frame_bytes = zmq_msg_size(&message->frame[0]);

    if (limits->parts < max_parts)
        max_parts = (size_t)limits->parts;
    if (frame_bytes > wire_encoded_bytes(max_parts)) {
        max_parts = (size_t)limits->parts;
        parts = calloc(max_parts, sizeof *parts);
        if (!parts)
            fault_set(&fault, ERR_NO_MEMORY, "a part table of %zu", max_parts);
    }
    if (!fault.err && wire_decode(frame, frame_bytes, &message->header, parts, max_parts, &fault) == 0 &&
        message->header.type != WIRE_REQUEST)
        fault_set(&fault, ERR_MALFORMED, "message type %d is not a request", (int)message->header.type);
    if (message->bytes > limits->message_bytes) /* after decoding, so that the refusal has the message's id */
        fault_set(&fault, ERR_TOO_LARGE, "a message of %zu bytes, at most %llu (limits.message_bytes)", message->bytes,
                  (unsigned long long)limits->message_bytes);
    else if (message->n_frames > MESSAGE_FRAMES_MAX)
        fault_set(&fault, ERR_MALFORMED, "%zu frames, at most %d", message->n_frames, MESSAGE_FRAMES_MAX);
    struct message *whole = fault.err ? NULL : message_create(message->header.n_parts);
    if (!fault.err && !whole)
        fault_set(&fault, ERR_NO_MEMORY, "a message of %u parts", message->header.n_parts);
    if (fault.err) {
        refuse(gateway, message, &fault);
    } else {
        zmq_msg_move(&whole->identity, &message->identity);
        for (size_t i = 0; i < message->n_frames; i++)
            zmq_msg_move(&whole->frame[i], &message->frame[i]);
        whole->n_frames = message->n_frames;
        whole->bytes = message->bytes;
        whole->header = message->header;
        for (size_t i = 0; i < whole->n_parts; i++)
            whole->part[i].wire = parts[i];
        message_destroy(message);
        admit(gateway, whole);
    }
    if (parts != parts_on_stack)
        free(parts);
}

bool ingress_waiting(struct gateway *gateway)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(gateway->ingest, ZMQ_EVENTS, &events, &size) == 0 && events & ZMQ_POLLIN;
}

bool ingress_receive(struct gateway *gateway)
{
    struct message *message = message_create(0);
    if (!message)
        return false;
    if (zmq_msg_recv(&message->identity, gateway->ingest, ZMQ_DONTWAIT) < 0 || !zmq_msg_more(&message->identity)) {
        message_destroy(message);
        return false;
    }
    message->n_frames = receive_frames(gateway, message->frame, &message->bytes);
    atomic_fetch_add(&gateway->counters.messages, 1);
    atomic_fetch_add(&gateway->counters.received_bytes, message->bytes);
    if (message->n_frames == 1 && control_is(zmq_msg_data(&message->frame[0]), zmq_msg_size(&message->frame[0]))) {
        control_take(gateway, message);
        message_destroy(message);
    } else {
        take_data(gateway, message);
    }
    return true;
}
