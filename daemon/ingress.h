/* Ingress: receives a message, decodes, checks and admits its parts, hands them to the engine. The gateway's way in.
 *
 * A part is admitted whole or not at all: everything that can be refused is refused here, before any head sees it. In this
 * order: stream, writer, shape, index, credit, numbers, memory. */
#ifndef ATTND_DAEMON_INGRESS_H
#define ATTND_DAEMON_INGRESS_H

#include "daemon/gateway.h"

/* Takes one message if there is one; false when there is none. */
bool ingress_receive(struct gateway *gateway);

/* Whether another message is there already. */
bool ingress_waiting(struct gateway *gateway);

#endif
