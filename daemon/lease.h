/* Leases: a stream whose producer is gone for limits.lease_seconds is closed, and its memory freed.
 *
 * A producer is there as long as its connection is: whatever it sends renews the lease of all its streams, and one that is silent
 * for half of it is sent a line of control ({"op":"lease"}), which ZeroMQ takes while the connection lives and has read what it was
 * sent before. Heartbeats of ZeroMQ's own find out about hosts that vanished. So an idle producer need not do anything.
 * Threads: the gateway's. */
#ifndef ATTND_DAEMON_LEASE_H
#define ATTND_DAEMON_LEASE_H

#include "daemon/gateway.h"

/* Looks after all leases when it is time to. */
void lease_tick(struct gateway *gateway);

/* Milliseconds until then, for zmq_poll; -1: never. */
int lease_wait_ms(const struct gateway *gateway);

/* Sets a socket's heartbeats, before it is bound. */
void lease_heartbeats(void *socket, uint64_t lease_seconds);

#endif
