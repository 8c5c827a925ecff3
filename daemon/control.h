/* Control: hello, open, close and status, answered by the gateway. */
#ifndef ATTND_DAEMON_CONTROL_H
#define ATTND_DAEMON_CONTROL_H

#include "daemon/gateway.h"

/* Answers the one JSON frame of message; the caller keeps the message. */
void control_take(struct gateway *gateway, struct message *message);

/* The last part of a stream that is closing has left. */
void control_finish_close(struct gateway *gateway, struct stream *stream);

#endif
