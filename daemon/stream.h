/* Streams: the table of what is open. All of it belongs to the gateway, but for reading by telemetry under the table's lock. */
#ifndef ATTND_DAEMON_STREAM_H
#define ATTND_DAEMON_STREAM_H

#include "daemon/connection.h"
#include "daemon/counters.h"
#include "daemon/message.h"
#include "daemon/replies.h"

#include <pthread.h>

struct stream {
    uint64_t id;
    char name[CONTROL_NAME_BYTES];
    struct engine_stream *engine_stream;
    struct connection *writer;
    size_t reserved_bytes;             /* worst case of what its caches hold */
    struct message_part *first, *last; /* parts that have not left yet, in order */
    struct replies *replies;           /* (n_layers) */
    size_t kept_bytes;                 /* of all its kept replies */
    uint64_t *sequence;                /* (n_layers): of its output topics */
    bool failed_counted;
    bool closing;              /* close was asked for; happens when the last part has left */
    struct connection *closer; /* who asked, held; its request's id */
    uint64_t close_id;
};

struct streams {
    pthread_mutex_t lock; /* taken by the gateway to open, close and reload, by telemetry to look */
    struct stream **slot; /* (n_slots), NULL where free */
    uint32_t *generation; /* (n_slots) */
    size_t n_slots, n_open, n_heads;
    void *by_name; /* search tree of streams */
    struct connections connections;
};

int streams_init(struct streams *streams, size_t max_streams);
void streams_finish(struct streams *streams, struct engine *engine,
                    struct counters *counters); /* closes what is open; nothing may run */

/* Takes *engine_stream on success. ERR_TOO_LARGE at the limit, ERR_EXISTS. */
int streams_add(struct streams *streams, const char *name, struct engine_stream **engine_stream, struct connection *writer,
                struct stream **out, struct fault *fault);
void streams_remove(struct streams *streams, struct engine *engine, struct counters *counters, struct stream *stream);
struct stream *streams_find(const struct streams *streams, uint64_t id);
struct stream *streams_find_name(const struct streams *streams, const char *name);

/* The stream goes over to another connection. */
void streams_hand_over(struct streams *streams, struct stream *stream, struct connection *writer);

/* The line of parts that have not left yet. */
void stream_line_up(struct stream *stream, struct message_part *part);
void stream_leave(struct stream *stream, struct message_part *part);

#endif
