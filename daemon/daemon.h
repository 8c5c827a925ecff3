/* The daemon as a function: everything but arguments and signals, so that it also runs inside another program (inproc
 * endpoints need the caller's ZeroMQ context).
 *
 * Threads inside: the gateway (owns the ROUTER and the outputs XPUB), telemetry (owns its XPUB), http, the pools' teams. */
#ifndef ATTND_DAEMON_DAEMON_H
#define ATTND_DAEMON_DAEMON_H

#include "base/log.h"
#include "config/config.h"

struct daemon;

/* Binds every endpoint and starts the threads; returns when clients may connect. config and log must outlive the daemon.
 * zmq_context: the caller's, or NULL for one of its own. Errors name the endpoint or the pool. */
int daemon_start(struct daemon **out, const struct config *config, void *zmq_context, struct log *log, struct fault *fault);

/* Drains: refuses what still comes in, finishes what was taken, sends its replies, then stops. NULL is allowed. */
void daemon_stop(struct daemon *daemon);

/* Asks the running daemon to read its configuration file again (daemon/reload.h); the log tells how it went. Any thread. */
void daemon_reload(struct daemon *daemon);

/* The endpoint that ingest was bound to (the real port where the configuration said *). */
const char *daemon_endpoint(const struct daemon *daemon);

/* The port of its HTTP server; 0 where it has none. */
unsigned daemon_http_port(const struct daemon *daemon);

#endif
