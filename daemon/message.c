#include "daemon/message.h"

#include "daemon/stream.h"

#include <stdlib.h>
#include <string.h>

struct message *message_create(struct message_shelf *shelf, size_t n_parts)
{
    struct message *message = n_parts == 1 ? shelf->first : NULL;
    size_t bytes = sizeof *message + n_parts * sizeof *message->part;
    if (message) {
        shelf->first = message->next;
        shelf->n--;
    } else {
        message = malloc(bytes);
    }
    if (!message)
        return NULL;
    memset(message, 0, bytes);
    message->n_parts = n_parts;
    for (size_t i = 0; i < n_parts; i++)
        message->part[i].message = message;
    return message;
}

void message_drop_frames(struct message *message)
{
    for (size_t i = 0; i < message->n_frames; i++)
        zmq_msg_close(&message->frame[i]);
    message->n_frames = 0;
}

void message_destroy(struct message_shelf *shelf, struct message *message)
{
    if (!message)
        return;
    message_drop_frames(message);
    buffer_release(message->buffer);
    if (message->n_parts != 1 || shelf->n == MESSAGES_KEPT) {
        free(message);
        return;
    }
    message->next = shelf->first;
    shelf->first = message;
    shelf->n++;
}

void message_shelf_clear(struct message_shelf *shelf)
{
    for (struct message *next; shelf->first; shelf->first = next) {
        next = shelf->first->next;
        free(shelf->first);
    }
    while (shelf->n_parts)
        part_destroy(shelf->part[--shelf->n_parts]);
    shelf->n = 0;
}

int message_take_part(struct message_shelf *shelf, struct engine *engine, const struct engine_stream *stream, struct part **out)
{
    *out = shelf->n_parts ? shelf->part[--shelf->n_parts] : NULL;
    if (*out && part_fits(*out, stream))
        return 0;
    part_destroy(*out);
    return part_create(out, engine, stream);
}

void message_give_part(struct message_shelf *shelf, struct part *part)
{
    if (part && shelf->n_parts < MESSAGES_KEPT)
        shelf->part[shelf->n_parts++] = part;
    else
        part_destroy(part);
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
