/* Egress: when a message's last head is done, its reply goes to the producer and its outputs to subscribers. The gateway's way
 * out. Replies of a stream leave in the order of its requests: a finished message waits for earlier ones of its streams. */
#ifndef ATTND_DAEMON_EGRESS_H
#define ATTND_DAEMON_EGRESS_H

#include "daemon/gateway.h"

/* Nothing of the message runs any more: sends it, and whatever waited for it, as soon as the order allows. Takes the message. */
void egress_complete(struct gateway *gateway, struct message *message);

/* A reply without parts: the whole message was refused. */
void egress_refuse(struct gateway *gateway, struct connection *connection, const struct wire_header *header,
                   const struct fault *fault);

/* Whether the connection is there and reads: sends it one line of control, which needs no answer. */
bool egress_probe(struct gateway *gateway, struct connection *connection);

/* A control reply; frees text. */
void egress_control(struct gateway *gateway, struct connection *connection, char *text);

/* Counts who subscribed and who left. */
void egress_subscriptions(struct gateway *gateway);

#endif
