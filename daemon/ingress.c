#include "daemon/ingress.h"

#include "base/clock.h"
#include "daemon/admit.h"
#include "daemon/control.h"
#include "daemon/egress.h"

#include <stdlib.h>

/* What came in one go, before it is known what it is. */
struct incoming {
    struct connection *connection; /* held */
    zmq_msg_t frame[MESSAGE_FRAMES_MAX];
    size_t n_frames, bytes; /* frames beyond those are counted and thrown away */
};

static void receive_frames(struct gateway *gateway, struct incoming *in)
{
    zmq_msg_t extra;
    int more = 1;
    in->n_frames = in->bytes = 0;
    while (more) {
        zmq_msg_t *to = in->n_frames < MESSAGE_FRAMES_MAX ? &in->frame[in->n_frames] : &extra;
        zmq_msg_init(to);
        if (zmq_msg_recv(to, gateway->ingest, ZMQ_DONTWAIT) < 0) /* cannot fail within a message but for interrupts */
            return;
        in->bytes += zmq_msg_size(to);
        more = zmq_msg_more(to);
        if (to == &extra)
            zmq_msg_close(&extra);
        in->n_frames++;
    }
}

/* A message that is refused as a whole, before its parts are known. */
static void refuse(struct gateway *gateway, struct incoming *in, const struct wire_header *header, const struct fault *fault)
{
    metric_reasons_add(&gateway->counters.refused, fault->err);
    log_event(gateway->log, LOG_WARNING, "message_refused", LOG_ERR("reason", fault->err), LOG_TEXT("detail", fault->text));
    egress_refuse(gateway, in->connection, header, fault);
}

static void take_data(struct gateway *gateway, struct incoming *in)
{
    struct fault fault = {0};
    struct wire_header header = {.type = WIRE_REQUEST};
    const struct config_limits *limits = &gateway->config->limits;
    struct wire_part parts_on_stack[8], *parts = parts_on_stack;
    size_t max_parts = sizeof parts_on_stack / sizeof *parts_on_stack;
    void *frame = zmq_msg_data(&in->frame[0]);
    size_t frame_bytes = zmq_msg_size(&in->frame[0]);

    if (limits->parts < max_parts)
        max_parts = (size_t)limits->parts;
    if (frame_bytes > wire_encoded_bytes(max_parts)) {
        max_parts = (size_t)limits->parts;
        parts = calloc(max_parts, sizeof *parts);
        if (!parts)
            fault_set(&fault, ERR_NO_MEMORY, "a part table of %zu", max_parts);
    }
    if (!fault.err && wire_decode(frame, frame_bytes, &header, parts, max_parts, &fault) == 0 && header.type != WIRE_REQUEST)
        fault_set(&fault, ERR_MALFORMED, "message type %d is not a request", (int)header.type);
    if (in->bytes > limits->message_bytes) /* after decoding, so that the refusal has the message's id */
        fault_set(&fault, ERR_TOO_LARGE, "a message of %zu bytes, at most %llu (limits.message_bytes)", in->bytes,
                  (unsigned long long)limits->message_bytes);
    else if (in->n_frames > MESSAGE_FRAMES_MAX)
        fault_set(&fault, ERR_MALFORMED, "%zu frames, at most %d", in->n_frames, MESSAGE_FRAMES_MAX);
    struct message *message = fault.err ? NULL : message_create(&gateway->shelf, header.n_parts);
    if (!fault.err && !message)
        fault_set(&fault, ERR_NO_MEMORY, "a message of %u parts", header.n_parts);
    if (fault.err) {
        refuse(gateway, in, &header, &fault);
    } else {
        for (size_t i = 0; i < in->n_frames; i++) {
            zmq_msg_init(&message->frame[i]);
            zmq_msg_move(&message->frame[i], &in->frame[i]);
        }
        message->connection = in->connection;
        message->n_frames = in->n_frames;
        message->bytes = in->bytes;
        message->header = header;
        for (size_t i = 0; i < message->n_parts; i++)
            message->part[i].wire = parts[i];
        admit(gateway, message);
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
    struct incoming in;
    struct connections *connections = &gateway->streams.connections;
    zmq_msg_t identity;
    zmq_msg_init(&identity);
    if (zmq_msg_recv(&identity, gateway->ingest, ZMQ_DONTWAIT) < 0 || !zmq_msg_more(&identity)) {
        zmq_msg_close(&identity);
        return false;
    }
    in.connection = connections_hold(connections, zmq_msg_data(&identity), zmq_msg_size(&identity));
    zmq_msg_close(&identity);
    if (in.connection)
        in.connection->heard_ns = gateway->now_ns;
    receive_frames(gateway, &in);
    atomic_fetch_add(&gateway->counters.messages, 1);
    atomic_fetch_add(&gateway->counters.received_bytes, in.bytes);
    if (!in.connection) /* nobody who could be answered */
        metric_reasons_add(&gateway->counters.refused, ERR_NO_MEMORY);
    else if (in.n_frames == 1 && control_is(zmq_msg_data(&in.frame[0]), zmq_msg_size(&in.frame[0])))
        control_take(gateway, in.connection, zmq_msg_data(&in.frame[0]), zmq_msg_size(&in.frame[0]));
    else
        take_data(gateway, &in);
    for (size_t i = 0; i < in.n_frames && i < MESSAGE_FRAMES_MAX; i++)
        zmq_msg_close(&in.frame[i]); /* of a frame that was moved: nothing */
    if (in.connection)
        connections_release(connections, in.connection);
    return true;
}
