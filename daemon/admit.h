/* Admission: which parts of a decoded message are taken, and their hand-over to the engine. Part of ingress. */
#ifndef ATTND_DAEMON_ADMIT_H
#define ATTND_DAEMON_ADMIT_H

#include "daemon/gateway.h"

/* Takes the message: it leaves through egress when its last part is done. */
void admit(struct gateway *gateway, struct message *message);

#endif
