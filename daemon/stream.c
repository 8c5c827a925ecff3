#include "daemon/stream.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ search trees */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct stream *)a)->name, ((const struct stream *)b)->name);
}

static void *found(void *node)
{
    return node ? *(void **)node : NULL;
}

/* ------------------------------------------------------------------ streams */

/* A stream's number: slot, and above it how often the slot was used. It has to stay below 2^53 (JSON), so the slot, of which there
 * are at most 2^20, gets no more bits than it needs: a slot is good for 2^32 streams. */
enum { SLOT_BITS = 20, SLOT_MASK = (1 << SLOT_BITS) - 1 };

int streams_init(struct streams *streams, size_t max_streams)
{
    memset(streams, 0, sizeof *streams);
    pthread_mutex_init(&streams->lock, NULL);
    streams->slot = calloc(max_streams, sizeof *streams->slot);
    streams->generation = calloc(max_streams, sizeof *streams->generation);
    streams->n_slots = max_streams;
    return streams->slot && streams->generation ? 0 : ERR_NO_MEMORY;
}

void streams_finish(struct streams *streams, struct engine *engine, struct counters *counters)
{
    for (size_t i = 0; streams->slot && i < streams->n_slots; i++)
        if (streams->slot[i])
            streams_remove(streams, engine, counters, streams->slot[i]);
    connections_finish(&streams->connections);
    free(streams->slot);
    free(streams->generation);
    pthread_mutex_destroy(&streams->lock);
}

static void stream_free(struct stream *stream)
{
    free(stream->replies);
    free(stream->sequence);
    free(stream);
}

static struct stream *stream_new(const char *name, size_t n_layers)
{
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return NULL;
    strncpy(stream->name, name, sizeof stream->name - 1);
    stream->replies = calloc(n_layers, sizeof *stream->replies);
    stream->sequence = calloc(n_layers, sizeof *stream->sequence);
    if (stream->replies && stream->sequence)
        return stream;
    stream_free(stream);
    return NULL;
}

int streams_add(struct streams *streams, const char *name, struct engine_stream **engine_stream, struct connection *writer,
                struct stream **out, struct fault *fault)
{
    size_t slot = 0;
    while (slot < streams->n_slots && streams->slot[slot])
        slot++;
    if (slot == streams->n_slots)
        return fault_set(fault, ERR_TOO_LARGE, "%zu streams are open, the limit (limits.streams)", streams->n_slots);
    if (streams_find_name(streams, name))
        return fault_set(fault, ERR_EXISTS, "stream '%s' is open already", name);
    const struct shape *shape = engine_stream_shape(*engine_stream);
    struct stream *stream = stream_new(name, shape->n_layers);
    if (!stream || !tsearch(stream, &streams->by_name, by_name)) {
        if (stream)
            stream_free(stream);
        return fault_set(fault, ERR_NO_MEMORY, "stream '%s'", name);
    }
    stream->id = (uint64_t)++streams->generation[slot] << SLOT_BITS | slot;
    stream->engine_stream = *engine_stream;
    stream->writer = writer;
    connection_hold(writer);
    *engine_stream = NULL;
    pthread_mutex_lock(&streams->lock);
    streams->slot[slot] = stream;
    streams->n_open++;
    streams->n_heads += shape->n_layers * shape->kv_heads;
    pthread_mutex_unlock(&streams->lock);
    *out = stream;
    return 0;
}

void streams_remove(struct streams *streams, struct engine *engine, struct counters *counters, struct stream *stream)
{
    const struct shape *shape = engine_stream_shape(stream->engine_stream);
    size_t n_layers = shape->n_layers;
    pthread_mutex_lock(&streams->lock);
    streams->slot[stream->id & SLOT_MASK] = NULL;
    streams->n_open--;
    streams->n_heads -= n_layers * shape->kv_heads;
    pthread_mutex_unlock(&streams->lock);
    tdelete(stream, &streams->by_name, by_name);
    for (size_t l = 0; l < n_layers; l++)
        while (replies_drop_oldest(&stream->replies[l]))
            ;
    atomic_fetch_sub(&counters->kept_reply_bytes, stream->kept_bytes);
    stream->writer->kept_bytes -= stream->kept_bytes;
    connections_release(&streams->connections, stream->writer);
    if (stream->closer)
        connections_release(&streams->connections, stream->closer);
    engine_close(engine, &stream->engine_stream);
    stream_free(stream);
}

struct stream *streams_find(const struct streams *streams, uint64_t id)
{
    size_t slot = id & SLOT_MASK;
    struct stream *stream = slot < streams->n_slots ? streams->slot[slot] : NULL;
    return stream && stream->id == id ? stream : NULL;
}

struct stream *streams_find_name(const struct streams *streams, const char *name)
{
    struct stream key;
    strncpy(key.name, name, sizeof key.name - 1);
    key.name[sizeof key.name - 1] = 0;
    return found(tfind(&key, &streams->by_name, by_name));
}

void streams_hand_over(struct streams *streams, struct stream *stream, struct connection *writer)
{
    struct connection *before = stream->writer;
    before->kept_bytes -= stream->kept_bytes;
    writer->kept_bytes += stream->kept_bytes;
    connection_hold(writer);
    stream->writer = writer;
    connections_release(&streams->connections, before);
}

void stream_line_up(struct stream *stream, struct message_part *part)
{
    part->before = stream->last;
    part->after = NULL;
    if (stream->last)
        stream->last->after = part;
    else
        stream->first = part;
    stream->last = part;
}

void stream_leave(struct stream *stream, struct message_part *part)
{
    if (part->before)
        part->before->after = part->after;
    else
        stream->first = part->after;
    if (part->after)
        part->after->before = part->before;
    else
        stream->last = part->before;
}
