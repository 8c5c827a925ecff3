/* Streams and connections: the tables of what is open. All of it belongs to the gateway, but for reading by telemetry under the
 * table's lock. */
#ifndef ATTND_DAEMON_STREAM_H
#define ATTND_DAEMON_STREAM_H

#include "daemon/counters.h"
#include "daemon/message.h"
#include "daemon/replies.h"

#include <pthread.h>

/* A producer's connection, told by its routing identity. Lives while it has streams or messages under way. */
struct connection {
    size_t n_identity;
    unsigned char identity[256];
    size_t queued_bytes, promised_bytes, kept_bytes; /* what credit limits: see daemon/credit.h */
    size_t n_streams, n_messages;
};

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
    struct part *spare;                /* one engine part to reuse */
    bool failed_counted;
    bool closing;     /* close was asked for; happens when the last part has left */
    zmq_msg_t closer; /* who asked, and its request's id */
    uint64_t close_id;
};

struct streams {
    pthread_mutex_t lock; /* taken by the gateway to open, close and reload, by telemetry to look */
    struct stream **slot; /* (n_slots), NULL where free */
    uint32_t *generation; /* (n_slots) */
    size_t n_slots, n_open, n_heads;
    size_t n_at_work;  /* connections with messages under way */
    void *by_name;     /* search tree of streams */
    void *connections; /* search tree of connections */
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

/* The connection of this identity, made when new; NULL when memory is out. */
struct connection *streams_connection(struct streams *streams, const void *identity, size_t n);
/* A message of it is under way, or has left. */
void streams_message_begins(struct streams *streams, struct connection *connection);
void streams_message_ends(struct streams *streams, struct connection *connection);
/* The stream goes over to another connection. */
void stream_hand_over(struct stream *stream, struct connection *writer);
/* Forgets it when it has neither streams nor messages. */
void streams_settle(struct streams *streams, struct connection *connection);

/* The line of parts that have not left yet. */
void stream_line_up(struct stream *stream, struct message_part *part);
void stream_leave(struct stream *stream, struct message_part *part);

#endif
