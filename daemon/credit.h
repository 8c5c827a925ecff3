/* Credit: how many bytes one producer may have outstanding. They are
 *
 *     queued      its messages that wait or run
 *     promised    the replies to them, from admission until they leave
 *     unread      replies that have left, and that ZeroMQ has not got rid of: by themselves, since most of them are kept as well
 *     kept        replies that have left and are kept for a resend until the producer confirms them
 *
 * Whoever runs past the credit is refused with BUSY and the index to go on at; no reply is ever given up for want of room. What
 * comes while nothing of its connection is outstanding always passes, and confirming needs no credit, so nobody is stuck.
 * The credit is limits.credit_bytes, or an equal share of limits.queued_bytes when as many connections are at work that this is
 * less. It is told in every reply.
 * Threads: the gateway's. */
#ifndef ATTND_DAEMON_CREDIT_H
#define ATTND_DAEMON_CREDIT_H

#include "daemon/gateway.h"

/* The message's bytes in and out count from now on. Before its parts are considered. */
void credit_take(struct gateway *gateway, struct message *message);
/* The received numbers are read, or refused. */
void credit_release_input(struct gateway *gateway, struct message *message);
/* The reply has left, or there will be none. */
void credit_release_reply(struct gateway *gateway, struct message *message);

/* Bytes that may still be taken under limits.memory_bytes, beside caches, messages, and replies made or kept; SIZE_MAX: no limit. */
size_t credit_memory_left(const struct gateway *gateway);

/* What a connection may have outstanding now. */
size_t credit_bytes(const struct gateway *gateway);

/* ERR_BUSY when the part, with its message, runs past the credit. resent: it is answered from replies that are kept, so that they
 * do not stand in its way. */
int credit_check(const struct gateway *gateway, struct message_part *part, bool resent);

/* Drops what the producer has received of a layer, up to this token. */
void credit_confirm(struct gateway *gateway, struct stream *stream, uint32_t layer, uint64_t received);
/* Keeps what a resend of the part would be answered with. */
void credit_keep(struct gateway *gateway, struct message_part *part);

#endif
