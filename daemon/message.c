#include "daemon/message.h"

#include "daemon/stream.h"

#include <stdlib.h>

struct message *message_create(size_t n_parts)
{
    struct message *message = calloc(1, sizeof *message + n_parts * sizeof *message->part);
    if (!message)
        return NULL;
    message->n_parts = n_parts;
    for (size_t i = 0; i < MESSAGE_FRAMES_MAX; i++)
        zmq_msg_init(&message->frame[i]);
    for (size_t i = 0; i < n_parts; i++)
        message->part[i].message = message;
    return message;
}

void message_destroy(struct message *message)
{
    if (!message)
        return;
    for (size_t i = 0; i < MESSAGE_FRAMES_MAX; i++)
        zmq_msg_close(&message->frame[i]);
    buffer_release(message->buffer);
    free(message);
}

size_t message_part_outputs(const struct message_part *part)
{
    const struct shape *s = engine_stream_shape(part->stream->engine_stream);
    return part->wire.flags & WIRE_ATTEND ? part->wire.n_tokens * s->heads * s->value_dim : 0;
}

size_t message_part_lse(const struct message_part *part)
{
    const struct shape *s = engine_stream_shape(part->stream->engine_stream);
    return part->wire.flags & WIRE_PARTIAL ? part->wire.n_tokens * s->heads : 0;
}
