/* Control: hello, open, close and status, answered by the gateway. */
#ifndef ATTND_DAEMON_CONTROL_H
#define ATTND_DAEMON_CONTROL_H

#include "daemon/gateway.h"

/* Answers JSON that came from a connection, which the caller holds. */
void control_take(struct gateway *gateway, struct connection *connection, const void *text, size_t bytes);

/* The last part of a stream that is closing has left. */
void control_finish_close(struct gateway *gateway, struct stream *stream);

#endif
