/* Connections: who sends, told by ZeroMQ's routing identity, and what each has under way. A connection lives as long as somebody
 * holds it (a stream that it writes, a message of it, an answer that it waits for) or replies to it are unread.
 * Threads: the gateway's; a receipt may be released by any. */
#ifndef ATTND_DAEMON_CONNECTION_H
#define ATTND_DAEMON_CONNECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>

/* Bytes of replies that ZeroMQ was given and has not written out yet: what a producer does not read stays here. Outlives the
 * connection while some are left. */
struct outbox {
    atomic_size_t unread;
    atomic_uint refs;
};

struct connection {
    size_t n_identity;
    unsigned char identity[256];
    size_t queued_bytes, promised_bytes, kept_bytes; /* what credit limits: see daemon/credit.h */
    size_t n_messages;                               /* data messages under way */
    size_t n_holds;
    uint64_t heard_ns, probed_ns; /* when it was last heard of, and last looked for: see daemon/lease.h */
    struct outbox *outbox;
    struct connection *before, *after; /* all of them */
};

struct connections {
    void *tree; /* by identity */
    struct connection *first;
    struct connection *last_found; /* who sends, sends again */
    size_t n_at_work;              /* with data messages under way */
};

/* The connection of this identity, made when new, and held; NULL when memory is out. */
struct connection *connections_hold(struct connections *connections, const void *identity, size_t n);
void connection_hold(struct connection *connection);
void connections_release(struct connections *connections, struct connection *connection);

/* A data message of it is under way, or has left. */
void connections_message_begins(struct connections *connections, struct connection *connection);
void connections_message_ends(struct connections *connections, struct connection *connection);

/* Forgets those that were held only by what they had not read, and have by now. */
void connections_sweep(struct connections *connections);
void connections_finish(struct connections *connections); /* forgets all */

/* A frame that counts `bytes` as unread until ZeroMQ is done with it. With n bytes to be filled in; or over malloc'd text, which it
 * takes (NULL: an empty one). -1 when memory is out; then text is freed. */
int connection_frame(struct connection *connection, size_t n, size_t bytes, zmq_msg_t *frame);
int connection_text(struct connection *connection, char *text, size_t bytes, zmq_msg_t *frame);
size_t connection_unread(const struct connection *connection);

#endif
