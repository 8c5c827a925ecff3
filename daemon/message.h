/* A data message on its way through the daemon: the received frames, borrowed until the heads are done, and one entry per part.
 * Owned by the gateway; while parts run, the pools read its inputs and write its outputs. */
#ifndef ATTND_DAEMON_MESSAGE_H
#define ATTND_DAEMON_MESSAGE_H

#include "daemon/buffer.h"
#include "wire/control.h"
#include "wire/message.h"
#include "workers/engine.h"

enum {
    MESSAGE_FRAMES_MAX = 6, /* header, q, and up to four of k and v */
    MESSAGES_KEPT = 64,     /* that are done with, for the next ones */
};

enum message_part_state {
    PART_REFUSED, /* see fault */
    PART_RUNNING, /* handed to the engine */
    PART_RESENT,  /* applied before: answered from the kept replies when its turn to leave comes */
};

struct message_part {
    struct message *message;
    struct stream *stream; /* NULL: unknown */
    struct wire_part wire;
    enum message_part_state state;
    struct part *part; /* the engine's; NULL unless running */
    struct fault fault;
    const void *q, *key[2], *value[2];   /* in the frames; NULL where the part brings none */
    size_t out_at, lse_at;               /* in the message's buffer, floats; meaningful with attend, partial */
    struct message_part *before, *after; /* in the stream's line of parts that have not left yet */
};

struct message {
    zmq_msg_t frame[MESSAGE_FRAMES_MAX];
    size_t n_frames, bytes; /* bytes: of the frames, also when they are gone */
    size_t promised_bytes;  /* of its reply, as counted against the connection's credit */
    struct connection *connection;
    struct wire_header header;
    struct buffer *buffer; /* outputs of all parts that attend, then their lse; NULL when nobody attends */
    atomic_uint running;   /* parts in the engine, and one for the gateway until all were handed over */
    bool complete;         /* nothing runs any more */
    struct message *next;  /* in the queue of finished messages */
    size_t n_parts;
    struct message_part part[];
};

/* What messages of one part leave behind for the next ones: mostly there is one as soon as there was one. */
struct message_shelf {
    struct message *first;
    size_t n;
    struct part *part[MESSAGES_KEPT]; /* the engine's */
    size_t n_parts;
};

/* Without frames. NULL when memory is out. */
struct message *message_create(struct message_shelf *shelf, size_t n_parts);
void message_destroy(struct message_shelf *shelf,
                     struct message *message); /* with frames and buffer; its engine parts must be gone */
void message_drop_frames(struct message *message);
void message_shelf_clear(struct message_shelf *shelf);

/* An engine part for a stream's heads, and where it goes when it is done with. ERR_NO_MEMORY. NULL is allowed. */
int message_take_part(struct message_shelf *shelf, struct engine *engine, const struct engine_stream *stream,
                      struct part **out);
void message_give_part(struct message_shelf *shelf, struct part *part);

/* Floats that a part's outputs and lse take. */
size_t message_part_outputs(const struct message_part *part);
size_t message_part_lse(const struct message_part *part);

#endif
